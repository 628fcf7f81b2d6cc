//! The instruments, the catalogue of every metric, and the exposition formats.
