//! One record batch: its header and a checked, zero-copy view of the whole batch.
//!
//! ```text
//!  byte  field                  type   covered by the CRC
//!     0  base offset            i64    no: set by the log
//!     8  batch length           i32    no: bytes from 12 to the end
//!    12  partition leader epoch i32    no: set by the log
//!    16  magic (2)              i8     no
//!    17  CRC-32C                u32    of bytes 21 to the end
//!    21  attributes             i16    yes, as all that follows
//!           bits 0–2  codec: none, gzip, snappy, lz4, zstd
//!           bit 3     timestamps are the log's append time
//!           bit 4     part of a transaction
//!           bit 5     control batch
//!           bit 6     base timestamp is a delete horizon (set by compaction)
//!    23  last offset delta      i32
//!    27  base timestamp         i64
//!    35  max timestamp          i64
//!    43  producer id            i64
//!    51  producer epoch         i16
//!    53  base sequence          i32
//!    57  record count           i32
//!    61  records, compressed as a whole when a codec is set
//! ```
//!
//! Kafka's description: <https://kafka.apache.org/documentation/#recordbatch>.

use bytes::{Bytes, BytesMut};

use super::codec::lz4;
use super::compression::{Compression, DecompressLimit, Decompressor, compress_from};
use super::iter::{self, RecordIter, RecordsSummary};
use super::{Error, Result};

/// Bytes up to and including the length field: a batch's size is its length field plus this.
const LENGTH_OVERHEAD: usize = 12;
/// Bytes of the fields that the log writes (base offset, length, leader epoch).
const STAMP_LEN: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;

const CODEC_MASK: i16 = 0b0000_0111;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;
const KNOWN: i16 = CODEC_MASK | LOG_APPEND_TIME | TRANSACTIONAL | CONTROL | DELETE_HORIZON;

/// Source of a batch's timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's clock: each record has its own timestamp.
    CreateTime,
    /// The broker's clock: every record has the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch, all of them defined by the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    bits: i16,
    compression: Compression,
}

impl Attributes {
    /// Parses raw bits. Rejects undefined bits and codec numbers, because they could change the meaning of the rest of the
    /// batch.
    pub fn from_bits(bits: i16) -> Result<Attributes> {
        let compression = Compression::from_id((bits & CODEC_MASK) as u8);
        match compression {
            Some(compression) if bits & !KNOWN == 0 => Ok(Attributes { bits, compression }),
            _ => Err(Error::UnknownAttributes(bits)),
        }
    }

    pub(super) fn new(compression: Compression) -> Attributes {
        Attributes {
            bits: i16::from(compression.id()),
            compression,
        }
    }

    pub(super) fn with_compression(self, compression: Compression) -> Attributes {
        Attributes {
            bits: self.bits & !CODEC_MASK | i16::from(compression.id()),
            compression,
        }
    }

    pub(super) fn with_log_append_time(self) -> Attributes {
        self.with(LOG_APPEND_TIME)
    }

    pub(super) fn with_transactional(self) -> Attributes {
        self.with(TRANSACTIONAL)
    }

    pub(super) fn with_control(self) -> Attributes {
        self.with(CONTROL)
    }

    pub(super) fn with_delete_horizon(self) -> Attributes {
        self.with(DELETE_HORIZON)
    }

    /// Returns the attributes of the batch without its records: neither compressed nor with a delete horizon.
    pub(super) fn of_empty(self) -> Attributes {
        let attributes = self.with_compression(Compression::None);
        Attributes {
            bits: attributes.bits & !DELETE_HORIZON,
            ..attributes
        }
    }

    fn with(self, bit: i16) -> Attributes {
        Attributes {
            bits: self.bits | bit,
            ..self
        }
    }

    /// Returns the raw bits.
    pub fn bits(self) -> i16 {
        self.bits
    }

    pub fn compression(self) -> Compression {
        self.compression
    }

