//! Tests of permits and waits on one thread.

use super::*;
use futures_util::FutureExt;
use std::net::Ipv4Addr;

const KIB: usize = 1024;

fn address(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
}

/// Creates a budget with a pool of `pool_kib` and a reserve of a seventh of that.
fn memory(pool_kib: usize) -> RequestMemory {
    RequestMemory::new(pool_kib * KIB / 7 * 8)
}

fn wait(memory: &RequestMemory, last: u8, kib: usize) -> Acquire {
    memory.acquire(address(last), kib * KIB, Class::Other)
}

fn granted(acquire: &mut Acquire) -> Option<MemoryPermit> {
    acquire.now_or_never()
}

#[test]
fn memory_is_returned_when_a_permit_shrinks_or_is_dropped() {
    let memory = memory(700);
    let mut permit = MemoryPermit::default();
    assert!(memory.try_extend(&mut permit, 600 * KIB, Class::Other));
    assert!(!memory.try_extend(&mut permit, 200 * KIB, Class::Other));
    permit.shrink_to(300 * KIB);
    assert_eq!(memory.usage().bytes, 300 * KIB);
    let request = permit.split(100 * KIB);
    assert_eq!((request.bytes(), permit.bytes()), (100 * KIB, 200 * KIB));
    drop(permit);
    assert_eq!(memory.usage().bytes, 100 * KIB);
    drop(request);
    assert_eq!(memory.usage().bytes, 0);
}

#[test]
fn bytes_that_have_arrived_are_charged_even_beyond_the_budget() {
    let memory = memory(70);
    let mut permit = MemoryPermit::default();
    memory.charge(&mut permit, 100 * KIB);
    assert!(memory.is_short());
    assert_eq!(memory.usage().bytes, 100 * KIB);
    drop(permit);
    assert!(!memory.is_short());
}

#[test]
fn only_small_requests_use_the_reserve_and_only_when_the_pool_is_exhausted() {
    let memory = memory(70);
    let mut large = MemoryPermit::default();
    assert!(memory.try_extend(&mut large, 60 * KIB, Class::Other));
    let mut small = [(); 3].map(|()| MemoryPermit::default());
    for permit in &mut small[..2] {
        assert!(memory.try_extend(permit, 10 * KIB, Class::Small));
    }
    assert_eq!(
        (small[0].from_pool, small[1].from_reserve),
        (10 * KIB, 10 * KIB)
    );
    assert!(!memory.try_extend(&mut large, KIB, Class::Other));
    assert!(!memory.try_extend(&mut small[2], KIB, Class::Small));
    let mut waiting = memory.acquire(address(1), KIB, Class::Small);
    drop(large);
    assert_eq!(granted(&mut waiting).map(|it| it.bytes()), Some(KIB));
}

/// Takes the largest overdraft, so that further waits are not granted at once.
fn overdraw(memory: &RequestMemory) -> MemoryPermit {
    let mut overdraft = wait(memory, 9, 1_000);
    granted(&mut overdraft).expect("it may exceed the budget")
}

#[test]
fn one_large_request_may_overdraw_the_budget_until_its_handler_is_done() {
    let memory = memory(70);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 70 * KIB, Class::Other));
    let mut first = granted(&mut wait(&memory, 1, 160)).expect("it may exceed the budget");
    assert_eq!(
        (first.bytes(), first.overdraft_claimed()),
        (64 * KIB, 160 * KIB)
    );
    assert!(memory.try_extend(&mut first, 96 * KIB, Class::Other));
    assert_eq!(memory.usage().bytes, 230 * KIB);
    assert!(
        !memory.try_extend(&mut first, KIB, Class::Other),
        "more than it lacked"
    );
    first.shrink_to(80 * KIB);
    let mut second = wait(&memory, 1, 5);
    assert!(granted(&mut second).is_none());
    assert_eq!(memory.usage().waiting, 1);
    let request = first.split(80 * KIB);
    assert_eq!(first.bytes(), 0);
    drop(first);
    assert!(granted(&mut second).is_none(), "its handler is not done");
    drop(request);
    assert!(granted(&mut second).is_some_and(|it| it.overdraft_claimed() > 0));
    let usage = memory.usage();
    assert_eq!((usage.bytes, usage.waiting, usage.waits), (70 * KIB, 0, 2));
}

