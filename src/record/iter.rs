//! Walks over the records of a batch: one parser, fed from memory (to hand out records) or from a decompressor (to
//! check them without holding them).
//!
//! Every length is checked against what is left of its record, and every record against what is left of its batch.

use bytes::Bytes;

use super::batch::{BatchHeader, TimestampType};
use super::compression::Decompressor;
use super::record::{Header, Record};
use super::varint::{self, Bad};
use super::{Error, Result};

/// What validation learned about a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// The largest timestamp of any record (milliseconds, −1 when no record has one).
    pub max_timestamp: i64,
    /// The smallest timestamp of any record.
    pub min_timestamp: i64,
}

/// Iterates over the records of a batch. After an error it ends.
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
        // The count is only a claim until the records have been seen: a lower bound would be allocated for.
        (0, Some(self.walk.left() + 1))
    }
}

/// Hands the index and timestamp of every record to `visit`, in a batch whose records have been validated.
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
    while let Some(record) = walk.step(&mut source, |_, _| ())? {
        summary.max_timestamp = summary.max_timestamp.max(record.timestamp_ms);
        summary.min_timestamp = summary.min_timestamp.min(record.timestamp_ms);
    }
    if header.record_count == 0 {
        summary.min_timestamp = -1;
    }
    Ok(summary)
}

/// Where record bytes come from.
trait Source {
    /// What a key, a value or a header is handed out as.
    type Blob;

    /// The next bytes without taking them: at least `want` (up to [`varint::LEN_MAX`]) unless fewer are left.
    fn peek(&mut self, want: usize) -> Result<&[u8]>;

    /// Takes bytes that were looked at.
    fn skip(&mut self, len: usize);

    /// The next `len` bytes; the caller has not proven that there are that many.
    fn blob(&mut self, len: usize) -> std::result::Result<Self::Blob, Stop>;

    /// True when nothing is left.
    fn at_end(&mut self) -> Result<bool>;
}

/// Why a source, or a record's end, stops the parser.
enum Stop {
    /// No bytes left where some are needed.
    End,
    /// The record breaks a rule.
    Broken(&'static str),
    /// The source itself failed. Boxed, to keep what every byte is returned in small.
    Failed(Box<Error>),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(Box::new(error))
    }
}

/// The bytes of a batch, handed out as slices that share them.
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

/// The bytes of a batch, looked at and not kept.
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

/// Decompressed bytes, passing through a window.
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

    /// Makes at least one byte available; false at the end.
    fn fill(&mut self) -> Result<bool> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.decompressor.read(&mut self.window)?;
        }
        Ok(self.start < self.end)
    }

    /// Moves what the window holds to its front and reads on until it has `want` bytes or nothing is left.
    #[cold]
    fn gather(&mut self, want: usize) -> Result<()> {
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
            self.gather(want)?;
        }
        Ok(&self.window[self.start..self.end])
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

/// The parser's place in its batch.
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

    /// Parses the next record, or proves that the batch ends here.
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
            Err(Stop::Broken(reason)) => Err(Error::record(self.index, reason)),
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
            Err(Bad::Cut) => return Err(Stop::End),
            Err(Bad::TooLong) => return Err(Stop::Broken("its length is not a 32-bit number")),
        };
        source.skip(prefix);
        let mut body = Body {
            left: usize::try_from(length).map_err(|_| Stop::Broken("its length is negative"))?,
            source,
        };

        body.skip_byte()?; // Attributes: no bit of them means anything yet.
        let timestamp_delta = body.long()?;
        let offset_delta = body.int()?;
        if offset_delta <= self.last_delta || offset_delta > self.header.last_offset_delta {
            return Err(Stop::Broken(
                "its offset is out of order or outside the batch",
            ));
        }
        let key = body.nullable_blob()?;
        let value = body.nullable_blob()?;
        let header_count = body.int()?;
        if header_count < 0 {
            return Err(Stop::Broken("its header count is negative"));
        }
        for _ in 0..header_count {
            let key = body
                .nullable_blob()?
                .ok_or(Stop::Broken("a header has no key"))?;
            let value = body.nullable_blob()?;
            on_header(key, value);
        }
        if body.left != 0 {
            return Err(Stop::Broken("it is longer than its fields"));
        }
        self.last_delta = offset_delta;
        let timestamp_ms = match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            TimestampType::CreateTime => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Ok(RawRecord {
            offset: self.header.base_offset.wrapping_add(offset_delta.into()),
            timestamp_ms,
            key,
            value,
        })
    }
}

/// The inside of one record: nothing is read past its length.
struct Body<'a, S> {
    left: usize,
    source: &'a mut S,
}

impl<S: Source> Body<'_, S> {
    #[inline]
    fn skip_byte(&mut self) -> std::result::Result<(), Stop> {
        if self.ahead()?.is_empty() {
            return Err(self.cut());
        }
        self.took(1);
        Ok(())
    }

    #[inline]
    fn int(&mut self) -> std::result::Result<i32, Stop> {
        match varint::read_int(self.ahead()?) {
            Ok((number, len)) => {
                self.took(len);
                Ok(number)
            }
            Err(Bad::Cut) => Err(self.cut()),
            Err(Bad::TooLong) => Err(Stop::Broken("a number exceeds 32 bits")),
        }
    }

    #[inline]
    fn long(&mut self) -> std::result::Result<i64, Stop> {
        match varint::read_long(self.ahead()?) {
            Ok((number, len)) => {
                self.took(len);
                Ok(number)
            }
            Err(Bad::Cut) => Err(self.cut()),
            Err(Bad::TooLong) => Err(Stop::Broken("a number exceeds 64 bits")),
        }
    }

    /// The next bytes of the record, enough for any number.
    #[inline]
    fn ahead(&mut self) -> Result<&[u8]> {
        let left = self.left;
        let bytes = self.source.peek(left.min(varint::LEN_MAX))?;
        Ok(&bytes[..left.min(bytes.len())])
    }

    #[inline]
    fn took(&mut self, len: usize) {
        self.source.skip(len);
        self.left -= len;
    }

    /// Which of the two ended too early, the record or the batch.
    #[cold]
    fn cut(&mut self) -> Stop {
        match self.source.peek(self.left.min(varint::LEN_MAX)) {
            Ok(bytes) if bytes.len() < self.left => Stop::End,
            Ok(_) => Stop::Broken("its fields are longer than it is"),
            Err(error) => error.into(),
        }
    }

    /// A blob with its length before it; any negative length but −1 is refused.
    #[inline]
    fn nullable_blob(&mut self) -> std::result::Result<Option<S::Blob>, Stop> {
        let len = self.int()?;
        if len == -1 {
            return Ok(None);
        }
        let len = usize::try_from(len).map_err(|_| Stop::Broken("a length is negative"))?;
        if len > self.left {
            return Err(Stop::Broken("a field is longer than the record"));
        }
        self.left -= len;
        self.source.blob(len).map(Some)
    }
}
