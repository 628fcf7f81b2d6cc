//! Who is connected: limits, time-outs and the end.
//!
//! Every connection has an [`Entry`] here for as long as it is open. The connection notes in it what it is doing; a
//! sweep once a second finds those that have been at it for too long and tells them to close. So ten thousand idle
//! connections need no timer each, and none of them wakes up for nothing.
//!
//! Each also notes what its client leaves lying in the server's memory: responses that the socket does not take. Regions
//! of log files are no part of it, since they go from the page cache to the socket; what counts are copies of small
//! batches and lists, such as the metadata of ten thousand topics. One connection is limited to a few MiB by itself
//! (`connection.rs`); for all together there is one budget. Above half of it, connections with such left-overs are given
//! no further work. When it is used up, those that hold the most are told to end, as many as make room again. A client
//! that reads its responses has nothing waiting, so it is neither held up nor chosen.
//!
//! Likewise with requests that arrive in part ([`ConnectionRegistry::make_room_for_requests`]): a client that sends parts of many
//! requests and leaves it at that must not keep the others from sending theirs. While others wait for memory, requests of
//! which too little arrives are ended, those of the address that holds the most first. Clients that are not read because
//! of the shortage are not slow.

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

/// What a connection is doing, as far as time-outs care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Waiting for the client's next request.
    Idle,
    /// Part of a request has arrived.
    Reading,
    /// A response is waiting for the client to take it.
    Writing,
    /// Requests are being worked on.
    Working,
}

/// So much of a request is to arrive within [`ARRIVAL_STEP_MAX`] while others wait for the memory that it holds.
pub const ARRIVAL_STEP: usize = 64 * 1024;
/// The rest of a request that may exceed the budget is to arrive in so many steps, for others wait until it is done.
pub const OVERDRAFT_STEPS_MAX: usize = 16;
const ARRIVAL_STEP_MAX: Duration = Duration::from_secs(1);

/// Why a connection is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The client sent no request for too long.
    Idle,
    /// The rest of a request did not arrive in time.
    ReadTimeout,
    /// The client took no byte of a response for too long.
    WriteTimeout,
    /// The responses that the client does not take are among the largest, and there is no memory for more.
    ResponseMemory,
    /// The request that arrives is among the largest, hardly gets on, and others wait for memory.
    RequestMemory,
    /// The server stops: finish what is in flight, take no more.
    Drain,
    /// The server stops: end at once.
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

/// What a connection and the rest of the server know of each other.
#[derive(Debug)]
pub struct Entry {
    address: IpAddr,
    /// Milliseconds of the monotonic clock since which, and what: the lower two bits are the activity.
    since: AtomicU64,
    /// An [`DisconnectReason`], or 0.
    ending: AtomicU8,
    /// Bytes of responses that wait in memory for the client.
    held_bytes: AtomicUsize,
    /// The memory that a request which has arrived in part holds, while its client is to send more.
    arriving_bytes: AtomicUsize,
    /// Milliseconds of the monotonic clock since when the next [`ARRIVAL_STEP`] of it is awaited.
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

    /// Notes that from `now` on the connection does `activity`.
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

    /// Notes that part of a request has arrived, its next step is awaited since then, and it holds so much memory.
    pub fn set_arriving(&self, bytes: usize, since: Duration) {
        let since = since.as_millis() as u64;
        self.arriving_since.store(since, Ordering::Relaxed);
        // Who sees these bytes sees since when, too.
        self.arriving_bytes.store(bytes, Ordering::Release);
    }

    /// Returns the bytes that a stalled request holds, and since when it has been stalled.
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

    /// How the connection was told to end, if it was.
    pub fn ending(&self) -> Option<DisconnectReason> {
        DisconnectReason::from_code(self.ending.load(Ordering::Acquire))
    }

    /// Wakes this task when the connection is told to end.
    pub fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Takes back that an idle connection was to close: a request has arrived meanwhile.
    pub fn is_busy_after_all(&self) {
        let idle = DisconnectReason::Idle.code();
        // Anything else that was said stands.
        let _ = self
            .ending
            .compare_exchange(idle, 0, Ordering::AcqRel, Ordering::Acquire);
    }

    fn end(&self, ending: DisconnectReason) {
        // An abort overrides what was said before; nothing overrides an abort.
        let said =
            self.ending
                .compare_exchange(0, ending.code(), Ordering::AcqRel, Ordering::Acquire);
        if said.is_err() && ending == DisconnectReason::Abort {
            self.ending.store(ending.code(), Ordering::Release);
        }
        self.waker.wake();
    }
}

