//! The composition root: build, run, drain.

pub mod http;
