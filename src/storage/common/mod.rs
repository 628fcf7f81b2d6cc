//! The parts of storage that every engine shares: errors, validation of batches, producer state, waiting fetches, topics
//! and the offsets of a scrape.

pub(super) mod error;
pub(super) mod fetch_waiters;
pub(super) mod opening;
pub(super) mod producer_state;
pub(super) mod scrape;
pub(super) mod topic;
pub(super) mod validation;
