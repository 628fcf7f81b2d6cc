//! Outgoing responses of one socket.
//!
//! In-memory chunks of several responses are sent with one call; regions of files are sent from the page cache. A cold
//! region is first read into the page cache on a blocking thread, a piece at a time, so that the disk's latency does not
//! block the runtime, and a large region does not fill the page cache at the cost of other readers.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::task::JoinHandle;

use super::transport::Transport;
use crate::record::{FileRegion, Records};

/// Largest number of chunks sent by one call.
const SLICES_MAX: usize = 64;
/// Largest number of bytes of a file sent by one call, and warmed at a time.
const FILE_PIECE: usize = 1 << 20;
/// Bytes read at a time to bring a file into the page cache.
const WARM_STEP: usize = 128 * 1024;

/// Responses not yet handed to the socket completely, each with a token that is returned once it has been.
pub struct Outgoing<T> {
    responses: VecDeque<Response<T>>,
    warming: Option<JoinHandle<io::Result<()>>>,
    /// Warm bytes of the first chunk, if it is a cold region.
    warm: usize,
    /// Bytes left to send of chunks in memory.
    memory_bytes: usize,
    /// Bytes of the first chunk already handed to the socket; its memory is freed only once all of it has been.
    taken_bytes: usize,
}

struct Response<T> {
    chunks: VecDeque<Records>,
    /// Returned once the last byte has been handed to the socket.
    token: T,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Self {
        Outgoing {
            responses: VecDeque::new(),
            warming: None,
            warm: 0,
            memory_bytes: 0,
            taken_bytes: 0,
        }
    }
}

impl<T> Outgoing<T> {
    /// Appends a response. [`Self::pop_sent`] returns `token` once its last byte has been handed to the socket.
    pub fn push(&mut self, chunks: Vec<Records>, token: T) {
        let mut chunks = VecDeque::from(chunks);
        chunks.retain(|chunk| !chunk.is_empty());
        self.memory_bytes += chunks.iter().map(Records::memory_bytes).sum::<usize>();
        self.responses.push_back(Response { chunks, token });
    }

    pub fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// Returns the number of responses not yet handed over completely.
    pub fn len(&self) -> usize {
        self.responses.len()
    }

    /// Returns the bytes of responses that wait in memory, without regions of files.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes + self.taken_bytes
    }

    /// Sends as much as the socket accepts in one call. `Ok(0)` means that there was nothing to send.
    pub fn poll_write(
        &mut self,
        transport: &Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut chunks = self.responses.iter().flat_map(|each| each.chunks.iter());
        match chunks.next() {
            None => Poll::Ready(Ok(0)),
            Some(Records::Bytes(_)) => self.poll_write_bytes(transport, cx),
            Some(Records::File(region)) => {
                let region = region.clone();
                self.poll_write_file(transport, &region, cx)
            }
        }
    }

    /// Removes the first response if it has been sent completely, and returns its token.
    pub fn pop_sent(&mut self) -> Option<T> {
        let sent = self.responses.pop_front_if(|each| each.chunks.is_empty())?;
        Some(sent.token)
    }

    fn poll_write_bytes(
        &mut self,
        transport: &Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut slices: [IoSlice<'_>; SLICES_MAX] = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut followed_by_file = false;
        let chunks = self.responses.iter().flat_map(|each| each.chunks.iter());
        for chunk in chunks {
            match chunk {
                Records::Bytes(bytes) if count < SLICES_MAX => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                Records::Bytes(_) => break,
                Records::File(_) => {
                    followed_by_file = true;
                    break;
                }
            }
        }
        let slices = &slices[..count];
        let written = ready!(transport.poll_send(slices, followed_by_file, cx))?;
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_file(
        &mut self,
        transport: &Transport,
        region: &FileRegion,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let ready_bytes = if region.cold {
            ready!(self.poll_warm(region, cx))?;
            self.warm
        } else {
            region.len.min(FILE_PIECE)
        };
        let written = ready!(transport.poll_send_file(region, ready_bytes, cx))?;
        if written == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "segment is shorter than the region to be sent from it",
            )));
        }
        self.warm = self.warm.saturating_sub(written);
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Resolves when the first piece of the region is in the page cache.
    fn poll_warm(&mut self, region: &FileRegion, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.warm > 0 {
            return Poll::Ready(Ok(()));
        }
        let piece = region.len.min(FILE_PIECE);
        let warming = self.warming.get_or_insert_with(|| {
            let region = region.clone();
            tokio::task::spawn_blocking(move || warm(&region, piece))
        });
        let warmed = ready!(Pin::new(warming).poll(cx));
        self.warming = None;
        warmed.map_err(io::Error::other)??;
        self.warm = piece;
        Poll::Ready(Ok(()))
    }

    /// Removes `written` bytes from the front.
    fn advance(&mut self, mut written: usize) {
        for response in &mut self.responses {
            while let Some(chunk) = response.chunks.front_mut() {
                let length = chunk.len();
                if written < length {
                    match chunk {
                        Records::Bytes(bytes) => {
                            Bytes::advance(bytes, written);
                            self.memory_bytes -= written;
                            self.taken_bytes += written;
                        }
                        Records::File(region) => {
                            region.position += written as u64;
                            region.len -= written;
                        }
                    }
                    return;
                }
                written -= length;
                self.memory_bytes -= chunk.memory_bytes();
                self.taken_bytes = 0;
                response.chunks.pop_front();
            }
            if written == 0 {
                return;
            }
        }
    }
}

