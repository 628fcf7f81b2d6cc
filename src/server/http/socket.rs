//! A client's socket with a time limit for taking a response.
//!
//! hyper limits how long a request's head may take to arrive, but nobody limits how long a client may take to read what
//! it asked for, and an exposition of many megabytes is worth holding a server's memory with.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

pub(super) struct TimedSocket {
    inner: TcpStream,
    response_timeout: Duration,
    /// Runs from the first byte of a response until something arrives again, which is the next request.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether bytes have arrived that no response has followed yet; for telling a client that is slow from one that
    /// is merely silent.
    mid_request: Arc<AtomicBool>,
}

impl TimedSocket {
    pub(super) fn new(inner: TcpStream, response_timeout: Duration) -> (Self, Arc<AtomicBool>) {
        let mid_request = Arc::new(AtomicBool::new(false));
        let socket = Self {
            inner,
            response_timeout,
            deadline: None,
            mid_request: Arc::clone(&mid_request),
        };
        (socket, mid_request)
    }

    /// Fails once the deadline has passed, and has the task woken then.
    fn check_deadline(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let timeout = self.response_timeout;
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match deadline.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the client did not read its response in time",
            )),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for TimedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.deadline = None;
            self.mid_request.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for TimedSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.mid_request.store(false, Ordering::Relaxed);
        self.check_deadline(context)?;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.mid_request.store(false, Ordering::Relaxed);
        self.check_deadline(context)?;
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
