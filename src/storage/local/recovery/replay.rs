//! Replaying batches for what a log derives from them: the state of producers, and the aborted transactions of segments.

use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use tracing::warn;

use super::Listing;
use crate::fs::Fs;
use crate::record::RecordBatch;
use crate::storage::TransactionMarker;
use crate::storage::local::aborted::Aborted;
use crate::storage::local::error::{Error, IoContext};
use crate::storage::local::producer_state::ProducerState;
use crate::storage::local::segment::{Located, Segment, file_path};

/// The state of producers while it is replayed from a snapshot to the log's end.
pub(super) struct Replay {
    state: ProducerState,
    /// Offset of the snapshot.
    from: i64,
    /// A later snapshot, which replaces the state at its offset: it may know of more than the batches that are left.
    later: Option<(i64, ProducerState)>,
    aborted: Vec<Aborted>,
    now_ms: i64,
}

impl Replay {
    /// Starts from the newest valid snapshot taken at or before `first`, the base offset of the first segment whose
    /// batches are noted; without one, from an empty state there, or, if there were only corrupt snapshots, at the first
    /// segment of the log. The newest snapshot up to `point` applies once the batches before it were noted.
    pub fn start(
        fs: &Fs,
        dir: &Path,
        listing: &Listing,
        first: i64,
        point: i64,
        now_ms: i64,
    ) -> Result<Self, Error> {
        let newest = |range: RangeInclusive<i64>| {
            let taken_at = listing.snapshots.range(range).rev();
            newest_valid(fs, dir, taken_at, now_ms)
        };
        let later = match first < point {
            true => newest(first + 1..=point)?,
            false => None,
        };
        let has_any = listing.snapshots.range(..=first).next().is_some();
        let (from, state) = match newest(i64::MIN..=first)? {
            Some(newest) => newest,
            // A roll writes no snapshot while no producer is known; corrupt ones mean that some were.
            None if has_any => {
                let first_log = listing.logs.first().copied().unwrap_or(0);
                (first_log, ProducerState::default())
            }
            None => (first, ProducerState::default()),
        };
        Ok(Self {
            state,
            from,
            later,
            aborted: Vec::new(),
            now_ms,
        })
    }

    /// Returns the offset from which on batches have to be noted.
    pub fn from(&self) -> i64 {
        self.from
    }

    /// Notes the batches of a segment up to the first corrupt one: corruption is repaired when it is read.
    pub fn note_all(&mut self, segment: &Segment) -> Result<(), Error> {
        let size = segment.size();
        let first = segment.locate(self.from.max(segment.base_offset), size);
        let mut noted = Ok(());
        let walked = first.and_then(|first| match first {
            Some(first) => segment.walk(first, size, |located| {
                noted = self.note(segment, &located);
                noted.is_ok()
            }),
            None => Ok(()),
        });
        match walked.and(noted) {
            Err(Error::Corrupt { .. }) => Ok(()),
            other => other,
        }
    }

    /// Notes a batch of the segment, in the order of offsets.
    pub fn note(&mut self, segment: &Segment, located: &Located) -> Result<(), Error> {
        let header = &located.header;
        if header.base_offset < self.from {
            return Ok(());
        }
        if let Some((_, state)) = (self.later).take_if(|(offset, _)| header.base_offset >= *offset)
        {
            self.state = state;
        }
        if header.attributes.is_control() && header.is_idempotent() {
            return self.note_marker(segment, located);
        }
        self.state.record(header.base_offset, header, self.now_ms);
        Ok(())
    }

    fn note_marker(&mut self, segment: &Segment, located: &Located) -> Result<(), Error> {
        let header = &located.header;
        let bytes = segment.read(located.position, header.size_bytes())?;
        let batch = RecordBatch::parse_stored(Bytes::from(bytes));
        // Corruption is repaired when it is read.
        let marker = batch
            .map_err(Error::from)
            .and_then(|it| TransactionMarker::of(&it));
        if let Ok(Some(marker)) = marker {
            let ended = self.state.end_transaction(
                header.base_offset,
                &marker,
                header.max_timestamp,
                self.now_ms,
            );
            self.aborted.extend(ended.as_ref().and_then(Aborted::of));
        }
        Ok(())
    }

    /// Returns the aborted transactions whose markers were noted since the last call.
    pub fn take_aborted(&mut self) -> Vec<Aborted> {
        std::mem::take(&mut self.aborted)
    }

    /// Returns the state at the log's end.
    pub fn finish(self) -> ProducerState {
        self.later.map_or(self.state, |(_, state)| state)
    }
}

/// Reads the first valid one of the snapshots that were taken at these offsets.
fn newest_valid<'a>(
    fs: &Fs,
    dir: &Path,
    taken_at: impl Iterator<Item = &'a i64>,
    now_ms: i64,
) -> Result<Option<(i64, ProducerState)>, Error> {
    for offset in taken_at {
        let path = file_path(dir, *offset, "snapshot");
        let bytes = fs.read(&path).during("read", &path)?;
        if let Some(state) = ProducerState::from_snapshot(&bytes, now_ms) {
            return Ok(Some((*offset, state)));
        }
        warn!(path = %path.display(), "producer snapshot corrupt, ignoring it");
    }
    Ok(None)
}
