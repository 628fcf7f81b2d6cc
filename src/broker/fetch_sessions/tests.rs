//! Tests of fetch sessions without requests: slots, eviction, order, memory.

use super::*;
use crate::clock::ManualClock;

const EVICTED_AFTER: Duration = Duration::from_secs(121);

fn sessions(slots: i32) -> (Arc<FetchSessions>, Arc<ManualClock>) {
    let clock = ManualClock::at_ms(0);
    (FetchSessions::new(slots, clock.clone() as _), clock)
}

fn name(topic: &str) -> SessionTopic {
    SessionTopic::Name(topic.into())
}

fn partition(number: i32) -> SessionPartition {
    SessionPartition {
        topic: name("t"),
        number,
        position: FetchPosition {
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1,
        },
        log: None,
    }
}

const TOLD: Told = Told {
    high_watermark: 5,
    last_stable: 5,
    log_start: 0,
};

fn create(sessions: &FetchSessions, partitions: usize) -> Option<i32> {
    create_with(sessions, partitions, partitions * memory_bytes(&name("t")))
}

fn create_with(sessions: &FetchSessions, partitions: usize, memory_bytes: usize) -> Option<i32> {
    let size = SessionSize {
        partitions,
        memory_bytes,
    };
    sessions.create(&Principal::ANONYMOUS, false, size, || {
        (0..partitions as i32)
            .map(|number| (partition(number), TOLD))
            .collect()
    })
}

fn update(epoch: i32) -> SessionUpdate {
    SessionUpdate {
        epoch,
        by_id: false,
        wanted: Vec::new(),
        forgotten: Vec::new(),
    }
}

fn resume(
    sessions: &FetchSessions,
    id: i32,
    update: SessionUpdate,
) -> Result<Option<Continued>, FetchSessionError> {
    sessions.resume(id, &Principal::ANONYMOUS, update)
}

fn numbers(continued: &Continued) -> Vec<i32> {
    let partitions = continued.partitions.iter();
    partitions.map(|partition| partition.number).collect()
}

/// Returns whether a session exists, without using it.
fn exists(sessions: &FetchSessions, id: i32) -> bool {
    sessions.cache.lock().sessions.contains_key(&id)
}

#[test]
fn each_fetch_has_the_next_epoch() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 2).unwrap();
    for epoch in [1, 2, 3] {
        let continued = resume(&sessions, id, update(epoch)).unwrap().unwrap();
        assert_eq!(continued.next_epoch, epoch + 1);
        assert_eq!(numbers(&continued), [0, 1]);
    }
    for epoch in [3, 5] {
        let refused = resume(&sessions, id, update(epoch)).err();
        assert_eq!(refused, Some(FetchSessionError::InvalidEpoch));
    }
    let refused = resume(&sessions, id + 1, update(1)).err();
    assert_eq!(refused, Some(FetchSessionError::NotFound));
    let mut by_id = update(4);
    by_id.by_id = true;
    let refused = resume(&sessions, id, by_id).err();
    assert_eq!(refused, Some(FetchSessionError::TopicIds));
}

#[test]
fn the_report_of_an_outdated_fetch_is_refused() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 1).unwrap();
    let outdated = resume(&sessions, id, update(1)).unwrap().unwrap();
    let current = resume(&sessions, id, update(2)).unwrap().unwrap();
    assert!(outdated.session.report(outdated.next_epoch).is_none());
    assert!(current.session.report(current.next_epoch).is_some());
}

#[test]
fn only_changes_are_news_and_partitions_with_records_go_last() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 3).unwrap();
    let fetch = resume(&sessions, id, update(1)).unwrap().unwrap();
    let grown = Told {
        high_watermark: 6,
        ..TOLD
    };
    let mut report = fetch.session.report(fetch.next_epoch).unwrap();
    assert!(report.note(None, grown, true));
    assert!(!report.note(None, TOLD, false));
    assert!(report.note(None, Told::NOTHING, false));
    report.end();

    let fetch = resume(&sessions, id, update(2)).unwrap().unwrap();
    assert_eq!(numbers(&fetch), [1, 2, 0]);
    let mut report = fetch.session.report(fetch.next_epoch).unwrap();
    assert!(!report.note(None, TOLD, false));
    // The error is over.
    assert!(report.note(None, TOLD, false));
    assert!(!report.note(None, grown, true));
    report.end();
    let fetch = resume(&sessions, id, update(3)).unwrap().unwrap();
    assert_eq!(numbers(&fetch), [1, 2, 0]);
}

#[test]
fn partitions_are_added_moved_and_forgotten() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 3).unwrap();
    let mut moved = partition(1);
    moved.position.fetch_offset = 9;
    let changes = SessionUpdate {
        wanted: vec![moved, partition(7)],
        forgotten: vec![(name("t"), 0), (name("t"), 99), (name("other"), 1)],
        ..update(1)
    };
    let fetch = resume(&sessions, id, changes).unwrap().unwrap();
    assert_eq!(numbers(&fetch), [1, 2, 7]);
    assert_eq!(fetch.partitions[0].position.fetch_offset, 9);
    // A forgotten partition that returns goes last, into the free slot.
    let changes = SessionUpdate {
        wanted: vec![partition(0)],
        ..update(2)
    };
    let fetch = resume(&sessions, id, changes).unwrap().unwrap();
    assert_eq!(numbers(&fetch), [1, 2, 7, 0]);
    assert_eq!(sessions.cache.lock().partitions, 4);
}

