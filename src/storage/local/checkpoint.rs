//! Kafka's small text files: offsets per partition, leader epochs per log, and the topic's id.
//!
//! A checkpoint is a version, a count and that many lines; `partition.metadata` is two lines of `key: value`. All are
//! replaced atomically. A file that cannot be parsed counts as absent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use uuid::Uuid;

use super::error::{Error, IoContext};
use super::log::OFFSET_MAX;
use crate::fs::Fs;

/// Offsets of partitions, by topic and partition number.
pub(super) type Offsets = BTreeMap<(String, i32), i64>;

/// Reads an offset checkpoint; `None` if it is absent or cannot be parsed.
pub(super) fn read_offsets(fs: &Fs, path: &Path) -> Result<Option<Offsets>, Error> {
    Ok(read(fs, path)?.and_then(|text| {
        parse_lines(&text, |words| match words {
            [topic, partition, offset] => Some((
                (topic.to_string(), partition.parse().ok()?),
                offset_in(offset)?,
            )),
            _ => None,
        })
    }))
}

pub(super) fn write_offsets(fs: &Fs, path: &Path, offsets: &Offsets) -> Result<(), Error> {
    let mut text = format!("0\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        let _ = writeln!(text, "{topic} {partition} {offset}");
    }
    fs.write_atomically(path, text.as_bytes())
        .during("write", path)
}

/// Name of the file that holds a log's leader epochs.
pub(super) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// The leader epochs of a log and their start offsets, oldest first. There is only one leader here; a new epoch begins where
/// recovery may have lost records that consumers have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeaderEpochs {
    entries: Vec<(i32, i64)>,
}

impl LeaderEpochs {
    /// Creates the epochs of a new log.
    pub fn new() -> Self {
        Self {
            entries: vec![(0, 0)],
        }
    }

    pub fn read(fs: &Fs, path: &Path) -> Result<Option<Self>, Error> {
        Ok(read(fs, path)?.and_then(|text| {
            let entries: Vec<(i32, i64)> = parse_lines(&text, |words| match words {
                [epoch, offset] => Some((epoch.parse().ok()?, offset_in(offset)?)),
                _ => None,
            })?;
            let grows = entries.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            (grows && !entries.is_empty()).then_some(Self { entries })
        }))
    }

    pub fn to_text(&self) -> String {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, offset) in &self.entries {
            let _ = writeln!(text, "{epoch} {offset}");
        }
        text
    }

    /// Begins a new epoch at the end of the log. Epochs without records are forgotten.
    pub fn raise(&mut self, log_end: i64) {
        if let Some(next) = self.current().checked_add(1) {
            self.entries.retain(|(_, start)| *start < log_end);
            self.entries.push((next, log_end));
        }
    }

    /// Returns the epoch given to new records.
    pub fn current(&self) -> i32 {
        self.entries.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// Returns the epoch of the record at `offset`.
    pub fn at(&self, offset: i64) -> i32 {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        match after.checked_sub(1) {
            Some(entry) => self.entries[entry].0,
            None => self.entries.first().map_or(0, |(epoch, _)| *epoch),
        }
    }

    /// Returns the largest epoch up to `epoch`, and its end offset; `None` for a negative or future epoch.
    pub fn end_offset(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > self.current() {
            return None;
        }
        let after = self.entries.partition_point(|(each, _)| *each <= epoch);
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        let floor = after
            .checked_sub(1)
            .map_or(epoch, |entry| self.entries[entry].0);
        Some((floor, end))
    }
}

/// Returns the content of `partition.metadata`.
pub(super) fn partition_metadata_text(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {}", encode_id(topic_id))
}

/// Reads the topic id from a `partition.metadata` file, if it holds one.
pub(super) fn read_partition_metadata(fs: &Fs, path: &Path) -> Result<Option<Uuid>, Error> {
    Ok(read(fs, path)?.and_then(|text| {
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("topic_id:"))?;
        decode_id(value.trim())
    }))
}

fn read(fs: &Fs, path: &Path) -> Result<Option<String>, Error> {
    match fs.read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => Ok(String::from_utf8(other.during("read", path)?).ok()),
    }
}

fn offset_in(word: &str) -> Option<i64> {
    let offset = word.parse().ok()?;
    (0..=OFFSET_MAX).contains(&offset).then_some(offset)
}

