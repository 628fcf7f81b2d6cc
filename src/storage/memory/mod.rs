//! The engine in memory: nothing is kept, and nothing is flushed.
//!
//! It is for people's own tests, which want a fast start and no traces, and the double for the local engine. `engine` owns
//! the topics, `partition` is one log with its producers and readers, `log` holds the batches. Validation, producer
//! state and topics are those of every engine.
//!
//! Records take memory until retention deletes them, in whole batches; there is no other limit. Compacted topics keep all
//! records, which their readers cannot tell from a log that is not compacted yet.

mod engine;
mod log;
mod partition;

pub use engine::MemoryStorage;
