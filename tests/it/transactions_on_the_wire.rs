//! Transactions by single requests: version 2 of the protocol, and what no client sends on purpose.

#[test]
fn placeholder() {}
