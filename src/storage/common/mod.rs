//! The parts of storage that every engine shares: errors, validation of batches, producer state, waiting fetches, topics
//! and what a scrape shows of them.

pub(super) mod aborted;
pub(super) mod error;
pub(super) mod fetch_waiters;
pub(super) mod opening;
pub(super) mod producer_state;
pub(super) mod registry;
pub(super) mod scrape;
pub(super) mod search;
pub(super) mod topic;
pub(super) mod transaction;
pub(super) mod validation;
