//! Memory budget for the requests of all connections.
//!
//! Every byte of a request is charged to one budget from its arrival until its handler is done, or waits for other clients
//! without needing the bytes any more. Only bytes that have arrived are charged, never a length that a client announces;
//! memory allocated ahead of the arrival of large requests has a bound of its own. The budget has two parts:
//!
//! - the **pool**, for every request;
//! - the **reserve**, an eighth of the budget, for requests of at most [`SMALL_REQUEST_BYTES`] that have arrived whole and
//!   find the pool exhausted. Their handlers finish quickly, so clients that send large requests, or parts of them, cannot
//!   keep small ones from being served.
//!
//! A connection without memory for its next bytes leaves them in its socket, and TCP slows the client down. Freed memory
//! is granted to the waiting connections in turn by address, so a client with a thousand connections cannot starve one
//! with a single connection, and within an address to the request that lacks the fewest bytes: if all were read a little
//! at a time, they would hold all memory and none would be complete.
//!
//! Connections that each hold part of a request could still deadlock. So those that lack the fewest bytes may exceed the
//! budget (an overdraft), by an eighth of it together or by the rest of one request; at times it is the one that has waited
//! for longest, however much it lacks. Memory is bounded by that, and by one read per thread under way when the budget
//! was exhausted.
//!
//! This module does not know of connections whose requests stop arriving: `registry.rs` closes them while others wait.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::metrics::{Collector, Samples, catalog};

/// Largest request that may use the reserve. It has to fit the receive buffer of a socket.
pub const SMALL_REQUEST_BYTES: usize = 32 * 1024;
/// Bytes granted at a time to a request when the pool has not enough for all of it.
pub const GRANT_BYTES: usize = 64 * 1024;

/// One overdraft in this many is granted to the connection that has waited for longest.
const LONGEST_WAITING_EVERY: u64 = 8;

/// The budget of a server; clones share it.
#[derive(Debug, Clone)]
pub struct RequestMemory {
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    pool_bytes: usize,
    reserve_bytes: usize,
    state: Mutex<State>,
    /// `State::is_short`, readable without the lock.
    short: AtomicBool,
    /// Notified when a connection begins to wait.
    shortage: Notify,
}

#[derive(Debug)]
struct State {
    /// Below zero after reads that were under way when the pool was exhausted.
    pool_free: isize,
    reserve_free: usize,
    /// Bytes that may be allocated ahead of their arrival.
    room_free: usize,
    /// Bytes by which permits may exceed the budget, and by which they do.
    overdraft_claimed: usize,
    overdraft_bytes: usize,
    /// Number of overdrafts granted so far.
    overdrafts: u64,
    small: Queue,
    others: Queue,
    waits: u64,
}

/// Waiting connections, in turn by address.
#[derive(Debug, Default)]
struct Queue {
    by_address: HashMap<IpAddr, BTreeMap<Position, Waiter>>,
    turns: VecDeque<IpAddr>,
    waiting: usize,
    begun: u64,
}

/// Position of a connection among the waiting ones of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    /// Bytes that its request lacks.
    missing: usize,
    /// Increases from one wait to the next.
    number: u64,
}

#[derive(Debug)]
struct Waiter {
    bytes: usize,
    granted: oneshot::Sender<MemoryPermit>,
}

/// Bytes taken from the budget; returned when dropped.
#[derive(Debug, Default)]
pub struct MemoryPermit {
    /// `None` for a permit that has never held anything.
    budget: Option<Arc<Budget>>,
    from_pool: usize,
    from_reserve: usize,
    overdraft: Option<Overdraft>,
    /// Bytes allocated ahead of their arrival.
    room: usize,
}

/// The right of a permit to exceed the budget.
#[derive(Debug, Clone, Copy, Default)]
struct Overdraft {
    claimed: usize,
    bytes: usize,
}

/// Memory held by requests, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub bytes: usize,
    pub limit_bytes: usize,
    pub waiting: usize,
    pub waits: u64,
}

