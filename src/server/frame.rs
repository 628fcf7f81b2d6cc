//! Frames: four bytes of length and that many bytes of request, cut out of a stream that may say anything.
//!
//! A length is checked before memory is taken for it, and memory is then taken only in step with bytes that have
//! arrived: a frame that claims 100 MiB and sends nothing costs nothing. Between frames a reader holds no memory.

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::foreign;

/// The length that stands before every frame.
const PREFIX: usize = 4;
/// API key, version and correlation id: no request is shorter.
const FRAME_MIN: usize = 8;
/// The first memory taken for a frame that does not fit one read.
const GROWTH_MIN: usize = 64 * 1024;
/// From there on, how much more than what has arrived: a frame of a megabyte moves into larger memory once, and memory
/// stays in proportion to what was sent.
const GROWTH_FACTOR: usize = 15;
/// A frame of which less than this is missing is not worth reads of its own.
const DIRECT_MIN: usize = 16 * 1024;

/// What arrived instead of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The start of a TLS handshake.
    Tls,
    /// An HTTP request.
    Http,
    /// The beginning of another protocol, which is named.
    Foreign(&'static str),
    /// A length that no request can have.
    Length {
        length: i32,
        max: usize,
        start: Excerpt,
    },
}

/// The first bytes of what arrived, for people to see what it was. They are few, since they may be anything.
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
                "a TLS handshake arrived; this port speaks plain Kafka, set security.protocol=PLAINTEXT",
            ),
            FrameError::Http => f.write_str(
                "an HTTP request arrived; this port speaks Kafka, HTTP is served at http_addr",
            ),
            FrameError::Foreign(name) => {
                write!(f, "{name} arrived; this port speaks Kafka")
            }
            FrameError::Length { length, max, start } => write!(
                f,
                "a frame length of {length} arrived, in the bytes {start}; allowed: {FRAME_MIN} to {max} \
                 (socket_request_max_bytes)"
            ),
        }
    }
}

/// Cuts frames out of a stream.
#[derive(Debug)]
pub struct FrameReader {
    /// What has arrived and not been cut yet. Without memory when empty.
    buffer: BytesMut,
    frame_bytes_max: usize,
    first: bool,
    /// Memory was taken for the present frame: the rest is read straight to it.
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

    /// Takes bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Size of the next frame without its length, if all of it is there. After an error the stream is beyond use.
    pub fn whole_frame(&self) -> Result<Option<usize>, FrameError> {
        let length = self.frame_length()?;
        Ok(length.filter(|length| self.buffer.len() >= PREFIX + length))
    }

