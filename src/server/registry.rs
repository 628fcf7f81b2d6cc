//! Registry of open connections: limits, time-outs and disconnection.
//!
//! Every connection has an [`Entry`] here for as long as it is open. The connection stores its current activity in it; a
//! sweep, at least once a second, finds those whose activity has lasted too long and asks them to close. So ten thousand
//! idle connections need no timer each, and none of them wakes up for nothing.
//!
//! Each also reports the bytes of responses that wait in memory because the socket does not accept them. Regions of log
//! files do not count, since they go from the page cache to the socket; copies of small batches and lists do, such as the
//! metadata of ten thousand topics. One connection is limited to a few MiB by itself (`connection.rs`); all together share
//! one budget. Above half of it, connections with unread responses get no further work. When it is exhausted, those that
//! hold the most are disconnected, as many as make room again. A client that reads its responses has nothing waiting, so
//! it is neither held up nor disconnected.
//!
//! Likewise with requests that arrive in part ([`ConnectionRegistry::make_room_for_requests`]): a client that sends parts
//! of many requests and stops there must not keep the others from sending theirs. While others wait for memory, connections
//! whose request arrives too slowly are disconnected, those of the address that holds the most first. Clients that are not
//! read because of the shortage do not count as slow.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::Config;
use crate::metrics::{Collector, ConnectionGuard, ConnectionRejection, Metrics, Samples, catalog};

/// Activity of a connection, as far as time-outs depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for the client's next request.
    Idle,
    /// Part of a request has arrived.
    Reading,
    /// A response is waiting for the client to read it.
    Writing,
    /// Requests are in flight.
    Working,
}

/// Bytes of a request that have to arrive within [`ARRIVAL_STEP_MAX`] while others wait for the memory that it holds.
pub const ARRIVAL_STEP: usize = 64 * 1024;
/// Largest number of steps in which the rest of a request that exceeds the budget has to arrive, since others wait for it.
pub const OVERDRAFT_STEPS_MAX: usize = 16;
const ARRIVAL_STEP_MAX: Duration = Duration::from_secs(1);

/// Reason for which the server ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The client sent no request for too long.
    Idle,
    /// The rest of a request did not arrive in time.
    ReadTimeout,
    /// The client read nothing of a response for too long.
    WriteTimeout,
    /// The client's unread responses are among the largest, and there is no memory for more.
    ResponseMemory,
    /// The client's request has stalled, and others wait for the memory that it holds.
    RequestMemory,
    /// The server is shutting down: finish the requests in flight, read no more.
    Drain,
    /// The server is shutting down: end at once.
    Abort,
}

impl DisconnectReason {
    const ALL: [DisconnectReason; 7] = [
        DisconnectReason::Idle,
        DisconnectReason::ReadTimeout,
        DisconnectReason::WriteTimeout,
        DisconnectReason::ResponseMemory,
        DisconnectReason::RequestMemory,
        DisconnectReason::Drain,
        DisconnectReason::Abort,
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().position(|each| *each == self).unwrap_or(0) as u8 + 1
    }

    fn from_code(code: u8) -> Option<DisconnectReason> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// State shared by a connection and the registry.
#[derive(Debug)]
pub struct Entry {
    address: IpAddr,
    /// Current activity in the lower two bits; above them its start, in milliseconds of the monotonic clock.
    since: AtomicU64,
    /// A [`DisconnectReason`], or 0.
    ending: AtomicU8,
    /// Bytes of responses that wait in memory for the client.
    held_bytes: AtomicUsize,
    /// Memory held by a request that has arrived in part, while its client has to send more.
    arriving_bytes: AtomicUsize,
    /// Milliseconds of the monotonic clock since which the next [`ARRIVAL_STEP`] of it is awaited.
    arriving_since: AtomicU64,
    waker: AtomicWaker,
}

impl Entry {
    fn new(address: IpAddr) -> Self {
        Entry {
            address,
            since: AtomicU64::new(0),
            ending: AtomicU8::new(0),
            held_bytes: AtomicUsize::new(0),
            arriving_bytes: AtomicUsize::new(0),
            arriving_since: AtomicU64::new(0),
            waker: AtomicWaker::new(),
        }
    }

    /// Stores the activity that begins at `now`.
    pub fn set_activity(&self, activity: Activity, now: Duration) {
        let bits = match activity {
            Activity::Idle => 0,
            Activity::Reading => 1,
            Activity::Writing => 2,
            Activity::Working => 3,
        };
        let since = ((now.as_millis() as u64) << 2) | bits;
        self.since.store(since, Ordering::Relaxed);
    }

