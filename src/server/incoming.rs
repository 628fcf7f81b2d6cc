//! Requests on their way in from one socket.
//!
//! While memory is plentiful, whatever the socket has is read at once and charged afterwards. While it is short, every
//! read asks before it takes bytes, and only as many are taken as were granted: the rest waits in the socket. A small
//! request needs no turn of its own then. Its bytes are looked at where they are, and once all of them are there, the
//! reserve that no other request may use pays for them ([`RequestMemory::try_extend_small`]).
//!
//! Between two reads the permit covers the bytes that have arrived and nothing else.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncReadExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::frame::{FrameError, FrameReader, PREFIX};
use super::memory::{
    Acquire, Class, GRANT_BYTES, MemoryPermit, RequestMemory, SMALL_REQUEST_BYTES,
};

/// Bytes read at a time, into memory that the connections of a thread share.
const SCRATCH_BYTES: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// The bytes of requests that have arrived and are not being worked on yet, and the memory they hold.
pub struct Incoming {
    reader: FrameReader,
    permit: MemoryPermit,
    awaited: Option<Acquire>,
    address: IpAddr,
}

/// The bytes that wait in a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ahead {
    /// So many of a small request, the last one among them.
    SmallRequest(usize),
    /// All that the socket has is part of a small request, which lacks so many.
    PartOfSmall(usize),
    /// The first of those that a large request lacks, which are so many.
    PartOfLarge(usize),
    /// The end of the stream, less than a length, or what is no request: so many. Reading them takes no memory worth
    /// asking for.
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

    /// Returns whether a whole request is there. After an error the stream is beyond use.
    pub fn has_request(&self) -> Result<bool, FrameError> {
        Ok(self.reader.whole_frame()?.is_some())
    }

    /// Takes the next whole request, without its length, and what it holds of the memory.
    pub fn next_request(&mut self, memory: &RequestMemory) -> Option<(Bytes, MemoryPermit)> {
        let frame = self.reader.next_frame().ok()??;
        let bytes = frame.len() + PREFIX;
        let charged = self.permit.bytes();
        if charged == 0 {
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

    /// Returns whether nothing has arrived, is charged or is waited for.
    pub fn is_empty(&self) -> bool {
        !self.is_within_request() && self.permit.is_empty() && self.awaited.is_none()
    }

    /// Returns whether the next bytes wait for memory.
    pub fn awaits_memory(&self) -> bool {
        self.awaited.is_some()
    }

    /// The memory that a request which has arrived in part holds.
    pub fn permit(&self) -> &MemoryPermit {
        &self.permit
    }

    /// Gives up waiting for memory, and a grant that was not used yet.
    pub fn stop_waiting(&mut self) {
        self.awaited = None;
    }

    /// Drops what has arrived, because no further request is taken.
    pub fn discard(&mut self) {
        self.awaited = None;
        self.reader.clear();
        self.permit = MemoryPermit::default();
    }

    /// Brings the permit in line with what has arrived. Called before the connection waits for anything.
    pub fn settle(&mut self, memory: &RequestMemory) {
        let buffered = self.reader.buffered();
        let charged = self.permit.bytes();
        if buffered > charged {
            memory.charge(&mut self.permit, buffered - charged);
        } else if buffered < charged {
            self.permit.shrink_to(buffered);
        }
        if buffered == 0 && self.permit.overdraft_claimed() > 0 {
            // No request is arriving, so it is others' turn to exceed the budget.
            self.permit = MemoryPermit::default();
        }
    }

    /// Reads what the socket has and there is memory for, once. `Ok(0)` is the end of the stream.
    pub fn poll_read(
        &mut self,
        stream: &mut TcpStream,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.poll_awaited(cx);
        let limit = match self.granted() {
            0 if self.reader.is_large() => ready!(self.poll_grant_for_large(stream, memory, cx))?,
            0 if self.awaits_memory() || memory.is_short() => {
                ready!(self.poll_grant_while_short(stream, memory, cx))?
            }
            0 => SCRATCH_BYTES,
            granted => granted,
        };
        let read = match self.granted() {
            // After a look ahead the socket counts as not ready, though it has the bytes that were granted.
            1.. if !self.reader.is_large() => match self.read_at_once(limit, stream) {
                Err(error) if is_temporary(&error) => self.poll_read_up_to(limit, stream, cx),
                read => Poll::Ready(read),
            },
            _ => self.poll_read_up_to(limit, stream, cx),
        };
        // What was granted for bytes that are not there is others' to use.
        if self.granted() > 0 {
            self.permit.shrink_to(self.reader.buffered());
        }
        read
    }

    /// Bytes that were granted and have not arrived yet.
    fn granted(&self) -> usize {
        self.permit.bytes().saturating_sub(self.reader.buffered())
    }

    fn read_at_once(&mut self, limit: usize, stream: &TcpStream) -> io::Result<usize> {
        SCRATCH.with_borrow_mut(|scratch| {
            let buffer = &mut scratch[..limit.min(SCRATCH_BYTES)];
            let (_, count) = recv(stream, &mut *buffer, RecvFlags::empty())?;
            self.reader.push(&buffer[..count]);
            Ok(count)
        })
    }

    fn poll_read_up_to(
        &mut self,
        limit: usize,
        stream: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Some(rest) = self.reader.rest_of_frame() {
            let mut rest = bytes::BufMut::limit(rest, limit);
            return pin!(stream.read_buf(&mut rest)).poll(cx);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(&mut scratch[..limit.min(SCRATCH_BYTES)]);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            self.reader.push(buffer.filled());
            Poll::Ready(Ok(buffer.filled().len()))
        })
    }

    /// Gets memory for more of a large request: for as much as is missing, or for a step where the pool has not that much.
    fn poll_grant_for_large(
        &mut self,
        stream: &TcpStream,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.awaits_memory() {
            return Poll::Pending;
        }
        // Nobody takes a turn for bytes that are not there.
        ready!(stream.poll_read_ready(cx))?;
        self.settle(memory);
        if let Some(growth) = self.reader.growth() {
            let room = memory.take_room(&mut self.permit, growth.most - growth.least);
            self.reader.grow(growth.least + room);
        }
        let room = self.reader.room_in_frame();
        for wanted in [room, room.min(GRANT_BYTES)] {
            if memory.try_extend(&mut self.permit, wanted) {
                return Poll::Ready(Ok(wanted));
            }
        }
        let missing = self.reader.missing();
        self.poll_acquire(missing, Class::Other, memory, cx).map(Ok)
    }

    /// Gets memory for the next bytes of a small request, or for the first ones of any, while memory is short.
    fn poll_grant_while_short(
        &mut self,
        stream: &TcpStream,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let awaited = self.awaited.as_ref().map(Acquire::class);
        if awaited == Some(Class::Small) {
            return Poll::Pending;
        }
        self.settle(memory);
        match ready!(self.poll_look_ahead(stream, cx))? {
            Ahead::SmallRequest(bytes) => {
                self.awaited = None;
                if memory.try_extend_small(&mut self.permit, bytes) {
                    return Poll::Ready(Ok(bytes));
                }
                self.poll_acquire(bytes, Class::Small, memory, cx).map(Ok)
            }
            Ahead::PartOfSmall(_) | Ahead::PartOfLarge(_) if awaited.is_some() => Poll::Pending,
            Ahead::PartOfSmall(missing) | Ahead::PartOfLarge(missing) => {
                let step = missing.min(GRANT_BYTES);
                if memory.try_extend(&mut self.permit, step) {
                    return Poll::Ready(Ok(step));
                }
                self.poll_acquire(missing, Class::Other, memory, cx).map(Ok)
            }
            // The end of the stream is found by reading.
            Ahead::Other(bytes) => Poll::Ready(Ok(bytes.max(1))),
        }
    }

    /// Looks at what the socket has without taking it. After part of a small request, further bytes wake the connection:
    /// it waits for the rest and for memory at once, since the socket's own buffer may be too small for the rest.
    fn poll_look_ahead(&self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<Ahead>> {
        let mut seen = None;
        loop {
            if seen.is_none() {
                ready!(stream.poll_read_ready(cx))?;
            }
            let mut part_of_small = None;
            let looked = stream.try_io(Interest::READABLE, || {
                let (count, ahead) = self.look_ahead(stream)?;
                match ahead {
                    Ahead::PartOfSmall(_) => {
                        part_of_small = Some((count, ahead));
                        // Said to `try_io`, this means: not ready before more arrives.
                        Err(io::ErrorKind::WouldBlock.into())
                    }
                    ahead => Ok(ahead),
                }
            });
            match (looked, part_of_small) {
                (Err(_), Some((count, ahead))) => {
                    let has_more = stream.poll_read_ready(cx)?.is_ready();
                    // A socket that the client has closed is ready although nothing more arrives.
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

    /// Returns how many bytes the socket has, and what they are.
    fn look_ahead(&self, stream: &TcpStream) -> io::Result<(usize, Ahead)> {
        SCRATCH.with_borrow_mut(|scratch| {
            let most = PREFIX + SMALL_REQUEST_BYTES;
            let (_, count) = recv(stream, &mut scratch[..most], RecvFlags::PEEK)?;
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

    /// Waits for a turn. Ready with a number of bytes if they are granted at once.
    fn poll_acquire(
        &mut self,
        missing: usize,
        class: Class,
        memory: &RequestMemory,
        cx: &mut Context<'_>,
    ) -> Poll<usize> {
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
