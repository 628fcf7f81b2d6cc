//! Frames: four bytes of length and that many bytes of request, split from an untrusted stream.
//!
//! A length is checked before memory is allocated for it, and memory then grows only in proportion to the bytes that have
//! arrived: a frame that announces 100 MiB and sends nothing costs nothing. Between frames a reader holds no memory.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::foreign;

/// Bytes of the length prefix of every frame.
pub const PREFIX: usize = 4;
/// API key, version and correlation id: no request is shorter.
const FRAME_MIN: usize = 8;
/// Bytes first allocated for a frame that does not fit one read.
const GROWTH_MIN: usize = 64 * 1024;
/// Growth beyond that while memory is plentiful, as a multiple of the bytes that have arrived: a frame of a megabyte is
/// moved to a larger buffer once, and memory stays in proportion to what was sent.
const GROWTH_FACTOR: usize = 15;
/// Missing bytes below which a frame is not worth reads of its own.
const DIRECT_MIN: usize = 16 * 1024;

/// Bytes that are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The start of a TLS handshake.
    Tls,
    /// An HTTP request.
    Http,
    /// The beginning of another protocol, with its description.
    Foreign(&'static str),
    /// A length that no request can have.
    Length {
        length: i32,
        max: usize,
        start: Excerpt,
    },
}

/// The first bytes of a stream, for the operator to recognise. Few of them, since they may be anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Excerpt {
    bytes: [u8; Self::LEN_MAX],
    len: usize,
}

impl Excerpt {
    const LEN_MAX: usize = 16;

    fn of(arrived: &[u8]) -> Self {
        let len = arrived.len().min(Self::LEN_MAX);
        let mut bytes = [0; Self::LEN_MAX];
        bytes[..len].copy_from_slice(&arrived[..len]);
        Excerpt { bytes, len }
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes[..self.len].escape_ascii())
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Tls => f.write_str(
                "received a TLS handshake; this port serves Kafka without TLS, set security.protocol=PLAINTEXT",
            ),
            FrameError::Http => f.write_str(
                "received an HTTP request; this port serves Kafka, HTTP is served at http_addr",
            ),
            FrameError::Foreign(name) => {
                write!(f, "received {name}; this port serves Kafka")
            }
            FrameError::Length { length, max, start } => write!(
                f,
                "received an invalid frame length of {length}, first bytes {start}; allowed: {FRAME_MIN} to {max} \
                 (socket_request_max_bytes)"
            ),
        }
    }
}

/// Bytes by which the memory of a frame should grow next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Small step, while memory is short.
    pub least: usize,
    /// Large step, which rarely moves the frame.
    pub most: usize,
}

/// Splits a stream into frames.
#[derive(Debug)]
pub struct FrameReader {
    /// Bytes that have arrived and not been returned as a frame yet. Has no allocation when empty.
    buffer: BytesMut,
    frame_bytes_max: usize,
    first: bool,
    /// Memory was allocated for the current frame: the rest is read directly into it.
    grown: bool,
}

impl FrameReader {
    pub fn new(frame_bytes_max: usize) -> Self {
        FrameReader {
            buffer: BytesMut::new(),
            frame_bytes_max,
            first: true,
            grown: false,
        }
    }

    /// Appends bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the size of the next frame without its length, if all of it has arrived. After an error the stream is
    /// unusable.
    pub fn whole_frame(&self) -> Result<Option<usize>, FrameError> {
        let length = self.frame_length()?;
        Ok(length.filter(|length| self.buffer.len() >= PREFIX + length))
    }

