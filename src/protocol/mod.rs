//! The Kafka wire protocol: frames, headers and one declaration per API.
