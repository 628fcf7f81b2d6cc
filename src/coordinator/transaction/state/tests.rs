//! Each request in each state, and the crashes between two steps.

use super::*;

const NOW: i64 = 1_000;

fn fresh() -> TransactionRow {
    let row = new("payments", 7, NOW);
    ready(initialise(&row, 60_000, None, None, NOW))
}

fn ready(next: Result<Initialisation, TransactionError>) -> TransactionRow {
    match next.unwrap() {
        Initialisation::Ready(row) => row,
        Initialisation::AbortFirst(row) => panic!("to be aborted first: {row:?}"),
    }
}

fn decided(next: Result<Ending, TransactionError>) -> TransactionRow {
    match next.unwrap() {
        Ending::Decided(row) => row,
        Ending::Repeated => panic!("taken for a repeated request"),
    }
}

fn identity(row: &TransactionRow) -> ProducerIdentity {
    ProducerIdentity {
        producer_id: row.producer_id,
        producer_epoch: row.producer_epoch,
    }
}

fn ongoing() -> TransactionRow {
    let mut row = fresh();
    let producer = identity(&row);
    assert_eq!(add(&mut row, producer, &[partition(0)], None, NOW), Ok(()));
    row
}

fn partition(number: i32) -> (Uuid, i32) {
    (Uuid::from_u128(1), number)
}

fn at_epoch(epoch: i16, row: TransactionRow) -> TransactionRow {
    TransactionRow {
        producer_epoch: epoch,
        ..row
    }
}

fn commit(row: &TransactionRow, increments: bool) -> Result<Ending, TransactionError> {
    end(
        row,
        identity(row),
        TransactionOutcome::Commit,
        increments,
        None,
        NOW,
    )
}

#[test]
fn each_initialisation_increments_the_epoch() {
    let first = fresh();
    assert_eq!(
        (first.producer_epoch, first.state),
        (0, TransactionState::Empty)
    );
    let second = ready(initialise(&first, 60_000, None, None, NOW));
    assert_eq!((second.producer_id, second.producer_epoch), (7, 1));
}

#[test]
fn a_producer_that_names_itself_goes_on_and_may_repeat_its_request() {
    let row = fresh();
    let expected = Some(identity(&row));
    let next = ready(initialise(&row, 60_000, expected, None, NOW));
    assert_eq!((next.producer_epoch, next.last_producer_epoch), (1, 0));
    // The answer was lost.
    let again = ready(initialise(&next, 60_000, expected, None, NOW));
    assert_eq!((again.producer_epoch, again.last_producer_epoch), (1, 0));
    // Another producer has been initialised since.
    let other = ready(initialise(&again, 60_000, None, None, NOW));
    let fenced = initialise(&other, 60_000, expected, None, NOW);
    assert_eq!(fenced, Err(TransactionError::ProducerFenced));
    let stranger = ProducerIdentity {
        producer_id: 8,
        producer_epoch: 0,
    };
    let fenced = initialise(&other, 60_000, Some(stranger), None, NOW);
    assert_eq!(fenced, Err(TransactionError::ProducerFenced));
}

#[test]
fn an_ongoing_transaction_is_aborted_before_an_initialisation_and_a_decided_one_completed() {
    let row = ongoing();
    let Ok(Initialisation::AbortFirst(aborted)) = initialise(&row, 60_000, None, None, NOW) else {
        panic!("not aborted");
    };
    assert_eq!(aborted.state, TransactionState::PrepareAbort);
    assert_eq!(aborted.producer_epoch, row.producer_epoch + 1);
    assert_eq!(aborted.partitions, row.partitions);
    let too_early = initialise(&aborted, 60_000, None, None, NOW);
    assert_eq!(too_early, Err(TransactionError::ConcurrentTransactions));
    let completed = complete(&aborted, NOW);
    let next = ready(initialise(&completed, 60_000, None, None, NOW));
    assert_eq!(next.producer_epoch, row.producer_epoch + 2);
    assert!(next.partitions.is_empty());
    // An old producer does not abort the transaction of the current one.
    let old = ProducerIdentity {
        producer_epoch: row.producer_epoch - 1,
        ..identity(&row)
    };
    let fenced = initialise(&row, 60_000, Some(old), None, NOW);
    assert_eq!(fenced, Err(TransactionError::ProducerFenced));
}