    /// Removes the next whole frame and returns it without its length, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.whole_frame()? else {
            return Ok(None);
        };
        self.first = false;
        self.grown = false;
        self.buffer.advance(PREFIX);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // Releases the allocation shared with the frame.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Drops all bytes that have arrived. The stream is unusable then.
    pub fn clear(&mut self) {
        self.buffer = BytesMut::new();
        self.grown = false;
    }

    /// Returns whether part of a frame has arrived.
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the number of bytes that have arrived and not been returned as a frame yet.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Returns the size of the next frame including its length, once known from the buffer and the bytes `ahead`, which
    /// have not been read yet.
    pub fn frame_size(&self, ahead: &[u8]) -> Result<Option<usize>, FrameError> {
        let mut prefix = [0; PREFIX];
        let mut known = 0;
        for (byte, arrived) in prefix.iter_mut().zip(self.buffer.iter().chain(ahead)) {
            *byte = *arrived;
            known += 1;
        }
        if known < PREFIX {
            return Ok(None);
        }
        Ok(Some(PREFIX + self.checked_length(prefix)?))
    }

    /// Returns the size of the next frame, once its length has arrived.
    fn frame_length(&self) -> Result<Option<usize>, FrameError> {
        match self.buffer.first_chunk::<PREFIX>() {
            Some(prefix) => self.checked_length(*prefix).map(Some),
            None => Ok(None),
        }
    }

    fn checked_length(&self, prefix: [u8; PREFIX]) -> Result<usize, FrameError> {
        let length = i32::from_be_bytes(prefix);
        let fits = usize::try_from(length)
            .is_ok_and(|length| (FRAME_MIN..=self.frame_bytes_max).contains(&length));
        if fits && !self.first {
            return Ok(length as usize);
        }
        // Another protocol's first bytes may form a length within a generous limit.
        if prefix[0] == 0x16 && prefix[1] == 0x03 {
            return Err(FrameError::Tls);
        }
        if is_http(&prefix) {
            return Err(FrameError::Http);
        }
        if let Some(name) = foreign::recognise(&self.buffer) {
            return Err(FrameError::Foreign(name));
        }
        if !fits {
            return Err(FrameError::Length {
                length,
                max: self.frame_bytes_max,
                start: Excerpt::of(&self.buffer),
            });
        }
        Ok(length as usize)
    }

    /// Returns how much memory to allocate next for a large frame that is still arriving; `None` if there is room left, or
    /// if the rest is small enough to be pushed.
    pub fn growth(&self) -> Option<Growth> {
        let length = self.frame_length().ok()??;
        let arrived = self.buffer.len();
        let missing = (PREFIX + length).saturating_sub(arrived);
        let has_room = self.grown && self.buffer.capacity() > arrived;
        if missing == 0 || has_room || (!self.grown && missing < DIRECT_MIN) {
            return None;
        }
        Some(Growth {
            least: missing.min((arrived / 2).max(GROWTH_MIN)),
            most: missing.min((arrived * GROWTH_FACTOR).max(GROWTH_MIN)),
        })
    }

    /// Allocates memory for `growth` more bytes, within the bounds of [`FrameReader::growth`].
    pub fn grow(&mut self, growth: usize) {
        // Allocates the exact size, instead of the doubling that `reserve` prefers.
        let mut larger = BytesMut::with_capacity(self.buffer.len() + growth);
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
        self.grown = true;
    }

    /// Returns whether the rest of the current frame is read directly into memory of its own, or should be.
    pub fn is_large(&self) -> bool {
        self.grown || self.growth().is_some()
    }

    /// Returns the bytes that the current frame lacks; 0 while its length is not known.
    pub fn missing(&self) -> usize {
        let length = self.frame_length().ok().flatten().unwrap_or(0);
        (PREFIX + length).saturating_sub(self.buffer.len())
    }

    /// Returns how many of the missing bytes fit the memory allocated for the frame.
    pub fn room_in_frame(&self) -> usize {
        let room = self.buffer.capacity() - self.buffer.len();
        self.missing().min(room)
    }

    /// Returns the memory allocated for the rest of the current frame, bounded so that nothing of the next one is read into
    /// it. `None` if bytes are to be pushed.
    pub fn rest_of_frame(&mut self) -> Option<impl BufMut + '_> {
        let limit = match self.grown {
            true => self.room_in_frame(),
            false => 0,
        };
        (limit > 0).then(|| (&mut self.buffer).limit(limit))
    }
}