#[test]
fn several_requests_may_overdraw_the_budget_by_an_eighth_of_it() {
    let memory = memory(700);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 700 * KIB, Class::Other));
    let mut waiting = [60, 30, 50, 20].map(|kib| wait(&memory, 1, kib));
    let mut permits = waiting.each_mut().map(granted);
    // 100 KiB are an eighth; the third waits, and the fourth lacks less.
    assert_eq!(
        permits.each_ref().map(Option::is_some),
        [true, true, false, false]
    );
    permits[1] = None;
    permits[3] = granted(&mut waiting[3]);
    assert!(permits[3].is_some() && granted(&mut waiting[2]).is_none());
    permits[0] = None;
    assert!(granted(&mut waiting[2]).is_some());
}

#[test]
fn the_longest_wait_is_granted_an_overdraft_once_in_a_while() {
    let memory = memory(70);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 70 * KIB, Class::Other));
    let mut overdraft = Some(overdraw(&memory));
    let mut large = wait(&memory, 1, 10_000);
    let mut before = 0;
    while overdraft.is_some() {
        let mut smaller = wait(&memory, 1, 20);
        drop(overdraft.take());
        overdraft = granted(&mut smaller);
        before += 1;
    }
    assert!(granted(&mut large).is_some());
    assert_eq!(before, LONGEST_WAITING_EVERY);
}

#[test]
fn addresses_take_turns_however_many_connections_each_has() {
    let memory = memory(70);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 70 * KIB, Class::Other));
    let overdraft = overdraw(&memory);
    let mut crowd: Vec<Acquire> = (0..100).map(|_| wait(&memory, 1, 10)).collect();
    let mut alone = wait(&memory, 2, 10);
    // One of the crowd was there first.
    all.shrink_to(50 * KIB);
    let first = granted(&mut crowd[0]);
    let second = granted(&mut alone);
    assert!(first.is_some() && second.is_some());
    assert!(crowd[1..].iter_mut().all(|it| granted(it).is_none()));
    drop((first, second, overdraft));
}

#[test]
fn within_an_address_the_request_that_lacks_the_fewest_bytes_is_granted_first() {
    let memory = memory(70);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 70 * KIB, Class::Other));
    let overdraft = overdraw(&memory);
    let mut waiting = [300, 20, 40].map(|kib| wait(&memory, 1, kib));
    for (freed, next) in [(20, 1), (40, 2)] {
        assert!(granted(&mut waiting[next]).is_none());
        all.shrink_to(all.bytes() - freed * KIB);
        let permit = granted(&mut waiting[next]).expect("its turn");
        assert_eq!(permit.bytes(), freed * KIB);
        std::mem::forget(permit);
    }
    assert!(granted(&mut waiting[0]).is_none());
    drop(overdraft);
    assert!(granted(&mut waiting[0]).is_some());
}

#[test]
fn a_cancelled_wait_leaves_its_turn_to_the_next() {
    let memory = memory(70);
    let mut all = MemoryPermit::default();
    assert!(memory.try_extend(&mut all, 70 * KIB, Class::Other));
    let overdraft = overdraw(&memory);
    let cancelled = wait(&memory, 1, 10);
    let mut next = wait(&memory, 1, 10);
    drop(cancelled);
    assert_eq!(memory.usage().waiting, 1);
    all.shrink_to(60 * KIB);
    assert!(granted(&mut next).is_some());
    // Granted but never polled.
    let unclaimed = wait(&memory, 1, 10);
    all.shrink_to(0);
    drop((unclaimed, next, overdraft));
    assert_eq!(memory.usage().bytes, 0);
    assert!(!memory.is_short());
}

#[test]
fn room_ahead_of_arrival_is_bounded_and_released_on_arrival() {
    let memory = memory(7_000);
    let mut permits = [(); 3].map(|()| MemoryPermit::default());
    let rooms = permits
        .each_mut()
        .map(|permit| memory.take_room(permit, 1_500 * KIB));
    assert_eq!(rooms, [1_500 * KIB, 500 * KIB, 0]);
    assert!(memory.try_extend(&mut permits[0], KIB, Class::Other));
    let request = permits[0].split(KIB);
    assert_eq!(memory.take_room(&mut permits[2], 1_500 * KIB), 1_500 * KIB);
    drop((request, permits));
    assert_eq!(memory.budget.state.lock().room_free, 2_000 * KIB);
}
