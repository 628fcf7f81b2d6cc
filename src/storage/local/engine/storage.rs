//! A data directory as [`Storage`], before its logs are open.

use std::collections::HashSet;
use std::sync::Arc;

use super::{LocalEngine, StorageOptions};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::storage::local::data_dir;
use crate::storage::{Engine, Error, FoundTopic, Storage, TopicSpec};

/// A data directory whose logs are not open yet.
pub struct LocalStorage {
    pub options: StorageOptions,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

impl Storage for LocalStorage {
    fn found_topics(&self) -> Result<Vec<FoundTopic>, Error> {
        data_dir::scan(&self.options.fs, &self.options.data_dir)
    }

    fn remove_topic(&self, found: &FoundTopic) -> Result<(), Error> {
        data_dir::remove_directories(&self.options.fs, &self.options.data_dir, found)
    }

    fn open(
        self: Box<Self>,
        specs: Vec<TopicSpec>,
        adopted: HashSet<String>,
    ) -> Result<Arc<dyn Engine>, Error> {
        let options = StorageOptions {
            adopted,
            ..self.options
        };
        Ok(LocalEngine::open(options, specs, self.clock, self.metrics)?)
    }
}