#[test]
fn a_producer_with_exhausted_epochs_gets_a_new_id() {
    let row = at_epoch(LAST_EPOCH, fresh());
    let none = initialise(&row, 60_000, None, None, NOW);
    assert_eq!(none, Err(TransactionError::ConcurrentTransactions));
    let next = ready(initialise(&row, 60_000, None, Some(9), NOW));
    assert_eq!((next.producer_id, next.producer_epoch), (9, 0));
    assert_eq!(next.previous_producer_id, 7);
    // The transaction of the last epoch can still be fenced.
    let fenced = fence(&at_epoch(LAST_EPOCH, ongoing()), NOW);
    assert_eq!(fenced.producer_epoch, i16::MAX);
    let next = ready(initialise(
        &complete(&fenced, NOW),
        60_000,
        None,
        Some(9),
        NOW,
    ));
    assert_eq!((next.producer_id, next.producer_epoch), (9, 0));
}

#[test]
fn a_producer_that_timed_out_at_its_last_epoch_does_not_get_the_epoch_that_fenced_it() {
    let last = at_epoch(LAST_EPOCH, ongoing());
    let aborted = complete(&fence(&last, NOW), NOW);
    assert_eq!(aborted.producer_epoch, i16::MAX);
    let outcome = TransactionOutcome::Abort;
    let again = end(&aborted, identity(&last), outcome, true, Some(9), NOW);
    assert_eq!(again, Err(TransactionError::ProducerFenced));
}

#[test]
fn a_transaction_of_version_2_ends_with_an_incremented_epoch_or_a_new_id() {
    let row = ongoing();
    let decision = decided(commit(&row, true));
    assert_eq!(decision.producer_epoch, row.producer_epoch + 1);
    let last = at_epoch(LAST_EPOCH, ongoing());
    let decision = decided(end(
        &last,
        identity(&last),
        TransactionOutcome::Commit,
        true,
        Some(9),
        NOW,
    ));
    // The markers have the old id and an epoch that no producer has had.
    assert_eq!(
        (decision.producer_id, decision.producer_epoch),
        (7, i16::MAX)
    );
    let completed = complete(&decision, NOW);
    assert_eq!((completed.producer_id, completed.producer_epoch), (9, 0));
    // The producer's next request may come before the markers are written.
    let next = identity(&completed);
    let mut early = decision.clone();
    let too_early = add(&mut early, next, &[partition(0)], None, NOW);
    assert_eq!(too_early, Err(TransactionError::ConcurrentTransactions));
    let repeated = end(
        &completed,
        identity(&last),
        TransactionOutcome::Commit,
        true,
        None,
        NOW,
    );
    assert_eq!(repeated, Ok(Ending::Repeated));
}

#[test]
fn only_the_current_producer_adds_to_a_transaction_and_not_while_one_completes() {
    let mut row = ongoing();
    let producer = identity(&row);
    assert_eq!(add(&mut row, producer, &[partition(0)], None, NOW), Ok(()));
    assert_eq!(add(&mut row, producer, &[partition(1)], None, NOW), Ok(()));
    assert_eq!(add(&mut row, producer, &[], Some("g"), NOW), Ok(()));
    assert_eq!(check_partition(&row, producer, partition(1)), Ok(()));
    assert_eq!(check_group(&row, producer, "g"), Ok(()));
    let missing = Err(TransactionError::NotInTransaction);
    assert_eq!(check_partition(&row, producer, partition(2)), missing);
    assert_eq!(check_group(&row, producer, "h"), missing);
    let strangers = [
        (
            8,
            producer.producer_epoch,
            TransactionError::InvalidProducerIdMapping,
        ),
        (
            7,
            producer.producer_epoch - 1,
            TransactionError::ProducerFenced,
        ),
        (
            7,
            producer.producer_epoch + 1,
            TransactionError::ProducerFenced,
        ),
    ];
    for (producer_id, producer_epoch, error) in strangers {
        let stranger = ProducerIdentity {
            producer_id,
            producer_epoch,
        };
        assert_eq!(
            add(&mut row, stranger, &[partition(0)], None, NOW),
            Err(error)
        );
    }
    let mut decision = decided(commit(&row, false));
    let too_early = add(&mut decision, producer, &[partition(0)], None, NOW);
    assert_eq!(too_early, Err(TransactionError::ConcurrentTransactions));
}

