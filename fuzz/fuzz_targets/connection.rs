//! Arbitrary bytes from a client, arriving in pieces of any size: the connection finds the same frames as a simple
//! reference parser, and allocates memory only in proportion to the bytes received.

#![no_main]

use bytes::{BufMut, Bytes};
use libfuzzer_sys::fuzz_target;
use streamline::protocol::kafka::decode_request_header;
use streamline::server::frame::FrameReader;

const FRAME_BYTES_MAX: usize = 256 * 1024;
const FRAME_BYTES_MIN: usize = 8;
/// Bound on the memory allocated for a frame that has not arrived yet: these bytes, or a multiple of the bytes received.
const GROWTH_BYTES: usize = 64 * 1024;
const GROWTH_FACTOR: usize = 15;

fuzz_target!(|input: (u16, u8, &[u8])| {
    let (step, padding, bytes) = input;
    // Padding completes large frames, so that the fuzzer need not generate their bytes.
    let mut stream = bytes.to_vec();
    stream.resize(stream.len() + usize::from(padding) * 2048, b'p');
    let step = usize::from(step).max(1);
    let expected = frames_of(&stream);

    let mut reader = FrameReader::new(FRAME_BYTES_MAX);
    let mut found: Vec<Bytes> = Vec::new();
    let mut rest = stream.as_slice();
    let refused = 'stream: loop {
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    // The header may contain anything, as long as decoding it is safe.
                    let _ = decode_request_header(&mut frame.clone());
                    found.push(frame);
                }
                Ok(None) => break,
                Err(_) => break 'stream true,
            }
        }
        if rest.is_empty() {
            break false;
        }
        if let Some(growth) = reader.growth() {
            assert!(growth.least <= growth.most);
            assert!(growth.most <= GROWTH_BYTES.max(GROWTH_FACTOR * stream.len()));
            reader.grow(if step % 2 == 0 {
                growth.least
            } else {
                growth.most
            });
        }
        let piece = step.min(rest.len());
        let taken = if let Some(mut room) = reader.rest_of_frame() {
            let taken = piece.min(room.remaining_mut());
            room.put_slice(&rest[..taken]);
            taken
        } else {
            reader.push(&rest[..piece]);
            piece
        };
        rest = &rest[taken..];
    };
    assert!(found.len() <= expected.len());
    assert!(
        found
            .iter()
            .zip(&expected)
            .all(|(found, expected)| found == expected)
    );
    // Only the first frame may be rejected despite a valid length: if it looks like TLS or HTTP.
    assert!(found.len() == expected.len() || (refused && found.is_empty()));
});

/// Returns the whole frames in `stream`, up to the first invalid length.
fn frames_of(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk() {
        let length = i32::from_be_bytes(*prefix);
        let Ok(length) = usize::try_from(length) else {
            break;
        };
        if !(FRAME_BYTES_MIN..=FRAME_BYTES_MAX).contains(&length) || rest.len() < length {
            break;
        }
        frames.push(&rest[..length]);
        stream = &rest[length..];
    }
    frames
}
