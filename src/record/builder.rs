//! Builder of record batches, as a producer creates them.

use bytes::{Bytes, BytesMut};

use super::batch::{Attributes, BatchHeader, RecordBatch};
use super::compression::{Compression, Compressor};
use super::record::{self, Header};
use super::{Error, Result};

/// Collects records and builds a batch of them.
///
/// Records are compressed when the batch is built, so [`size_bytes`](Self::size_bytes) is an upper bound except for a
/// codec's small overhead. Timestamps and offsets are relative to those of the first record.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    header: BatchHeader,
    records: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            header: BatchHeader {
                base_offset: 0,
                batch_length: 0,
                partition_leader_epoch: -1,
                magic: 2,
                crc: 0,
                attributes: Attributes::new(compression),
                last_offset_delta: -1,
                base_timestamp: -1,
                max_timestamp: -1,
                producer_id: -1,
                producer_epoch: -1,
                base_sequence: -1,
                record_count: 0,
            },
            records: Vec::new(),
        }
    }

    /// Sets the offset of the first record. The default is 0, as producers send it.
    pub fn base_offset(mut self, base_offset: i64) -> BatchBuilder {
        self.header.base_offset = base_offset;
        self
    }

    /// Sets the partition leader epoch. The default is −1, because producers do not know it.
    pub fn leader_epoch(mut self, leader_epoch: i32) -> BatchBuilder {
        self.header.partition_leader_epoch = leader_epoch;
        self
    }

    /// Sets the producer id, epoch and sequence of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(mut self) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_transactional();
        self
    }

    /// Makes the batch a control batch.
    pub fn control(mut self) -> BatchBuilder {
        self.header.attributes = self.header.attributes.with_control();
        self
    }

    /// Adds a record at the next offset.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> &mut BatchBuilder {
        let header = &mut self.header;
        if header.record_count == 0 {
            header.base_timestamp = timestamp_ms;
            header.max_timestamp = timestamp_ms;
        }
        header.max_timestamp = header.max_timestamp.max(timestamp_ms);
        header.last_offset_delta = header.last_offset_delta.saturating_add(1);
        header.record_count = header.record_count.saturating_add(1);
        record::put(
            &mut self.records,
            timestamp_ms.wrapping_sub(header.base_timestamp),
            header.last_offset_delta,
            key,
            value,
            headers,
        );
        self
    }

    pub fn record_count(&self) -> usize {
        self.header.record_count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Returns the size of the batch if it were built now without compression.
    pub fn size_bytes(&self) -> usize {
        BatchHeader::LEN + self.records.len()
    }

    /// Compresses and seals the batch.
    ///
    /// Fails if there is no record ([`Error::Empty`]) or if the records exceed the size of a batch ([`Error::TooLarge`]).
    pub fn build(self) -> Result<RecordBatch> {
        if self.is_empty() {
            return Err(Error::Empty);
        }
        if i32::try_from(self.size_bytes()).is_err() || self.header.record_count == i32::MAX {
            return Err(Error::TooLarge);
        }
        let mut out = Vec::with_capacity(self.size_bytes());
        out.resize(BatchHeader::LEN, 0);
        let mut compressor = Compressor::new(self.header.attributes.compression(), out)?;
        compressor.write(&self.records)?;
        let bytes = BytesMut::from(Bytes::from(compressor.finish()?));
        RecordBatch::seal(self.header, bytes)
    }
}
