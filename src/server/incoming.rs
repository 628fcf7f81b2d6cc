//! Incoming requests of one socket.
//!
//! While memory is plentiful, all bytes in the socket are read at once and charged afterwards. While it is short, every
//! read acquires memory first and reads no more than was granted: the rest waits in the socket. A small request then does
//! not have to wait for its turn. Its bytes are peeked at in the socket, and once all of them have arrived, they are charged
//! to the reserve that no other request may use ([`Class::Small`]).
//!
//! Between two reads the permit covers the bytes that have arrived and nothing else.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::frame::{FrameError, FrameReader, PREFIX};
use super::memory::{
    Acquire, Class, GRANT_BYTES, MemoryPermit, RequestMemory, SMALL_REQUEST_BYTES,
};
use super::transport::Transport;

/// Bytes read at a time, into memory that the connections of a thread share.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// Bytes of requests that have arrived and have no handler yet, and the memory they hold.
pub struct Incoming {
    reader: FrameReader,
    permit: MemoryPermit,
    awaited: Option<Acquire>,
    address: IpAddr,
}

/// Bytes that wait in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    /// This many bytes complete a small request.
    SmallRequest(usize),
    /// Only part of a small request, which lacks this many bytes.
    PartOfSmall(usize),
    /// The start of a large request, which lacks this many bytes.
    PartOfLarge(usize),
    /// The end of the stream, less than a length prefix, or no valid request: this many bytes. Too few to acquire memory
    /// for.
    Other(usize),
}

impl Incoming {
    pub fn new(address: IpAddr, frame_bytes_max: usize) -> Self {
        Incoming {
            reader: FrameReader::new(frame_bytes_max),
            permit: MemoryPermit::default(),
            awaited: None,
            address,
        }
    }

    /// Returns whether a whole request has arrived. After an error the stream is unusable.
    pub fn has_request(&self) -> Result<bool, FrameError> {
        Ok(self.reader.whole_frame()?.is_some())
    }

    /// Removes the next whole request, without its length, together with its memory permit.
    pub fn next_request(&mut self, memory: &RequestMemory) -> Option<(Bytes, MemoryPermit)> {
        let frame = self.reader.next_frame().ok()??;
        let bytes = frame.len() + PREFIX;
        let charged = self.permit.bytes();
        if charged == 0 {
            // The usual case, for which splitting would count a second reference to the budget.
            let mut permit = MemoryPermit::default();
            memory.charge(&mut permit, bytes);
            return Some((frame, permit));
        }
        let missing = bytes.saturating_sub(charged);
        if missing > 0 {
            memory.charge(&mut self.permit, missing);
        }
        Some((frame, self.permit.split(bytes)))
    }

    /// Returns whether part of a request has arrived.
    pub fn is_within_request(&self) -> bool {
        self.reader.is_within_frame()
    }

    /// Returns whether part of a request has arrived that has memory of its own.
    pub fn is_within_large_request(&self) -> bool {
        self.reader.is_large()
    }

    /// Returns whether nothing has arrived, no memory is charged and none is awaited.
    pub fn is_empty(&self) -> bool {
        !self.is_within_request() && self.permit.is_empty() && self.awaited.is_none()
    }

    /// Returns whether the next bytes wait for memory.
    pub fn awaits_memory(&self) -> bool {
        self.awaited.is_some()
    }

    /// Returns the permit of a request that has arrived in part.
    pub fn permit(&self) -> &MemoryPermit {
        &self.permit
    }

    /// Stops waiting for memory and returns a grant that was not used yet.
    pub fn stop_waiting(&mut self) {
        self.awaited = None;
    }

    /// Drops the bytes that have arrived, because no further request is read.
    pub fn discard(&mut self) {
        self.awaited = None;
        self.reader.clear();
        self.permit = MemoryPermit::default();
    }

    /// Adjusts the permit to the bytes that have arrived. Called before the connection waits for anything.
    pub fn settle(&mut self, memory: &RequestMemory) {
        let buffered = self.reader.buffered();
        let charged = self.permit.bytes();
        if buffered > charged {
            memory.charge(&mut self.permit, buffered - charged);
        } else if buffered < charged {
            self.permit.shrink_to(buffered);
        }
        if buffered == 0 && self.permit.overdraft_claimed() > 0 {
            // No request is arriving, so others may exceed the budget instead.
            self.permit = MemoryPermit::default();
        }
    }

    /// Reads once from the socket, as far as there is memory. `Ok(0)` is the end of the stream.
    pub fn poll_read(
        &mut self,
        transport: &mut Transport,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_awaited(cx);
        let limit = match self.granted() {
            0 if self.reader.is_large() => {
                ready!(self.poll_grant_for_large(transport, memory, cx))?
            }
            0 if self.awaits_memory() || memory.is_short() => {
                ready!(self.poll_grant_while_short(transport, memory, cx))?
            }
            0 => SCRATCH_BYTES,
            granted => granted,
        };
        let read = match self.granted() {
            // After a peek, tokio considers the socket not ready although it has the granted bytes.
            1.. if !self.reader.is_large() => match self.read_at_once(limit, transport) {
                Err(error) if is_temporary(&error) => self.poll_read_up_to(limit, transport, cx),
                read => Poll::Ready(read),
            },
            _ => self.poll_read_up_to(limit, transport, cx),
        };
        // Returns what was granted for bytes that have not arrived, for others to use.
        if self.granted() > 0 {
            self.permit.shrink_to(self.reader.buffered());
        }
        read
    }

    /// Returns the number of granted bytes that have not arrived yet.
    fn granted(&self) -> usize {
        self.permit.bytes().saturating_sub(self.reader.buffered())
    }