    pub fn timestamp_type(self) -> TimestampType {
        if self.bits & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    pub fn is_transactional(self) -> bool {
        self.bits & TRANSACTIONAL != 0
    }

    /// Returns whether the batch is a control batch. It carries transaction markers, which take up offsets but are never
    /// delivered to applications.
    pub fn is_control(self) -> bool {
        self.bits & CONTROL != 0
    }

    /// Returns whether the base timestamp is the time from which compaction may drop this batch's tombstones.
    pub fn has_delete_horizon(self) -> bool {
        self.bits & DELETE_HORIZON != 0
    }
}

/// The 61 bytes before a batch's records. `magic` is always 2; times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    /// −1 if no record has a timestamp.
    pub max_timestamp: i64,
    /// −1 if the producer is not idempotent; epoch and sequence are then −1 too.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// The header's size in bytes.
    pub const LEN: usize = 61;

    /// Reads the header at the start of `bytes`, which need not contain the whole batch.
    ///
    /// Checks the magic, a length of at least the header's size, and the attributes. Does not check the CRC, so no field
    /// may be trusted yet.
    pub fn read(bytes: &[u8]) -> Result<BatchHeader> {
        let Some((head, _)) = bytes.split_first_chunk::<{ Self::LEN }>() else {
            return Err(Error::Truncated {
                needed: Self::LEN,
                available: bytes.len(),
            });
        };
        let magic = head[16] as i8;
        if magic != 2 {
            return Err(Error::UnsupportedMagic(magic));
        }
        let batch_length = i32::from_be_bytes(field(head, 8));
        if batch_length < (Self::LEN - LENGTH_OVERHEAD) as i32 {
            return Err(Error::InvalidLength(batch_length));
        }
        Ok(BatchHeader {
            base_offset: i64::from_be_bytes(field(head, 0)),
            batch_length,
            partition_leader_epoch: i32::from_be_bytes(field(head, 12)),
            magic,
            crc: u32::from_be_bytes(field(head, CRC_AT)),
            attributes: Attributes::from_bits(i16::from_be_bytes(field(head, ATTRIBUTES_AT)))?,
            last_offset_delta: i32::from_be_bytes(field(head, 23)),
            base_timestamp: i64::from_be_bytes(field(head, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(field(head, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(field(head, 43)),
            producer_epoch: i16::from_be_bytes(field(head, 51)),
            base_sequence: i32::from_be_bytes(field(head, 53)),
            record_count: i32::from_be_bytes(field(head, 57)),
        })
    }

    /// Returns the size of the whole batch in bytes, header included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_OVERHEAD + self.batch_length.max(0) as usize
    }

    /// Returns the offset of the batch's last record, or of the last record that it had before compaction.
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Returns the offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Returns the sequence of the last record, or −1 if the producer is not idempotent. Sequences wrap from 2³¹−1 to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        (last & i64::from(i32::MAX)) as i32
    }

    /// Returns the time from which compaction may drop the batch's tombstones, if an earlier compaction has set it.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        let has_one = self.attributes.has_delete_horizon();
        has_one.then_some(self.base_timestamp)
    }

    /// Returns whether the batch carries a producer id and sequences.
    pub fn is_idempotent(&self) -> bool {
        self.producer_id >= 0
    }

    pub(super) fn write_to(&self, out: &mut [u8; Self::LEN]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[16] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.bits().to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }
}

/// Returns the `N` bytes of a header from `at`. Every call uses constants within the header, so it cannot panic.
fn field<const N: usize>(head: &[u8; BatchHeader::LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&head[at..at + N]);
    out
}

/// Exactly one whole batch whose length, magic, CRC, attributes and counts have been checked.
///
/// The records inside, which may be compressed, are checked only by [`validate_records`](Self::validate_records) and
/// [`records`](Self::records). Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Parses a batch from a producer: `bytes` must be exactly one batch, with one record for every offset it spans.
    pub fn parse(bytes: Bytes) -> Result<RecordBatch> {
        let batch = Self::parse_stored(bytes)?;
        let header = &batch.header;
        if i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return Err(invalid_count(header));
        }
        Ok(batch)
    }

    /// Parses a batch from a log. Compaction removes records but keeps the range of offsets, so there may be fewer records
    /// than offsets, or none.
    pub fn parse_stored(bytes: Bytes) -> Result<RecordBatch> {
        let header = BatchHeader::read(&bytes)?;
        let size = header.size_bytes();
        if bytes.len() < size {
            return Err(Error::Truncated {
                needed: size,
                available: bytes.len(),
            });
        }
        if bytes.len() > size {
            return Err(Error::TrailingBytes {
                extra: bytes.len() - size,
            });
        }
        let computed = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        if computed != header.crc {
            return Err(Error::Crc {
                stored: header.crc,
                computed,
            });
        }
        if header.last_offset_delta < 0
            || header.record_count < 0
            || i64::from(header.record_count) > i64::from(header.last_offset_delta) + 1
        {
            return Err(invalid_count(&header));
        }
        Ok(RecordBatch { header, bytes })
    }

    /// Parses the records field of a Produce request: one or more whole batches, each under the rules of
    /// [`parse`](Self::parse). The batches share `bytes`.
    pub fn split(mut bytes: Bytes) -> Result<Vec<RecordBatch>> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let mut batches = Vec::with_capacity(1);
        while !bytes.is_empty() {
            let size = BatchHeader::read(&bytes)?.size_bytes();
            if bytes.len() < size {
                return Err(Error::Truncated {
                    needed: size,
                    available: bytes.len(),
                });
            }
            batches.push(Self::parse(bytes.split_to(size))?);
        }
        Ok(batches)
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Returns the whole batch in its wire form.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn compression(&self) -> Compression {
        self.header.attributes.compression()
    }

    /// Returns the first bytes of the batch with another base offset and leader epoch. A log writes these and then
    /// [`body`](Self::body). Neither field is covered by the CRC, so nothing else changes and nothing is copied.
    pub fn stamped_prefix(&self, base_offset: i64, leader_epoch: i32) -> [u8; STAMP_LEN] {
        let mut prefix = [0; STAMP_LEN];
        prefix[0..8].copy_from_slice(&base_offset.to_be_bytes());
        prefix[8..12].copy_from_slice(&self.header.batch_length.to_be_bytes());
        prefix[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
        prefix
    }

    /// Returns the bytes after [`stamped_prefix`](Self::stamped_prefix).
    pub fn body(&self) -> &[u8] {
        &self.bytes[STAMP_LEN..]
    }

    /// Iterates over the records, decompressing at most `limit` bytes.
    ///
    /// Keys, values and headers are slices of the batch or of its decompressed records, not copies.
    pub fn records(&self, limit: DecompressLimit) -> Result<RecordIter> {
        let payload = match self.compression() {
            Compression::None => self.bytes.slice(BatchHeader::LEN..),
            codec => Bytes::from(Decompressor::new(codec, self.payload(), limit)?.read_to_end()?),
        };
        Ok(RecordIter::new(self.header, payload))
    }

    /// Rejects compressed data that some codec libraries can read but Kafka's clients cannot.
    pub fn check_readable_by_kafka(&self) -> Result<()> {
        match self.compression() {
            Compression::Lz4 => lz4::check_readable_by_kafka(self.payload()),
            Compression::None | Compression::Gzip | Compression::Snappy | Compression::Zstd => {
                Ok(())
            }
        }
    }

    /// Checks that every record parses, that offsets ascend within the batch's range and that no bytes are left over.
    ///
    /// Compressed records are decompressed through a small buffer, so memory use does not grow with their size. The
    /// summary has the true maximum timestamp, which some producers leave out of the header.
    pub fn validate_records(&self, limit: DecompressLimit) -> Result<RecordsSummary> {
        match self.compression() {
            Compression::None => iter::validate_slice(&self.header, self.payload()),
            codec => iter::validate_stream(
                &self.header,
                Decompressor::new(codec, self.payload(), limit)?,
            ),
        }
    }

    /// Calls `visit` with the index and the timestamp of every record. Streams like
    /// [`validate_records`](Self::validate_records), which must be called first.
    pub fn visit_timestamps(
        &self,
        limit: DecompressLimit,
        visit: impl FnMut(usize, i64),
    ) -> Result<()> {
        let source = Decompressor::new(self.compression(), self.payload(), limit)?;
        iter::visit_timestamps(&self.header, source, visit)
    }

    /// Calls `visit` with the index of every record that has no key. Streams like
    /// [`validate_records`](Self::validate_records), which must be called first.
    pub fn visit_keyless(&self, limit: DecompressLimit, visit: impl FnMut(usize)) -> Result<()> {
        let source = Decompressor::new(self.compression(), self.payload(), limit)?;
        iter::visit_keyless(&self.header, source, visit)
    }

    /// Returns the batch recompressed with `codec`, at its default level for `None`. All other header fields are unchanged.
    ///
    /// Streams from codec to codec, so that only the result is held in memory.
    pub fn recompress(
        &self,
        codec: Compression,
        level: Option<i32>,
        limit: DecompressLimit,
    ) -> Result<RecordBatch> {
        if codec == self.compression() {
            return Ok(self.clone());
        }
        let source = Decompressor::new(self.compression(), self.payload(), limit)?;
        let bytes = compress_from(source, codec, level, vec![0; BatchHeader::LEN])?;
        let header = BatchHeader {
            attributes: self.header.attributes.with_compression(codec),
            ..self.header
        };
        Self::seal(header, BytesMut::from(Bytes::from(bytes)))
    }

    /// Returns the batch with the log append time `now_ms` for all records, as `message.timestamp.type=LogAppendTime`
    /// requires.
    pub fn with_log_append_time(&self, now_ms: i64) -> RecordBatch {
        self.with_header(BatchHeader {
            attributes: self.header.attributes.with_log_append_time(),
            max_timestamp: now_ms,
            ..self.header
        })
    }

    /// Returns the batch with a corrected maximum timestamp, for producers that do not set it.
    pub fn with_max_timestamp(&self, max_timestamp: i64) -> RecordBatch {
        self.with_header(BatchHeader {
            max_timestamp,
            ..self.header
        })
    }

    fn with_header(&self, header: BatchHeader) -> RecordBatch {
        Self::seal(header, BytesMut::from(&self.bytes[..]))
            .expect("the size does not change, and a parsed batch is not too large")
    }

    /// Writes `header` with length and CRC over the first bytes of `bytes`, which already contains the records.
    pub(super) fn seal(mut header: BatchHeader, mut bytes: BytesMut) -> Result<RecordBatch> {
        header.batch_length =
            i32::try_from(bytes.len() - LENGTH_OVERHEAD).map_err(|_| Error::TooLarge)?;
        let head = bytes
            .first_chunk_mut::<{ BatchHeader::LEN }>()
            .expect("callers reserve space for the header");
        header.write_to(head);
        header.crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&header.crc.to_be_bytes());
        Ok(RecordBatch {
            header,
            bytes: bytes.freeze(),
        })
    }

    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[BatchHeader::LEN..]
    }
}

