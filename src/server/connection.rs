//! One client's connection: frames in, requests to their handlers, responses out in the order of the requests.
//!
//! The connection is one future that does all work that needs no waiting and then sleeps until the socket, a handler or
//! the server wakes it. Invariants:
//!
//! - Each handler is polled once right after its creation, before the next request is decoded. So the work that handlers
//!   do before they first wait happens in the order of the requests.
//! - Responses are sent in the order of the requests, in whatever order the handlers finish.
//! - Requests in flight are bounded in number and bytes, and count against a budget of the whole server
//!   ([`RequestMemory`]). Beyond that nothing is read, and TCP slows the client down.
//! - Responses buffered in memory are bounded for each connection and, where the socket does not accept them, for the whole
//!   server ([`ConnectionSlot::hold`]).
//! - An idle connection holds no buffer.
//! - A client that has exceeded a quota is not read for the time of its pause ([`mute`]).
//! - A disconnect does not cancel the client's requests at once: they get a short time to finish, since half of a
//!   change is worse than an unread response.

mod ended;
mod in_flight;
mod mute;
mod report;
mod turn;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use ended::{Ended, Ending};
use in_flight::{BufferedBytes, Finished, InFlight, Outcome, Pipeline, Work};
use mute::Mute;
use report::{PROGRESS_BYTES_MIN, Report};
use turn::Turn;

use super::delayed_closes::DelayedCloses;
use super::frame::FrameError;
use super::incoming::Incoming;
use super::memory::{MemoryPermit, RequestMemory};
use super::outgoing::Outgoing;
use super::refusals::Refusals;
use super::registry::{Activity, ConnectionSlot, DisconnectReason};
use super::request::{Counting, RequestGuard, ResponseGuard};
use super::transport::Transport;
use crate::broker::Quotas;
use crate::clock::Clock;
use crate::config::Config;
use crate::handlers::{self, CloseReason, Reply};
use crate::metrics::{Metrics, RequestRejection};
use crate::protocol::kafka::{LENGTH_BYTES, RequestHeader, decode_request_header};

/// Bytes of one connection's requests in flight at which reading from it pauses. One request may be larger.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// Bytes of one connection's responses buffered in memory at which reading requests pauses.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Rounds of reading, working and writing before the task yields to other connections.
const ROUNDS_MAX: usize = 32;
/// Bytes written in one call after which a response yields to reading and handlers.
const WRITTEN_BYTES_MAX: usize = 64 * 1024;

/// Creates the handler's future for a request of one connection.
pub type Dispatch = Box<dyn Fn(RequestHeader, Bytes) -> BoxFuture<'static, Reply> + Send>;
/// Starts the session of a connection.
pub type StartSession = Box<dyn Fn(Accepted) -> Dispatch + Send + Sync>;

/// Listener and addresses of an accepted connection.
pub struct Accepted {
    /// Name of the listener.
    pub listener: Arc<str>,
    pub peer: SocketAddr,
    /// Server address to which the client connected.
    pub local: SocketAddr,
}

/// State shared by all connections.
pub struct Shared {
    start_session: StartSession,
    counting: Arc<Counting>,
    refusals: Refusals,
    memory: RequestMemory,
    quotas: Arc<Quotas>,
    delayed_closes: DelayedCloses,
    frame_bytes_max: usize,
    in_flight_max: usize,
}

impl Shared {
    pub fn new(
        config: &Config,
        start_session: StartSession,
        quotas: Arc<Quotas>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Shared {
            start_session,
            refusals: Refusals::new(Arc::clone(&metrics), Arc::clone(&clock)),
            counting: Arc::new(Counting { metrics, clock }),
            memory: RequestMemory::new(config.queued_max_request_bytes),
            quotas,
            delayed_closes: DelayedCloses::default(),
            frame_bytes_max: config.socket_request_max_bytes,
            in_flight_max: config.connection_max_inflight_requests,
        })
    }

    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    pub fn request_memory(&self) -> &RequestMemory {
        &self.memory
    }

    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    pub fn delayed_closes(&self) -> &DelayedCloses {
        &self.delayed_closes
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.counting.metrics
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.counting.clock
    }
}