/// Reads the first `bytes` of a region to bring them into the page cache. Blocks.
fn warm(region: &FileRegion, bytes: usize) -> io::Result<()> {
    let mut scratch = vec![0; bytes.min(WARM_STEP)];
    let mut done = 0;
    while done < bytes {
        let step = scratch.len().min(bytes - done);
        let position = region.position + done as u64;
        region.file.read_exact_at(&mut scratch[..step], position)?;
        done += step;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    async fn pair() -> (Transport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connect, listener.accept());
        (Transport::Plain(accepted.unwrap().0), client.unwrap())
    }

    fn region(bytes: &[u8], position: usize, len: usize, cold: bool) -> Records {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Records::File(FileRegion {
            file: Arc::new(file),
            position: position as u64,
            len,
            cold,
        })
    }

    async fn write_all(
        outgoing: &mut Outgoing<u32>,
        transport: &Transport,
    ) -> io::Result<Vec<u32>> {
        let mut done = Vec::new();
        while !outgoing.is_empty() {
            std::future::poll_fn(|cx| outgoing.poll_write(transport, cx)).await?;
            done.extend(std::iter::from_fn(|| outgoing.pop_sent()));
        }
        Ok(done)
    }

    #[tokio::test]
    async fn bytes_and_tokens_of_memory_and_file_chunks_keep_their_order() {
        let (server, mut client) = pair().await;
        let large: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
        let mut expected = Vec::new();
        let mut outgoing = Outgoing::default();
        for (token, cold) in [(1, false), (2, true)] {
            let chunks = vec![
                Records::Bytes(Bytes::from_static(b"head")),
                region(&large, 17, 4_000_000, cold),
                Records::Bytes(Bytes::new()),
                Records::Bytes(Bytes::from_static(b"tail")),
            ];
            expected.extend_from_slice(b"head");
            expected.extend_from_slice(&large[17..4_000_017]);
            expected.extend_from_slice(b"tail");
            outgoing.push(chunks, token);
        }
        outgoing.push(vec![Records::Bytes(vec![7; 3_000_000].into()); 100], 3);
        expected.extend(vec![7; 300_000_000]);
        outgoing.push(Vec::new(), 4);
        let reader = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            received
        });
        let done = write_all(&mut outgoing, &server).await.unwrap();
        drop(server);
        assert_eq!(done, [1, 2, 3, 4]);
        assert_eq!(outgoing.memory_bytes(), 0);
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn a_file_shorter_than_its_region_is_an_error() {
        for cold in [false, true] {
            let (server, _client) = pair().await;
            let mut outgoing = Outgoing::default();
            outgoing.push(vec![region(b"short", 0, 100, cold)], 1);
            let error = write_all(&mut outgoing, &server).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