/// Priority of a wait when memory becomes free: small requests first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A small request that has arrived whole.
    Small,
    Other,
}

/// A wait for memory; cancelled when dropped.
#[derive(Debug)]
pub struct Acquire {
    budget: Arc<Budget>,
    address: IpAddr,
    position: Position,
    class: Class,
    granted: oneshot::Receiver<MemoryPermit>,
    is_over: bool,
}

impl RequestMemory {
    /// Creates a budget of `budget_bytes`, the reserve included.
    pub fn new(budget_bytes: usize) -> Self {
        let budget_bytes = budget_bytes.min(isize::MAX as usize);
        let reserve_bytes = budget_bytes / 8;
        let pool_bytes = budget_bytes - reserve_bytes;
        RequestMemory {
            budget: Arc::new(Budget {
                pool_bytes,
                reserve_bytes,
                state: Mutex::new(State {
                    pool_free: pool_bytes as isize,
                    reserve_free: reserve_bytes,
                    room_free: budget_bytes / 4,
                    overdraft_claimed: 0,
                    overdraft_bytes: 0,
                    overdrafts: 0,
                    small: Queue::default(),
                    others: Queue::default(),
                    waits: 0,
                }),
                short: AtomicBool::new(false),
                shortage: Notify::new(),
            }),
        }
    }

    /// Returns whether reads have to acquire memory first.
    pub fn is_short(&self) -> bool {
        self.budget.short.load(Ordering::Relaxed)
    }

    /// Resolves once a connection has begun to wait for memory since the last call resolved.
    pub async fn shortage(&self) {
        self.budget.shortage.notified().await;
    }

    /// Returns the memory that requests hold and the number of waiting connections, at this moment.
    pub fn usage(&self) -> Usage {
        let budget = &self.budget;
        let state = budget.state.lock();
        let pool_used = budget.pool_bytes as isize - state.pool_free;
        let reserve_used = budget.reserve_bytes - state.reserve_free;
        Usage {
            bytes: pool_used.unsigned_abs() + reserve_used + state.overdraft_bytes,
            limit_bytes: budget.pool_bytes + budget.reserve_bytes,
            waiting: state.waiting(),
            waits: state.waits,
        }
    }

    /// Charges `bytes` that have arrived, whether or not there is memory for them.
    pub fn charge(&self, permit: &mut MemoryPermit, bytes: usize) {
        let mut state = self.budget.state.lock();
        if !state.exceed(permit, bytes) {
            state.pool_free -= bytes as isize;
            permit.from_pool += bytes;
        }
        permit.join(&self.budget);
        self.budget.publish(&state);
    }

    /// Adds `bytes` to a permit if its overdraft covers them, or if the pool has them and no connection waits for them. A
    /// small request that has arrived whole gets them from the reserve otherwise.
    pub fn try_extend(&self, permit: &mut MemoryPermit, bytes: usize, class: Class) -> bool {
        let mut state = self.budget.state.lock();
        let may_use_reserve = class == Class::Small && state.small.waiting == 0;
        let extended = state.exceed(permit, bytes)
            || state.take_from_pool(permit, bytes)
            || (may_use_reserve && state.take_from_reserve(permit, bytes));
        if extended {
            permit.join(&self.budget);
            self.budget.publish(&state);
        }
        extended
    }

    /// Lets the holder of `permit` allocate up to `bytes` ahead of their arrival. Returns how many.
    pub fn take_room(&self, permit: &mut MemoryPermit, bytes: usize) -> usize {
        let mut state = self.budget.state.lock();
        let room = match state.is_short() {
            true => 0,
            false => bytes.min(state.room_free),
        };
        state.room_free -= room;
        permit.room += room;
        permit.join(&self.budget);
        room
    }

