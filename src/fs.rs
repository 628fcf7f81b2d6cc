//! Files as a component, so that tests can make them fail.
