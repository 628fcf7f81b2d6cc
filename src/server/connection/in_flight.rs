//! A request being worked on, from the first poll of its handler to its response's turn to go out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;

use super::super::memory::MemoryPermit;
use super::super::request::RequestGuard;
use crate::handlers::Reply;
use crate::protocol::kafka::DecodeError;
use crate::record::Records;

/// What became of a request.
pub(super) enum Outcome {
    Reply(Reply),
    Undecodable(DecodeError),
}

/// A request being worked on.
pub(super) struct InFlight {
    pub(super) work: Work,
    pub(super) request: Option<RequestGuard>,
    /// Its size, which counts against the connection until the response's turn has come.
    pub(super) bytes: usize,
    /// Its memory, held until its handler is done.
    pub(super) permit: MemoryPermit,
    pub(super) buffered: BufferedBytes,
}

pub(super) enum Work {
    Pending(BoxFuture<'static, Reply>),
    Done(Option<Outcome>),
}

/// A request whose response is there.
pub(super) struct Finished {
    pub(super) outcome: Outcome,
    pub(super) request: RequestGuard,
    /// What it counted for in flight.
    pub(super) bytes: usize,
    pub(super) buffered: BufferedBytes,
}

/// The part of a finished response that is in memory, for as long as it is not its turn to go out. Responses behind one
/// that is long in coming are many.
#[derive(Default)]
pub(super) struct BufferedBytes {
    bytes: usize,
    /// The sum of the connection's; `None` for a response that goes out at once.
    sum: Option<Arc<AtomicUsize>>,
}

impl BufferedBytes {
    /// Nothing yet, to be counted in `sum`.
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
        // The request's bytes are not needed any more; its response is another matter.
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