fn is_http(prefix: &[u8; PREFIX]) -> bool {
    [
        b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ",
    ]
    .contains(&prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = (body.len() as i32).to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    #[test]
    fn frames_are_returned_whole_in_whatever_pieces_they_arrive() {
        let bodies: [&[u8]; 3] = [b"12345678", b"a longer request than that", b"abcdefgh"];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for step in 1..=stream.len() {
            let mut reader = FrameReader::new(1024);
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, bodies, "in steps of {step}");
            assert!(!reader.is_within_frame());
        }
    }

    #[test]
    fn invalid_frame_lengths_are_refused() {
        for length in [-1, i32::MIN, 0, 7, 1025, i32::MAX] {
            let mut reader = FrameReader::new(1024);
            reader.push(&length.to_be_bytes());
            assert_eq!(
                reader.next_frame(),
                Err(FrameError::Length {
                    length,
                    max: 1024,
                    start: Excerpt::of(&length.to_be_bytes()),
                })
            );
        }
    }

    #[test]
    fn errors_name_the_other_protocol_or_show_the_first_bytes() {
        let message = |bytes: &[u8]| {
            let mut reader = FrameReader::new(100 << 20);
            reader.push(bytes);
            reader.next_frame().unwrap_err().to_string()
        };
        assert_eq!(
            message(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
            "received an SSH banner; this port serves Kafka"
        );
        assert_eq!(
            message(b"hello\n\xff, who is there?"),
            "received an invalid frame length of 1751477356, first bytes \"hello\\n\\xff, who is \"; \
             allowed: 8 to 104857600 (socket_request_max_bytes)"
        );
    }

    #[test]
    fn another_protocol_is_recognised_even_if_its_bytes_could_be_a_frame() {
        let mut reader = FrameReader::new(1024);
        reader.push(b"\0\0\0\x08\x04\xd2");
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(b"\x16\x2f");
        assert!(matches!(reader.next_frame(), Err(FrameError::Foreign(_))));
        // Later in a Kafka connection the same bytes are a request.
        let mut reader = FrameReader::new(1024);
        reader.push(&framed(b"\0\x12\0\0\0\0\0\0"));
        reader.push(&framed(b"\x04\xd2\x16\x2f1234"));
        assert!(reader.next_frame().unwrap().is_some());
        assert!(reader.next_frame().unwrap().is_some());
    }

    #[test]
    fn tls_and_http_are_recognised_even_if_their_bytes_are_a_valid_length() {
        for max in [1024, i32::MAX as usize] {
            let mut reader = FrameReader::new(max);
            reader.push(&[0x16, 0x03, 0x01, 0x02, 0x00]);
            assert_eq!(reader.next_frame(), Err(FrameError::Tls));
            let mut reader = FrameReader::new(max);
            reader.push(b"GET /metrics HTTP/1.1\r\n");
            assert_eq!(reader.next_frame(), Err(FrameError::Http));
        }
    }

    #[test]
    fn memory_grows_in_proportion_to_arrived_bytes_and_never_beyond_the_frame() {
        let length = 1_000_000;
        for is_short in [false, true] {
            let mut reader = FrameReader::new(length);
            reader.push(&(length as i32).to_be_bytes());
            let mut received = PREFIX;
            loop {
                if let Some(growth) = reader.growth() {
                    assert!(growth.most <= (received * GROWTH_FACTOR).max(GROWTH_MIN));
                    assert!(growth.least <= (received / 2).max(GROWTH_MIN));
                    reader.grow(if is_short { growth.least } else { growth.most });
                }
                let Some(mut rest) = reader.rest_of_frame() else {
                    break;
                };
                let part = rest.remaining_mut().min(10_000);
                rest.put_bytes(b'x', part);
                drop(rest);
                received += part;
                assert_eq!(reader.buffered(), received);
            }
            assert_eq!(received, PREFIX + length);
            assert!(reader.buffer.capacity() <= PREFIX + length);
            assert_eq!(reader.next_frame().unwrap().unwrap().len(), length);
            assert_eq!(reader.buffer.capacity(), 0);
        }
    }

    #[test]
    fn the_frame_size_is_known_from_peeked_bytes() {
        let stream = framed(b"12345678");
        let mut reader = FrameReader::new(1024);
        for read in 0..PREFIX {
            assert_eq!(reader.frame_size(&[]), Ok(None));
            let ahead = &stream[read..];
            assert_eq!(reader.frame_size(ahead), Ok(Some(stream.len())));
            assert_eq!(reader.frame_size(&ahead[..PREFIX - read - 1]), Ok(None));
            reader.push(&stream[read..=read]);
        }
        assert_eq!(reader.frame_size(&[]), Ok(Some(stream.len())));
        let reader = FrameReader::new(1024);
        assert_eq!(reader.frame_size(b"GET / HTTP"), Err(FrameError::Http));
    }

    #[test]
    fn an_announced_length_alone_allocates_no_memory() {
        let mut reader = FrameReader::new(100 << 20);
        reader.push(&(100_i32 << 20).to_be_bytes());
        assert!(reader.next_frame().unwrap().is_none());
        assert!(reader.buffer.capacity() < 1024);
        let growth = reader.growth().expect("it is still arriving");
        assert_eq!((growth.least, growth.most), (GROWTH_MIN, GROWTH_MIN));
    }
}