/// One connection, as a future that resolves when it has ended.
pub struct Connection {
    transport: Transport,
    peer: SocketAddr,
    dispatch: Dispatch,
    shared: Arc<Shared>,
    /// A handle of this connection's own, so that connections do not contend for one reference count.
    counting: Arc<Counting>,
    report: Report,
    incoming: Incoming,
    in_flight: Pipeline,
    outgoing: Outgoing<ResponseGuard>,
    mute: Mute,
    turn: Turn,
    /// Time of the last read.
    received_at: Duration,
    /// Set once no further request is read: what remains is to finish those in flight.
    ending: Ending,
}

impl Connection {
    pub fn new(
        transport: Transport,
        accepted: Accepted,
        slot: ConnectionSlot,
        shared: Arc<Shared>,
    ) -> Self {
        let counting = Arc::new(Counting {
            metrics: Arc::clone(&shared.counting.metrics),
            clock: Arc::clone(&shared.counting.clock),
        });
        let now = counting.clock.monotonic();
        let peer = accepted.peer;
        Connection {
            transport,
            peer,
            dispatch: (shared.start_session)(accepted),
            report: Report::new(slot),
            incoming: Incoming::new(peer.ip(), shared.frame_bytes_max),
            in_flight: Pipeline::default(),
            outgoing: Outgoing::default(),
            mute: Mute::default(),
            turn: Turn::new(now),
            received_at: now,
            ending: Ending::default(),
            counting,
            shared,
        }
    }

    /// Applies the server's request to end this connection, if there is one. `Some` ends it at once.
    fn check_ending(&mut self) -> Option<Ended> {
        let ending = self.report.slot.entry.ending()?;
        match ending {
            // The requests in flight are finished first.
            DisconnectReason::Drain => self.stop_reading(Ended::ByServer(DisconnectReason::Drain)),
            // A request arrived between the sweep and this poll.
            DisconnectReason::Idle if self.is_busy() => self.report.slot.entry.cancel_idle(),
            DisconnectReason::ReadTimeout => {
                let what = "an incomplete request stalled for request_read_timeout_ms";
                self.refuse(RequestRejection::Timeout, &what);
                return Some(Ended::ByServer(ending));
            }
            DisconnectReason::WriteTimeout => {
                let what = "the client read nothing of a response within response_write_timeout_ms";
                self.refuse(RequestRejection::ResponseNotTaken, &what);
                return Some(Ended::ByServer(ending));
            }
            DisconnectReason::ResponseMemory => {
                let what = format!(
                    "the client has not read {} bytes of responses, and queued_max_response_bytes is exhausted",
                    self.waiting_bytes()
                );
                self.refuse(RequestRejection::ResponseMemory, &what);
                return Some(Ended::ByServer(ending));
            }
            DisconnectReason::RequestMemory => {
                let what = format!(
                    "a request that arrives too slowly holds {} bytes while others wait: \
                     queued_max_request_bytes is exhausted",
                    self.incoming.permit().bytes()
                );
                self.refuse(RequestRejection::RequestMemory, &what);
                return Some(Ended::ByServer(ending));
            }
            DisconnectReason::Idle | DisconnectReason::Abort => {
                return Some(Ended::ByServer(ending));
            }
        }
        None
    }

    fn is_busy(&self) -> bool {
        !self.in_flight.is_empty()
            || !self.outgoing.is_empty()
            || !self.is_muted()
                && (self.incoming.is_within_request() || self.incoming.awaits_memory())
    }

    /// Returns whether no further request is read, because the client has exceeded a quota.
    fn is_muted(&self) -> bool {
        self.mute.is_on() && !self.incoming.is_within_large_request()
    }

    /// Stops reading requests; the first reason given is kept.
    fn stop_reading(&mut self, ended: Ended) {
        self.ending.set(ended);
        self.incoming.discard();
    }

    /// Moves the responses of finished requests, in order, to the outgoing queue.
    fn collect(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Some(finished) = self.in_flight.next(cx) {
            self.finish(finished);
            any = true;
        }
        any
    }

    fn finish(&mut self, finished: Finished) {
        let Finished {
            outcome,
            mut request,
            buffered,
            ..
        } = finished;
        // From here on the response counts as outgoing.
        drop(buffered);
        self.report.add_progress(PROGRESS_BYTES_MIN);
        let reply = match outcome {
            Outcome::Reply(reply) => reply,
            Outcome::Undecodable(error) => {
                request.error = true;
                let what = format!("malformed request header: {error}");
                self.refuse(RequestRejection::Malformed, &what);
                return;
            }
        };
        request.error = reply.error;
        if !reply.throttled.is_zero() {
            self.mute.begin(reply.throttled, &self.counting.metrics);
        }
        if let Some(frame) = reply.frame {
            let response = ResponseGuard {
                request,
                response_bytes: frame.len.saturating_sub(LENGTH_BYTES) as u64,
                bytes_out: reply.bytes_out,
            };
            if !self.ending.has_failed() {
                self.outgoing.push(frame.chunks, response);
            }
        }
        if let Some(reason) = reply.close {
            self.close_for(&reason);
        }
    }