    /// Stores that part of a request has arrived, holds `bytes` of memory, and has awaited its next step `since` then.
    pub fn set_arriving(&self, bytes: usize, since: Duration) {
        let since = since.as_millis() as u64;
        self.arriving_since.store(since, Ordering::Relaxed);
        // Released after `arriving_since`: a reader that sees these bytes sees their time too.
        self.arriving_bytes.store(bytes, Ordering::Release);
    }

    /// Returns the bytes that a stalled request holds, and since when its next step has been awaited.
    fn stalled(&self, now: Duration) -> Option<(usize, Duration)> {
        let bytes = self.arriving_bytes.load(Ordering::Acquire);
        let since = Duration::from_millis(self.arriving_since.load(Ordering::Relaxed));
        let is_stalled = bytes > 0 && now.saturating_sub(since) >= ARRIVAL_STEP_MAX;
        is_stalled.then_some((bytes, since))
    }

    fn activity(&self) -> (Activity, Duration) {
        let since = self.since.load(Ordering::Relaxed);
        let activity = match since & 3 {
            0 => Activity::Idle,
            1 => Activity::Reading,
            2 => Activity::Writing,
            _ => Activity::Working,
        };
        (activity, Duration::from_millis(since >> 2))
    }

    /// Returns why the server asked the connection to end, if it did.
    pub fn ending(&self) -> Option<DisconnectReason> {
        DisconnectReason::from_code(self.ending.load(Ordering::Acquire))
    }

    /// Registers the task to wake when the connection is asked to end.
    pub fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Withdraws an [`DisconnectReason::Idle`]: a request has arrived meanwhile.
    pub fn cancel_idle(&self) {
        let idle = DisconnectReason::Idle.code();
        // Any other reason stands.
        let _ = self
            .ending
            .compare_exchange(idle, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn end(&self, ending: DisconnectReason) {
        // An abort overrides an earlier reason; nothing overrides an abort.
        let first =
            self.ending
                .compare_exchange(0, ending.code(), Ordering::AcqRel, Ordering::Acquire);
        if first.is_err() && ending == DisconnectReason::Abort {
            self.ending.store(ending.code(), Ordering::Release);
        }
        self.waker.wake();
    }
}

/// Time-outs by activity.
#[derive(Debug, Clone, Copy)]
struct Timeouts {
    idle: Duration,
    read: Duration,
    write: Duration,
}

/// All open connections.
#[derive(Debug)]
pub struct ConnectionRegistry {
    open: Mutex<Open>,
    /// Number of open connections, watched while a drain waits for zero.
    count: watch::Sender<usize>,
    timeouts: Timeouts,
    /// Sum of all entries' `held_bytes`, except those that are ending because of it: their memory is about to be freed.
    held_bytes: AtomicUsize,
    held_bytes_max: usize,
}

/// Limits on the number of open connections.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    total: usize,
    from_address: usize,
}

impl Limits {
    fn of(config: &Config) -> Self {
        Limits {
            total: config.max_connections,
            from_address: config.max_connections_per_ip,
        }
    }
}

#[derive(Debug, Default)]
struct Open {
    limits: Limits,
    entries: HashMap<u64, Arc<Entry>>,
    by_address: HashMap<IpAddr, usize>,
    next_id: u64,
    draining: bool,
}

impl Open {
    /// Returns the entries that hold any bytes, with the number, in descending order.
    fn largest_first(
        &self,
        bytes: impl Fn(&Entry) -> usize,
    ) -> impl Iterator<Item = (usize, &Arc<Entry>)> {
        let holders = self.entries.values().map(|entry| (bytes(entry), entry));
        let mut holders: Vec<_> = holders.filter(|(bytes, _)| *bytes > 0).collect();
        holders.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        holders.into_iter()
    }
}

/// A connection's slot in the registry; freed when dropped.
pub struct ConnectionSlot {
    pub entry: Arc<Entry>,
    id: u64,
    address: IpAddr,
    connections: Arc<ConnectionRegistry>,
    /// Keeps the connection in the metrics.
    _counted: ConnectionGuard,
}

impl ConnectionRegistry {
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(ConnectionRegistry {
            open: Mutex::new(Open {
                limits: Limits::of(config),
                ..Open::default()
            }),
            count: watch::Sender::new(0),
            timeouts: Timeouts {
                idle: Duration::from_millis(config.connections_max_idle_ms),
                read: Duration::from_millis(config.request_read_timeout_ms),
                write: Duration::from_millis(config.response_write_timeout_ms),
            },
            held_bytes: AtomicUsize::new(0),
            held_bytes_max: config.queued_max_response_bytes,
        })
    }

