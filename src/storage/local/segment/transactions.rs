//! A segment's transaction index: in memory while the segment is written, in its file once it is closed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::Segment;
use crate::storage::local::aborted::{Aborted, AbortedSearch};
use crate::storage::local::error::{Error, IoContext};
use crate::storage::local::index::Entry;

impl Segment {
    /// Notes that the segment was found with a transaction index.
    pub fn note_transaction_index(&self) {
        self.transactions.note_file();
    }

    /// Loads the transaction index, as appends require.
    pub fn load_transactions(&self) -> Result<(), Error> {
        let path = self.path(Aborted::EXTENSION);
        self.transactions.load(&self.fs, &path)
    }

    /// Adds an aborted transaction whose marker was appended.
    pub fn add_aborted(&self, transaction: Aborted) {
        self.transactions.add(transaction);
    }

    /// Replaces the aborted transactions by those found in its batches.
    pub fn set_aborted(&self, transactions: Vec<Aborted>) {
        self.transactions.set(transactions);
    }

    /// Returns the aborted transactions whose markers are in the segment.
    pub fn aborted(&self) -> Result<Vec<Aborted>, Error> {
        let path = self.path(Aborted::EXTENSION);
        self.transactions.list(&self.fs, &path)
    }

    /// Adds the aborted transactions that end in the segment to those found. Returns false if none that ends in a later one
    /// overlaps the range.
    pub fn search_aborted(&self, search: &mut AbortedSearch) -> Result<bool, Error> {
        if self.transactions.is_empty() {
            return Ok(true);
        }
        let path = self.path(Aborted::EXTENSION);
        let goes_on = self.transactions.search(&self.fs, &path, search)?;
        match self.removed.load(Ordering::Acquire) {
            // The file may have been that of another segment, or of a new topic of the same name.
            true => Err(std::io::ErrorKind::NotFound.into()).during("open", &path),
            false => Ok(goes_on),
        }
    }

    /// Writes the index file durably.
    pub fn save_transactions(&self) -> Result<(), Error> {
        let path = self.path(Aborted::EXTENSION);
        self.transactions.save(&self.fs, &path)
    }

    /// Writes the index file durably and drops the index from memory.
    pub fn close_transactions(&self) -> Result<(), Error> {
        let path = self.path(Aborted::EXTENSION);
        self.transactions.close(&self.fs, &path)
    }

    /// Takes over the aborted transactions of the segments that it replaces, as far as it has their markers: readers would
    /// skip later records of the producer as well, up to its next marker.
    pub fn inherit_aborted(&self, old: &[Arc<Segment>]) -> Result<(), Error> {
        let mut transactions = Vec::new();
        for segment in old {
            match segment.aborted() {
                Ok(found) => transactions.extend(found),
                Err(Error::Corrupt { path, reason, .. }) => {
                    error!(path = %path.display(), reason, "aborted transactions of a replaced segment lost");
                }
                Err(failure) => return Err(failure),
            }
        }
        if !transactions.is_empty() {
            let markers = self.markers()?;
            transactions.retain(|transaction| markers.contains(&transaction.last_offset));
        }
        self.set_aborted(transactions);
        Ok(())
    }

    /// Returns the offsets of the control batches.
    fn markers(&self) -> Result<HashSet<i64>, Error> {
        let mut markers = HashSet::new();
        let size = self.size();
        if let Some(first) = self.locate(self.base_offset, size)? {
            self.walk(first, size, |located| {
                if located.header.attributes.is_control() {
                    markers.insert(located.header.last_offset());
                }
                true
            })?;
        }
        Ok(markers)
    }
}