/// How long a connection may do what.
#[derive(Debug, Clone, Copy)]
struct Patience {
    idle: Duration,
    read: Duration,
    write: Duration,
}

/// All open connections.
#[derive(Debug)]
pub struct ConnectionRegistry {
    open: Mutex<Open>,
    /// The number of open connections, for whoever waits until there are none.
    count: watch::Sender<usize>,
    max: usize,
    max_per_address: usize,
    patience: Patience,
    /// What all entries hold, except those that were told to end because of it: theirs is as good as free.
    held_bytes: AtomicUsize,
    held_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Open {
    entries: HashMap<u64, Arc<Entry>>,
    by_address: HashMap<IpAddr, usize>,
    next_id: u64,
    draining: bool,
}

impl Open {
    /// Those that hold any bytes, with how many, beginning with those that hold the most.
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

/// A place among the connections; freed when dropped.
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
            open: Mutex::default(),
            count: watch::Sender::new(0),
            max: config.max_connections,
            max_per_address: config.max_connections_per_ip,
            patience: Patience {
                idle: Duration::from_millis(config.connections_max_idle_ms),
                read: Duration::from_millis(config.request_read_timeout_ms),
                write: Duration::from_millis(config.response_write_timeout_ms),
            },
            held_bytes: AtomicUsize::new(0),
            held_bytes_max: config.queued_max_response_bytes,
        })
    }

    /// A place for a client from `address`, unless a limit stands against it.
    pub fn enter(
        self: &Arc<Self>,
        address: IpAddr,
        now: Duration,
        metrics: &Arc<Metrics>,
    ) -> Result<ConnectionSlot, ConnectionRejection> {
        let entry = Arc::new(Entry::new(address));
        entry.set_activity(Activity::Idle, now);
        let mut open = self.open.lock();
        if open.entries.len() >= self.max {
            return Err(ConnectionRejection::TooMany);
        }
        let from_address = open.by_address.entry(address).or_default();
        if *from_address >= self.max_per_address {
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

    /// How many connections are open.
    pub fn open_count(&self) -> usize {
        *self.count.borrow()
    }

    /// Tells those to close that have done the same for too long.
    pub fn sweep(&self, now: Duration) {
        for entry in self.open.lock().entries.values() {
            let (activity, since) = entry.activity();
            let lasted = now.saturating_sub(since);
            let ending = match activity {
                Activity::Idle if lasted >= self.patience.idle => DisconnectReason::Idle,
                Activity::Reading if lasted >= self.patience.read => DisconnectReason::ReadTimeout,
                Activity::Writing if lasted >= self.patience.write => {
                    DisconnectReason::WriteTimeout
                }
                _ => continue,
            };
            entry.end(ending);
        }
    }

    /// Bytes of responses that wait in memory for clients to take them.
    pub fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Notes that of what `entry` held the server keeps `bytes`. Returns what all hold now.
    fn keep(&self, entry: &Entry, bytes: usize) -> usize {
        let before = entry.held_bytes.swap(bytes, Ordering::Relaxed);
        let held = &self.held_bytes;
        match bytes.checked_sub(before) {
            Some(more) => held.fetch_add(more, Ordering::Relaxed) + more,
            None => held.fetch_sub(before - bytes, Ordering::Relaxed) - (before - bytes),
        }
    }

    /// Tells those to end that hold the most, until a quarter of the budget is free.
    fn make_room(&self) {
        let open = self.open.lock();
        let enough = self.held_bytes_max - self.held_bytes_max / 4;
        for (_, entry) in open.largest_first(|entry| entry.held_bytes.load(Ordering::Relaxed)) {
            if self.held_bytes() <= enough {
                return;
            }
            entry.end(DisconnectReason::ResponseMemory);
            self.keep(entry, 0);
        }
    }

    /// Ends connections whose requests have stalled until `bytes` are free: those of the address that holds the most in such
    /// requests first, and of these the ones stalled for longest. Called while others wait for memory.
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
            // One that was told before counts all the same: it is about to end.
            entry.end(DisconnectReason::RequestMemory);
            freed += holds;
        }
    }

    /// How often [`ConnectionRegistry::sweep`] is worth its while: small against the shortest patience.
    pub fn sweep_interval(&self) -> Duration {
        let Patience { idle, read, write } = self.patience;
        (idle.min(read).min(write) / 4).clamp(Duration::from_millis(10), Duration::from_secs(1))
    }

    /// Lets every connection finish what is in flight, and waits until all have closed, or for `patience`; those left
    /// then are ended at once. Returns how many those were.
    pub async fn drain(&self, patience: Duration) -> usize {
        self.tell_all(DisconnectReason::Drain);
        if tokio::time::timeout(patience, self.all_closed())
            .await
            .is_ok()
        {
            return 0;
        }
        let left = self.tell_all(DisconnectReason::Abort);
        // They end as soon as their tasks run; only a stuck runtime keeps them.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.all_closed()).await;
        left
    }

    fn tell_all(&self, ending: DisconnectReason) -> usize {
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
    /// Notes how many bytes of responses the client leaves in memory. Called when that has changed and the socket takes
    /// no more of them, which for a client that reads is never.
    pub fn hold(&self, bytes: usize) {
        if self.entry.ending() == Some(DisconnectReason::ResponseMemory) {
            return;
        }
        let held = self.connections.keep(&self.entry, bytes);
        if held > self.connections.held_bytes_max {
            self.connections.make_room();
        }
    }

    /// Whether so much waits for all clients together that those for whom something waits get no further work.
    pub fn is_memory_short(&self) -> bool {
        self.connections.held_bytes() > self.connections.held_bytes_max / 2
    }
}

