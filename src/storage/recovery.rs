//! Opening a log directory, and looking into segments that may be damaged.
//!
//! After a clean shutdown the files are taken as they are; only the end of the last segment is looked for, from its
//! index on. After a crash every segment that reaches past the recovery point is read from end to end. There are two
//! kinds of bad bytes, and they are told apart by where they lie:
//!
//! * A **torn tail**, past the durable point and with nothing valid behind it, is what an interrupted write leaves. It
//!   is cut off.
//! * **Damage** is anything else: the disk promised these bytes once. They are copied aside into a file named
//!   `….log.POSITION.damaged`, taken out of the segment, reported, and the batches behind them are kept, because there
//!   is no replica to fetch them from. Offsets are never given out again.
//!
//! A loss of power can also leave a hole in unsynchronised data, with valid batches behind it. Nothing was promised
//! about those, and keeping a later batch of a producer without an earlier one would confuse its retries, so such a tail
//! is cut at the hole; that it was another boot of the machine is how it is told from damage.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, warn};

use super::checkpoint::LeaderEpochs;
use super::error::{Error, IoContext};
use super::index::{OffsetEntry, SparseIndex};
use super::log::OFFSET_MAX;
use super::log_state::LogPosition;
use super::producer_state::ProducerState;
use super::repair::{Damage, inspect, remove_corrupt_ranges, repair_leader_epochs};
use super::segment::{Located, REBUILT_INTERVAL_BYTES, Segment, file_path};
use crate::fs::Fs;

/// What is known about a log before its directory is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// The last shutdown was clean.
    pub clean: bool,
    /// The machine has not been restarted since the log was written, so the page cache lost nothing.
    pub same_boot: bool,
    /// Everything below was on disk when this was noted.
    pub recovery_point: Option<i64>,
    /// Where the log starts, if that is not the first segment's beginning.
    pub log_start: Option<i64>,
}

/// A log as it was found, or put in order.
pub(super) struct Opened {
    pub segments: Vec<Arc<Segment>>,
    pub log_start: i64,
    pub end: LogPosition,
    /// The disk is known to have everything below.
    pub durable: i64,
    /// Closed segments that the disk may lack.
    pub unsynced: Vec<Arc<Segment>>,
    pub producers: Producers,
}

/// Where the producers' state is.
#[derive(Debug)]
pub(super) enum Producers {
    /// In a snapshot that need not be read before a producer asks, or nowhere.
    Snapshot(Option<PathBuf>),
    Loaded(ProducerState),
}

/// What recovery had to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub segments_read: u64,
    pub bytes_read: u64,
    pub bytes_truncated: u64,
    pub ranges_damaged: u64,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.segments_read += other.segments_read;
        self.bytes_read += other.bytes_read;
        self.bytes_truncated += other.bytes_truncated;
        self.ranges_damaged += other.ranges_damaged;
    }
}

/// What lies in a log directory.
#[derive(Debug, Default)]
struct Listing {
    logs: BTreeSet<i64>,
    indexes: BTreeSet<i64>,
    snapshots: BTreeSet<i64>,
    /// Segments that damage was taken out of.
    mended: BTreeSet<i64>,
    epochs: bool,
    leftovers: Vec<PathBuf>,
}

impl Listing {
    fn read(dir: &Path) -> Result<Self, Error> {
        let mut listing = Self::default();
        for entry in std::fs::read_dir(dir).during("list", dir)? {
            let name = entry.during("list", dir)?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name == "leader-epoch-checkpoint" {
                listing.epochs = true;
            }
            if name.ends_with(".tmp") || name.ends_with(".deleted") || name.ends_with(".cleaned") {
                listing.leftovers.push(dir.join(name));
            }
            let Some((base, extension)) = name.split_once('.') else {
                continue;
            };
            let Some(base) = base
                .parse::<i64>()
                .ok()
                .filter(|base| (0..=OFFSET_MAX).contains(base))
            else {
                continue;
            };
            match extension {
                "log" => listing.logs.insert(base),
                "index" => listing.indexes.insert(base),
                "snapshot" => listing.snapshots.insert(base),
                aside if aside.ends_with(".damaged") => listing.mended.insert(base),
                _ => continue,
            };
        }
        Ok(listing)
    }
}

