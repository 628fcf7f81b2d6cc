//! The small transactional state: topics, configs, committed offsets, producer ids.
