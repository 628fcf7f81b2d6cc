//! Opening a log directory, and recovering it after an unclean shutdown.
//!
//! After a clean shutdown the files are trusted; only the end of the last segment is located, starting at its last
//! index entry. After a crash every segment that reaches past the recovery point is read completely. There are two
//! kinds of invalid bytes, told apart by where they lie:
//!
//! * A **torn tail**, past the recovery point and with nothing valid after it, is left by an interrupted write. It is
//!   truncated.
//! * **Damage** is anything else: these bytes were durable once. They are copied to a file named
//!   `….log.POSITION.damaged`, removed from the segment and reported. The batches after them are kept, because there is
//!   no replica to fetch them from. Offsets are never reused.
//!
//! A power failure can also leave a hole in unflushed data, with valid batches after it. No durability was guaranteed
//! for those, and keeping a later batch of a producer without an earlier one would confuse its retries, so the log is
//! truncated at the hole. A hole is told from damage by the boot id: the machine was restarted since the write.
//!
//! Consumers may have read unflushed records that are lost. Since nothing of them need be left in the files, a new leader
//! epoch begins at the end of every log that a power failure may have shortened, and of every log that was truncated.

mod replay;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{error, info, warn};

use self::replay::Replay;
use super::checkpoint::{LEADER_EPOCHS, LeaderEpochs};
use super::error::{Error, IoContext};
use super::index::{OffsetEntry, SparseIndex};
use super::kafka_swaps::KafkaSwaps;
use super::log::OFFSET_MAX;
use super::log_state::LogPosition;
use super::offset_gap;
use super::producer_state::ProducerState;
use super::repair::{Damage, inspect, remove_corrupt_ranges, repair_leader_epochs};
use super::rewrite::SwapFile;
use super::segment::{REBUILT_INTERVAL_BYTES, Segment, file_path};
use crate::fs::Fs;

/// State of a log as known before its directory is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// The last shutdown was clean.
    pub clean: bool,
    /// The machine was not restarted since the log was written, so the page cache lost nothing.
    pub same_boot: bool,
    /// Everything below this offset was durable when the checkpoint was written.
    pub recovery_point: Option<i64>,
    /// The log start offset, if it is not the first segment's base offset.
    pub log_start: Option<i64>,
    /// The offset below which the log was compacted.
    pub compacted_to: Option<i64>,
}

/// A log that was opened, recovered if need be.
pub(super) struct Opened {
    pub segments: Vec<Arc<Segment>>,
    pub log_start: i64,
    pub end: LogPosition,
    /// Everything below this offset is durable.
    pub durable: i64,
    /// Closed segments that may not be durable.
    pub unsynced: Vec<Arc<Segment>>,
    pub producers: Producers,
}

/// The producer state, loaded or not.
#[derive(Debug)]
pub(super) enum Producers {
    /// In a snapshot that is read when first needed, or none at all.
    Snapshot(Option<PathBuf>),
    Loaded(ProducerState),
}

impl Producers {
    /// Returns the first offset of the oldest open transaction. A snapshot that has one is always loaded.
    pub fn first_open(&self) -> Option<i64> {
        match self {
            Producers::Loaded(state) => state.first_open(),
            Producers::Snapshot(_) => None,
        }
    }
}

/// The work that recovery did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    pub segments_read: u64,
    pub bytes_read: u64,
    pub bytes_truncated: u64,
    pub ranges_damaged: u64,
    pub epochs_raised: u64,
}

impl Report {
    pub fn add(&mut self, other: Report) {
        self.segments_read += other.segments_read;
        self.bytes_read += other.bytes_read;
        self.bytes_truncated += other.bytes_truncated;
        self.ranges_damaged += other.ranges_damaged;
        self.epochs_raised += other.epochs_raised;
    }
}