    /// Registers a connection from `address`. Fails if that would exceed a limit.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
        metrics: &Arc<Metrics>,
    ) -> Result<ConnectionSlot, ConnectionRejection> {
        let entry = Arc::new(Entry::new(address));
        entry.set_activity(Activity::Idle, now);
        let mut open = self.open.lock();
        let Limits {
            total,
            from_address: from_address_max,
        } = open.limits;
        if open.entries.len() >= total {
            return Err(ConnectionRejection::TooMany);
        }
        let from_address = open.by_address.entry(address).or_default();
        if *from_address >= from_address_max {
            return Err(ConnectionRejection::TooManyFromAddress);
        }
        *from_address += 1;
        let id = open.next_id;
        open.next_id += 1;
        if open.draining {
            entry.end(DisconnectReason::Drain);
        }
        open.entries.insert(id, Arc::clone(&entry));
        self.count.send_replace(open.entries.len());
        Ok(ConnectionSlot {
            entry,
            id,
            address,
            connections: Arc::clone(self),
            _counted: metrics.connection_opened(),
        })
    }

    /// Sets the limits to those of `config`. Open connections stay open.
    pub fn set_limits(&self, config: &Config) {
        self.open.lock().limits = Limits::of(config);
    }

    /// Returns the number of open connections.
    pub fn open_count(&self) -> usize {
        *self.count.borrow()
    }

    /// Asks connections to close whose activity has exceeded its time-out.
    pub fn sweep(&self, now: Duration) {
        for entry in self.open.lock().entries.values() {
            let (activity, since) = entry.activity();
            let lasted = now.saturating_sub(since);
            let ending = match activity {
                Activity::Idle if lasted >= self.timeouts.idle => DisconnectReason::Idle,
                Activity::Reading if lasted >= self.timeouts.read => DisconnectReason::ReadTimeout,
                Activity::Writing if lasted >= self.timeouts.write => {
                    DisconnectReason::WriteTimeout
                }
                _ => continue,
            };
            entry.end(ending);
        }
    }

    /// Returns the bytes of responses that wait in memory for clients to read them.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Sets the bytes that `entry` holds. Returns the sum of all entries.
    fn set_held(&self, entry: &Entry, bytes: usize) -> usize {
        let before = entry.held_bytes.swap(bytes, Ordering::Relaxed);
        let held = &self.held_bytes;
        match bytes.checked_sub(before) {
            Some(more) => held.fetch_add(more, Ordering::Relaxed) + more,
            None => held.fetch_sub(before - bytes, Ordering::Relaxed) - (before - bytes),
        }
    }

    /// Disconnects the clients that hold the most response memory, until a quarter of the budget is free.
    fn make_room_for_responses(&self) {
        let open = self.open.lock();
        let enough = self.held_bytes_max - self.held_bytes_max / 4;
        for (_, entry) in open.largest_first(|entry| entry.held_bytes.load(Ordering::Relaxed)) {
            if self.held_bytes() <= enough {
                return;
            }
            entry.end(DisconnectReason::ResponseMemory);
            self.set_held(entry, 0);
        }
    }

    /// Disconnects clients whose requests have stalled until `bytes` are free: those of the address that holds the most in
    /// such requests first, and of these the ones stalled for longest. Called while others wait for memory.
    pub fn make_room_for_requests(&self, bytes: usize, now: Duration) {
        let open = self.open.lock();
        let entries = open.entries.values();
        let mut stalled: Vec<_> = entries
            .filter_map(|entry| Some((entry, entry.stalled(now)?)))
            .collect();
        let mut by_address: HashMap<IpAddr, usize> = HashMap::new();
        for (entry, (holds, _)) in &stalled {
            *by_address.entry(entry.address).or_default() += holds;
        }
        stalled.sort_unstable_by_key(|(entry, (_, since))| {
            let address = entry.address;
            (Reverse(by_address[&address]), address, *since)
        });
        let mut freed = 0;
        for (entry, (holds, _)) in stalled {
            if freed >= bytes {
                return;
            }
            // Counts a connection that is already ending as well: its memory is about to be freed.
            entry.end(DisconnectReason::RequestMemory);
            freed += holds;
        }
    }

