//! Requests in flight, from the first poll of their handlers until their responses move to the outgoing queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;

use super::super::memory::MemoryPermit;
use super::super::request::RequestGuard;
use crate::handlers::Reply;
use crate::protocol::kafka::DecodeError;
use crate::record::Records;

/// The outcome of a request.
pub(super) enum Outcome {
    Reply(Reply),
    Undecodable(DecodeError),
}

impl Outcome {
    /// Returns whether the request closes its connection.
    pub(super) fn closes(&self) -> bool {
        match self {
            Outcome::Reply(reply) => reply.close.is_some(),
            Outcome::Undecodable(_) => true,
        }
    }
}

/// The requests in flight of one connection, in their order.
#[derive(Default)]
pub(super) struct Pipeline {
    requests: FuturesOrdered<InFlight>,
    /// Size of the requests.
    bytes: usize,
    /// Bytes of responses in memory that wait for earlier responses.
    buffered_bytes: Arc<AtomicUsize>,
}

impl Pipeline {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes.load(Ordering::Relaxed)
    }

    /// Appends a request whose handler waits.
    pub(super) fn push(&mut self, mut request: InFlight) {
        request.buffered = BufferedBytes::within(&self.buffered_bytes);
        self.bytes += request.bytes;
        self.requests.push_back(request);
    }

    /// Appends a finished request, whose response waits for earlier ones.
    pub(super) fn push_finished(&mut self, finished: Finished) {
        let mut buffered = BufferedBytes::within(&self.buffered_bytes);
        buffered.add(&finished.outcome);
        self.bytes += finished.bytes;
        self.requests.push_back(InFlight {
            work: Work::Done(Some(finished.outcome)),
            request: Some(finished.request),
            bytes: finished.bytes,
            permit: MemoryPermit::default(),
            buffered,
        });
    }

    /// Removes the first request if it is finished.
    pub(super) fn next(&mut self, cx: &mut Context<'_>) -> Option<Finished> {
        if self.requests.is_empty() {
            return None;
        }
        match Pin::new(&mut self.requests).poll_next(cx) {
            Poll::Ready(Some(finished)) => {
                self.bytes -= finished.bytes;
                Some(finished)
            }
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

/// A request in flight.
pub(super) struct InFlight {
    pub(super) work: Work,
    pub(super) request: Option<RequestGuard>,
    /// Size of the request, which counts against the connection until its response is queued.
    pub(super) bytes: usize,
    /// Memory of the request, held until its handler is done.
    pub(super) permit: MemoryPermit,
    pub(super) buffered: BufferedBytes,
}

pub(super) enum Work {
    Pending(BoxFuture<'static, Reply>),
    Done(Option<Outcome>),
}

/// A request whose handler is done.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    pub(super) request: RequestGuard,
    /// Bytes it counted for in flight.
    pub(super) bytes: usize,
    pub(super) buffered: BufferedBytes,
}

/// Bytes of a finished response that are in memory while it waits for earlier responses. A slow request may delay many
/// responses behind it.
#[derive(Default)]
pub(super) struct BufferedBytes {
    bytes: usize,
    /// The connection's sum; `None` for a response that is sent at once.
    sum: Option<Arc<AtomicUsize>>,
}

impl BufferedBytes {
    /// Creates an empty count that adds to `sum`.
    pub(super) fn within(sum: &Arc<AtomicUsize>) -> Self {
        BufferedBytes {
            bytes: 0,
            sum: Some(Arc::clone(sum)),
        }
    }

    /// Counts the response, once.
    pub(super) fn add(&mut self, outcome: &Outcome) {
        let Some(sum) = &self.sum else {
            return;
        };
        if let Outcome::Reply(reply) = outcome
            && let Some(frame) = &reply.frame
        {
            self.bytes = frame.chunks.iter().map(Records::memory_bytes).sum();
            // The connection's task is the only one that writes to it.
            sum.store(sum.load(Ordering::Relaxed) + self.bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for BufferedBytes {
    fn drop(&mut self) {
        if let Some(sum) = &self.sum {
            sum.store(sum.load(Ordering::Relaxed) - self.bytes, Ordering::Relaxed);
        }
    }
}

impl Future for InFlight {
    type Output = Finished;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Finished> {
        let outcome = match &mut self.work {
            Work::Pending(reply) => match reply.as_mut().poll(cx) {
                Poll::Ready(reply) => Outcome::Reply(reply),
                Poll::Pending => return Poll::Pending,
            },
            Work::Done(outcome) => outcome
                .take()
                .expect("a finished request is not polled again"),
        };
        if let Work::Pending(_) = self.work {
            self.buffered.add(&outcome);
        }
        // The request's bytes are not needed any more; the response is accounted for separately.
        drop(std::mem::take(&mut self.permit));
        let bytes = self.bytes;
        let request = self.request.take();
        Poll::Ready(Finished {
            outcome,
            request: request.expect("a request finishes once"),
            bytes,
            buffered: std::mem::take(&mut self.buffered),
        })
    }
}