/// Every request to end a transaction in every state, by the current producer and by one whose answer was lost.
#[test]
fn requests_to_end_are_answered_by_state_and_version() {
    use TransactionError::{ConcurrentTransactions, InvalidState, ProducerFenced};
    use TransactionOutcome::{Abort, Commit};
    let row = ongoing();
    for increments in [false, true] {
        for outcome in [Commit, Abort] {
            let other = if outcome == Commit { Abort } else { Commit };
            let decision = decided(end(&row, identity(&row), outcome, increments, None, NOW));
            let completed = complete(&decision, NOW);
            let before = identity(&row);
            let ends = |row: &TransactionRow, producer, outcome| {
                end(row, producer, outcome, increments, None, NOW)
            };
            assert_eq!(
                ends(&decision, before, outcome),
                Err(ConcurrentTransactions)
            );
            assert_eq!(ends(&decision, before, other), Err(InvalidState));
            assert_eq!(ends(&completed, before, outcome), Ok(Ending::Repeated));
            assert_eq!(ends(&completed, before, other), Err(InvalidState));
            let current = identity(&completed);
            if increments {
                assert_eq!(ends(&decision, current, outcome), Err(ProducerFenced));
                // The next transaction, of which the server knows nothing.
                assert_eq!(ends(&completed, current, Commit), Err(InvalidState));
                let empty = decided(ends(&completed, current, Abort));
                assert_eq!(empty.producer_epoch, completed.producer_epoch + 1);
            }
        }
    }
    // As in Kafka, an older client may abort nothing after a transaction of version 2.
    let completed = complete(&decided(commit(&row, true)), NOW);
    let aborted = decided(end(
        &completed,
        identity(&completed),
        Abort,
        false,
        None,
        NOW,
    ));
    assert_eq!(aborted.producer_epoch, completed.producer_epoch);
    let empty = fresh();
    assert_eq!(commit(&empty, true), Err(InvalidState));
    let abort = |increments| end(&empty, identity(&empty), Abort, increments, None, NOW);
    assert_eq!(abort(false), Err(InvalidState));
    assert_eq!(decided(abort(true)).producer_epoch, 1);
}

#[test]
fn transactions_time_out_and_unused_ids_expire() {
    let row = ongoing();
    assert!(!is_timed_out(&row, NOW + 60_000));
    assert!(is_timed_out(&row, NOW + 60_001));
    assert!(!is_timed_out(&fresh(), i64::MAX));
    assert!(!is_expired(&row, 10, i64::MAX));
    assert!(!is_expired(&fresh(), 10, NOW + 9));
    assert!(is_expired(&fresh(), 10, NOW + 10));
}

#[test]
fn open_records_belong_to_the_transaction_of_their_epoch() {
    let row = ongoing();
    let open = identity(&row);
    let commits = Belonging::Decided(TransactionOutcome::Commit);
    let aborts = Belonging::Decided(TransactionOutcome::Abort);
    assert_eq!(belonging(&fresh(), open), Belonging::Current);
    assert_eq!(belonging(&row, open), Belonging::Current);
    for increments in [false, true] {
        let decision = decided(commit(&row, increments));
        assert_eq!(belonging(&decision, open), commits);
        assert_eq!(belonging(&complete(&decision, NOW), open), commits);
    }
    // The next transaction of version 2 is not stored.
    let completed = complete(&decided(commit(&row, true)), NOW);
    assert_eq!(
        belonging(&completed, identity(&completed)),
        Belonging::Current
    );
    let fenced = fence(&row, NOW);
    assert_eq!(belonging(&fenced, open), aborts);
    let next = ready(initialise(&complete(&fenced, NOW), 60_000, None, None, NOW));
    assert_eq!(belonging(&next, open), Belonging::Unknown);
    // The last epoch of a producer id.
    let last = at_epoch(LAST_EPOCH, row);
    let decision = decided(end(
        &last,
        identity(&last),
        TransactionOutcome::Commit,
        true,
        Some(9),
        NOW,
    ));
    assert_eq!(belonging(&decision, identity(&last)), commits);
    assert_eq!(
        belonging(&complete(&decision, NOW), identity(&last)),
        commits
    );
    let stranger = ProducerIdentity {
        producer_id: 3,
        producer_epoch: 0,
    };
    assert_eq!(belonging(&decision, stranger), Belonging::Unknown);
}
