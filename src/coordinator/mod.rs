//! Coordination between clients: consumer groups and transactions.
//!
//! The coordinator decides; durable state is kept in the catalog. It uses its own types: protocol versions, error codes
//! and wire names belong to the handlers.

pub mod group;
pub mod transaction;
