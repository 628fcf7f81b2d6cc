//! The command line.
pub mod client;
pub mod consume;
pub mod dump_log;
pub mod error;
pub mod groups;
pub mod output;
pub mod partitioner;
pub mod position;
pub mod produce;
pub mod record_view;
pub mod topics;
