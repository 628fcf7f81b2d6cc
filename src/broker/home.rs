//! The place of records and catalog, as the settings choose it: the data directory, or memory.

use std::sync::Arc;

use super::OpenError;
use crate::catalog::{Catalog, Sqlite};
use crate::clock::Clock;
use crate::config::{Config, StorageKind};
use crate::fs::{Fs, Reserve};
use crate::metrics::Metrics;
use crate::storage::local::{CompactionOptions, LocalStorage, StorageOptions};
use crate::storage::memory::MemoryStorage;
use crate::storage::{Opening, Storage};

/// The catalog's file in the data directory.
pub(super) const CATALOG_FILE: &str = "catalog.sqlite";

pub(super) struct Home {
    pub config: Config,
    pub fs: Fs,
    pub opening: Arc<Opening>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<Metrics>,
}

/// An open catalog, and the storage whose topics it names.
pub(super) struct OpenedHome {
    pub reserve: Arc<Reserve>,
    pub catalog: Arc<dyn Catalog>,
    pub storage: Box<dyn Storage>,
}

impl Home {
    /// Opens the catalog. Blocks.
    pub fn open(self) -> Result<OpenedHome, OpenError> {
        match self.config.storage {
            StorageKind::Local => self.open_directory(),
            StorageKind::Memory => Ok(OpenedHome {
                reserve: Reserve::none(),
                catalog: Arc::new(Sqlite::in_memory()?),
                storage: Box::new(MemoryStorage {
                    producer_id_expiration_ms: self.config.producer_id_expiration_ms,
                    clock: self.clock,
                    metrics: self.metrics,
                }),
            }),
        }
    }

    fn open_directory(self) -> Result<OpenedHome, OpenError> {
        let config = &self.config;
        // The reserve first, since it may be needed to open the catalog on a full disk.
        let reserve = Reserve::open(&self.fs, &config.data_dir, config.disk_reserve_bytes);
        let catalog = Sqlite::open(config.data_dir.join(CATALOG_FILE), Arc::clone(&reserve))?;
        let options = StorageOptions {
            producer_id_expiration_ms: config.producer_id_expiration_ms,
            reserve: Arc::clone(&reserve),
            fs: self.fs,
            opening: self.opening,
            compaction: CompactionOptions {
                is_enabled: config.log_cleaner_enable,
                dedupe_buffer_bytes: config.log_cleaner_dedupe_buffer_size,
                io_bytes_per_second: config.log_cleaner_io_max_bytes_per_second,
            },
            ..StorageOptions::new(&config.data_dir, config.durability)
        };
        Ok(OpenedHome {
            reserve,
            catalog: Arc::new(catalog),
            storage: Box::new(LocalStorage {
                options,
                clock: self.clock,
                metrics: self.metrics,
            }),
        })
    }
}
