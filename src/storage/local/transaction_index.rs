//! The transaction index of one segment: the aborted transactions whose markers are in it.
//!
//! Unlike the sparse indexes it is no hint: readers of committed records would see the records of a transaction that it
//! lacks. It is derived from the batches, so it is rebuilt where it cannot be trusted. Layout, big endian, as Kafka
//! writes it:
//!
//! ```text
//! .txnindex   version i16 = 0 │ producer id i64 │ first offset i64 │ last offset i64 │ last stable offset i64
//! ```
//!
//! Like the sparse indexes, that of the active segment is in memory, and that of a closed segment is searched in its file,
//! which is durable before the next segment exists: recovery reads that one only. There is no file without aborted
//! transactions.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::aborted::{Aborted, AbortedSearch};
use super::error::{Error, IoContext};
use super::index::{self, Entry, IndexFile};
use crate::fs::Fs;

const VERSION: i16 = 0;

impl Entry for Aborted {
    const LEN: usize = 34;
    const EXTENSION: &'static str = "txnindex";

    fn read(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk()?;
        let (producer_id, rest) = rest.split_first_chunk()?;
        let (first_offset, rest) = rest.split_first_chunk()?;
        let (last_offset, rest) = rest.split_first_chunk()?;
        let transaction = Self {
            producer_id: i64::from_be_bytes(*producer_id),
            first_offset: i64::from_be_bytes(*first_offset),
            last_offset: i64::from_be_bytes(*last_offset),
            last_stable: i64::from_be_bytes(*rest.first_chunk()?),
        };
        let is_valid = i16::from_be_bytes(*version) == VERSION
            && transaction.first_offset <= transaction.last_offset;
        is_valid.then_some(transaction)
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for number in [
            self.producer_id,
            self.first_offset,
            self.last_offset,
            self.last_stable,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn follows(&self, before: &Self) -> bool {
        self.last_offset > before.last_offset && self.last_stable >= before.last_stable
    }
}

#[derive(Debug)]
pub(super) struct TransactionIndex {
    /// Lets the many segments without aborted transactions be passed over.
    is_empty: AtomicBool,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// In the order of their markers; `None` once they are in the file only.
    in_memory: Option<Vec<Aborted>>,
    /// Set if the file may exist.
    has_file: bool,
    /// Set if the file holds what is in memory.
    is_saved: bool,
}

impl TransactionIndex {
    /// Creates the index of a segment without aborted transactions, which is written.
    pub fn in_memory() -> Self {
        Self::new(Some(Vec::new()))
    }

    /// Creates the index of a segment that was found without an index file.
    pub fn absent() -> Self {
        Self::new(None)
    }

    fn new(in_memory: Option<Vec<Aborted>>) -> Self {
        Self {
            is_empty: AtomicBool::new(true),
            state: RwLock::new(State {
                in_memory,
                has_file: false,
                is_saved: false,
            }),
        }
    }

    /// Notes that the segment has an index file.
    pub fn note_file(&self) {
        self.state.write().has_file = true;
        self.is_empty.store(false, Ordering::Release);
    }

    /// Replaces the list.
    pub fn set(&self, transactions: Vec<Aborted>) {
        self.is_empty
            .store(transactions.is_empty(), Ordering::Release);
        let mut state = self.state.write();
        state.in_memory = Some(transactions);
        state.is_saved = false;
    }

    /// Adds a transaction to the list, which is in memory.
    pub fn add(&self, transaction: Aborted) {
        let mut state = self.state.write();
        state.in_memory.get_or_insert_default().push(transaction);
        state.is_saved = false;
        self.is_empty.store(false, Ordering::Release);
    }

    /// Returns true if no aborted transaction ends in the segment.
    pub fn is_empty(&self) -> bool {
        self.is_empty.load(Ordering::Acquire)
    }

    /// Returns the size of its file.
    pub fn bytes(&self) -> usize {
        if self.is_empty() {
            return 0;
        }
        let state = self.state.read();
        state.in_memory.as_ref().map_or(0, Vec::len) * Aborted::LEN
    }

    /// Reads the list from its file into memory, unless it is there; fails if the file is invalid.
    pub fn load(&self, fs: &Fs, path: &Path) -> Result<(), Error> {
        let mut state = self.state.write();
        if state.in_memory.is_none() {
            state.in_memory = Some(match state.has_file {
                true => read_file(fs, path)?,
                false => Vec::new(),
            });
            state.is_saved = true;
        }
        Ok(())
    }

    /// Returns the list.
    pub fn list(&self, fs: &Fs, path: &Path) -> Result<Vec<Aborted>, Error> {
        let state = self.state.read();
        match &state.in_memory {
            Some(list) => Ok(list.clone()),
            None if state.has_file => read_file(fs, path),
            None => Ok(Vec::new()),
        }
    }

    /// Adds the transactions that overlap the range sought. Returns false if no later segment has any.
    pub fn search(&self, fs: &Fs, path: &Path, search: &mut AbortedSearch) -> Result<bool, Error> {
        let state = self.state.read();
        match &state.in_memory {
            Some(list) => Ok(search.add_from(list)),
            None if state.has_file => {
                drop(state);
                search_file(fs, path, search)
            }
            None => Ok(true),
        }
    }

    /// Writes the list to the file durably, or removes the file if the list is empty.
    pub fn save(&self, fs: &Fs, path: &Path) -> Result<(), Error> {
        self.state.write().save(fs, path)
    }

    /// Saves the list and drops it from memory. A failure leaves it there.
    pub fn close(&self, fs: &Fs, path: &Path) -> Result<(), Error> {
        let mut state = self.state.write();
        state.save(fs, path)?;
        state.in_memory = None;
        Ok(())
    }
}

impl State {
    fn save(&mut self, fs: &Fs, path: &Path) -> Result<(), Error> {
        let Some(list) = self.in_memory.as_ref().filter(|_| !self.is_saved) else {
            return Ok(());
        };
        if !list.is_empty() {
            let mut bytes = Vec::with_capacity(list.len() * Aborted::LEN);
            list.iter().for_each(|entry| entry.write(&mut bytes));
            fs.write_atomically(path, &bytes).during("write", path)?;
        } else if self.has_file {
            fs.remove_file(path).during("remove", path)?;
        }
        self.has_file = !list.is_empty();
        self.is_saved = true;
        Ok(())
    }
}

fn read_file(fs: &Fs, path: &Path) -> Result<Vec<Aborted>, Error> {
    let entries = index::load_entries(fs, path)?;
    entries.ok_or_else(|| invalid(path))
}

fn search_file(fs: &Fs, path: &Path, search: &mut AbortedSearch) -> Result<bool, Error> {
    // A file that is gone is that of a segment that was replaced or deleted.
    let gone = || Err(std::io::ErrorKind::NotFound.into()).during("open", path);
    let Some(file) = IndexFile::<Aborted>::open(fs, path.to_path_buf())? else {
        return match fs.exists(path).during("look for", path)? {
            true => Err(invalid(path)),
            false => gone(),
        };
    };
    let mut number = file.partition_point(|transaction| search.is_before(transaction))?;
    loop {
        let transactions = file.read(number)?;
        if transactions.is_empty() {
            return match number == file.len() {
                true => Ok(true),
                false => Err(invalid(path)),
            };
        }
        number += transactions.len() as u64;
        if !transactions.iter().all(|it| search.add(it)) {
            return Ok(false);
        }
    }
}

fn invalid(path: &Path) -> Error {
    Error::corrupt(path, 0, "not a valid transaction index")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::AbortedTransaction;

    fn transaction(producer_id: i64, first: i64, last: i64, last_stable: i64) -> Aborted {
        Aborted {
            producer_id,
            first_offset: first,
            last_offset: last,
            last_stable,
        }
    }

    /// Producer 9 has a transaction open from offset 35 on, until 95.
    fn transactions() -> Vec<Aborted> {
        let mut list: Vec<_> = (0..4)
            .map(|number| transaction(number, number * 10, number * 10 + 5, number * 10 + 6))
            .collect();
        list.extend((4..9).map(|number| transaction(number, number * 10, number * 10 + 5, 36)));
        list.push(transaction(9, 36, 95, 96));
        list
    }

    fn found(index: &TransactionIndex, path: &Path, range: std::ops::Range<i64>) -> Vec<i64> {
        let mut search = AbortedSearch::new(range);
        index.search(&Fs::new(), path, &mut search).unwrap();
        let found = search.finish();
        assert!(found.is_sorted_by_key(|found| found.first_offset));
        found.iter().map(|found| found.producer_id).collect()
    }

    #[test]
    fn a_search_finds_what_overlaps_in_memory_as_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("00.txnindex");
        let in_memory = TransactionIndex::in_memory();
        transactions().into_iter().for_each(|it| in_memory.add(it));
        let on_file = TransactionIndex::in_memory();
        on_file.set(transactions());
        on_file.close(&Fs::new(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 10 * 34);
        for start in 0..100 {
            for end in start + 1..=100 {
                let overlapping = |it: &Aborted| it.last_offset >= start && it.first_offset < end;
                let mut expected: Vec<_> = transactions().into_iter().filter(overlapping).collect();
                expected.sort_by_key(|it| it.first_offset);
                let expected: Vec<_> = expected.iter().map(|it| it.producer_id).collect();
                assert_eq!(
                    found(&in_memory, &path, start..end),
                    expected,
                    "{start}..{end}"
                );
                assert_eq!(
                    found(&on_file, &path, start..end),
                    expected,
                    "{start}..{end}"
                );
            }
        }
    }

    #[test]
    fn a_search_ends_with_the_last_stable_offset_past_its_range() {
        let index = TransactionIndex::in_memory();
        transactions().into_iter().for_each(|it| index.add(it));
        for (range, goes_on) in [
            (0..5, false),
            (0..7, false),
            (40..96, false),
            (40..97, true),
        ] {
            let mut search = AbortedSearch::new(range.clone());
            let on = index.search(&Fs::new(), Path::new("none"), &mut search);
            assert_eq!(on.unwrap(), goes_on, "{range:?}");
        }
    }

    #[test]
    fn a_file_is_rewritten_with_what_was_added_and_removed_without_entries() {
        let dir = tempfile::tempdir().unwrap();
        let (fs, path) = (Fs::new(), dir.path().join("00.txnindex"));
        let index = TransactionIndex::in_memory();
        index.close(&fs, &path).unwrap();
        assert!(!path.exists());
        index.load(&fs, &path).unwrap();
        index.add(transaction(1, 0, 5, 6));
        index.close(&fs, &path).unwrap();
        index.load(&fs, &path).unwrap();
        index.add(transaction(2, 6, 8, 9));
        index.close(&fs, &path).unwrap();
        assert_eq!(found(&index, &path, 0..100), [1, 2]);
        index.set(Vec::new());
        index.close(&fs, &path).unwrap();
        assert!(!path.exists());
        assert_eq!(found(&index, &path, 0..100), [0; 0]);
    }

    #[test]
    fn an_invalid_file_is_no_index() {
        let dir = tempfile::tempdir().unwrap();
        let (fs, path) = (Fs::new(), dir.path().join("00.txnindex"));
        let mut bytes = Vec::new();
        transactions()
            .into_iter()
            .for_each(|it| it.write(&mut bytes));
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_file(&fs, &path)
        };
        assert_eq!(read(&bytes).unwrap(), transactions());
        assert_eq!(read(&[]).unwrap(), []);
        read(&bytes[..bytes.len() - 1]).unwrap_err();
        let swapped = [&bytes[34..68], &bytes[..34]].concat();
        read(&swapped).unwrap_err();
        bytes[35] = 1;
        read(&bytes).unwrap_err();
        let index = TransactionIndex::absent();
        index.note_file();
        let mut search = AbortedSearch::new(0..100);
        index.search(&fs, &path, &mut search).unwrap_err();
        let none: Vec<AbortedTransaction> = Vec::new();
        assert_eq!(AbortedSearch::new(0..100).finish(), none);
    }
}