fn parse_lines<T, C: FromIterator<T>>(
    text: &str,
    parse: impl Fn(&[&str]) -> Option<T>,
) -> Option<C> {
    let mut lines = text.lines();
    if lines.next()?.trim() != "0" {
        return None;
    }
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut seen = 0;
    let parsed = lines
        .map(|line| {
            seen += 1;
            let words: Vec<&str> = line.split_whitespace().collect();
            parse(&words)
        })
        .collect::<Option<C>>()?;
    (seen == count).then_some(parsed)
}

/// Encodes an id as Kafka does: base64url of its 16 bytes, without padding.
fn encode_id(id: Uuid) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(id.as_bytes())
}

fn decode_id(text: &str) -> Option<Uuid> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('='));
    Uuid::from_slice(&bytes.ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_back_and_invalid_files_count_as_absent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recovery-point-offset-checkpoint");
        let fs = Fs::new();
        assert_eq!(read_offsets(&fs, &path).unwrap(), None);
        let offsets: Offsets = [(("a.b".to_string(), 0), 12), (("c".to_string(), 7), 0)].into();
        write_offsets(&fs, &path, &offsets).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "0\n2\na.b 0 12\nc 7 0\n"
        );
        assert_eq!(read_offsets(&fs, &path).unwrap(), Some(offsets));
        for invalid in [
            "",
            "0",
            "1\n0\n",
            "0\n2\na 0 1\n",
            "0\n1\na 0\n",
            "0\n1\na b c\n",
        ] {
            std::fs::write(&path, invalid).unwrap();
            assert_eq!(read_offsets(&fs, &path).unwrap(), None, "{invalid:?}");
        }
    }

    #[test]
    fn epochs_end_where_the_next_begins() {
        let epochs = LeaderEpochs {
            entries: vec![(2, 0), (4, 10), (7, 25)],
        };
        assert_eq!(epochs.current(), 7);
        assert_eq!(
            [0, 9, 10, 24, 25, 99].map(|offset| epochs.at(offset)),
            [2, 2, 4, 4, 7, 7]
        );
        assert_eq!(epochs.end_offset(7, 40), Some((7, 40)));
        assert_eq!(epochs.end_offset(5, 40), Some((4, 25)));
        assert_eq!(epochs.end_offset(2, 40), Some((2, 10)));
        assert_eq!(epochs.end_offset(1, 40), Some((1, 0)));
        assert_eq!(epochs.end_offset(8, 40), None);
        assert_eq!(epochs.end_offset(-1, 40), None);
    }

    #[test]
    fn a_new_epoch_begins_at_the_end_and_is_larger_than_all_before() {
        let mut epochs = LeaderEpochs {
            entries: vec![(2, 0), (4, 10), (7, 25)],
        };
        epochs.raise(30);
        assert_eq!(epochs.end_offset(7, 40), Some((7, 30)));
        assert_eq!((epochs.at(29), epochs.at(30)), (7, 8));
        // Two epochs lost all their records.
        epochs.raise(25);
        assert_eq!(epochs.entries, [(2, 0), (4, 10), (9, 25)]);
        assert_eq!(epochs.end_offset(8, 40), Some((4, 25)));
        epochs.raise(0);
        assert_eq!(epochs.entries, [(10, 0)]);
        assert_eq!(epochs.end_offset(9, 40), Some((9, 0)));
        let last = vec![(i32::MAX, 0)];
        let mut epochs = LeaderEpochs { entries: last };
        epochs.raise(5);
        assert_eq!(epochs.entries, [(i32::MAX, 0)]);
    }

    #[test]
    fn epochs_are_read_back_from_their_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leader-epoch-checkpoint");
        let epochs = LeaderEpochs {
            entries: vec![(0, 0), (3, 17)],
        };
        std::fs::write(&path, epochs.to_text()).unwrap();
        assert_eq!(LeaderEpochs::read(&Fs::new(), &path).unwrap(), Some(epochs));
    }

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        // The pair is from Kafka's own documentation of its Uuid: 0x…01 is the reserved metadata topic's id.
        assert_eq!(encode_id(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        for id in [Uuid::nil(), Uuid::max(), Uuid::new_v4(), Uuid::new_v4()] {
            assert_eq!(decode_id(&encode_id(id)), Some(id));
        }
        assert_eq!(decode_id("short"), None);
        assert_eq!(decode_id("AAAAAAAAAAAAAAAAAAAA!Q"), None);
    }
}
