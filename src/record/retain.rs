//! Dropping some of the records of a stored batch, as compaction does.
//!
//! The batch keeps its range of offsets, its producer and its sequences, whatever is dropped, and the other records keep
//! their offsets and timestamps. Their bytes are copied as they are: both are relative to the batch's base offset and base
//! timestamp. Only a delete horizon, which takes the place of the base timestamp, has them encoded anew.

use std::borrow::Cow;
use std::ops::{ControlFlow, Range};

use bytes::{Bytes, BytesMut};

use super::batch::{BatchHeader, RecordBatch, TimestampType};
use super::compression::{Compression, Compressor, DecompressLimit, Decompressor};
use super::varint;
use super::{Error, Result};

/// The parts of a record that decide whether it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    /// False for a tombstone.
    pub has_value: bool,
}

/// The decompressed records of a batch.
pub struct StoredRecords<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

/// The result of dropping records from a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retained {
    /// Nothing changes.
    All,
    /// The batch without the dropped records.
    Some(RecordBatch),
    /// No record is left.
    None,
}

impl RecordBatch {
    /// Decompresses the records, at most `limit` bytes.
    pub fn stored_records(&self, limit: DecompressLimit) -> Result<StoredRecords<'_>> {
        let bytes = match self.compression() {
            Compression::None => Cow::Borrowed(self.payload()),
            codec => Cow::Owned(Decompressor::new(codec, self.payload(), limit)?.read_to_end()?),
        };
        Ok(StoredRecords {
            header: *self.header(),
            bytes,
        })
    }

    /// Returns the batch without any record. It still has the last offset and sequence of its producer.
    pub fn without_records(&self) -> RecordBatch {
        let header = BatchHeader {
            attributes: self.header().attributes.of_empty(),
            base_timestamp: -1,
            record_count: 0,
            ..*self.header()
        };
        let bytes = BytesMut::zeroed(BatchHeader::LEN);
        Self::seal(header, bytes).expect("a header is not too large")
    }
}

impl StoredRecords<'_> {
    /// Calls `visit` for the records in order, until it breaks.
    pub fn visit(&self, mut visit: impl FnMut(StoredRecord<'_>) -> ControlFlow<()>) -> Result<()> {
        let mut walk = Walk::new(&self.header, &self.bytes);
        while let Some(parsed) = walk.step()? {
            if visit(parsed.record).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Drops the records that are not to be kept. If the batch has no delete horizon, it gets this one if a tombstone is
    /// kept, or if `needs_horizon`.
    pub fn retain(
        &self,
        horizon_ms: i64,
        needs_horizon: bool,
        mut keep: impl FnMut(StoredRecord<'_>) -> bool,
    ) -> Result<Retained> {
        let mut kept = Kept::default();
        let mut walk = Walk::new(&self.header, &self.bytes);
        while let Some(parsed) = walk.step()? {
            if keep(parsed.record) {
                kept.push(&parsed);
            }
        }
        if kept.count == 0 {
            return Ok(Retained::None);
        }
        let sets_horizon =
            (kept.has_tombstone || needs_horizon) && !self.header.attributes.has_delete_horizon();
        if sets_horizon {
            let records = self.relative_to_horizon(&kept, horizon_ms)?;
            let header = BatchHeader {
                attributes: self.header.attributes.with_delete_horizon(),
                base_timestamp: horizon_ms,
                ..self.header
            };
            return self.build(header, &kept, [&records[..]].into_iter());
        }
        if kept.count == self.header.record_count {
            return Ok(Retained::All);
        }
        let runs = kept.runs.iter().map(|run| &self.bytes[run.clone()]);
        self.build(self.header, &kept, runs)
    }

    /// Encodes the kept records with timestamps relative to a delete horizon.
    fn relative_to_horizon(&self, kept: &Kept, horizon_ms: i64) -> Result<Vec<u8>> {
        let shift = self.header.base_timestamp.wrapping_sub(horizon_ms);
        let mut records = Vec::with_capacity(self.bytes.len() + self.bytes.len() / 8);
        for run in &kept.runs {
            let mut walk = Walk::new(&self.header, &self.bytes[run.clone()]);
            while let Some(parsed) = walk.step_in_run()? {
                let delta = parsed.timestamp_delta.wrapping_add(shift);
                let body = 1 + varint::len(delta) + parsed.after_timestamp.len();
                varint::put(&mut records, body as i64);
                records.push(parsed.attributes);
                varint::put(&mut records, delta);
                records.extend_from_slice(parsed.after_timestamp);
            }
        }
        Ok(records)
    }

    fn build<'b>(
        &self,
        header: BatchHeader,
        kept: &Kept,
        records: impl Iterator<Item = &'b [u8]>,
    ) -> Result<Retained> {
        let max_timestamp = match header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => header.max_timestamp,
            TimestampType::CreateTime => kept.max_timestamp(&self.header),
        };
        let header = BatchHeader {
            max_timestamp,
            record_count: kept.count,
            ..header
        };
        let mut out = Vec::with_capacity(BatchHeader::LEN + self.bytes.len());
        out.resize(BatchHeader::LEN, 0);
        let mut compressor = Compressor::new(header.attributes.compression(), out)?;
        for run in records {
            compressor.write(run)?;
        }
        let bytes = BytesMut::from(Bytes::from(compressor.finish()?));
        Ok(Retained::Some(RecordBatch::seal(header, bytes)?))
    }
}

/// The records kept of a batch.
#[derive(Default)]
struct Kept {
    count: i32,
    /// Where they are, adjacent ones together.
    runs: Vec<Range<usize>>,
    has_tombstone: bool,
    max_timestamp_delta: Option<i64>,
}

impl Kept {
    fn push(&mut self, parsed: &Parsed<'_>) {
        self.count += 1;
        self.has_tombstone |= !parsed.record.has_value;
        self.max_timestamp_delta = self.max_timestamp_delta.max(Some(parsed.timestamp_delta));
        match self.runs.last_mut() {
            Some(run) if run.end == parsed.range.start => run.end = parsed.range.end,
            _ => self.runs.push(parsed.range.clone()),
        }
    }

    fn max_timestamp(&self, header: &BatchHeader) -> i64 {
        let delta = self.max_timestamp_delta.unwrap_or(0);
        header.base_timestamp.wrapping_add(delta)
    }
}

/// A record with the places of its parts.
struct Parsed<'a> {
    record: StoredRecord<'a>,
    /// Its bytes, the length included.
    range: Range<usize>,
    attributes: u8,
    timestamp_delta: i64,
    /// The bytes after the timestamp.
    after_timestamp: &'a [u8],
}

