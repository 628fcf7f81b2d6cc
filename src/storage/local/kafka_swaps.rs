//! Completing a replacement of segments that a crash of Kafka interrupted, by the rules of its `LogLoader`.
//!
//! Kafka replaces segments when it compacts or splits them. The files of the new segments are renamed from `….cleaned` to
//! `….swap`, in descending order; then the old ones to `….deleted`; then the new ones lose their suffix. Unlike ours, which
//! `rewrite` writes, these swap files do not name the segments they replace: those with a base offset in the range of
//! offsets that they hold.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tracing::info;

use super::error::{Error, IoContext};
use super::scan::{Found, Scanner};
use super::segment::file_path;
use crate::fs::Fs;

/// Extensions of the files that are replaced. The log is first: without it, nothing tells what the others belong to.
const EXTENSIONS: [&str; 4] = ["log", "index", "timeindex", "txnindex"];

/// Files of an interrupted replacement.
#[derive(Debug, Default)]
pub(super) struct KafkaSwaps {
    /// Base offsets of the swap files, and their extensions without the suffix.
    swaps: Vec<(i64, &'static str)>,
    /// The lowest base offset of files that were not renamed to swap files yet.
    uncommitted_from: Option<i64>,
}

impl KafkaSwaps {
    /// Notes a file of the log, if it belongs to a replacement.
    pub fn note(&mut self, base_offset: i64, extension: &str) {
        if extension.ends_with(".cleaned") {
            let lowest = self.uncommitted_from.unwrap_or(base_offset);
            self.uncommitted_from = Some(lowest.min(base_offset));
        } else if let Some(replaced) = extension.strip_suffix(".swap") {
            let known = EXTENSIONS.into_iter().find(|known| *known == replaced);
            self.swaps.extend(known.map(|known| (base_offset, known)));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.swaps.is_empty()
    }

    /// Gives the swap files their final names, after the removal of the segments that they replace; `logs` has the base
    /// offsets of all segments. Removes those that belong to a replacement whose old segments are all left. Called before
    /// the removal of other files, and can be repeated.
    pub fn complete(self, fs: &Fs, dir: &Path, logs: &BTreeSet<i64>) -> Result<(), Error> {
        let is_uncommitted = |base: i64| self.uncommitted_from.is_some_and(|from| base >= from);
        let (abandoned, mut committed): (Vec<_>, Vec<_>) =
            (self.swaps.iter().copied()).partition(|(base, _)| is_uncommitted(*base));
        for (base, extension) in abandoned {
            let path = swap_path(dir, base, extension);
            fs.remove_file(&path).during("remove", &path)?;
        }
        let replaced = replaced_range(fs, dir, &committed)?;
        for base in logs.iter().filter(|base| replaced.contains(base)) {
            for extension in EXTENSIONS {
                let path = file_path(dir, *base, extension);
                fs.remove_file(&path).during("remove", &path)?;
            }
        }
        // Without the swap files nothing tells which segments they replaced; without the uncommitted files nothing tells
        // which swap files are abandoned.
        fs.sync_dir(dir).during("sync", dir)?;
        committed.sort_by_key(|(base, extension)| {
            (*base, EXTENSIONS.iter().position(|it| it == extension))
        });
        for (base, extension) in committed {
            let path = swap_path(dir, base, extension);
            info!(path = %path.display(), "completing interrupted replacement of segments");
            fs.rename(&path, &file_path(dir, base, extension))
                .during("rename", &path)?;
        }
        fs.sync_dir(dir).during("sync", dir)
    }
}

fn swap_path(dir: &Path, base_offset: i64, extension: &str) -> PathBuf {
    file_path(dir, base_offset, &format!("{extension}.swap"))
}

/// Returns the range of offsets of the swap files. It may be empty.
fn replaced_range(fs: &Fs, dir: &Path, swaps: &[(i64, &str)]) -> Result<Range<i64>, Error> {
    let (mut start, mut end) = (i64::MAX, i64::MIN);
    for (base, _) in swaps.iter().filter(|(_, extension)| *extension == "log") {
        start = start.min(*base);
        end = end.max(end_of(fs, dir, *base)?);
    }
    Ok(start..end)
}

/// Returns the offset after the last batch of a swap file; at least its base offset's successor, since its segment is
/// replaced even by an empty one.
fn end_of(fs: &Fs, dir: &Path, base_offset: i64) -> Result<i64, Error> {
    let path = swap_path(dir, base_offset, "log");
    let file = fs.open(&path).during("open", &path)?;
    let size = file.size().during("read the size of", &path)?;
    let mut scanner = Scanner::for_headers(&file, &path, base_offset, size);
    let (mut position, mut end) = (0, base_offset);
    while let Found::Batch(header) = scanner.header(position, end)? {
        position += header.size_bytes() as u64;
        end = header.next_offset();
    }
    Ok(end.max(base_offset + 1))
}
