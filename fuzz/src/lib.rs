//! A log with one partition in a scratch directory, written and opened again for each input.

use std::path::PathBuf;
use std::sync::Arc;

use streamline::clock::SystemClock;
use streamline::config::{Durability, TopicConfig};
use streamline::metrics::Metrics;
use streamline::storage::local::{LocalEngine, Partition, StorageOptions};
use streamline::storage::{Error, TopicSpec};
use uuid::Uuid;

pub struct ScratchLog {
    data_dir: PathBuf,
}

impl ScratchLog {
    /// Creates a log in the directory for temporary files. `run.sh` puts that directory in memory and removes it, because
    /// the log is written thousands of times per second.
    pub fn of(target: &str) -> Self {
        let name = format!("streamline-{target}-{}", std::process::id());
        Self {
            data_dir: std::env::temp_dir().join(name),
        }
    }

    /// Replaces the files of the log with `files`. The marker of a clean shutdown exists only if `clean` is true.
    pub fn lay_out(&self, files: &[(&str, &[u8])], clean: bool) {
        let dir = self.data_dir.join("t-0");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the scratch directory can be made");
        for (name, content) in files {
            std::fs::write(dir.join(name), content).expect("there is room");
        }
        let marker = self.data_dir.join(".kafka_cleanshutdown");
        match clean {
            true => std::fs::write(marker, "{}").expect("there is room"),
            false => drop(std::fs::remove_file(marker)),
        }
    }

    /// Opens the log. The partition is usable as long as the topics are kept.
    pub fn open(&self) -> Result<(Arc<LocalEngine>, Arc<Partition>), Error> {
        let spec = TopicSpec {
            name: "t".to_string(),
            id: Uuid::nil(),
            partitions: 1,
            config: TopicConfig::default(),
        };
        let options = StorageOptions::new(&*self.data_dir, Durability::Os);
        let topics =
            LocalEngine::open(options, vec![spec], SystemClock::new(), Metrics::new(false))?;
        let partition = topics.partition("t", 0);
        Ok((topics, partition.expect("it was just opened")))
    }
}
