//! Iteration over the records of a batch: one parser that reads from memory (to return records) or from a decompressor
//! (to validate them without holding them in memory).
//!
//! Every length is checked against the rest of its record, and every record against the rest of its batch.

use bytes::Bytes;

use super::batch::{BatchHeader, TimestampType};
use super::compression::Decompressor;
use super::record::{Header, Record};
use super::short_record::ShortRecord;
use super::varint::{self, VarintError};
use super::{Error, Result};

/// Timestamps found while validating a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The largest timestamp of all records, in milliseconds; −1 if no record has one.
    pub max_timestamp: i64,
    /// The smallest timestamp of all records, in milliseconds; −1 if there are no records.
    pub min_timestamp: i64,
}

impl RecordsSummary {
    #[inline]
    fn note(&mut self, timestamp_ms: i64) {
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.min_timestamp = self.min_timestamp.min(timestamp_ms);
    }
}

/// Iterator over the records of a batch. Ends after an error.
#[derive(Debug, Clone)]
pub struct RecordIter {
    walk: Walk,
    source: SliceSource,
    done: bool,
}

impl RecordIter {
    pub(super) fn new(header: BatchHeader, payload: Bytes) -> RecordIter {
        RecordIter {
            walk: Walk::new(header),
            source: SliceSource { bytes: payload },
            done: false,
        }
    }
}

impl Iterator for RecordIter {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.done {
            return None;
        }
        let mut headers = Vec::new();
        let step = self.walk.step(&mut self.source, |key, value| {
            headers.push(Header { key, value })
        });
        match step {
            Ok(Some(raw)) => Some(Ok(Record {
                offset: raw.offset,
                timestamp_ms: raw.timestamp_ms,
                key: raw.key,
                value: raw.value,
                headers,
            })),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(error) => {
                self.done = true;
                Some(Err(error))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The record count is unverified until the records have been parsed, and callers allocate by the lower bound.
        (0, Some(self.walk.left() + 1))
    }
}

/// Calls `visit` with the index and timestamp of every record. The records must have been validated.
pub(super) fn visit_timestamps(
    header: &BatchHeader,
    decompressor: Decompressor<'_>,
    mut visit: impl FnMut(usize, i64),
) -> Result<()> {
    let mut walk = Walk::new(*header);
    let mut source = StreamSource::new(decompressor);
    let mut index = 0;
    while let Some(record) = walk.step(&mut source, |_, _| ())? {
        visit(index, record.timestamp_ms);
        index += 1;
    }
    Ok(())
}

/// Calls `visit` with the index of every record that has no key. The records must have been validated.
pub(super) fn visit_keyless(
    header: &BatchHeader,
    decompressor: Decompressor<'_>,
    mut visit: impl FnMut(usize),
) -> Result<()> {
    let mut walk = Walk::new(*header);
    let mut source = StreamSource::new(decompressor);
    let mut index = 0;
    while let Some(record) = walk.step(&mut source, |_, _| ())? {
        if record.key.is_none() {
            visit(index);
        }
        index += 1;
    }
    Ok(())
}

pub(super) fn validate_slice(header: &BatchHeader, payload: &[u8]) -> Result<RecordsSummary> {
    validate(header, RefSource { bytes: payload })
}

pub(super) fn validate_stream(
    header: &BatchHeader,
    decompressor: Decompressor<'_>,
) -> Result<RecordsSummary> {
    validate(header, StreamSource::new(decompressor))
}

fn validate<S: Source>(header: &BatchHeader, mut source: S) -> Result<RecordsSummary> {
    let mut walk = Walk::new(*header);
    let mut summary = RecordsSummary {
        max_timestamp: -1,
        min_timestamp: i64::MAX,
    };
    loop {
        while let Some(timestamp_ms) = walk.step_short(&mut source) {
            summary.note(timestamp_ms);
        }
        match walk.step(&mut source, |_, _| ())? {
            Some(record) => summary.note(record.timestamp_ms),
            None => break,
        }
    }
    if header.record_count == 0 {
        summary.min_timestamp = -1;
    }
    Ok(summary)
}

/// A source of record bytes.
trait Source {
    /// The type of keys, values and headers.
    type Blob;

    /// Returns the next bytes without consuming them: at least `want` (up to [`varint::LEN_MAX`]) unless fewer are left.
    fn peek(&mut self, want: usize) -> Result<&[u8]>;

    /// Returns the next bytes that are in memory, without consuming them.
    fn window(&self) -> &[u8];

    /// Consumes peeked bytes.
    fn skip(&mut self, len: usize);

    /// Consumes and returns the next `len` bytes. Fails with [`Stop::End`] if there are fewer.
    fn blob(&mut self, len: usize) -> std::result::Result<Self::Blob, Stop>;

    /// Returns whether no bytes are left.
    fn at_end(&mut self) -> Result<bool>;
}

/// The reason why the parser stopped.
enum Stop {
    /// The source ended within a record.
    End,
    /// The record is invalid.
    Invalid(&'static str),
    /// The source failed. Boxed, because the result of every small read contains this type.
    Failed(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(Box::new(error))
    }
}

/// The bytes of a batch. Blobs are slices that share them.
#[derive(Debug, Clone)]
struct SliceSource {
    bytes: Bytes,
}

impl Source for SliceSource {
    type Blob = Bytes;

