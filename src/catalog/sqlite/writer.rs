//! The only thread that changes the catalog, and its group commit.
//!
//! Operations queued when a transaction starts share that transaction and its one flush. Each operation runs in its own
//! savepoint, so that a refused one does not affect the others. A caller is notified of success only after the commit.
//! A transaction that finds the disk full is run again from its start with the disk reserve released. This thread also
//! applies an operation's effect on memory (`applied`), after the commit and in commit order, so that memory never
//! shows data that is not durable, nor two commits in the wrong order.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::catalog::Error;
use crate::fs::{Attempt, Reserve};

/// Limit of operations in one transaction: bounds how long the first of them waits for the last.
const OPERATIONS_PER_COMMIT: usize = 512;

/// One queued operation.
trait Operation: Send {
    /// Runs inside the transaction; the caller undoes its changes if it fails. Runs again if the transaction does.
    fn run(&mut self, db: &Connection) -> Result<(), Error>;

    /// Notifies the caller of the outcome, after the commit or its failure.
    fn finish(self: Box<Self>, committed: Result<(), Error>);
}

struct Write<T, R, A> {
    run: R,
    applied: A,
    outcome: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

impl<T, R, A> Operation for Write<T, R, A>
where
    T: Send,
    R: FnMut(&Connection) -> Result<T, Error> + Send,
    A: FnOnce(&T) + Send,
{
    fn run(&mut self, db: &Connection) -> Result<(), Error> {
        let outcome = (self.run)(db);
        let ran = outcome.as_ref().map(|_| ()).map_err(Error::clone);
        self.outcome = Some(outcome);
        ran
    }

    fn finish(self: Box<Self>, committed: Result<(), Error>) {
        let Self {
            run,
            applied,
            outcome,
            reply,
        } = *self;
        // Dropped first, so that `applied` can take over shared data without a copy.
        drop(run);
        let outcome = match (outcome, committed) {
            (Some(Err(refused)), _) => Err(refused),
            (_, Err(fault)) => Err(fault),
            (None, Ok(())) => Err(Error::Closed),
            (Some(Ok(value)), Ok(())) => {
                applied(&value);
                Ok(value)
            }
        };
        // A caller that dropped its future gave up the outcome, not the change.
        let _ = reply.send(outcome);
    }
}

/// The queue of the writer thread.
pub(super) struct Writer {
    queue: Mutex<Option<Sender<Box<dyn Operation>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    fault: Arc<Mutex<Option<Error>>>,
}

impl Writer {
    pub(super) fn start(db: Connection, reserve: Arc<Reserve>) -> Result<Self, Error> {
        let (queue, operations) = channel();
        let fault = Arc::new(Mutex::new(None));
        let thread = std::thread::Builder::new()
            .name("catalog".to_owned())
            .spawn({
                let fault = Arc::clone(&fault);
                move || write_until_closed(&db, &operations, &fault, &reserve)
            })
            .map_err(|error| Error::Io(format!("cannot start the catalog thread: {error}")))?;
        Ok(Self {
            queue: Mutex::new(Some(queue)),
            thread: Mutex::new(Some(thread)),
            fault,
        })
    }

    /// Queues an operation immediately, before the returned future is first polled, so that operations run in the order
    /// of the calls. `applied` runs on the writer thread after the commit.
    pub(super) fn write<T, R, A>(
        &self,
        run: R,
        applied: A,
    ) -> impl Future<Output = Result<T, Error>> + Send + use<T, R, A>
    where
        T: Send + 'static,
        R: FnMut(&Connection) -> Result<T, Error> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (reply, outcome) = oneshot::channel();
        if let Some(queue) = self.queue.lock().as_ref() {
            // If the thread has ended, the operation is dropped together with its reply channel.
            let _ = queue.send(Box::new(Write {
                run,
                applied,
                outcome: None,
                reply,
            }));
        }
        async move { outcome.await.unwrap_or(Err(Error::Closed)) }
    }

