//! The transport of one connection's bytes.
//!
//! All access to a client's socket goes through here, so that the rest of a connection does not know whether its bytes are
//! encrypted, nor by which system call a file is sent.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};
use tokio::io::{AsyncRead, AsyncReadExt, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::record::FileRegion;

/// Transport of one connection.
#[derive(Debug)]
pub enum Transport {
    /// TCP without encryption. Files are sent from the page cache with `sendfile`.
    Plain(TcpStream),
}

impl Transport {
    /// Resolves when a read may yield bytes, the end of the stream or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Transport::Plain(stream) = self;
        stream.poll_read_ready(cx)
    }

    /// Reads into a buffer once bytes have arrived.
    pub fn poll_read(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let Transport::Plain(stream) = self;
        Pin::new(stream).poll_read(cx, buffer)
    }

    /// Reads into the free part of a buffer that grows, and returns the number of bytes.
    pub fn poll_read_buf(
        &mut self,
        buffer: &mut impl BufMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Transport::Plain(stream) = self;
        pin!(stream.read_buf(buffer)).poll(cx)
    }

    /// Reads the bytes that have arrived, whether or not the runtime has noticed them.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::empty())
    }

    /// Copies the bytes that have arrived, without removing them.
    pub fn peek_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer, RecvFlags::PEEK)
    }

    fn receive(&self, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        let Transport::Plain(stream) = self;
        let (_, count) = recv(stream, buffer, flags)?;
        Ok(count)
    }

    /// Runs `read`, which calls [`Self::read_now`] or [`Self::peek_now`]. If it fails with `WouldBlock`, the transport is
    /// not ready until more arrives.
    pub fn try_read<T>(&self, read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let Transport::Plain(stream) = self;
        stream.try_io(Interest::READABLE, read)
    }

    /// Sends as many of the bytes as the socket accepts in one call. With `more`, others follow at once.
    pub fn poll_send(
        &self,
        slices: &[IoSlice<'_>],
        more: bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        // MORE makes the kernel hold back a partial packet for the bytes that follow.
        let flags = if more {
            SendFlags::NOSIGNAL | SendFlags::MORE
        } else {
            SendFlags::NOSIGNAL
        };
        let Transport::Plain(stream) = self;
        poll_write(stream, cx, || {
            Ok(match slices {
                // The common case, a small response: `send` costs the kernel less than `sendmsg`.
                [only] => send(stream, only, flags)?,
                several => sendmsg(stream, several, &mut SendAncillaryBuffer::default(), flags)?,
            })
        })
    }

    /// Sends the first `bytes` of a region, or as many as the socket accepts in one call. 0 is the end of the file.
    pub fn poll_send_file(
        &self,
        region: &FileRegion,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Transport::Plain(stream) = self;
        poll_write(stream, cx, || {
            let mut position = region.position;
            let sent = rustix::fs::sendfile(stream, &*region.file, Some(&mut position), bytes)?;
            Ok(sent)
        })
    }
}

/// Runs `write` when the socket is writable, and retries while it would block or is interrupted.
fn poll_write(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    mut write: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, &mut write) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}
