//! Compacting the logs of a data directory, one after another.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::LocalEngine;
use crate::storage::PartitionLog;
use crate::storage::local::compaction::{Dirt, LogName, Pass, Work};
use crate::storage::local::error::Error;
use crate::storage::local::log::Segments;
use crate::storage::local::partition::Partition;

/// A log that is due for compaction.
struct Chosen {
    partition: Arc<Partition>,
    name: LogName,
    dirt: Dirt,
    segments: Segments,
}

impl LocalEngine {
    /// Compacts the log that needs it most. Returns false if none does, or none can be compacted now. Blocks.
    pub fn compact(&self) -> bool {
        if !self.compactor.is_enabled() {
            return false;
        }
        let now_ms = self.environment.clock.now_ms();
        let Some(chosen) = self.choose(now_ms) else {
            return false;
        };
        let began = self.now();
        let compacted = self.compact_log(&chosen, now_ms);
        self.compactor.end();
        let partition = &chosen.partition;
        match compacted {
            Ok(work) => {
                let took = self.now() - began;
                self.compactor.note_compacted(&chosen.name, &work, took);
                info!(
                    %partition,
                    from = chosen.dirt.start,
                    to = work.end,
                    bytes_read = work.bytes_read,
                    bytes_written = work.bytes_written,
                    records_removed = work.records_read - work.records_written,
                    segments_before = work.segments_before,
                    segments_after = work.segments_after,
                    took_ms = took.as_millis() as u64,
                    "log compacted"
                );
                true
            }
            Err(failure) => self.note_failure(&chosen, &failure),
        }
    }

    /// Logs why a log was not compacted. Returns true if another one can be compacted at once.
    fn note_failure(&self, chosen: &Chosen, failure: &Error) -> bool {
        let partition = &chosen.partition;
        match failure {
            // The server stops, or the topic was deleted.
            Error::Closed | Error::Deleted => false,
            // Segments were deleted or repaired meanwhile.
            Error::Interrupted => false,
            absent if absent.is_absent() => false,
            full if full.is_disk_full() => {
                warn!(%partition, error = %full, "log not compacted for lack of disk space, retrying later");
                false
            }
            error => {
                error!(%partition, %error, "log cannot be compacted, retrying later");
                self.compactor.note_uncleanable(chosen.name.clone());
                true
            }
        }
    }

    /// Chooses the log with the largest dirty part of those that are due.
    fn choose(&self, now_ms: i64) -> Option<Chosen> {
        let mut logs = Vec::new();
        let partitions = self.registry.partitions().into_iter();
        for partition in partitions.filter(|partition| partition.is_compacted()) {
            let name = (Arc::clone(&partition.topic().name), partition.number());
            let dirt = match partition.dirt(now_ms) {
                Ok(dirt) => dirt,
                Err(absent) if absent.is_absent() => None,
                Err(_) if self.compactor.is_uncleanable(&name) => None,
                Err(error) => {
                    error!(%partition, %error, "log cannot be compacted, retrying later");
                    self.compactor.note_uncleanable(name.clone());
                    None
                }
            };
            logs.push((partition, name, dirt));
        }
        self.compactor
            .note_found(logs.iter().map(|(_, name, dirt)| {
                let dirt = dirt.as_ref().map(|(dirt, _)| dirt);
                (name, dirt)
            }));
        let due = logs.into_iter().filter_map(|(partition, name, dirt)| {
            let (dirt, segments) = dirt?;
            let is_due = dirt.is_due(&partition.topic().config());
            (is_due && !self.compactor.is_uncleanable(&name)).then_some(Chosen {
                partition,
                name,
                dirt,
                segments,
            })
        });
        due.max_by(|one, other| one.dirt.compare(&other.dirt))
    }

    fn compact_log(&self, chosen: &Chosen, now_ms: i64) -> Result<Work, Error> {
        let partition = &chosen.partition;
        let environment = &self.environment;
        // A record may be dropped only once the one that supersedes it is durable, and recovery must not take the gaps for
        // the effect of a power failure.
        partition.flush_below(chosen.dirt.end)?;
        {
            let mut changes = self.changes.lock();
            if changes.closed {
                return Err(Error::Closed);
            }
            self.write_recovery_points(&mut changes)?;
        }
        let pass = Pass {
            compactor: &self.compactor,
            environment,
            partition,
            epochs: partition.epochs()?,
            config: &partition.topic().config(),
            dirt: chosen.dirt,
            now_ms,
        };
        let work = pass.run(&chosen.segments)?;
        self.set_cleaner_offset(chosen, work.end)?;
        Ok(work)
    }

    /// Writes the offset up to which a log is compacted to the checkpoint, unless the topic was deleted: the offset would
    /// apply to a new one of its name.
    fn set_cleaner_offset(&self, chosen: &Chosen, offset: i64) -> Result<(), Error> {
        let environment = &self.environment;
        let (topic, number) = &chosen.name;
        let _changes = self.changes.lock();
        chosen.partition.check_open()?;
        environment.spending(|| {
            let cleaner_offsets = &environment.cleaner_offsets;
            cleaner_offsets.set(&environment.fs, topic, *number, offset)
        })
    }
}