/// A parser of the parts that decide. Headers are not looked at: the batch's CRC was checked, and so were the records when
/// they were appended.
struct Walk<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
    position: usize,
    index: usize,
}

impl<'a> Walk<'a> {
    fn new(header: &'a BatchHeader, bytes: &'a [u8]) -> Self {
        Walk {
            header,
            bytes,
            position: 0,
            index: 0,
        }
    }

    /// Parses the next record of the batch; `None` after the last one.
    fn step(&mut self) -> Result<Option<Parsed<'a>>> {
        if self.index == self.header.record_count.max(0) as usize {
            return match self.position == self.bytes.len() {
                true => Ok(None),
                false => Err(Error::record(self.index, "bytes follow the last record")),
            };
        }
        self.parse().map(Some)
    }

    /// Parses the next of some records of the batch; `None` at their end.
    fn step_in_run(&mut self) -> Result<Option<Parsed<'a>>> {
        match self.position == self.bytes.len() {
            true => Ok(None),
            false => self.parse().map(Some),
        }
    }

    fn parse(&mut self) -> Result<Parsed<'a>> {
        let start = self.position;
        let parsed = parse(&self.bytes[start..], self.header)
            .ok_or_else(|| Error::record(self.index, "it does not parse"))?;
        self.position = start + parsed.range.end;
        self.index += 1;
        Ok(Parsed {
            range: start..self.position,
            ..parsed
        })
    }
}

/// Parses the record at the start of `bytes`.
fn parse<'a>(bytes: &'a [u8], header: &BatchHeader) -> Option<Parsed<'a>> {
    let (length, prefix) = varint::read_int(bytes).ok()?;
    let end = prefix.checked_add(usize::try_from(length).ok()?)?;
    let (attributes, body) = bytes.get(prefix..end)?.split_first()?;
    let (timestamp_delta, len) = varint::read_long(body).ok()?;
    let after_timestamp = &body[len..];
    let (offset_delta, len) = varint::read_int(after_timestamp).ok()?;
    if !(0..=header.last_offset_delta).contains(&offset_delta) {
        return None;
    }
    let (key, rest) = nullable_blob(&after_timestamp[len..])?;
    let (value_len, _) = varint::read_int(rest).ok()?;
    Some(Parsed {
        record: StoredRecord {
            offset: header.base_offset.wrapping_add(offset_delta.into()),
            key,
            has_value: value_len >= 0,
        },
        range: 0..end,
        attributes: *attributes,
        timestamp_delta,
        after_timestamp,
    })
}