/// `streamline_responses_waiting_bytes`.
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
        self.connections.keep(&self.entry, 0);
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
    fn limits_hold_in_total_and_by_address_and_places_are_freed() {
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
    fn a_sweep_ends_what_lasts_too_long_and_nothing_else() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let place = |activity| {
            let place = connections
                .enter(address(1), Duration::ZERO, &metrics)
                .expect("a place");
            place.entry.set_activity(activity, Duration::ZERO);
            place
        };
        let idle = place(Activity::Idle);
        let reading = place(Activity::Reading);
        let writing = place(Activity::Writing);
        let working = place(Activity::Working);
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
    fn those_that_hold_the_most_make_room_for_the_others() {
        let metrics = Metrics::new(true);
        let connections = ConnectionRegistry::new(&Config {
            queued_max_response_bytes: 1000,
            ..Config::default()
        });
        let enter = || {
            let entered = connections.enter(address(1), Duration::ZERO, &metrics);
            entered.expect("a place")
        };
        let places: Vec<ConnectionSlot> = (0..5).map(|_| enter()).collect();
        for (place, bytes) in places.iter().zip([100, 400, 0, 390, 110]) {
            place.hold(bytes);
        }
        assert_eq!(connections.held_bytes(), 1000);
        assert!(places.iter().all(|place| place.entry.ending().is_none()));
        assert!(places[2].is_memory_short());
        places[2].hold(1);
        let told: Vec<bool> = places
            .iter()
            .map(|place| place.entry.ending() == Some(DisconnectReason::ResponseMemory))
            .collect();
        assert_eq!(told, [false, true, false, false, false]);
        assert_eq!(connections.held_bytes(), 601);
        // What it still does is of no account.
        places[1].hold(500);
        assert_eq!(connections.held_bytes(), 601);
        drop(places);
        assert_eq!(connections.held_bytes(), 0);
        assert!(!enter().is_memory_short());
    }

    #[test]
    fn stalled_requests_make_room_first_those_of_the_address_that_holds_the_most() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let requests = [
            (1, 30, 0),
            (1, 20, 1),
            (2, 40, 0),
            (2, 5, 0),
            (3, 100, 5_000),
        ];
        let places = requests.map(|(last, bytes, since_ms)| {
            let entered = connections.enter(address(last), Duration::ZERO, &metrics);
            let place = entered.expect("a place");
            let since = Duration::from_millis(since_ms);
            place.entry.set_arriving(bytes, since);
            place
        });
        let told = || {
            let endings = places.each_ref().map(|place| place.entry.ending());
            endings.map(|it| it == Some(DisconnectReason::RequestMemory))
        };
        connections.make_room_for_requests(60, ARRIVAL_STEP_MAX - Duration::from_millis(1));
        assert_eq!(told(), [false; 5]);
        let now = ARRIVAL_STEP_MAX + Duration::from_millis(1);
        // The first two hold 50 together, the next two 45.
        connections.make_room_for_requests(30, now);
        assert_eq!(told(), [true, false, false, false, false]);
        connections.make_room_for_requests(51, now);
        assert_eq!(told()[..2], [true, true]);
        assert_eq!(told()[2..].iter().filter(|it| **it).count(), 1);
        connections.make_room_for_requests(usize::MAX, now);
        assert_eq!(told(), [true, true, true, true, false]);
    }

    #[tokio::test]
    async fn a_drain_waits_for_the_last_and_aborts_those_that_stay() {
        let metrics = Metrics::new(true);
        let connections = connections(10, 10);
        let enter = || {
            let entered = connections.enter(address(1), Duration::ZERO, &metrics);
            entered.expect("a place")
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