    fn close_for(&mut self, reason: &CloseReason) {
        match reason {
            CloseReason::UnknownApi { .. } | CloseReason::UnsupportedVersion { .. } => {
                self.refuse(RequestRejection::Unsupported, reason);
            }
            CloseReason::Malformed { .. } => self.refuse(RequestRejection::Malformed, reason),
            CloseReason::UnacknowledgedProduceFailed => self.stop_reading(Ended::Refused),
            CloseReason::Unencodable { .. } => {
                tracing::error!(peer = %self.peer, "connection closed: {reason}");
                self.stop_reading(Ended::Refused);
            }
        }
    }

    fn refuse(&mut self, reason: RequestRejection, what: &dyn fmt::Display) {
        self.shared.refusals.request(reason, self.peer, what);
        self.stop_reading(Ended::Refused);
    }

    /// Hands responses to the socket.
    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while !self.outgoing.is_empty() {
            match self.outgoing.poll_write(&self.transport, cx) {
                Poll::Ready(Ok(written)) => {
                    self.turn.read(&*self.counting.clock);
                    while let Some(response) = self.outgoing.pop_sent() {
                        response.sent(self.turn.now());
                    }
                    self.report.add_progress(written);
                    any = true;
                    if written >= WRITTEN_BYTES_MAX {
                        // A large response alternates with reading and handlers.
                        break;
                    }
                }
                Poll::Ready(Err(error)) => {
                    self.fail(error);
                    return true;
                }
                Poll::Pending => break,
            }
        }
        any
    }

    /// Drops all responses and stops reading: nothing can be sent any more.
    fn fail(&mut self, error: io::Error) {
        self.outgoing = Outgoing::default();
        self.incoming.discard();
        self.ending.fail(error);
    }

    fn may_take_more(&self) -> bool {
        !self.ending.is_set()
            && !self.is_muted()
            && self.in_flight.len() + self.outgoing.len() < self.shared.in_flight_max
            && self.in_flight.bytes() < IN_FLIGHT_BYTES_MAX
            && match self.waiting_bytes() {
                0 => true,
                waiting => waiting < WAITING_BYTES_MAX && !self.report.slot.is_memory_short(),
            }
    }

    /// Returns whether the requests in flight keep further ones from being read.
    fn has_enough_in_flight(&self) -> bool {
        self.in_flight.len() >= self.shared.in_flight_max
            || self.in_flight.bytes() >= IN_FLIGHT_BYTES_MAX
    }

    /// Returns the bytes of responses buffered in memory.
    fn waiting_bytes(&self) -> usize {
        self.outgoing.memory_bytes() + self.in_flight.buffered_bytes()
    }

    /// Starts the requests that have arrived and reads further ones.
    fn take_in(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.may_take_more() {
            match self.incoming.has_request() {
                Ok(true) => {
                    if any {
                        self.turn.read(&*self.counting.clock);
                    } else {
                        self.turn.read_once(&*self.counting.clock);
                    }
                    if self.turn.is_over() {
                        // The rest of the requests waits for the next turn; `true` keeps the task scheduled.
                        return true;
                    }
                    if let Some((frame, permit)) = self.incoming.next_request(&self.shared.memory) {
                        self.start(frame, permit, cx);
                    }
                    any = true;
                }
                Ok(false) => return self.read(cx) || any,
                Err(error) => {
                    let reason = match error {
                        FrameError::Tls => RequestRejection::Tls,
                        FrameError::Http => RequestRejection::Http,
                        FrameError::Foreign(name) => {
                            let refusals = &self.shared.refusals;
                            refusals.other_protocol(name, self.peer, &error);
                            self.stop_reading(Ended::Refused);
                            return true;
                        }
                        FrameError::Length { .. } => RequestRejection::FrameLength,
                    };
                    self.refuse(reason, &error);
                    return true;
                }
            }
        }
        any
    }

    /// Reads once from the socket, as far as there is memory.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let memory = &self.shared.memory;
        match self.incoming.poll_read(&mut self.transport, memory, cx) {
            Poll::Pending => return false,
            Poll::Ready(Ok(0)) => self.stop_reading(Ended::ByClient),
            Poll::Ready(Ok(bytes)) => {
                self.turn.read(&*self.counting.clock);
                self.received_at = self.turn.now();
                self.report.add_read(bytes);
            }
            Poll::Ready(Err(error)) => self.fail(error),
        }
        true
    }

    /// Creates the handler of a request and polls it once.
    fn start(&mut self, frame: Bytes, permit: MemoryPermit, cx: &mut Context<'_>) {
        let request = RequestGuard::new(&self.counting, &frame, self.received_at);
        self.report.end_arriving(self.turn.now());
        let mut body = frame;
        let mut needs_bytes = true;
        let work = match decode_request_header(&mut body) {
            Ok(header) => {
                needs_bytes = !handlers::waits_for_other_clients(header.api_key);
                Work::Pending((self.dispatch)(header, body))
            }
            Err(error) => Work::Done(Some(Outcome::Undecodable(error))),
        };
        let mut in_flight = InFlight {
            work,
            request: Some(request),
            bytes: permit.bytes(),
            permit,
            buffered: BufferedBytes::default(),
        };
        match Pin::new(&mut in_flight).poll(cx) {
            Poll::Ready(finished) if self.in_flight.is_empty() => self.finish(finished),
            Poll::Ready(finished) => {
                if finished.outcome.closes() {
                    // Later requests are not served, although the refusal is logged only when its turn comes.
                    self.stop_reading(Ended::Refused);
                }
                self.in_flight.push_finished(finished);
            }
            Poll::Pending => {
                if !needs_bytes {
                    in_flight.permit = MemoryPermit::default();
                }
                self.in_flight.push(in_flight);
            }
        }
    }

    /// Returns whether the connection can be closed: it has ended, and nothing is left in flight or the time for it is up.
    fn has_finished(&mut self, cx: &mut Context<'_>) -> bool {
        self.ending.is_set()
            && (self.in_flight.is_empty() && self.outgoing.is_empty()
                || self.ending.has_lingered(cx))
    }

    /// Reports the memory that a request which has arrived in part holds, and since when its next step is awaited.
    fn note_arriving(&mut self) {
        if self.incoming.is_empty() {
            return self.report.end_arriving(self.turn.now());
        }
        if !self.may_take_more() {
            // A grant would not be used before there is room for further requests.
            self.incoming.stop_waiting();
        }
        self.incoming.settle(&self.shared.memory);
        let holds = self.incoming.permit().bytes();
        if holds == 0 {
            return self.report.end_arriving(self.turn.now());
        }
        self.turn.read_once(&*self.counting.clock);
        let overdraft = self.incoming.permit().overdraft_claimed();
        let is_held_up = self.incoming.awaits_memory() || self.has_enough_in_flight();
        let now = self.turn.now();
        self.report.set_arriving(holds, overdraft, is_held_up, now);
    }

    /// Reports the connection's activity, by which the registry applies time-outs.
    fn note_activity(&mut self) {
        self.note_arriving();
        self.report.set_waiting(self.waiting_bytes());
        let activity = if !self.outgoing.is_empty() {
            Activity::Writing
        } else if !self.in_flight.is_empty() || self.incoming.awaits_memory() {
            Activity::Working
        } else if self.incoming.is_within_request() && !self.is_muted() {
            Activity::Reading
        } else {
            Activity::Idle
        };
        if self.report.is_due(activity) {
            self.turn.read_once(&*self.counting.clock);
            self.report.set_activity(activity, self.turn.now());
        }
    }
}

impl Future for Connection {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let this = self.get_mut();
        this.report.slot.entry.register(cx.waker());
        this.turn.begin();
        if let Some(ended) = this.check_ending() {
            return Poll::Ready(ended);
        }
        for _ in 0..ROUNDS_MAX {
            this.mute.poll(cx);
            let collected = this.collect(cx);
            let taken = this.take_in(cx);
            let written = this.write(cx);
            if this.has_finished(cx) {
                return Poll::Ready(this.ending.take());
            }
            if !(collected || taken || written) {
                this.note_activity();
                return Poll::Pending;
            }
            if this.turn.is_over() {
                break;
            }
        }
        this.note_activity();
        // Waking the task at once would run it before the tasks of other sockets that are ready.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