    fn read_at_once(&mut self, limit: usize, transport: &Transport) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let buffer = &mut scratch[..limit.min(SCRATCH_BYTES)];
            let count = transport.read_now(buffer)?;
            self.reader.push(&buffer[..count]);
            Ok(count)
        })
    }

    fn poll_read_up_to(
        &mut self,
        limit: usize,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(rest) = self.reader.rest_of_frame() {
            let mut rest = bytes::BufMut::limit(rest, limit);
            return transport.poll_read_buf(&mut rest, cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..limit.min(SCRATCH_BYTES)]);
            ready!(transport.poll_read(&mut buffer, cx))?;
            self.reader.push(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Acquires memory for more of a large request: for all that is missing, or for one step if the pool has less.
    fn poll_grant_for_large(
        &mut self,
        transport: &Transport,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.awaits_memory() {
            return Poll::Pending;
        }
        // No turn is taken for bytes that have not arrived.
        ready!(transport.poll_read_ready(cx))?;
        self.settle(memory);
        if let Some(growth) = self.reader.growth() {
            let room = memory.take_room(&mut self.permit, growth.most - growth.least);
            self.reader.grow(growth.least + room);
        }
        let room = self.reader.room_in_frame();
        if memory.try_extend(&mut self.permit, room, Class::Other) {
            return Poll::Ready(Ok(room));
        }
        let missing = self.reader.missing();
        let step = room.min(GRANT_BYTES);
        self.poll_extend(step, missing, Class::Other, memory, cx)
            .map(Ok)
    }

    /// Acquires memory for the next bytes of a small request, or for the first bytes of any, while memory is short.
    fn poll_grant_while_short(
        &mut self,
        transport: &Transport,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let awaited = self.awaited.as_ref().map(Acquire::class);
        if awaited == Some(Class::Small) {
            return Poll::Pending;
        }
        self.settle(memory);
        match ready!(self.poll_look_ahead(transport, cx))? {
            Ahead::SmallRequest(bytes) => {
                self.awaited = None;
                self.poll_extend(bytes, bytes, Class::Small, memory, cx)
                    .map(Ok)
            }
            Ahead::PartOfSmall(_) | Ahead::PartOfLarge(_) if awaited.is_some() => Poll::Pending,
            Ahead::PartOfSmall(missing) | Ahead::PartOfLarge(missing) => {
                let step = missing.min(GRANT_BYTES);
                self.poll_extend(step, missing, Class::Other, memory, cx)
                    .map(Ok)
            }
            // The end of the stream is found by reading.
            Ahead::Other(bytes) => Poll::Ready(Ok(bytes.max(1))),
        }
    }

    /// Peeks at the bytes in the socket. After part of a small request, further bytes wake the connection: it waits for
    /// the rest and for memory at the same time, since the socket's own buffer may be too small for the rest.
    fn poll_look_ahead(
        &self,
        transport: &Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Ahead>> {
        let mut seen = None;
        loop {
            if seen.is_none() {
                ready!(transport.poll_read_ready(cx))?;
            }
            let mut part_of_small = None;
            let looked = transport.try_read(|| {
                let (count, ahead) = self.look_ahead(transport)?;
                match ahead {
                    Ahead::PartOfSmall(_) => {
                        part_of_small = Some((count, ahead));
                        // Makes `try_read` clear the readiness until more arrives.
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    ahead => Ok(ahead),
                }
            });
            match (looked, part_of_small) {
                (Err(_), Some((count, ahead))) => {
                    let has_more = transport.poll_read_ready(cx)?.is_ready();
                    // A socket closed by the client stays ready although nothing more arrives.
                    if !has_more || seen == Some(count) {
                        return Poll::Ready(Ok(ahead));
                    }
                    seen = Some(count);
                }
                (Err(error), None) if is_temporary(&error) => seen = None,
                (looked, _) => return Poll::Ready(looked),
            }
        }
    }

    /// Returns the number of bytes in the socket, at most a small request's, and their kind.
    fn look_ahead(&self, transport: &Transport) -> io::Result<(usize, Ahead)> {
        SCRATCH.with_borrow_mut(|scratch| {
            let most = PREFIX + SMALL_REQUEST_BYTES;
            let count = transport.peek_now(&mut scratch[..most])?;
            let ahead = match self.reader.frame_size(&scratch[..count]) {
                Ok(Some(size)) if count > 0 => {
                    let missing = size.saturating_sub(self.reader.buffered());
                    match (size <= most, count >= missing) {
                        (true, true) => Ahead::SmallRequest(missing),
                        (true, false) => Ahead::PartOfSmall(missing),
                        (false, _) => Ahead::PartOfLarge(missing),
                    }
                }
                _ => Ahead::Other(count),
            };
            Ok((count, ahead))
        })
    }

    /// Extends the permit by `step`, or else queues for memory for a request that lacks `missing`. Ready with the number of
    /// bytes if they are granted at once.
    fn poll_extend(
        &mut self,
        step: usize,
        missing: usize,
        class: Class,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<usize> {
        if memory.try_extend(&mut self.permit, step, class) {
            return Poll::Ready(step);
        }
        self.awaited = Some(memory.acquire(self.address, missing, class));
        self.poll_awaited(cx);
        match self.awaits_memory() {
            true => Poll::Pending,
            false => Poll::Ready(self.granted()),
        }
    }

    fn poll_awaited(&mut self, cx: &mut Context<'_>) {
        if let Some(awaited) = &mut self.awaited
            && let Poll::Ready(granted) = Pin::new(awaited).poll(cx)
        {
            self.permit.merge(granted);
            self.awaited = None;
        }
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