fn invalid_count(header: &BatchHeader) -> Error {
    Error::InvalidCount {
        record_count: header.record_count,
        last_offset_delta: header.last_offset_delta,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, Header};

    fn three_records(codec: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::new(codec).producer(7, 3, 40);
        builder.push(1_000, Some(b"a"), Some(b"first"), &[]);
        builder.push(999, None, Some(b"second"), &[]);
        let header = Header {
            key: Bytes::from_static(b"trace"),
            value: None,
        };
        builder.push(1_002, Some(b"c"), None, &[header]);
        builder.build().unwrap()
    }

    /// Returns the batch's bytes with `edit` applied and the CRC recomputed.
    fn resealed(batch: &RecordBatch, edit: impl FnOnce(&mut [u8])) -> Bytes {
        let mut bytes = batch.bytes().to_vec();
        edit(&mut bytes);
        let crc = crc32c::crc32c(&bytes[ATTRIBUTES_AT..]);
        bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn a_built_batch_parses_to_the_same_header_and_records() {
        for codec in Compression::ALL {
            let built = three_records(codec);
            let batch = RecordBatch::parse(built.bytes().clone()).unwrap();
            assert_eq!(batch, built);
            assert_eq!(batch.header().record_count, 3);
            assert_eq!(batch.header().last_offset(), 2);
            assert_eq!(batch.header().last_sequence(), 42);
            assert_eq!(batch.header().max_timestamp, 1_002);
            let records: Vec<_> = batch
                .records(DecompressLimit::default())
                .unwrap()
                .collect::<Result<_>>()
                .unwrap();
            assert_eq!(records.len(), 3);
            assert_eq!(records[1].timestamp_ms, 999);
            assert_eq!(records[1].key, None);
            assert_eq!(records[2].value, None);
            assert_eq!(records[2].headers[0].key, "trace");
            let summary = batch.validate_records(DecompressLimit::default()).unwrap();
            assert_eq!(summary.max_timestamp, 1_002);
            assert_eq!(summary.min_timestamp, 999);
        }
    }

    #[test]
    fn stamping_offset_and_epoch_keeps_the_crc_valid() {
        let batch = three_records(Compression::None);
        let stamped = [&batch.stamped_prefix(1 << 40, 9), batch.body()].concat();
        let parsed = RecordBatch::parse(stamped.into()).unwrap();
        assert_eq!(parsed.header().base_offset, 1 << 40);
        assert_eq!(parsed.header().partition_leader_epoch, 9);
        assert_eq!(parsed.header().next_offset(), (1 << 40) + 3);
    }

    #[test]
    fn log_append_time_applies_to_every_record() {
        let batch = three_records(Compression::Lz4).with_log_append_time(5_000);
        let batch = RecordBatch::parse(batch.bytes().clone()).unwrap();
        assert_eq!(
            batch.header().attributes.timestamp_type(),
            TimestampType::LogAppendTime
        );
        for record in batch.records(DecompressLimit::default()).unwrap() {
            assert_eq!(record.unwrap().timestamp_ms, 5_000);
        }
    }

    #[test]
    fn recompressing_keeps_records_and_other_header_fields() {
        for from in Compression::ALL {
            let batch = three_records(from);
            for to in Compression::ALL {
                let other = batch
                    .recompress(to, None, DecompressLimit::default())
                    .unwrap();
                let other = RecordBatch::parse(other.bytes().clone()).unwrap();
                assert_eq!(other.compression(), to);
                assert_eq!(other.header().producer_id, 7);
                let read = |batch: &RecordBatch| -> Vec<_> {
                    let records = batch.records(DecompressLimit::default()).unwrap();
                    records.map(Result::unwrap).collect()
                };
                assert_eq!(read(&other), read(&batch));
            }
        }
    }

    #[test]
    fn every_corrupt_byte_under_the_crc_or_in_the_structure_is_detected() {
        for codec in Compression::ALL {
            let batch = three_records(codec);
            for at in (8..12).chain(16..batch.size_bytes()) {
                for flip in [0x01, 0x80, 0xff] {
                    let mut bytes = batch.bytes().to_vec();
                    bytes[at] ^= flip;
                    assert!(
                        RecordBatch::parse(bytes.clone().into()).is_err(),
                        "byte {at} flipped by {flip:#x} went unnoticed"
                    );
                    assert!(RecordBatch::split(bytes.into()).is_err());
                }
            }
        }
    }

    #[test]
    fn a_batch_truncated_at_any_length_is_an_error() {
        let batch = three_records(Compression::Gzip);
        for len in 0..batch.size_bytes() {
            let cut = batch.bytes().slice(..len);
            let error = RecordBatch::parse(cut.clone()).unwrap_err();
            assert!(matches!(error, Error::Truncated { .. }), "{error}");
            assert!(RecordBatch::split(cut).is_err());
        }
    }

    #[test]
    fn contradictory_counts_are_rejected() {
        let batch = three_records(Compression::None);
        for (count, delta, stored_ok) in [
            (2, 2, true),
            (0, 2, true),
            (4, 2, false),
            (-1, 2, false),
            (0, -1, false),
        ] {
            let bytes = resealed(&batch, |bytes| {
                bytes[23..27].copy_from_slice(&i32::to_be_bytes(delta));
                bytes[57..61].copy_from_slice(&i32::to_be_bytes(count));
            });
            assert!(matches!(
                RecordBatch::parse(bytes.clone()),
                Err(Error::InvalidCount { .. })
            ));
            assert_eq!(RecordBatch::parse_stored(bytes).is_ok(), stored_ok);
        }
    }

    #[test]
    fn unknown_codecs_and_attribute_bits_are_rejected() {
        let batch = three_records(Compression::None);
        for bits in [5, 6, 7, 1 << 7, 1 << 14, i16::MIN] {
            let bytes = resealed(&batch, |bytes| {
                bytes[21..23].copy_from_slice(&bits.to_be_bytes())
            });
            assert_eq!(
                RecordBatch::parse(bytes),
                Err(Error::UnknownAttributes(bits))
            );
        }
    }

    #[test]
    fn other_message_formats_are_reported_by_their_magic() {
        let batch = three_records(Compression::None);
        for magic in [0u8, 1, 3] {
            let bytes = resealed(&batch, |bytes| bytes[16] = magic);
            assert_eq!(
                RecordBatch::parse(bytes),
                Err(Error::UnsupportedMagic(magic as i8))
            );
        }
    }

    #[test]
    fn split_returns_every_batch_without_copying() {
        let mut joined = BytesMut::new();
        for codec in Compression::ALL {
            joined.extend_from_slice(three_records(codec).bytes());
        }
        let joined = joined.freeze();
        let batches = RecordBatch::split(joined.clone()).unwrap();
        assert_eq!(batches.len(), 5);
        assert_eq!(batches[0].bytes().as_ptr(), joined.as_ptr());
        assert_eq!(RecordBatch::split(Bytes::new()), Err(Error::Empty));
        assert!(RecordBatch::split(joined.slice(..joined.len() - 1)).is_err());
    }

    #[test]
    fn a_record_count_that_leaves_bytes_over_is_rejected() {
        let batch = three_records(Compression::None);
        let bytes = resealed(&batch, |bytes| {
            bytes[23..27].copy_from_slice(&1i32.to_be_bytes());
            bytes[57..61].copy_from_slice(&2i32.to_be_bytes());
        });
        let batch = RecordBatch::parse(bytes).unwrap();
        assert!(batch.validate_records(DecompressLimit::default()).is_err());
        assert!(
            batch
                .records(DecompressLimit::default())
                .unwrap()
                .any(|record| record.is_err())
        );
    }

    #[test]
    fn a_false_record_count_of_billions_allocates_nothing() {
        for codec in Compression::ALL {
            let bytes = resealed(&three_records(codec), |bytes| {
                bytes[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
                bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
            });
            let batch = RecordBatch::parse(bytes).unwrap();
            assert!(batch.validate_records(DecompressLimit::default()).is_err());
            let records = batch.records(DecompressLimit::default()).unwrap();
            assert_eq!(records.filter(Result::is_ok).count(), 3);
        }
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut builder = BatchBuilder::new(Compression::None).producer(1, 0, i32::MAX);
        builder.push(0, None, None, &[]).push(0, None, None, &[]);
        assert_eq!(builder.build().unwrap().header().last_sequence(), 0);
    }

    #[test]
    fn transactional_and_control_bits_are_parsed() {
        let mut builder = BatchBuilder::new(Compression::None)
            .transactional()
            .control();
        builder.push(0, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
        let batch = builder.build().unwrap();
        let attributes = batch.header().attributes;
        assert!(attributes.is_transactional() && attributes.is_control());
        let record = batch
            .records(DecompressLimit::default())
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        let marker = crate::record::ControlRecord::of(&record).unwrap();
        assert_eq!(marker.control_type, crate::record::ControlType::Commit);
    }
}
