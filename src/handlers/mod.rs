//! One file per API family; the table that ApiVersions is derived from.
