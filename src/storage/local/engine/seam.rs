//! The local engine as an [`Engine`], and its data directory as [`Storage`].

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::{LocalEngine, StorageOptions};
use crate::clock::Clock;
use crate::config::TopicConfig;
use crate::metrics::{Metrics, Samples};
use crate::storage::common::scrape;
use crate::storage::local::data_dir;
use crate::storage::{
    Engine, Error, FoundTopic, ScrapedOffsets, Storage, Topic, TopicSpec, Volume,
};

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

impl Engine for LocalEngine {
    fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.registry.get(name)
    }

    fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.registry.get_by_id(id)
    }

    fn list(&self) -> Vec<Arc<Topic>> {
        self.registry.list()
    }

    fn admit_topic(&self, name: &str) -> Result<(), Error> {
        LocalEngine::admit_topic(self, name)
    }

    fn admit_growth(&self) -> Result<(), Error> {
        LocalEngine::admit_growth(self)
    }

    fn create(&self, spec: TopicSpec) -> Result<Arc<Topic>, Error> {
        LocalEngine::create(self, spec)
    }

    fn add_partitions(&self, name: &str, total: i32) -> Result<(), Error> {
        LocalEngine::add_partitions(self, name, total)
    }

    fn set_config(&self, name: &str, config: TopicConfig) -> Result<(), Error> {
        self.registry.existing(name)?.set_config(config);
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        LocalEngine::delete(self, name)
    }

    fn retain(&self, now_ms: i64) {
        LocalEngine::retain(self, now_ms);
    }

    fn awaits_flush(&self) -> bool {
        LocalEngine::awaits_flush(self)
    }

    fn flush_due(&self) {
        LocalEngine::flush_due(self);
    }

    fn watch_space(&self) {
        let environment = &self.environment;
        environment.space.watch(environment.clock.monotonic());
    }

    fn health(&self) -> Result<(), String> {
        let environment = &self.environment;
        environment
            .health
            .check(environment.clock.as_ref(), &environment.space)
    }

    fn volume(&self) -> Volume {
        self.environment.space.volume()
    }

    fn collect(&self, out: &mut Samples) -> ScrapedOffsets {
        self.environment.counters.collect(out);
        self.environment.space.collect(out);
        scrape::collect(&self.list(), out)
    }

    fn close(&self) -> Result<(), Error> {
        LocalEngine::close(self)
    }
}