    /// The next whole frame without its length, if there is one.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(length) = self.whole_frame()? else {
            return Ok(None);
        };
        self.first = false;
        self.grown = false;
        self.buffer.advance(PREFIX);
        let frame = self.buffer.split_to(length).freeze();
        if self.buffer.is_empty() {
            // Lets go of the memory it shares with the frame.
            self.buffer = BytesMut::new();
        }
        Ok(Some(frame))
    }

    /// Whether part of a frame has arrived.
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Size of the next frame, as soon as its length has arrived.
    fn frame_length(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*prefix);
        let fits = usize::try_from(length)
            .is_ok_and(|length| (FRAME_MIN..=self.frame_bytes_max).contains(&length));
        if fits && !self.first {
            return Ok(Some(length as usize));
        }
        // Another protocol's first bytes may be a length within a generous limit.
        if prefix[0] == 0x16 && prefix[1] == 0x03 {
            return Err(FrameError::Tls);
        }
        if is_http(prefix) {
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
        Ok(Some(length as usize))
    }

    /// How many bytes of memory to take next for a large frame that is still arriving; 0 when there is room left, or
    /// when the rest is small enough to be pushed.
    pub fn growth(&self) -> usize {
        let Ok(Some(length)) = self.frame_length() else {
            return 0;
        };
        let missing = (PREFIX + length).saturating_sub(self.buffer.len());
        let has_room = self.grown && self.buffer.capacity() > self.buffer.len();
        if missing == 0 || has_room || (!self.grown && missing < DIRECT_MIN) {
            return 0;
        }
        missing.min((self.buffer.len() * GROWTH_FACTOR).max(GROWTH_MIN))
    }

    /// Takes as much memory as [`FrameReader::growth`] said.
    pub fn grow(&mut self) {
        let growth = self.growth();
        if growth > 0 {
            // An allocation exactly as large as asked for, instead of the doubling that `reserve` prefers.
            let mut larger = BytesMut::with_capacity(self.buffer.len() + growth);
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
            self.grown = true;
        }
    }

    /// Where to read the rest of a frame to that memory was taken for, bounded so that nothing of the next one is
    /// read. `None`: bytes are to be pushed.
    pub fn rest_of_frame(&mut self) -> Option<impl BufMut + '_> {
        if !self.grown {
            return None;
        }
        let length = self.frame_length().ok()??;
        let missing = (PREFIX + length).saturating_sub(self.buffer.len());
        let room = self.buffer.capacity() - self.buffer.len();
        let limit = missing.min(room);
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
    fn frames_come_out_whole_however_they_arrive() {
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
    fn lengths_no_request_can_have_are_refused() {
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
    fn what_cannot_be_a_frame_is_named_or_shown_in_part() {
        let said = |bytes: &[u8]| {
            let mut reader = FrameReader::new(100 << 20);
            reader.push(bytes);
            reader.next_frame().unwrap_err().to_string()
        };
        assert_eq!(
            said(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
            "an SSH banner arrived; this port speaks Kafka"
        );
        assert_eq!(
            said(b"hello\n\xff, who is there?"),
            "a frame length of 1751477356 arrived, in the bytes \"hello\\n\\xff, who is \"; \
             allowed: 8 to 104857600 (socket_request_max_bytes)"
        );
    }

    #[test]
    fn another_protocol_is_named_even_where_it_would_be_the_start_of_a_frame() {
        let mut reader = FrameReader::new(1024);
        reader.push(b"\0\0\0\x08\x04\xd2");
        assert_eq!(reader.next_frame(), Ok(None));
        reader.push(b"\x16\x2f");
        assert!(matches!(reader.next_frame(), Err(FrameError::Foreign(_))));
        // Within a connection of Kafka's the same bytes are a request.
        let mut reader = FrameReader::new(1024);
        reader.push(&framed(b"\0\x12\0\0\0\0\0\0"));
        reader.push(&framed(b"\x04\xd2\x16\x2f1234"));
        assert!(reader.next_frame().unwrap().is_some());
        assert!(reader.next_frame().unwrap().is_some());
    }

    #[test]
    fn tls_and_http_are_recognised_even_where_their_bytes_are_a_legal_length() {
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
    fn memory_grows_with_what_arrived_and_never_beyond_the_frame() {
        let length = 1_000_000;
        let mut reader = FrameReader::new(length);
        reader.push(&(length as i32).to_be_bytes());
        let mut received = PREFIX;
        loop {
            let growth = reader.growth();
            assert!(
                growth <= (received * GROWTH_FACTOR).max(GROWTH_MIN),
                "{growth} after {received}"
            );
            reader.grow();
            let Some(mut rest) = reader.rest_of_frame() else {
                break;
            };
            let part = rest.remaining_mut().min(10_000);
            rest.put_bytes(b'x', part);
            received += part;
        }
        assert_eq!(received, PREFIX + length);
        assert!(reader.buffer.capacity() <= PREFIX + length);
        assert_eq!(reader.next_frame().unwrap().unwrap().len(), length);
        assert_eq!(reader.buffer.capacity(), 0);
    }

    #[test]
    fn a_claimed_length_alone_takes_no_memory() {
        let mut reader = FrameReader::new(100 << 20);
        reader.push(&(100_i32 << 20).to_be_bytes());
        assert!(reader.next_frame().unwrap().is_none());
        assert!(reader.buffer.capacity() < 1024);
        assert_eq!(reader.growth(), GROWTH_MIN);
    }
}