#[test]
fn a_session_without_partitions_ends() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 1).unwrap();
    let changes = SessionUpdate {
        forgotten: vec![(name("t"), 0)],
        ..update(1)
    };
    assert!(resume(&sessions, id, changes).unwrap().is_none());
    assert!(!exists(&sessions, id));
    let cache = sessions.cache.lock();
    assert_eq!((cache.partitions, cache.memory_bytes), (0, 0));
}

#[test]
fn a_session_that_shrinks_frees_its_memory_and_keeps_its_state() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 1_000).unwrap();
    let changes = SessionUpdate {
        forgotten: (2..1_000).map(|number| (name("t"), number)).collect(),
        ..update(1)
    };
    let fetch = resume(&sessions, id, changes).unwrap().unwrap();
    assert_eq!(numbers(&fetch), [0, 1]);
    let mut report = fetch.session.report(2).unwrap();
    assert!(!report.note(None, TOLD, false));
    report.end();
    assert_eq!(fetch.session.slots(), 2);
    assert_eq!(
        sessions.cache.lock().memory_bytes,
        2 * memory_bytes(&name("t"))
    );
}

#[test]
fn a_session_does_not_exist_for_other_principals() {
    let (sessions, _) = sessions(1);
    let id = create(&sessions, 1).unwrap();
    let other = Principal::named("User:other");
    let refused = sessions.resume(id, &other, update(1)).err();
    assert_eq!(refused, Some(FetchSessionError::NotFound));
    sessions.close(id, &other);
    assert!(exists(&sessions, id));
    sessions.close(id, &Principal::ANONYMOUS);
    assert!(!exists(&sessions, id));
}

#[test]
fn without_slots_there_are_no_sessions() {
    let (sessions, _) = sessions(0);
    assert_eq!(create(&sessions, 1), None);
}

#[test]
fn the_session_unused_for_longest_is_evicted_first() {
    let (sessions, clock) = sessions(2);
    let idle = create(&sessions, 9).unwrap();
    let used = create(&sessions, 9).unwrap();
    clock.advance(EVICTED_AFTER);
    resume(&sessions, used, update(1)).unwrap();
    let new = create(&sessions, 1).unwrap();
    assert!(!exists(&sessions, idle) && exists(&sessions, used) && exists(&sessions, new));
    // Neither is idle, and both are at least as large.
    assert_eq!(create(&sessions, 1), None);
    assert_eq!(sessions.evictions.load(Ordering::Relaxed), 1);
}

#[test]
fn a_larger_session_evicts_the_smallest_that_is_not_young() {
    let (sessions, clock) = sessions(3);
    let [small, medium] = [2, 4].map(|size| create(&sessions, size).unwrap());
    clock.advance(EVICTED_AFTER);
    for id in [small, medium] {
        resume(&sessions, id, update(1)).unwrap();
    }
    let young = create(&sessions, 1).unwrap();
    assert_eq!(create(&sessions, 2), None);
    let large = create(&sessions, 3).unwrap();
    assert!(!exists(&sessions, small));
    for kept in [medium, young, large] {
        assert!(exists(&sessions, kept));
    }
}

#[test]
fn a_session_that_grew_is_evicted_by_its_new_size() {
    let (sessions, clock) = sessions(1);
    let id = create(&sessions, 1).unwrap();
    clock.advance(EVICTED_AFTER);
    let changes = SessionUpdate {
        wanted: (0..5).map(partition).collect(),
        ..update(1)
    };
    resume(&sessions, id, changes).unwrap();
    assert_eq!(create(&sessions, 5), None);
    assert!(create(&sessions, 6).is_some());
    let cache = sessions.cache.lock();
    assert_eq!((cache.sessions.len(), cache.partitions), (1, 6));
    assert_eq!((cache.by_use.len(), cache.evictable.len()), (1, 0));
}

#[test]
fn sessions_take_a_limited_amount_of_memory() {
    let (sessions, clock) = sessions(100);
    assert_eq!(create_with(&sessions, 1, MEMORY_BYTES_MAX + 1), None);
    let id = create(&sessions, 1).unwrap();
    let rest = MEMORY_BYTES_MAX - memory_bytes(&name("t"));
    assert_eq!(create_with(&sessions, 1, rest + 1), None);
    // Idle sessions make room.
    clock.advance(EVICTED_AFTER);
    assert!(create_with(&sessions, 1, rest + 1).is_some());
    assert!(!exists(&sessions, id));
}

#[test]
fn a_session_that_grows_beyond_the_memory_of_all_ends() {
    let (sessions, _) = sessions(2);
    let id = create(&sessions, 1).unwrap();
    // Another session takes the rest.
    sessions.cache.lock().memory_bytes = MEMORY_BYTES_MAX;
    let changes = SessionUpdate {
        wanted: vec![partition(1)],
        ..update(1)
    };
    let refused = resume(&sessions, id, changes).err();
    assert_eq!(refused, Some(FetchSessionError::NotFound));
    assert!(!exists(&sessions, id));
}
