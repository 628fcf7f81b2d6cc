//! The data directory: its layout, the topics found in it, and the state that the last run left.
//!
//! ```text
//! data_dir/
//!   TOPIC-PARTITION/                    one log
//!   TOPIC-PARTITION.ID-delete/          a deleted log, being removed
//!   TOPIC-PARTITION.ID-stray/           a log of another topic of the same name
//!   recovery-point-offset-checkpoint    offsets below which logs are durable
//!   log-start-offset-checkpoint         start offsets of logs that start within a segment
//!   cleaner-offset-checkpoint           offsets below which logs are compacted
//!   .kafka_cleanshutdown                present only after a clean shutdown
//!   .streamline-boot                    id of the machine's boot during which the logs were written
//!   .streamline-reserve                 space that is released when the disk is full
//! ```
//!
//! All but the last two are Kafka's, by name and content.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::checkpoint::{self, Offsets};
use super::error::{Error, IoContext};
use crate::fs::Fs;
use crate::storage::FoundTopic;

pub(super) const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
pub(super) const LOG_STARTS: &str = "log-start-offset-checkpoint";
pub(super) const CLEANER_OFFSETS: &str = "cleaner-offset-checkpoint";
pub(super) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(super) const PARTITION_METADATA: &str = "partition.metadata";
const BOOT: &str = ".streamline-boot";

/// The longest file name that file systems support.
const FILE_NAME_MAX: usize = 255;

/// Finds the topics in `data_dir` by their directories, including those written by another server.
pub(super) fn scan(fs: &Fs, data_dir: &Path) -> Result<Vec<FoundTopic>, Error> {
    let mut found: BTreeMap<String, FoundTopic> = BTreeMap::new();
    for (name, path) in directories(fs, data_dir)? {
        let Some((topic, number)) = parse_dir_name(&name) else {
            continue;
        };
        let id = checkpoint::read_partition_metadata(fs, &path.join(PARTITION_METADATA))?;
        if id.is_none() && !holds_log(fs, &path)? {
            continue;
        }
        let entry = found
            .entry(topic.to_string())
            .or_insert_with(|| FoundTopic {
                name: topic.to_string(),
                id: Uuid::nil(),
                partitions: 0,
            });
        if entry.id.is_nil() {
            entry.id = id.unwrap_or_default();
        }
        entry.partitions = entry.partitions.max(number + 1);
    }
    let mut found: Vec<_> = found.into_values().collect();
    for topic in &mut found {
        if topic.id.is_nil() {
            topic.id = Uuid::new_v4();
        }
    }
    Ok(found)
}

/// Removes the directories of a topic that is not open. Blocks.
pub(super) fn remove_directories(
    fs: &Fs,
    data_dir: &Path,
    found: &FoundTopic,
) -> Result<(), Error> {
    for number in 0..found.partitions {
        let dir = data_dir.join(format!("{}-{number}", found.name));
        fs.remove_dir_all(&dir).during("remove", &dir)?;
    }
    fs.sync_dir(data_dir).during("sync", data_dir)
}

/// The state that the last run left in the data directory.
pub(super) struct LastRun {
    pub clean: bool,
    pub same_boot: bool,
    pub recovery_points: Offsets,
    pub log_starts: Offsets,
    pub cleaner_offsets: Offsets,
}

impl LastRun {
    /// Reads the state and removes the clean shutdown marker, so that only the next clean shutdown restores it.
    pub fn read(fs: &Fs, data_dir: &Path) -> Result<Self, Error> {
        let marker = data_dir.join(CLEAN_SHUTDOWN);
        let clean = fs.exists(&marker).during("look for", &marker)?;
        if clean {
            fs.remove_file(&marker).during("remove", &marker)?;
            fs.sync_dir(data_dir).during("sync", data_dir)?;
        }
        let boot_now = fs.boot_id();
        let boot_then = fs.read(&data_dir.join(BOOT)).unwrap_or_default();
        if boot_then.is_empty() {
            // The directory itself may not be durable yet.
            sync_parents(fs, data_dir)?;
        }
        let read = |name| checkpoint::read_offsets(fs, &data_dir.join(name));
        Ok(Self {
            clean,
            same_boot: !boot_now.is_empty() && boot_now == boot_then,
            recovery_points: read(RECOVERY_POINTS)?.unwrap_or_default(),
            log_starts: read(LOG_STARTS)?.unwrap_or_default(),
            cleaner_offsets: read(CLEANER_OFFSETS)?.unwrap_or_default(),
        })
    }

    /// Notes the machine's boot during which logs are written from now on. The logs of earlier boots are recovered.
    pub fn note_boot(&self, fs: &Fs, data_dir: &Path) -> Result<(), Error> {
        if self.same_boot {
            return Ok(());
        }
        let path = data_dir.join(BOOT);
        fs.write_atomically(&path, &fs.boot_id())
            .during("write", &path)
    }
}

/// Makes the name of the directory durable, and those of its parents. Stops at a parent without read permission, which
/// another user created and is responsible for.
fn sync_parents(fs: &Fs, data_dir: &Path) -> Result<(), Error> {
    let data_dir = fs.canonicalize(data_dir).during("resolve", data_dir)?;
    for parent in data_dir.ancestors().skip(1) {
        match fs.sync_dir(parent) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => break,
            other => other.during("sync", parent)?,
        }
    }
    Ok(())
}

/// Returns the path `TOPIC-PARTITION.ID-why`, truncated to a valid file name.
pub(super) fn renamed(dir: &Path, id: Uuid, why: &str) -> PathBuf {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let suffix = format!(".{}-{why}", id.simple());
    let room = FILE_NAME_MAX - suffix.len();
    let name = &name[..name.floor_char_boundary(room)];
    dir.with_file_name(format!("{name}{suffix}"))
}

/// Parses the topic and partition number from a log directory's name.
fn parse_dir_name(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once('-')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number)?;
    (!topic.is_empty() && number < i32::MAX).then_some((topic, number))
}

pub(super) fn directories(fs: &Fs, data_dir: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let entries = match fs.read_dir(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.during("list", data_dir)?,
    };
    let directories = entries.into_iter().filter(|entry| entry.is_dir);
    let names = directories.filter_map(|entry| entry.name.into_string().ok());
    Ok(names
        .map(|name| {
            let path = data_dir.join(&name);
            (name, path)
        })
        .collect())
}

fn holds_log(fs: &Fs, dir: &Path) -> Result<bool, Error> {
    let entries = fs.read_dir(dir).during("list", dir)?;
    let mut extensions = entries
        .iter()
        .map(|entry| Path::new(&entry.name).extension());
    Ok(extensions.any(|extension| extension.is_some_and(|it| it == "log")))
}
