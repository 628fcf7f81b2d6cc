//! The log on local disk, in the format Kafka itself writes.
