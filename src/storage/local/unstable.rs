//! The transactions that hold a log's last stable offset back.
//!
//! An open transaction does, and so does one whose marker is not below the high watermark yet: were its records readable
//! now, a crash that loses the marker would make them undecided again.

use super::transaction::EndedTransaction;

/// First offsets of transactions that are open, or whose markers readers do not see yet.
#[derive(Debug)]
pub(super) struct Unstable {
    first_open: Option<i64>,
    /// Transactions that ended, with the offsets of their markers.
    ended: Vec<EndedTransaction>,
    /// The smallest of all first offsets; `i64::MAX` without any, so that logs without transactions pay a comparison.
    first_offset: i64,
}

impl Unstable {
    /// Creates the set for a log of which readers see all; `first_open` is where its oldest open transaction begins.
    pub fn new(first_open: Option<i64>) -> Self {
        Self {
            first_open,
            ended: Vec::new(),
            first_offset: first_open.unwrap_or(i64::MAX),
        }
    }

    /// Returns the smallest first offset; `i64::MAX` if there is none.
    pub fn first_offset(&self) -> i64 {
        self.first_offset
    }

    /// Notes the oldest open transaction after an append, and the one that the append ended. Called before the high
    /// watermark moves past the append.
    pub fn note(&mut self, first_open: Option<i64>, ended: Option<EndedTransaction>) {
        self.first_open = first_open;
        self.ended.extend(ended);
        self.update();
    }

    /// Drops the transactions whose markers readers see now.
    pub fn high_watermark_moved(&mut self, high_watermark: i64) {
        if self.ended.is_empty() {
            return;
        }
        self.ended
            .retain(|ended| ended.last_offset >= high_watermark);
        self.update();
    }

    fn update(&mut self) {
        let ended = self.ended.iter().map(|ended| ended.first_offset);
        self.first_offset = ended.chain(self.first_open).min().unwrap_or(i64::MAX);
    }
}

impl Default for Unstable {
    fn default() -> Self {
        Self::new(None)
    }
}
