//! Typed, validated settings: file < environment < flag; topic-level overrides.