    /// Queues for memory for the next bytes of a request that lacks `missing`: all of them, or [`GRANT_BYTES`].
    pub fn acquire(&self, address: IpAddr, missing: usize, class: Class) -> Acquire {
        let (sender, granted) = oneshot::channel();
        let mut state = self.budget.state.lock();
        state.waits += 1;
        let waiter = Waiter {
            bytes: missing.min(GRANT_BYTES),
            granted: sender,
        };
        let position = state.queue(class).push(address, missing, waiter);
        self.budget.grant(&mut state);
        self.budget.publish(&state);
        drop(state);
        self.budget.shortage.notify_one();
        Acquire {
            budget: Arc::clone(&self.budget),
            address,
            position,
            class,
            granted,
            is_over: false,
        }
    }
}

impl Budget {
    /// Grants free memory to the waiting connections in turn, and then overdrafts.
    fn grant(self: &Arc<Self>, state: &mut State) {
        // Small whole requests first: they are served and freed within moments.
        while let Some(bytes) = state.small.first_bytes() {
            let mut permit = MemoryPermit::default();
            if !state.take_from_reserve(&mut permit, bytes) && !state.take_free(&mut permit, bytes)
            {
                break;
            }
            permit.join(self);
            state.small.grant_first(permit);
        }
        // All others, in turn by address, as far as the pool lasts.
        while let Some(bytes) = state.others.first_bytes() {
            let mut permit = MemoryPermit::default();
            if !state.take_free(&mut permit, bytes) {
                break;
            }
            permit.join(self);
            state.others.grant_first(permit);
        }
        // Overdrafts, without which connections that each hold part of a request could deadlock.
        let overdraft_max = (self.pool_bytes + self.reserve_bytes) / 8;
        while state.others.waiting > 0 && state.overdraft_claimed < overdraft_max {
            let is_by_turn = !state.overdrafts.is_multiple_of(LONGEST_WAITING_EVERY);
            let next = match is_by_turn {
                true => state.others.first(),
                false => state.others.longest_waiting(),
            };
            let Some((address, position)) = next else {
                break;
            };
            let claimed = position.missing;
            if state.overdraft_claimed > 0 && state.overdraft_claimed + claimed > overdraft_max {
                break;
            }
            let bytes = claimed.min(GRANT_BYTES);
            state.overdraft_claimed += claimed;
            state.overdraft_bytes += bytes;
            state.overdrafts += 1;
            let mut permit = MemoryPermit::default();
            permit.overdraft = Some(Overdraft { claimed, bytes });
            permit.join(self);
            if is_by_turn {
                state.others.next_turn();
            }
            state.others.grant(address, position, permit);
        }
    }

    fn release(self: &Arc<Self>, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        if state.waiting() > 0 {
            self.grant(&mut state);
        }
        self.publish(&state);
    }

    /// Copies `State::is_short` to `short`, which every thread reads: written only when it changes.
    fn publish(&self, state: &State) {
        let is_short = state.is_short();
        if self.short.load(Ordering::Relaxed) != is_short {
            self.short.store(is_short, Ordering::Relaxed);
        }
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.small.waiting + self.others.waiting
    }

    fn is_short(&self) -> bool {
        self.waiting() > 0 || self.pool_free < GRANT_BYTES as isize
    }

    fn queue(&mut self, class: Class) -> &mut Queue {
        match class {
            Class::Small => &mut self.small,
            Class::Other => &mut self.others,
        }
    }

    /// Adds to a permit whose overdraft covers `bytes`; false for any other.
    fn exceed(&mut self, permit: &mut MemoryPermit, bytes: usize) -> bool {
        match &mut permit.overdraft {
            Some(overdraft) if overdraft.bytes + bytes <= overdraft.claimed => {
                overdraft.bytes += bytes;
                self.overdraft_bytes += bytes;
                true
            }
            _ => false,
        }
    }

    /// Takes from the pool, unless others wait for it.
    fn take_from_pool(&mut self, permit: &mut MemoryPermit, bytes: usize) -> bool {
        self.others.waiting == 0 && self.take_free(permit, bytes)
    }