    /// Returns the interval for [`ConnectionRegistry::sweep`]: a quarter of the shortest time-out, 1 s at most.
    pub fn sweep_interval(&self) -> Duration {
        let Timeouts { idle, read, write } = self.timeouts;
        (idle.min(read).min(write) / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// Lets every connection finish its requests in flight and waits until all have closed, for at most `timeout`; then
    /// aborts those left. Returns the number of aborted connections.
    pub async fn drain(&self, timeout: Duration) -> usize {
        self.end_all(DisconnectReason::Drain);
        if tokio::time::timeout(timeout, self.all_closed())
            .await
            .is_ok()
        {
            return 0;
        }
        let left = self.end_all(DisconnectReason::Abort);
        // They end as soon as their tasks run; only a stuck runtime keeps them.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.all_closed()).await;
        left
    }

    fn end_all(&self, ending: DisconnectReason) -> usize {
        let mut open = self.open.lock();
        open.draining = true;
        for entry in open.entries.values() {
            entry.end(ending);
        }
        open.entries.len()
    }

    async fn all_closed(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl ConnectionSlot {
    /// Reports the bytes of responses that wait in memory for the client. Called when that has changed and the socket
    /// accepts no more of them, which never happens to a client that reads.
    pub fn hold(&self, bytes: usize) {
        if self.entry.ending() == Some(DisconnectReason::ResponseMemory) {
            return;
        }
        let held = self.connections.set_held(&self.entry, bytes);
        if held > self.connections.held_bytes_max {
            self.connections.make_room_for_responses();
        }
    }

    /// Returns whether all clients' unread responses exceed half of the budget, above which clients that have any get no
    /// further work.
    pub fn is_memory_short(&self) -> bool {
        self.connections.held_bytes() > self.connections.held_bytes_max / 2
    }
}

/// Exports `streamline_responses_waiting_bytes`.
impl Collector for ConnectionRegistry {
    fn collect(&self, out: &mut Samples) {
        out.family(&catalog::RESPONSES_WAITING_BYTES)
            .sample(&[], self.held_bytes() as u64);
    }
}

impl fmt::Debug for ConnectionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSlot")
            .field("id", &self.id)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.set_held(&self.entry, 0);
        let mut open = self.connections.open.lock();
        open.entries.remove(&self.id);
        if let Some(from_address) = open.by_address.get_mut(&self.address) {
            *from_address -= 1;
            if *from_address == 0 {
                open.by_address.remove(&self.address);
            }
        }
        self.connections.count.send_replace(open.entries.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn connections(max: usize, max_per_address: usize) -> Arc<ConnectionRegistry> {
        ConnectionRegistry::new(&Config {
            max_connections: max,
            max_connections_per_ip: max_per_address,
            connections_max_idle_ms: 1_000,
            request_read_timeout_ms: 100,
            response_write_timeout_ms: 200,
            ..Config::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }

    #[test]
    fn connections_are_limited_in_total_and_by_address_and_slots_are_freed() {
        let metrics = Metrics::new(true);
        let connections = connections(3, 2);
        let enter = |last| connections.enter(address(last), Duration::ZERO, &metrics);
        let first = enter(1).expect("the first");
        let _second = enter(1).expect("the second");
        assert_eq!(
            enter(1).err(),
            Some(ConnectionRejection::TooManyFromAddress)
        );
        let _third = enter(2).expect("from elsewhere");
        assert_eq!(enter(3).err(), Some(ConnectionRejection::TooMany));
        assert_eq!(metrics.connections_active.value(), 3);
        drop(first);
        assert_eq!(metrics.connections_active.value(), 2);
        assert!(enter(1).is_ok());
    }

    #[test]
    fn sweep_ends_only_connections_past_their_time_out() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let slot = |activity| {
            let slot = connections
                .enter(address(1), Duration::ZERO, &metrics)
                .expect("a slot");
            slot.entry.set_activity(activity, Duration::ZERO);
            slot
        };
        let idle = slot(Activity::Idle);
        let reading = slot(Activity::Reading);
        let writing = slot(Activity::Writing);
        let working = slot(Activity::Working);
        connections.sweep(Duration::from_millis(99));
        assert_eq!(reading.entry.ending(), None);
        connections.sweep(Duration::from_millis(250));
        assert_eq!(reading.entry.ending(), Some(DisconnectReason::ReadTimeout));
        assert_eq!(writing.entry.ending(), Some(DisconnectReason::WriteTimeout));
        assert_eq!(idle.entry.ending(), None);
        connections.sweep(Duration::from_secs(3600));
        assert_eq!(idle.entry.ending(), Some(DisconnectReason::Idle));
        assert_eq!(working.entry.ending(), None);
    }

    #[test]
    fn connections_with_the_most_unread_responses_are_ended_when_the_budget_is_exhausted() {
        let metrics = Metrics::new(true);
        let connections = ConnectionRegistry::new(&Config {
            queued_max_response_bytes: 1000,
            ..Config::default()
        });
        let enter = || {
            let entered = connections.enter(address(1), Duration::ZERO, &metrics);
            entered.expect("a slot")
        };
        let slots: Vec<ConnectionSlot> = (0..5).map(|_| enter()).collect();
        for (slot, bytes) in slots.iter().zip([100, 400, 0, 390, 110]) {
            slot.hold(bytes);
        }
        assert_eq!(connections.held_bytes(), 1000);
        assert!(slots.iter().all(|slot| slot.entry.ending().is_none()));
        assert!(slots[2].is_memory_short());
        slots[2].hold(1);
        let ended: Vec<bool> = slots
            .iter()
            .map(|slot| slot.entry.ending() == Some(DisconnectReason::ResponseMemory))
            .collect();
        assert_eq!(ended, [false, true, false, false, false]);
        assert_eq!(connections.held_bytes(), 601);
        // A connection that is ending no longer counts.
        slots[1].hold(500);
        assert_eq!(connections.held_bytes(), 601);
        drop(slots);
        assert_eq!(connections.held_bytes(), 0);
        assert!(!enter().is_memory_short());
    }

    #[test]
    fn stalled_requests_are_ended_beginning_with_the_address_that_holds_the_most() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let requests = [
            (1, 30, 0),
            (1, 20, 1),
            (2, 40, 0),
            (2, 5, 0),
            (3, 100, 5_000),
        ];
        let slots = requests.map(|(last, bytes, since_ms)| {
            let entered = connections.enter(address(last), Duration::ZERO, &metrics);
            let slot = entered.expect("a slot");
            let since = Duration::from_millis(since_ms);
            slot.entry.set_arriving(bytes, since);
            slot
        });
        let ended = || {
            let endings = slots.each_ref().map(|slot| slot.entry.ending());
            endings.map(|it| it == Some(DisconnectReason::RequestMemory))
        };
        connections.make_room_for_requests(60, ARRIVAL_STEP_MAX - Duration::from_millis(1));
        assert_eq!(ended(), [false; 5]);
        let now = ARRIVAL_STEP_MAX + Duration::from_millis(1);
        // The first two hold 50 together, the next two 45.
        connections.make_room_for_requests(30, now);
        assert_eq!(ended(), [true, false, false, false, false]);
        connections.make_room_for_requests(51, now);
        assert_eq!(ended()[..2], [true, true]);
        assert_eq!(ended()[2..].iter().filter(|it| **it).count(), 1);
        connections.make_room_for_requests(usize::MAX, now);
        assert_eq!(ended(), [true, true, true, true, false]);
    }

    #[tokio::test]
    async fn drain_waits_for_all_connections_and_aborts_those_left_at_the_time_out() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let enter = || {
            let entered = connections.enter(address(1), Duration::ZERO, &metrics);
            entered.expect("a slot")
        };
        assert_eq!(connections.drain(Duration::from_secs(10)).await, 0);
        let late = enter();
        assert_eq!(late.entry.ending(), Some(DisconnectReason::Drain));
        let entry = Arc::clone(&late.entry);
        let ended = tokio::spawn(async move {
            std::future::poll_fn(|cx| {
                late.entry.register(cx.waker());
                match late.entry.ending() {
                    Some(DisconnectReason::Abort) => std::task::Poll::Ready(()),
                    _ => std::task::Poll::Pending,
                }
            })
            .await;
            drop(late);
        });
        assert_eq!(connections.drain(Duration::from_millis(20)).await, 1);
        ended.await.expect("ends on abort");
        assert_eq!(entry.ending(), Some(DisconnectReason::Abort));
    }
}