    #[inline]
    fn peek(&mut self, _want: usize) -> Result<&[u8]> {
        Ok(&self.bytes)
    }

    #[inline]
    fn window(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    fn skip(&mut self, len: usize) {
        bytes::Buf::advance(&mut self.bytes, len);
    }

    #[inline]
    fn blob(&mut self, len: usize) -> std::result::Result<Bytes, Stop> {
        if len > self.bytes.len() {
            return Err(Stop::End);
        }
        Ok(self.bytes.split_to(len))
    }

    fn at_end(&mut self) -> Result<bool> {
        Ok(self.bytes.is_empty())
    }
}

/// The bytes of a batch, for validation only. Blobs are not returned.
struct RefSource<'a> {
    bytes: &'a [u8],
}

impl Source for RefSource<'_> {
    type Blob = ();

    #[inline]
    fn peek(&mut self, _want: usize) -> Result<&[u8]> {
        Ok(self.bytes)
    }

    #[inline]
    fn window(&self) -> &[u8] {
        self.bytes
    }

    #[inline]
    fn skip(&mut self, len: usize) {
        self.bytes = &self.bytes[len..];
    }

    #[inline]
    fn blob(&mut self, len: usize) -> std::result::Result<(), Stop> {
        self.bytes = self.bytes.get(len..).ok_or(Stop::End)?;
        Ok(())
    }

    fn at_end(&mut self) -> Result<bool> {
        Ok(self.bytes.is_empty())
    }
}

/// Decompressed bytes, read through a window.
struct StreamSource<'a> {
    decompressor: Decompressor<'a>,
    window: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<'a> StreamSource<'a> {
    const WINDOW_BYTES: usize = 16 * 1024;

    fn new(decompressor: Decompressor<'a>) -> StreamSource<'a> {
        StreamSource {
            decompressor,
            window: vec![0; Self::WINDOW_BYTES].into(),
            start: 0,
            end: 0,
        }
    }

    /// Makes at least one byte available. Returns false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.decompressor.read(&mut self.window)?;
        }
        Ok(self.start < self.end)
    }

    /// Moves the remaining bytes to the front of the window and reads more until it has `want` bytes or the source ends.
    #[cold]
    fn refill(&mut self, want: usize) -> Result<()> {
        self.window.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < want {
            let read = self.decompressor.read(&mut self.window[self.end..])?;
            if read == 0 {
                break;
            }
            self.end += read;
        }
        Ok(())
    }
}

impl Source for StreamSource<'_> {
    type Blob = ();

    #[inline]
    fn peek(&mut self, want: usize) -> Result<&[u8]> {
        if self.end - self.start < want {
            self.refill(want)?;
        }
        Ok(self.window())
    }

    #[inline]
    fn window(&self) -> &[u8] {
        &self.window[self.start..self.end]
    }

    #[inline]
    fn skip(&mut self, len: usize) {
        self.start += len;
    }

    #[inline]
    fn blob(&mut self, mut len: usize) -> std::result::Result<(), Stop> {
        while len > 0 {
            if !self.fill()? {
                return Err(Stop::End);
            }
            let step = len.min(self.end - self.start);
            self.start += step;
            len -= step;
        }
        Ok(())
    }

    fn at_end(&mut self) -> Result<bool> {
        Ok(!self.fill()?)
    }
}

/// A record as parsed, before its headers are attached.
struct RawRecord<B> {
    offset: i64,
    timestamp_ms: i64,
    key: Option<B>,
    value: Option<B>,
}

/// The parser's position in its batch.
#[derive(Debug, Clone)]
struct Walk {
    header: BatchHeader,
    /// Records seen so far.
    index: usize,
    last_delta: i32,
}

impl Walk {
    fn new(header: BatchHeader) -> Walk {
        Walk {
            header,
            index: 0,
            last_delta: -1,
        }
    }

    fn left(&self) -> usize {
        (self.header.record_count.max(0) as usize).saturating_sub(self.index)
    }

    /// Validates the next record if it is a [`ShortRecord`] in memory, and returns its timestamp. `None` leaves the record,
    /// or the end of the batch, to [`step`](Self::step).
    #[inline(always)]
    fn step_short<S: Source>(&mut self, source: &mut S) -> Option<i64> {
        if self.left() == 0 {
            return None;
        }
        let record = ShortRecord::parse(source.window())?;
        if !self.is_next(record.offset_delta) {
            return None;
        }
        source.skip(record.len);
        self.index += 1;
        self.last_delta = record.offset_delta;
        Some(self.timestamp_ms(record.timestamp_delta.into()))
    }

    /// Returns true if a record may have this offset delta.
    #[inline]
    fn is_next(&self, offset_delta: i32) -> bool {
        offset_delta > self.last_delta && offset_delta <= self.header.last_offset_delta
    }