    /// Returns the fault of the most recent transaction, if there was one.
    pub(super) fn fault(&self) -> Option<Error> {
        let running = self
            .thread
            .lock()
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        if running {
            self.fault.lock().clone()
        } else {
            Some(Error::Closed)
        }
    }

    /// Runs queued operations and ends the thread, which closes the database. Later operations are refused.
    pub(super) fn close(&self) {
        drop(self.queue.lock().take());
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("catalog thread panicked");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

fn write_until_closed(
    db: &Connection,
    operations: &Receiver<Box<dyn Operation>>,
    fault: &Mutex<Option<Error>>,
    reserve: &Reserve,
) {
    while let Ok(first) = operations.recv() {
        let mut batch: Vec<_> = std::iter::once(first)
            .chain(operations.try_iter())
            .take(OPERATIONS_PER_COMMIT)
            .collect();
        let mut met = None;
        let is_full = |error: &Error| matches!(error, Error::DiskFull(_));
        let committed = reserve.spend_knowing(is_full, |attempt| {
            met = None;
            commit_together(db, &mut batch, &mut met, attempt)
        });
        report_change(fault, committed.as_ref().err().or(met.as_ref()));
        for operation in batch {
            operation.finish(committed.clone());
        }
    }
}

/// Runs the operations in one transaction. `met` receives a fault of an operation that did not abort the transaction; a
/// full disk aborts it if it can run again.
fn commit_together(
    db: &Connection,
    batch: &mut [Box<dyn Operation>],
    met: &mut Option<Error>,
    attempt: &Attempt<'_>,
) -> Result<(), Error> {
    let committed = run_all(db, batch, met, attempt);
    if committed.is_err() && !db.is_autocommit() {
        // The transaction is lost either way; rolled back, so that the next one can begin.
        if let Err(error) = db.execute_batch("ROLLBACK") {
            tracing::error!(%error, "catalog transaction not rolled back");
        }
    }
    committed
}

fn run_all(
    db: &Connection,
    batch: &mut [Box<dyn Operation>],
    met: &mut Option<Error>,
    attempt: &Attempt<'_>,
) -> Result<(), Error> {
    statement(db, "BEGIN IMMEDIATE")?;
    for operation in batch {
        statement(db, "SAVEPOINT operation")?;
        if let Err(error) = operation.run(db) {
            let runs_again = matches!(error, Error::DiskFull(_)) && attempt.can_run_again();
            if runs_again || db.is_autocommit() {
                // SQLite itself may roll back the whole transaction on a full or failing disk, for all its operations.
                return Err(error);
            }
            statement(db, "ROLLBACK TO operation")?;
            if error.is_fault() {
                *met = Some(error);
            }
        }
        statement(db, "RELEASE operation")?;
    }
    statement(db, "COMMIT")
}

fn statement(db: &Connection, sql: &str) -> Result<(), Error> {
    db.prepare_cached(sql)?.execute([])?;
    Ok(())
}

/// Stores the fault, and logs when one appears, changes or ends.
fn report_change(known: &Mutex<Option<Error>>, now: Option<&Error>) {
    let mut known = known.lock();
    if known.as_ref() == now {
        return;
    }
    match now {
        Some(error) => tracing::error!(%error, "catalog write failed"),
        None => tracing::info!("catalog writable again"),
    }
    *known = now.cloned();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (tempfile::TempDir, Writer) {
        let dir = tempfile::tempdir().unwrap();
        let writer = table_in(&dir, "WAL", Reserve::none());
        (dir, writer)
    }

    /// A table whose writer may release a reserve.
    fn table_with_reserve() -> (tempfile::TempDir, Writer, Arc<Reserve>) {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::open(&crate::fs::Fs::new(), dir.path(), 65_536);
        let writer = table_in(&dir, "DELETE", Arc::clone(&reserve));
        (dir, writer, reserve)
    }

    fn table_in(dir: &tempfile::TempDir, journal: &str, reserve: Arc<Reserve>) -> Writer {
        let db = Connection::open(dir.path().join("t.db")).unwrap();
        db.execute_batch(&format!(
            "PRAGMA journal_mode = {journal}; CREATE TABLE t (n INTEGER PRIMARY KEY)"
        ))
        .unwrap();
        Writer::start(db, reserve).unwrap()
    }

    fn insert(n: i64) -> impl Fn(&Connection) -> Result<i64, Error> + Send + 'static {
        move |db| {
            db.execute("INSERT INTO t (n) VALUES (?1)", [n])?;
            Ok(n)
        }
    }

    /// Inserts 0 in a transaction that stays open until released, so that operations queued meanwhile share the next
    /// one.
    fn held_open(
        writer: &Writer,
    ) -> (impl Future<Output = Result<i64, Error>> + use<>, Sender<()>) {
        held_open_with(writer, 0)
    }

    fn held_open_with(
        writer: &Writer,
        n: i64,
    ) -> (impl Future<Output = Result<i64, Error>> + use<>, Sender<()>) {
        let (open, gate) = channel();
        let (started, running) = channel();
        let first = writer.write(
            move |db| {
                started.send(()).unwrap();
                gate.recv().unwrap();
                insert(n)(db)
            },
            |_| {},
        );
        running.recv().unwrap();
        (first, open)
    }

    #[tokio::test]
    async fn a_refused_operation_takes_nothing_of_its_neighbours() {
        let (_dir, writer) = table();
        let (first, open) = held_open(&writer);
        let a = writer.write(insert(1), |_| {});
        let half_done = writer.write(
            |db| {
                insert(2)(db)?;
                insert(1)(db)
            },
            |_| {},
        );
        let c = writer.write(insert(3), |_| {});
        open.send(()).unwrap();
        first.await.unwrap();
        a.await.unwrap();
        assert!(matches!(half_done.await, Err(Error::Statement(_))));
        c.await.unwrap();
        let rows = writer
            .write(
                |db| {
                    let mut rows = db.prepare("SELECT n FROM t ORDER BY n")?;
                    let rows = rows.query_map([], |row| row.get(0))?;
                    Ok(rows.collect::<Result<Vec<i64>, _>>()?)
                },
                |_| {},
            )
            .await
            .unwrap();
        assert_eq!(rows, [0, 1, 3]);
        assert_eq!(writer.fault(), None);
    }

    #[tokio::test]
    async fn operations_queued_together_share_a_commit() {
        let (dir, writer) = table();
        let path = dir.path().join("t.db");
        let (first, open) = held_open(&writer);
        let rest: Vec<_> = (1..100).map(|n| writer.write(insert(n), |_| {})).collect();
        let last = writer.write(
            move |_| {
                let other = Connection::open(&path)?;
                Ok(other.query_row("SELECT count(*) FROM t", [], |row| row.get(0))?)
            },
            |_: &i64| {},
        );
        open.send(()).unwrap();
        first.await.unwrap();
        for one in rest {
            one.await.unwrap();
        }
        let committed_before_the_last = last.await.unwrap();
        assert_eq!(committed_before_the_last, 1);
    }

    #[tokio::test]
    async fn memory_follows_the_order_of_commits() {
        let (_dir, writer) = table();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all: Vec<_> = (0..50)
            .map(|n| {
                let seen = Arc::clone(&seen);
                writer.write(insert(n), move |n| seen.lock().push(*n))
            })
            .collect();
        for one in all.into_iter().rev() {
            one.await.unwrap();
        }
        assert_eq!(*seen.lock(), (0..50).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_caller_that_went_away_still_gets_its_change() {
        let (_dir, writer) = table();
        drop(writer.write(insert(7), |_| {}));
        let again = writer.write(insert(7), |_| {}).await;
        assert!(matches!(again, Err(Error::Statement(_))));
    }

    #[tokio::test]
    async fn a_full_disk_fails_the_whole_transaction_and_heals() {
        let (_dir, writer) = table();
        let limit = |pages: i64| {
            writer.write(
                move |db| {
                    Ok(db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?)
                },
                |_| {},
            )
        };
        limit(1).await.unwrap();
        let fill = writer.write(
            |db| {
                db.execute_batch(
                    "CREATE TABLE big (b BLOB); INSERT INTO big VALUES (zeroblob(100000))",
                )?;
                Ok(())
            },
            |_| {},
        );
        assert!(matches!(fill.await, Err(Error::DiskFull(_))));
        limit(100_000).await.unwrap();
        writer.write(insert(1), |_| {}).await.unwrap();
        assert_eq!(writer.fault(), None);
    }

    #[tokio::test]
    async fn a_transaction_that_finds_the_disk_full_runs_again_with_the_reserve_released() {
        let (_dir, writer, reserve) = table_with_reserve();
        let (first, open) = held_open(&writer);
        let [before, after] = [1, 3].map(|n| writer.write(insert(n), |_| {}));
        let is_full = Arc::clone(&reserve);
        let full = writer.write(
            move |db| {
                insert(2)(db)?;
                match is_full.held_bytes() {
                    0 => Ok(()),
                    _ => Err(Error::DiskFull("no page left".to_owned())),
                }
            },
            |()| {},
        );
        open.send(()).unwrap();
        first.await.unwrap();
        before.await.unwrap();
        full.await.unwrap();
        after.await.unwrap();
        assert!(reserve.is_released());
        assert_eq!(writer.fault(), None);
        let count = |db: &Connection| {
            Ok(db.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))?)
        };
        assert_eq!(writer.write(count, |_| {}).await, Ok(4));
        // With nothing left to release, it fails again.
        let full = writer.write(|_| Err::<(), _>(Error::DiskFull(String::new())), |()| {});
        assert!(matches!(full.await, Err(Error::DiskFull(_))));
    }

    #[tokio::test]
    async fn a_closed_writer_finishes_what_is_queued_and_refuses_the_rest() {
        let (_dir, writer) = table();
        let queued = writer.write(insert(1), |_| {});
        writer.close();
        assert_eq!(queued.await, Ok(1));
        assert_eq!(writer.write(insert(2), |_| {}).await, Err(Error::Closed));
        assert_eq!(writer.fault(), Some(Error::Closed));
    }

    #[tokio::test]
    async fn a_reserve_that_is_held_again_meanwhile_helps_once() {
        let (_dir, writer, reserve) = table_with_reserve();
        for (n, is_full_again) in [(1, false), (2, true)] {
            // The reserve holds nothing when the transaction begins.
            let _ = reserve.spend(|()| true, || Err::<(), _>(()));
            assert_eq!(reserve.held_bytes(), 0);
            let (first, open) = held_open_with(&writer, 10 * n);
            let neighbour = writer.write(insert(n), |_| {});
            let held = Arc::clone(&reserve);
            let mut runs = 0;
            let full = writer.write(
                move |_| {
                    runs += 1;
                    held.restore();
                    match runs == 1 || is_full_again {
                        true => Err(Error::DiskFull("no page left".to_owned())),
                        false => Ok(runs),
                    }
                },
                |_| {},
            );
            open.send(()).unwrap();
            first.await.unwrap();
            neighbour.await.unwrap();
            match is_full_again {
                false => assert_eq!(full.await, Ok(2)),
                true => assert!(matches!(full.await, Err(Error::DiskFull(_)))),
            }
        }
    }

    #[tokio::test]
    async fn an_operation_lets_go_of_what_it_ran_with_before_it_is_applied() {
        let (_dir, writer) = table();
        let ran = Arc::new(());
        let applied = Arc::clone(&ran);
        let (owners, counted) = channel();
        let count = writer.write(
            move |_| Ok(Arc::strong_count(&ran)),
            move |_| owners.send(Arc::strong_count(&applied)).unwrap(),
        );
        assert_eq!(count.await, Ok(2));
        assert_eq!(counted.recv(), Ok(1));
    }
}