/// The files of a log directory.
#[derive(Debug, Default)]
struct Listing {
    logs: BTreeSet<i64>,
    indexes: BTreeSet<i64>,
    transaction_indexes: BTreeSet<i64>,
    snapshots: BTreeSet<i64>,
    /// Segments that had corrupt ranges removed.
    repaired: BTreeSet<i64>,
    epochs: bool,
    /// Rewritten segments that have not taken the names of the old ones yet.
    swaps: Vec<SwapFile>,
    kafka_swaps: KafkaSwaps,
    leftovers: Vec<PathBuf>,
}

impl Listing {
    fn read(fs: &Fs, dir: &Path) -> Result<Self, Error> {
        let mut listing = Self::default();
        for entry in fs.read_dir(dir).during("list", dir)? {
            let Some(name) = entry.name.to_str() else {
                continue;
            };
            if name == LEADER_EPOCHS {
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
                "txnindex" => listing.transaction_indexes.insert(base),
                "snapshot" => listing.snapshots.insert(base),
                aside if aside.ends_with(".damaged") => listing.repaired.insert(base),
                other => {
                    listing.swaps.extend(SwapFile::parse(base, other));
                    listing.kafka_swaps.note(base, other);
                    continue;
                }
            };
        }
        Ok(listing)
    }
}

