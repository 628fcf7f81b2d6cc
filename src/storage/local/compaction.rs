//! Compaction: removing the records that later ones of the same key supersede.
//!
//! A log has a clean part, which was compacted, a dirty part, and a part that must not be compacted yet: the active segment,
//! segments that hold records younger than `min.compaction.lag.ms`, and everything from the last stable offset on.
//! Compacting it takes two passes:
//!
//! 1. The dirty part is read, and the last offset of each key is put into an [`offset_map`] of bounded size. If the map is
//!    full before the end, the rest of the dirty part is left to the next compaction.
//! 2. All segments up to there are rewritten, several small ones as one, with the records that [`filter`] keeps; [`transactions`]
//!    tells which were committed. `rewrite`
//!    replaces them atomically.
//!
//! [`Compactor`] has the settings, the pace and the numbers for metrics; `selection` chooses the log that needs compaction
//! most; `pass` is one compaction of one log. Batches are read by `batch_reader` and written to a new file, all without a
//! lock. Only for the swap of files the partition's maintenance lock is taken, and for the change of the list of segments
//! its append lock. If a segment was removed or repaired meanwhile, the compaction ends, and starts anew later.
//!
//! Before the first segment is replaced, everything that is compacted is flushed, and the recovery point is moved past it:
//! a record is dropped only once the one that supersedes it survives a power failure, and recovery never sees the gaps
//! that compaction leaves. The offset up to which a log is compacted is in Kafka's `cleaner-offset-checkpoint`.

mod batch_reader;
mod compactor;
mod filter;
mod offset_map;
mod pass;
mod selection;
mod transactions;

pub use compactor::CompactionOptions;
pub(super) use compactor::{Compactor, LogName};
pub(super) use pass::{Pass, Work};
pub(super) use selection::Dirt;