/// Opens the log in `dir`, which exists. What is done is added to `report`, even if it fails in the end.
pub(super) fn open(
    fs: &Fs,
    dir: &Arc<Path>,
    before: Before,
    now_ms: i64,
    report: &mut Report,
) -> Result<Opened, Error> {
    let recovery = Recovery {
        fs,
        dir,
        before,
        now_ms,
        listing: Listing::read(dir)?,
        report,
    };
    recovery.run()
}

struct Recovery<'a> {
    fs: &'a Fs,
    dir: &'a Arc<Path>,
    before: Before,
    now_ms: i64,
    listing: Listing,
    report: &'a mut Report,
}

impl Recovery<'_> {
    fn run(self) -> Result<Opened, Error> {
        for path in &self.listing.leftovers {
            self.fs.remove_file(path).during("remove", path)?;
        }
        for base in self.listing.indexes.difference(&self.listing.logs) {
            for extension in ["index", "timeindex", "txnindex"] {
                let path = file_path(self.dir, *base, extension);
                self.fs.remove_file(&path).during("remove", &path)?;
            }
        }
        let mut segments = Vec::with_capacity(self.listing.logs.len().max(1));
        for base in self.listing.logs.clone() {
            let path = file_path(self.dir, base, "log");
            let size = std::fs::metadata(&path)
                .during("read the size of", &path)?
                .len();
            segments.push(Arc::new(Segment::found(self.fs, self.dir, base, size)));
        }
        if self.before.clean
            && let Some(opened) = self.trust(&segments)?
        {
            return Ok(opened);
        }
        self.read_all(segments)
    }

    /// Takes a cleanly closed log as it is; `None` if something about it is not as a clean shutdown leaves it.
    fn trust(&self, segments: &[Arc<Segment>]) -> Result<Option<Opened>, Error> {
        let Some(last) = segments.last() else {
            return Ok(None);
        };
        let end = match last.peek(|last| self.end_of(last)) {
            Ok(Some(end)) => end,
            Ok(None) | Err(Error::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.before.recovery_point.is_some_and(|point| point != end) {
            return Ok(None);
        }
        self.index_where_missing(&segments[..segments.len() - 1])?;
        self.remove_odd_snapshots(segments, end)?;
        Ok(Some(Opened {
            log_start: self.log_start(segments, end),
            end: LogPosition {
                offset: end,
                segment: last.base_offset,
                position: last.size(),
            },
            durable: end,
            unsynced: Vec::new(),
            producers: Producers::Snapshot(
                self.listing
                    .snapshots
                    .contains(&end)
                    .then(|| file_path(self.dir, end, "snapshot")),
            ),
            segments: segments.to_vec(),
        }))
    }

    /// Makes index files for closed segments that have none and are large enough to want one.
    fn index_where_missing(&self, closed: &[Arc<Segment>]) -> Result<(), Error> {
        for segment in closed {
            if segment.size() > REBUILT_INTERVAL_BYTES
                && !self.listing.indexes.contains(&segment.base_offset)
            {
                segment.peek(Segment::rebuild_index)?;
            }
        }
        Ok(())
    }

    /// Keeps the snapshots taken where a segment begins, and the newest; one taken past the log's end is of another past.
    fn remove_odd_snapshots(&self, segments: &[Arc<Segment>], end: i64) -> Result<(), Error> {
        let newest = self.listing.snapshots.range(..=end).next_back();
        for taken_at in &self.listing.snapshots {
            let begins_one = segments
                .binary_search_by_key(taken_at, |segment| segment.base_offset)
                .is_ok();
            if *taken_at > end || (!begins_one && Some(taken_at) != newest) {
                let path = file_path(self.dir, *taken_at, "snapshot");
                self.fs.remove_file(&path).during("remove", &path)?;
            }
        }
        Ok(())
    }

    /// The offset after a segment's last batch, found from its last index entry on.
    fn end_of(&self, segment: &Segment) -> Result<Option<i64>, Error> {
        let last = match self.listing.indexes.contains(&segment.base_offset) {
            true => match segment.index_file::<OffsetEntry>()? {
                Some(file) => file.last()?,
                None => None,
            },
            false => None,
        };
        let size = segment.size();
        let offset = segment.base_offset + last.map_or(0, |entry| i64::from(entry.relative_offset));
        let Some(first) = segment.locate(offset, size)? else {
            return Ok((size == 0).then_some(segment.base_offset));
        };
        let (mut end, mut gap) = (first.header.base_offset, false);
        segment.walk(first, size, |located| {
            gap |= located.header.base_offset != end;
            end = located.header.next_offset();
            true
        })?;
        Ok((!gap).then_some(end))
    }

    fn log_start(&self, segments: &[Arc<Segment>], end: i64) -> i64 {
        let first = segments.first().map_or(0, |segment| segment.base_offset);
        self.before
            .log_start
            .unwrap_or(0)
            .clamp(first, end.max(first))
    }

    /// Reads what reaches past the recovery point, and puts it in order.
    fn read_all(mut self, found: Vec<Arc<Segment>>) -> Result<Opened, Error> {
        let point = self.before.recovery_point.unwrap_or(0);
        let epochs = LeaderEpochs::read(self.fs, &self.dir.join("leader-epoch-checkpoint"))?;
        let first_read = match found.partition_point(|segment| segment.base_offset <= point) {
            0 => 0,
            after => after - 1,
        };
        // Below the recovery point nothing is cut off, so a snapshot from there speaks of batches that are all there.
        let first = found.get(first_read).map_or(0, |first| first.base_offset);
        let mut producers = Replay::start(
            self.fs,
            self.dir,
            &self.listing,
            first.max(point),
            first,
            self.now_ms,
        )?;
        self.index_where_missing(&found[..first_read])?;
        self.replay_trusted(&found[..first_read], &mut producers)?;
        let mut segments: Vec<_> = found[..first_read].to_vec();
        let mut end = found
            .get(first_read)
            .map_or(self.before.log_start.unwrap_or(0), |segment| {
                segment.base_offset
            });
        let mut cut = false;
        for (place, segment) in found.iter().enumerate().skip(first_read) {
            if cut {
                self.discard(segment)?;
                continue;
            }
            let closed_at = self.before.recovery_point.filter(|_| self.before.clean);
            let following = match found.get(place + 1) {
                Some(next) => Some(next.base_offset),
                None => closed_at.filter(|end| *end >= segment.base_offset),
            };
            let is_last = place + 1 == found.len();
            let kept = self.read_one(
                segment,
                following,
                epochs.as_ref(),
                &mut producers,
                &mut cut,
                is_last,
            )?;
            end = kept.1;
            segments.push(Arc::new(kept.0));
        }
        if cut {
            // As with the cut itself: segments that came back would go on from records they never followed.
            self.fs.sync_dir(self.dir).during("sync", self.dir)?;
        }
        let segments = self.finish_tail(segments, &mut end, point)?;
        self.remove_odd_snapshots(&segments, end)?;
        let last = segments.last().expect("finish_tail leaves one");
        let closed = segments.len() - 1;
        let unsynced = segments[first_read.min(closed)..closed].to_vec();
        for segment in &unsynced {
            segment.close_index()?;
        }
        let mark = LogPosition {
            offset: end,
            segment: last.base_offset,
            position: last.size(),
        };
        Ok(Opened {
            log_start: self.log_start(&segments, end),
            end: mark,
            durable: point.min(end),
            unsynced,
            producers: Producers::Loaded(producers.state),
            segments,
        })
    }

    /// Reads a segment from end to end and puts it in order. Returns what it has become and the offset behind it; `cut` is
    /// set if the log ends there, whatever follows.
    fn read_one(
        &mut self,
        segment: &Arc<Segment>,
        following: Option<i64>,
        epochs: Option<&LeaderEpochs>,
        producers: &mut Replay,
        cut: &mut bool,
        is_last: bool,
    ) -> Result<(Segment, i64), Error> {
        let size = segment.size();
        let point = self.before.recovery_point.unwrap_or(0);
        // Past the recovery point a loss of power may have left holes; the log ends at the first.
        let open_from = match self.before.same_boot || self.before.clean {
            true => i64::MAX,
            false => point,
        };
        let inspected = inspect(segment, size, following, open_from, epochs, |located| {
            producers.note(located);
        })?;
        self.report.segments_read += 1;
        self.report.bytes_read += size;
        repair_leader_epochs(segment, &inspected)?;
        // What follows begins later, too, where damage was taken out, and where the log was made to go on after records
        // that somebody had deleted.
        let log_start = self.before.log_start.unwrap_or(0);
        let ends_early = following
            .is_some_and(|next| inspected.next_offset < next && log_start < next)
            && !self.listing.mended.contains(&segment.base_offset);
        if ends_early && inspected.tail.is_none() && inspected.next_offset >= open_from {
            warn!(path = %segment.log_path().display(), offset = inspected.next_offset,
                "unsynced segment tail lost in power failure, truncating the log here");
            *cut = true;
        }
        let ends_log =
            |tail: &&Damage| tail.offset >= open_from || (tail.offset >= point && is_last);
        let Some(cut_at) = inspected.tail.as_ref().filter(ends_log).cloned() else {
            let mut damages = inspected.damages;
            damages.extend(inspected.tail);
            if damages.is_empty() {
                let sound = Segment::sound(
                    self.fs,
                    self.dir,
                    segment.base_offset,
                    size,
                    inspected.index,
                );
                return Ok((sound, inspected.next_offset));
            }
            self.report.ranges_damaged += damages.len() as u64;
            let rewritten = remove_corrupt_ranges(self.fs, self.dir, segment, size, &damages)?;
            return self.read_again(rewritten, following);
        };
        *cut = true;
        let shorter = self.cut_off(segment, &cut_at, &inspected.damages)?;
        self.read_again(shorter, following)
    }

    /// Ends a segment where its torn tail begins, and takes out what is damaged before that.
    fn cut_off(
        &mut self,
        segment: &Segment,
        cut_at: &Damage,
        damages: &[Damage],
    ) -> Result<Segment, Error> {
        let path = segment.log_path();
        let lost = segment.size() - cut_at.range.start;
        warn!(
            path = %path.display(),
            position = cut_at.range.start,
            bytes = lost,
            offset = cut_at.offset,
            reason = cut_at.reason,
            "truncating incomplete records of an interrupted write"
        );
        self.report.bytes_truncated += lost;
        // The disk has to know of the cut before anything is written there: whole batches of the lost past that happen
        // to lie where the new ones end would go on from them.
        let file = segment.file()?;
        file.set_size(cut_at.range.start)
            .and_then(|()| file.sync_data())
            .during("truncate", path)?;
        if damages.is_empty() {
            let size = cut_at.range.start;
            return Ok(Segment::found(self.fs, self.dir, segment.base_offset, size));
        }
        self.report.ranges_damaged += damages.len() as u64;
        remove_corrupt_ranges(self.fs, self.dir, segment, cut_at.range.start, damages)
    }

    /// Indexes a segment that was just put in order.
    fn read_again(
        &self,
        segment: Segment,
        following: Option<i64>,
    ) -> Result<(Segment, i64), Error> {
        let size = segment.size();
        // Its end is known to be sound now, so a gap before the last batch is one.
        let end = following.or(Some(i64::MAX));
        let inspected = inspect(&segment, size, end, i64::MAX, None, |_| {})?;
        let sound = Segment::sound(
            self.fs,
            self.dir,
            segment.base_offset,
            size,
            inspected.index,
        );
        Ok((sound, inspected.next_offset))
    }

    /// Sees to it that there is a segment to write to, and that no offset is given out twice: not one that was on disk
    /// once, and not one whose record somebody had deleted.
    fn finish_tail(
        &mut self,
        mut segments: Vec<Arc<Segment>>,
        end: &mut i64,
        point: i64,
    ) -> Result<Vec<Arc<Segment>>, Error> {
        if *end < point {
            error!(
                dir = %self.dir.display(),
                from = *end,
                to = point,
                "durable records missing from the log"
            );
            self.report.ranges_damaged += 1;
        }
        let go_on_at = point.max(self.before.log_start.unwrap_or(0)).max(*end);
        if !segments.is_empty() && *end == go_on_at {
            return Ok(segments);
        }
        if let Some(empty) = segments.pop_if(|last| last.size() == 0) {
            empty.remove_files()?;
        }
        *end = go_on_at;
        let next = Segment::sound(self.fs, self.dir, *end, 0, SparseIndex::new());
        next.create_file()?;
        segments.push(Arc::new(next));
        Ok(segments)
    }

    fn discard(&mut self, segment: &Segment) -> Result<(), Error> {
        warn!(path = %segment.log_path().display(), bytes = segment.size(),
            "removing segment after the truncation point");
        self.report.bytes_truncated += segment.size();
        segment.remove_files()
    }

    /// Takes producers into account whose batches lie between the snapshot and the first segment that is read whole.
    fn replay_trusted(
        &self,
        segments: &[Arc<Segment>],
        producers: &mut Replay,
    ) -> Result<(), Error> {
        for (place, segment) in segments.iter().enumerate() {
            let next = segments.get(place + 1).map(|next| next.base_offset);
            if next.is_some_and(|next| next <= producers.from) {
                continue;
            }
            let size = segment.size();
            let replayed = match segment.locate(producers.from.max(segment.base_offset), size) {
                Ok(Some(first)) => segment.walk(first, size, |located| {
                    producers.note(&located);
                    true
                }),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            // Damage is dealt with when it is read.
            match replayed {
                Ok(()) | Err(Error::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The producers' state, on its way from the newest usable snapshot to the log's end.
struct Replay {
    state: ProducerState,
    from: i64,
    now_ms: i64,
}

impl Replay {
    /// Begins with the newest sound snapshot that was taken at or before `offset`; without one, with nobody known where
    /// the segments begin that are read anyhow.
    fn start(
        fs: &Fs,
        dir: &Path,
        listing: &Listing,
        offset: i64,
        first_read: i64,
        now_ms: i64,
    ) -> Result<Self, Error> {
        for taken_at in listing.snapshots.range(..=offset).rev() {
            let path = file_path(dir, *taken_at, "snapshot");
            let bytes = fs.read(&path).during("read", &path)?;
            if let Some(state) = ProducerState::from_snapshot(&bytes, now_ms) {
                return Ok(Self {
                    state,
                    from: *taken_at,
                    now_ms,
                });
            }
            warn!(path = %path.display(), "producer snapshot corrupt, ignoring it");
        }
        let first = listing.logs.first().copied().unwrap_or(0);
        // A roll leaves no snapshot while no producer is known; damaged ones mean that some were.
        Ok(Self {
            state: ProducerState::default(),
            from: match listing.snapshots.is_empty() {
                true => first_read,
                false => first,
            },
            now_ms,
        })
    }

    fn note(&mut self, located: &Located) {
        if located.header.base_offset >= self.from {
            self.state
                .record(located.header.base_offset, &located.header, self.now_ms);
        }
    }
}