/// Opens the log in `dir`, which exists. The work done is added to `report`, even if opening fails.
pub(super) fn open(
    fs: &Fs,
    dir: &Arc<Path>,
    before: Before,
    now_ms: i64,
    report: &mut Report,
) -> Result<Opened, Error> {
    let mut listing = Listing::read(fs, dir)?;
    if !listing.kafka_swaps.is_empty() {
        listing.kafka_swaps.complete(fs, dir, &listing.logs)?;
        listing = Listing::read(fs, dir)?;
    }
    let recovery = Recovery {
        fs,
        dir,
        before,
        now_ms,
        listing,
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
    fn run(mut self) -> Result<Opened, Error> {
        for path in &self.listing.leftovers {
            self.fs.remove_file(path).during("remove", path)?;
        }
        for swap in std::mem::take(&mut self.listing.swaps) {
            self.complete_swap(swap)?;
        }
        let indexes = self
            .listing
            .indexes
            .union(&self.listing.transaction_indexes);
        for base in indexes.filter(|base| !self.listing.logs.contains(base)) {
            for extension in ["index", "timeindex", "txnindex"] {
                let path = file_path(self.dir, *base, extension);
                self.fs.remove_file(&path).during("remove", &path)?;
            }
        }
        let mut segments = Vec::with_capacity(self.listing.logs.len().max(1));
        for base in self.listing.logs.clone() {
            let path = file_path(self.dir, base, "log");
            let size = self.fs.size(&path).during("read the size of", &path)?;
            let mut segment = Segment::found(self.fs, self.dir, base, size);
            if self.before.compacted_to.is_some_and(|end| base < end) {
                segment = segment.with_gaps();
            }
            if self.listing.transaction_indexes.contains(&base) {
                segment.note_transaction_index();
            }
            segments.push(Arc::new(segment));
        }
        if self.before.clean
            && let Some(opened) = self.open_clean(&segments)?
        {
            return Ok(opened);
        }
        self.recover(segments)
    }

    /// Replaces the segments of an interrupted rewrite.
    fn complete_swap(&mut self, swap: SwapFile) -> Result<(), Error> {
        let SwapFile {
            base_offset,
            last_base_offset,
        } = swap;
        let logs = &mut self.listing.logs;
        if !logs.contains(&base_offset) {
            // A rewrite removes this file last of all: it failed, and the segment was deleted afterwards.
            return swap.remove(self.fs, self.dir);
        }
        info!(dir = %self.dir.display(), base_offset, last_base_offset, "completing interrupted rewrite of segments");
        let is_replaced = |base: &i64| *base > base_offset && *base <= last_base_offset;
        for base in logs.extract_if(.., |base| is_replaced(base)) {
            Segment::found(self.fs, self.dir, base, 0).remove_files()?;
        }
        self.listing.snapshots.retain(|base| !is_replaced(base));
        self.listing.indexes.remove(&base_offset);
        self.listing.transaction_indexes.remove(&base_offset);
        swap.complete(self.fs, self.dir)
    }

    /// Opens a cleanly closed log without reading it; `None` if it is not in the state that a clean shutdown leaves.
    fn open_clean(&self, segments: &[Arc<Segment>]) -> Result<Option<Opened>, Error> {
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
        let Some(producers) = self.producers_at(end)? else {
            return Ok(None);
        };
        // In this order: an offset index is the sign that the transaction index is complete.
        self.check_transaction_indexes(segments, end)?;
        self.build_missing_indexes(&segments[..segments.len() - 1])?;
        self.remove_stale_snapshots(segments, end)?;
        Ok(Some(Opened {
            log_start: self.log_start(segments, end),
            end: LogPosition {
                offset: end,
                segment: last.base_offset,
                position: last.size(),
            },
            durable: end,
            unsynced: Vec::new(),
            producers,
            segments: segments.to_vec(),
        }))
    }

    /// Returns the producer state at the end of a cleanly closed log, loaded only if a transaction is open in it: readers
    /// of committed records depend on that one. `None` if its snapshot is corrupt.
    fn producers_at(&self, end: i64) -> Result<Option<Producers>, Error> {
        if !self.listing.snapshots.contains(&end) {
            return Ok(Some(Producers::Snapshot(None)));
        }
        let path = file_path(self.dir, end, "snapshot");
        let bytes = self.fs.read(&path).during("read", &path)?;
        let state = ProducerState::from_snapshot(&bytes, self.now_ms);
        Ok(state.map(|state| match state.first_open() {
            Some(_) => Producers::Loaded(state),
            None => Producers::Snapshot(Some(path)),
        }))
    }

    /// Builds index files for closed segments that have none and are large enough to need one.
    fn build_missing_indexes(&self, closed: &[Arc<Segment>]) -> Result<(), Error> {
        for segment in closed {
            if segment.size() > REBUILT_INTERVAL_BYTES
                && !self.listing.indexes.contains(&segment.base_offset)
            {
                segment.peek(Segment::rebuild_index)?;
            }
        }
        Ok(())
    }

    /// Rebuilds transaction indexes that are invalid, or may be absent: if the offset index is, too. `end` is the offset
    /// after the last of the segments.
    fn check_transaction_indexes(&self, segments: &[Arc<Segment>], end: i64) -> Result<(), Error> {
        for (number, segment) in segments.iter().enumerate() {
            let base = segment.base_offset;
            let after = segments
                .get(number + 1)
                .map_or(end, |next| next.base_offset);
            let is_sound = match self.listing.transaction_indexes.contains(&base) {
                true => is_sound(segment, after)?,
                false => segment.size() == 0 || self.listing.indexes.contains(&base),
            };
            if !is_sound {
                info!(path = %segment.log_path().display(), "rebuilding transaction index");
                let rebuild =
                    |segment: &Segment| self.rebuild_transactions(&segments[..number], segment);
                segment.peek(rebuild)?;
            }
        }
        Ok(())
    }

    /// Rebuilds the transaction index of a segment that follows these ones.
    fn rebuild_transactions(
        &self,
        before: &[Arc<Segment>],
        segment: &Segment,
    ) -> Result<(), Error> {
        let base = segment.base_offset;
        let mut replay = Replay::start(self.fs, self.dir, &self.listing, base, base, self.now_ms)?;
        self.replay_unread(before, base, &mut replay)?;
        replay.take_aborted();
        replay.note_all(segment)?;
        segment.set_aborted(replay.take_aborted());
        segment.close_transactions()
    }

    /// Removes snapshots except the newest and those taken at a segment's base offset. A snapshot past the log's end
    /// describes batches that the log lost; it is removed durably, since it would apply to other batches once the log has
    /// grown past it again.
    fn remove_stale_snapshots(&self, segments: &[Arc<Segment>], end: i64) -> Result<(), Error> {
        let newest = self.listing.snapshots.range(..=end).next_back();
        for taken_at in &self.listing.snapshots {
            let at_segment_start = segments
                .binary_search_by_key(taken_at, |segment| segment.base_offset)
                .is_ok();
            if *taken_at > end || (!at_segment_start && Some(taken_at) != newest) {
                let path = file_path(self.dir, *taken_at, "snapshot");
                self.fs.remove_file(&path).during("remove", &path)?;
            }
        }
        match self.listing.snapshots.last() {
            Some(last) if *last > end => self.fs.sync_dir(self.dir).during("sync", self.dir),
            _ => Ok(()),
        }
    }

    /// Returns the offset after a segment's last batch, found from its last index entry on; `None` if there is a gap.
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
            gap |= offset_gap::find(end, located.header.base_offset).is_some();
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

    /// Recovers the log: reads and repairs the segments that reach past the recovery point.
    fn recover(mut self, found: Vec<Arc<Segment>>) -> Result<Opened, Error> {
        let point = self.before.recovery_point.unwrap_or(0);
        let first_read = found
            .partition_point(|segment| segment.base_offset <= point)
            .saturating_sub(1);
        let (unread, read) = found.split_at(first_read);
        // In this order: an offset index is the sign that the transaction index is complete.
        if let Some(first) = read.first() {
            self.check_transaction_indexes(unread, first.base_offset)?;
        }
        self.build_missing_indexes(unread)?;
        let mut producers = self.replay_before(unread, read.first(), point)?;
        let (recovered, mut end, truncated) = self.recover_segments(read, &mut producers)?;
        let may_have_lost_power = !self.before.clean && !self.before.same_boot;
        let may_have_lost_records = may_have_lost_power || truncated || end < point;
        let segments = [unread, &recovered].concat();
        let producers = producers.finish();
        let segments = self.ensure_active(segments, &mut end, point, &producers)?;
        if may_have_lost_records {
            self.raise_leader_epoch(end)?;
        }
        self.remove_stale_snapshots(&segments, end)?;
        let last = segments.last().expect("ensure_active leaves one");
        let closed = segments.len() - 1;
        let unsynced = segments[first_read.min(closed)..closed].to_vec();
        for segment in &unsynced {
            segment.close_index()?;
        }
        let position = LogPosition {
            offset: end,
            segment: last.base_offset,
            position: last.size(),
        };
        Ok(Opened {
            log_start: self.log_start(&segments, end),
            end: position,
            durable: point.min(end),
            unsynced,
            producers: Producers::Loaded(producers),
            segments,
        })
    }

    /// Loads the producer state as of the first segment that is read completely.
    fn replay_before(
        &self,
        unread: &[Arc<Segment>],
        first_read: Option<&Arc<Segment>>,
        point: i64,
    ) -> Result<Replay, Error> {
        // Nothing is truncated below the recovery point, so a snapshot up to there does not know of lost batches.
        let first = first_read.map_or(0, |first| first.base_offset);
        let mut producers = Replay::start(
            self.fs,
            self.dir,
            &self.listing,
            first,
            first.max(point),
            self.now_ms,
        )?;
        self.replay_unread(unread, first, &mut producers)?;
        producers.take_aborted();
        Ok(producers)
    }

    /// Reads and repairs the last segments of the log. Returns those that are left, the offset after them, and whether the
    /// log was truncated.
    fn recover_segments(
        &mut self,
        found: &[Arc<Segment>],
        producers: &mut Replay,
    ) -> Result<(Vec<Arc<Segment>>, i64, bool), Error> {
        let epochs = LeaderEpochs::read(self.fs, &self.dir.join(LEADER_EPOCHS))?;
        let closed_at = self.before.recovery_point.filter(|_| self.before.clean);
        let mut segments = Vec::with_capacity(found.len());
        let mut end = match found.first() {
            Some(first) => first.base_offset,
            None => self.before.log_start.unwrap_or(0),
        };
        let mut truncated = false;
        for (place, segment) in found.iter().enumerate() {
            if truncated {
                self.discard(segment)?;
                continue;
            }
            let following = match found.get(place + 1) {
                Some(next) => Some(next.base_offset),
                None => closed_at.filter(|end| *end >= segment.base_offset),
            };
            let (kept, kept_end) = self.recover_segment(
                segment,
                following,
                epochs.as_ref(),
                producers,
                &mut truncated,
                place + 1 == found.len(),
            )?;
            if self.listing.transaction_indexes.contains(&kept.base_offset) {
                kept.note_transaction_index();
            }
            kept.set_aborted(producers.take_aborted());
            segments.push(Arc::new(kept));
            end = kept_end;
        }
        if truncated {
            // As with the truncation itself: segments that reappeared would continue from records they never followed.
            self.fs.sync_dir(self.dir).during("sync", self.dir)?;
        }
        Ok((segments, end, truncated))
    }

    /// Begins a new leader epoch where the log ends, durably, so that consumers that have read further find out that the
    /// log was truncated (KIP-320).
    fn raise_leader_epoch(&mut self, end: i64) -> Result<(), Error> {
        let path = self.dir.join(LEADER_EPOCHS);
        let found = LeaderEpochs::read(self.fs, &path)?;
        let mut epochs = found.unwrap_or_else(LeaderEpochs::new);
        epochs.raise(end);
        self.fs
            .write_atomically(&path, epochs.to_text().as_bytes())
            .during("write", &path)?;
        self.report.epochs_raised += 1;
        Ok(())
    }

    /// Reads a whole segment and repairs it. Returns the resulting segment and the offset after it; sets `truncated` if
    /// the log ends there and later segments must be discarded.
    fn recover_segment(
        &mut self,
        segment: &Arc<Segment>,
        following: Option<i64>,
        epochs: Option<&LeaderEpochs>,
        producers: &mut Replay,
        truncated: &mut bool,
        is_last: bool,
    ) -> Result<(Segment, i64), Error> {
        let size = segment.size();
        let point = self.before.recovery_point.unwrap_or(0);
        // Past the recovery point a power failure may have left holes; the log ends at the first one.
        let open_from = match self.before.same_boot || self.before.clean {
            true => i64::MAX,
            false => point,
        };
        let inspected = inspect(segment, size, following, open_from, epochs, |located| {
            producers.note(segment, located)
        })?;
        self.report.segments_read += 1;
        self.report.bytes_read += size;
        repair_leader_epochs(segment, &inspected)?;
        let log_start = self.before.log_start.unwrap_or(0);
        let was_repaired = self.listing.repaired.contains(&segment.base_offset);
        let ends_early = following.is_some_and(|next| {
            !offset_gap::is_explained(inspected.next_offset, next, log_start, was_repaired)
        });
        if ends_early && inspected.tail.is_none() && inspected.next_offset >= open_from {
            warn!(path = %segment.log_path().display(), offset = inspected.next_offset,
                "unsynced segment tail lost in power failure, truncating the log here");
            *truncated = true;
        }
        let ends_log =
            |tail: &&Damage| tail.offset >= open_from || (tail.offset >= point && is_last);
        let Some(torn_tail) = inspected.tail.as_ref().filter(ends_log).cloned() else {
            let mut damages = inspected.damages;
            damages.extend(inspected.tail);
            if damages.is_empty() {
                let sound = self.sound(segment.base_offset, size, inspected.index);
                return Ok((sound, inspected.next_offset));
            }
            self.report.ranges_damaged += damages.len() as u64;
            let rewritten = self.without(segment, size, &damages)?;
            return self.index_repaired(&rewritten, following);
        };
        *truncated = true;
        let shorter = self.truncate(segment, &torn_tail, &inspected.damages)?;
        self.index_repaired(&shorter, following)
    }

    /// Truncates a segment at its torn tail and removes corrupt ranges before it.
    fn truncate(
        &mut self,
        segment: &Arc<Segment>,
        torn_tail: &Damage,
        damages: &[Damage],
    ) -> Result<Arc<Segment>, Error> {
        let path = segment.log_path();
        let lost = segment.size() - torn_tail.range.start;
        warn!(
            path = %path.display(),
            position = torn_tail.range.start,
            bytes = lost,
            offset = torn_tail.offset,
            reason = torn_tail.reason,
            "truncating incomplete records of an interrupted write"
        );
        self.report.bytes_truncated += lost;
        // The truncation has to be durable before anything is written there: old batches that happen to begin where the
        // new ones end would otherwise seem to follow them.
        let file = segment.file()?;
        file.set_size(torn_tail.range.start)
            .and_then(|()| file.sync_data())
            .during("truncate", path)?;
        if damages.is_empty() {
            let size = torn_tail.range.start;
            let shorter = Segment::found(self.fs, self.dir, segment.base_offset, size);
            return Ok(Arc::new(shorter));
        }
        self.report.ranges_damaged += damages.len() as u64;
        self.without(segment, torn_tail.range.start, damages)
    }

    /// Rewrites a segment without its corrupt ranges.
    fn without(
        &self,
        segment: &Arc<Segment>,
        size: u64,
        damages: &[Damage],
    ) -> Result<Arc<Segment>, Error> {
        let swap = remove_corrupt_ranges(self.fs, self.dir, segment, size, damages)?;
        swap.complete(self.fs, self.dir)?;
        Ok(swap.segment)
    }

    /// Builds the index of a segment that was just repaired.
    fn index_repaired(
        &self,
        segment: &Segment,
        following: Option<i64>,
    ) -> Result<(Segment, i64), Error> {
        let size = segment.size();
        // The segment's end is known to be valid now, so a gap before the last batch is a real gap.
        let end = following.or(Some(i64::MAX));
        let inspected = inspect(segment, size, end, i64::MAX, None, |_| Ok(()))?;
        let sound = self.sound(segment.base_offset, size, inspected.index);
        Ok((sound, inspected.next_offset))
    }

    fn sound(&self, base_offset: i64, size: u64, index: SparseIndex) -> Segment {
        Segment::sound(self.fs, self.dir, base_offset, size, index)
    }

    /// Ensures that there is an active segment and that no offset is reused: neither one that was durable once, nor one
    /// whose record was deleted.
    fn ensure_active(
        &mut self,
        mut segments: Vec<Arc<Segment>>,
        end: &mut i64,
        point: i64,
        producers: &ProducerState,
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
        let next_offset = point.max(self.before.log_start.unwrap_or(0)).max(*end);
        if !segments.is_empty() && *end == next_offset {
            return Ok(segments);
        }
        if let Some(empty) = segments.pop_if(|last| last.size() == 0) {
            empty.remove_files()?;
        }
        *end = next_offset;
        if next_offset > 0 {
            // The snapshot of the segment that was removed may have been the only one. An empty one counts, too: those of
            // deleted segments, of which a power failure may undo the removal, do not apply here.
            let path = file_path(self.dir, *end, "snapshot");
            let content = producers.to_snapshot();
            self.fs
                .write_atomically(&path, &content)
                .during("write", &path)?;
        }
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

    /// Replays the batches between the snapshot and `end`, where the last of these segments ends.
    fn replay_unread(
        &self,
        segments: &[Arc<Segment>],
        end: i64,
        producers: &mut Replay,
    ) -> Result<(), Error> {
        for (number, segment) in segments.iter().enumerate() {
            let after = segments
                .get(number + 1)
                .map_or(end, |next| next.base_offset);
            if after > producers.from() {
                producers.note_all(segment)?;
            }
        }
        Ok(())
    }
}

/// Returns whether the entries of a segment's transaction index are valid and belong to the segment, which ends before
/// `end`.
fn is_sound(segment: &Segment, end: i64) -> Result<bool, Error> {
    match segment.aborted() {
        Ok(list) => Ok(
            (list.first()).is_none_or(|it| it.last_offset >= segment.base_offset)
                && (list.last()).is_none_or(|it| it.last_offset < end),
        ),
        Err(Error::Corrupt { .. }) => Ok(false),
        Err(failure) => Err(failure),
    }
}
