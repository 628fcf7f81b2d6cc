//! What clients agree on with each other through the server: consumer groups.
//!
//! The coordinator decides; what must outlive it goes to the catalog. It speaks its own plain types: versions, codes and
//! names of the wire protocol are the handlers' business.

pub mod group;