    fn take_free(&mut self, permit: &mut MemoryPermit, bytes: usize) -> bool {
        let enough = self.pool_free >= bytes as isize;
        if enough {
            self.pool_free -= bytes as isize;
            permit.from_pool += bytes;
        }
        enough
    }

    fn take_from_reserve(&mut self, permit: &mut MemoryPermit, bytes: usize) -> bool {
        let enough = self.reserve_free >= bytes;
        if enough {
            self.reserve_free -= bytes;
            permit.from_reserve += bytes;
        }
        enough
    }
}

impl Queue {
    fn push(&mut self, address: IpAddr, missing: usize, waiter: Waiter) -> Position {
        let waiters = self.by_address.entry(address).or_default();
        if waiters.is_empty() {
            self.turns.push_back(address);
        }
        let number = self.begun;
        let position = Position { missing, number };
        waiters.insert(position, waiter);
        self.begun += 1;
        self.waiting += 1;
        position
    }

    /// Returns the address and position of the connection whose turn it is.
    fn first(&self) -> Option<(IpAddr, Position)> {
        let address = *self.turns.front()?;
        let (position, _) = self.by_address.get(&address)?.first_key_value()?;
        Some((address, *position))
    }

    /// Returns the bytes for which the connection waits whose turn it is.
    fn first_bytes(&self) -> Option<usize> {
        let (address, position) = self.first()?;
        Some(self.by_address.get(&address)?.get(&position)?.bytes)
    }

    fn longest_waiting(&self) -> Option<(IpAddr, Position)> {
        let all = self.by_address.iter();
        all.flat_map(|(address, waiters)| waiters.keys().map(|position| (*address, *position)))
            .min_by_key(|(_, position)| position.number)
    }

    /// Grants a permit to the connection whose turn it is, and moves on to the next address.
    fn grant_first(&mut self, permit: MemoryPermit) {
        if let Some((address, position)) = self.first() {
            self.next_turn();
            self.grant(address, position, permit);
        }
    }

    fn next_turn(&mut self) {
        if !self.turns.is_empty() {
            self.turns.rotate_left(1);
        }
    }

    fn grant(&mut self, address: IpAddr, position: Position, permit: MemoryPermit) {
        if let Some(waiter) = self.remove(address, position) {
            waiter
                .granted
                .send(permit)
                .expect("a cancelled wait leaves the queue");
        }
    }

    fn remove(&mut self, address: IpAddr, position: Position) -> Option<Waiter> {
        let waiters = self.by_address.get_mut(&address)?;
        let waiter = waiters.remove(&position)?;
        if waiters.is_empty() {
            self.by_address.remove(&address);
            self.turns.retain(|other| *other != address);
        }
        self.waiting -= 1;
        Some(waiter)
    }
}

impl MemoryPermit {
    /// Returns the number of bytes that it covers.
    pub fn bytes(&self) -> usize {
        self.from_pool + self.from_reserve + self.overdraft.unwrap_or_default().bytes
    }