/// Splits a blob and its length off the front of `bytes`. A blob with a length of −1 is null.
fn nullable_blob(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (len, prefix) = varint::read_int(bytes).ok()?;
    let rest = &bytes[prefix..];
    if len == -1 {
        return Some((None, rest));
    }
    let (blob, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some((Some(blob), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Header};

    const LIMIT: DecompressLimit = DecompressLimit::bytes(1 << 20);

    /// A batch of records at offsets 100, 101, …: key, value, timestamp.
    fn batch(codec: Compression, records: &[(&str, Option<&str>, i64)]) -> RecordBatch {
        let mut builder = BatchBuilder::new(codec)
            .base_offset(100)
            .leader_epoch(3)
            .producer(7, 1, 40);
        let header = Header {
            key: Bytes::from_static(b"h"),
            value: None,
        };
        for (key, value, timestamp_ms) in records {
            let value = value.map(str::as_bytes);
            builder.push(
                *timestamp_ms,
                Some(key.as_bytes()),
                value,
                std::slice::from_ref(&header),
            );
        }
        builder.build().unwrap()
    }

    const RECORDS: [(&str, Option<&str>, i64); 4] = [
        ("a", Some("1"), 1_000),
        ("b", Some("2"), 5_000),
        ("a", None, 900),
        ("c", Some("3"), 2_000),
    ];

    fn retain(batch: &RecordBatch, offsets: &[i64]) -> Retained {
        let records = batch.stored_records(LIMIT).unwrap();
        let keep = |record: StoredRecord<'_>| offsets.contains(&record.offset);
        records.retain(50_000, false, keep).unwrap()
    }

    #[test]
    fn kept_records_are_unchanged_and_the_batch_keeps_its_offsets_and_sequences() {
        for codec in Compression::ALL {
            let full = batch(codec, &RECORDS);
            let Retained::Some(some) = retain(&full, &[100, 103]) else {
                panic!("some records are dropped");
            };
            let parsed = RecordBatch::parse_stored(some.bytes().clone()).unwrap();
            assert_eq!(parsed, some);
            let header = some.header();
            let expected = BatchHeader {
                max_timestamp: 2_000,
                record_count: 2,
                crc: header.crc,
                batch_length: header.batch_length,
                ..*full.header()
            };
            assert_eq!(*header, expected, "{codec}");
            some.validate_records(LIMIT).unwrap();
            let all: Vec<_> = full.records(LIMIT).unwrap().map(Result::unwrap).collect();
            let left: Vec<_> = some.records(LIMIT).unwrap().map(Result::unwrap).collect();
            assert_eq!(left, [all[0].clone(), all[3].clone()]);
        }
    }

    #[test]
    fn a_batch_of_which_all_is_kept_does_not_change() {
        let full = batch(Compression::Zstd, &RECORDS[..2]);
        assert_eq!(retain(&full, &[100, 101]), Retained::All);
        assert_eq!(retain(&full, &[]), Retained::None);
    }

    #[test]
    fn a_tombstone_sets_the_delete_horizon_once() {
        let full = batch(Compression::Lz4, &RECORDS);
        let Retained::Some(some) = retain(&full, &[100, 101, 102, 103]) else {
            panic!("the horizon is set");
        };
        assert_eq!(some.header().delete_horizon_ms(), Some(50_000));
        assert_eq!(some.header().max_timestamp, 5_000);
        some.validate_records(LIMIT).unwrap();
        let records = |batch: &RecordBatch| -> Vec<_> {
            batch.records(LIMIT).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(records(&some), records(&full));
        assert_eq!(retain(&some, &[100, 101, 102, 103]), Retained::All);
        let Retained::Some(fewer) = retain(&some, &[102]) else {
            panic!("records are dropped");
        };
        assert_eq!(fewer.header().delete_horizon_ms(), Some(50_000));
        assert_eq!(fewer.header().max_timestamp, 900);
        assert_eq!(records(&fewer), records(&full)[2..3]);
    }

    #[test]
    fn an_emptied_batch_has_the_producers_last_offset_and_sequence() {
        let full = batch(Compression::Gzip, &RECORDS);
        let empty = full.without_records();
        let parsed = RecordBatch::parse_stored(empty.bytes().clone()).unwrap();
        assert_eq!(parsed, empty);
        let header = empty.header();
        assert_eq!(empty.size_bytes(), BatchHeader::LEN);
        assert_eq!(header.last_offset(), full.header().last_offset());
        assert_eq!(header.last_sequence(), full.header().last_sequence());
        assert_eq!(header.producer_id, 7);
        assert_eq!(header.max_timestamp, 5_000);
        assert_eq!(empty.records(LIMIT).unwrap().count(), 0);
        assert_eq!(retain(&empty, &[]), Retained::None);
    }

    #[test]
    fn invalid_records_are_an_error() {
        let sound = batch(Compression::None, &RECORDS);
        for cut in 1..sound.size_bytes() - BatchHeader::LEN {
            let len = sound.size_bytes() - cut;
            let bytes = BytesMut::from(&sound.bytes()[..len]);
            let torn = RecordBatch::seal(*sound.header(), bytes).unwrap();
            let records = torn.stored_records(LIMIT).unwrap();
            assert!(
                records.visit(|_| ControlFlow::Continue(())).is_err(),
                "{cut}"
            );
        }
    }
}
