//! A client's socket with a time-out for reading a response.
//!
//! hyper limits the time for a request's head to arrive, but not the time for the client to read the response, and an
//! exposition holds many megabytes of memory meanwhile.

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
    /// Runs from the first byte of a response until bytes of the next request arrive.
    deadline: Option<Pin<Box<Sleep>>>,
    /// True while bytes have arrived that no response has followed yet; tells a slow client from an idle one.
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

    /// Fails once the deadline has passed, and registers the task to be woken then.
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