    /// Returns whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0 && self.room == 0 && self.overdraft.is_none()
    }

    /// Returns the bytes by which this permit may exceed the budget; 0 for most.
    pub fn overdraft_claimed(&self) -> usize {
        self.overdraft.unwrap_or_default().claimed
    }

    fn join(&mut self, budget: &Arc<Budget>) {
        if self.budget.is_none() {
            self.budget = Some(Arc::clone(budget));
        }
    }

    /// Adds everything that `other` holds.
    pub fn merge(&mut self, mut other: MemoryPermit) {
        self.from_pool += std::mem::take(&mut other.from_pool);
        self.from_reserve += std::mem::take(&mut other.from_reserve);
        self.room += std::mem::take(&mut other.room);
        if let Some(Overdraft { claimed, bytes }) = other.overdraft.take() {
            let overdraft = self.overdraft.get_or_insert_default();
            overdraft.claimed += claimed;
            overdraft.bytes += bytes;
        }
        if self.budget.is_none() {
            self.budget = other.budget.take();
        }
    }

    /// Splits off the permit of a request of `bytes` that has arrived whole. The overdraft moves with it, and the room is
    /// released, since the memory allocated ahead is filled.
    pub fn split(&mut self, bytes: usize) -> MemoryPermit {
        if self.room > 0 {
            self.release_room();
        }
        let overdraft = self.overdraft.take();
        let exceeding = overdraft.unwrap_or_default().bytes;
        let from_reserve = self.from_reserve.min(bytes.saturating_sub(exceeding));
        let from_pool = self
            .from_pool
            .min(bytes.saturating_sub(exceeding + from_reserve));
        self.from_reserve -= from_reserve;
        self.from_pool -= from_pool;
        MemoryPermit {
            budget: self.budget.clone(),
            from_pool,
            from_reserve,
            overdraft,
            room: 0,
        }
    }

    /// Returns everything beyond `bytes` to the budget. The overdraft claim is kept.
    pub fn shrink_to(&mut self, bytes: usize) {
        let mut excess = self.bytes().saturating_sub(bytes);
        let Some(budget) = self.budget.as_ref().filter(|_| excess > 0) else {
            return;
        };
        budget.release(|state| {
            if let Some(overdraft) = &mut self.overdraft {
                let back = excess.min(overdraft.bytes);
                overdraft.bytes -= back;
                state.overdraft_bytes -= back;
                excess -= back;
            }
            let to_pool = excess.min(self.from_pool);
            self.from_pool -= to_pool;
            state.pool_free += to_pool as isize;
            excess -= to_pool;
            self.from_reserve -= excess;
            state.reserve_free += excess;
        });
    }

    fn release_room(&mut self) {
        let room = std::mem::take(&mut self.room);
        if let Some(budget) = &self.budget {
            budget.state.lock().room_free += room;
        }
    }
}

impl Drop for MemoryPermit {
    fn drop(&mut self) {
        if self.is_empty() {
            return;
        }
        if let Some(budget) = &self.budget {
            budget.release(|state| {
                state.pool_free += self.from_pool as isize;
                state.reserve_free += self.from_reserve;
                state.room_free += self.room;
                let Overdraft { claimed, bytes } = self.overdraft.unwrap_or_default();
                state.overdraft_claimed -= claimed;
                state.overdraft_bytes -= bytes;
            });
        }
    }
}

impl Acquire {
    /// Returns the priority of the wait.
    pub fn class(&self) -> Class {
        self.class
    }
}

impl Future for Acquire {
    type Output = MemoryPermit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MemoryPermit> {
        let granted = ready!(Pin::new(&mut self.granted).poll(cx));
        self.is_over = true;
        Poll::Ready(granted.expect("the queue drops a sender only once its wait is cancelled"))
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let unclaimed = {
            let mut state = self.budget.state.lock();
            state.queue(self.class).remove(self.address, self.position);
            // Waits behind this one may need less memory.
            self.budget.grant(&mut state);
            self.budget.publish(&state);
            self.granted.try_recv()
        };
        // Dropped after the lock is released, since returning its memory takes the lock again.
        drop(unclaimed);
    }
}

/// Exports `streamline_request_memory_*` and `streamline_connections_waiting_for_memory`.
impl Collector for RequestMemory {
    fn collect(&self, out: &mut Samples) {
        let usage = self.usage();
        out.family(&catalog::REQUEST_MEMORY_BYTES)
            .sample(&[], usage.bytes as u64);
        out.family(&catalog::REQUEST_MEMORY_LIMIT_BYTES)
            .sample(&[], usage.limit_bytes as u64);
        out.family(&catalog::REQUEST_MEMORY_WAITS_TOTAL)
            .sample(&[], usage.waits);
        out.family(&catalog::CONNECTIONS_WAITING_FOR_MEMORY)
            .sample(&[], usage.waiting as u64);
    }
}

#[cfg(test)]
mod tests;
