//! The shared state a handler may touch.
