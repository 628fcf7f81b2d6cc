//! A partition and those who wait for more of it.

mod partition;

pub use self::partition::Partition;