    #[inline]
    fn timestamp_ms(&self, delta: i64) -> i64 {
        match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(delta),
        }
    }

    /// Parses the next record. Returns `None` at the end of the batch, and fails if bytes follow the last record.
    fn step<S: Source>(
        &mut self,
        source: &mut S,
        on_header: impl FnMut(S::Blob, Option<S::Blob>),
    ) -> Result<Option<RawRecord<S::Blob>>> {
        if self.left() == 0 {
            return if source.at_end()? {
                Ok(None)
            } else {
                Err(Error::record(self.index, "bytes follow the last record"))
            };
        }
        match self.parse(source, on_header) {
            Ok(record) => {
                self.index += 1;
                Ok(Some(record))
            }
            Err(Stop::End) => Err(Error::record(self.index, "the batch ends within it")),
            Err(Stop::Invalid(reason)) => Err(Error::record(self.index, reason)),
            Err(Stop::Failed(error)) => Err(*error),
        }
    }

    fn parse<S: Source>(
        &mut self,
        source: &mut S,
        mut on_header: impl FnMut(S::Blob, Option<S::Blob>),
    ) -> std::result::Result<RawRecord<S::Blob>, Stop> {
        let (length, prefix) = match varint::read_int(source.peek(varint::LEN_MAX)?) {
            Ok(read) => read,
            Err(VarintError::Truncated) => return Err(Stop::End),
            Err(VarintError::TooLong) => {
                return Err(Stop::Invalid("its length is not a 32-bit number"));
            }
        };
        source.skip(prefix);
        let mut body = Body {
            left: usize::try_from(length).map_err(|_| Stop::Invalid("its length is negative"))?,
            source,
        };

        body.skip_byte()?; // The attributes: no bits are defined.
        let timestamp_delta = body.long()?;
        let offset_delta = body.int()?;
        if !self.is_next(offset_delta) {
            return Err(Stop::Invalid(
                "its offset is out of order or outside the batch",
            ));
        }
        let key = body.nullable_blob()?;
        let value = body.nullable_blob()?;
        let header_count = body.int()?;
        if header_count < 0 {
            return Err(Stop::Invalid("its header count is negative"));
        }
        for _ in 0..header_count {
            let key = body
                .nullable_blob()?
                .ok_or(Stop::Invalid("a header has no key"))?;
            let value = body.nullable_blob()?;
            on_header(key, value);
        }
        if body.left != 0 {
            return Err(Stop::Invalid("it is longer than its fields"));
        }
        self.last_delta = offset_delta;
        let timestamp_ms = self.timestamp_ms(timestamp_delta);
        Ok(RawRecord {
            offset: self.header.base_offset.wrapping_add(offset_delta.into()),
            timestamp_ms,
            key,
            value,
        })
    }
}

/// The body of one record. Nothing is read past its length.
struct Body<'a, S> {
    left: usize,
    source: &'a mut S,
}

impl<S: Source> Body<'_, S> {
    #[inline]
    fn skip_byte(&mut self) -> std::result::Result<(), Stop> {
        if self.ahead()?.is_empty() {
            return Err(self.truncated());
        }
        self.advance(1);
        Ok(())
    }

    #[inline]
    fn int(&mut self) -> std::result::Result<i32, Stop> {
        match varint::read_int(self.ahead()?) {
            Ok((number, len)) => {
                self.advance(len);
                Ok(number)
            }
            Err(VarintError::Truncated) => Err(self.truncated()),
            Err(VarintError::TooLong) => Err(Stop::Invalid("a number exceeds 32 bits")),
        }
    }

    #[inline]
    fn long(&mut self) -> std::result::Result<i64, Stop> {
        match varint::read_long(self.ahead()?) {
            Ok((number, len)) => {
                self.advance(len);
                Ok(number)
            }
            Err(VarintError::Truncated) => Err(self.truncated()),
            Err(VarintError::TooLong) => Err(Stop::Invalid("a number exceeds 64 bits")),
        }
    }

    /// Returns the next bytes of the record, enough for any number.
    #[inline]
    fn ahead(&mut self) -> Result<&[u8]> {
        let left = self.left;
        let bytes = self.source.peek(left.min(varint::LEN_MAX))?;
        Ok(&bytes[..left.min(bytes.len())])
    }

    #[inline]
    fn advance(&mut self, len: usize) {
        self.source.skip(len);
        self.left -= len;
    }

    /// Returns the error for a number that is cut off: either the batch or the record ended too early.
    #[cold]
    fn truncated(&mut self) -> Stop {
        match self.source.peek(self.left.min(varint::LEN_MAX)) {
            Ok(bytes) if bytes.len() < self.left => Stop::End,
            Ok(_) => Stop::Invalid("its fields are longer than the record"),
            Err(error) => error.into(),
        }
    }

    /// Reads a blob with its length prefix. Rejects any negative length except −1, which is null.
    #[inline]
    fn nullable_blob(&mut self) -> std::result::Result<Option<S::Blob>, Stop> {
        let len = self.int()?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| Stop::Invalid("a length is negative"))?;
        if len > self.left {
            return Err(Stop::Invalid("a field is longer than the record"));
        }
        self.left -= len;
        self.source.blob(len).map(Some)
    }
}
