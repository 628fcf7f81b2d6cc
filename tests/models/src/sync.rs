//! The names of `src/sync.rs`, with loom behind them.

pub use loom::sync::MutexGuard;
pub use loom::sync::atomic;
pub use loom::{hint, thread};

/// A mutex that is locked like parking_lot's.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a model ends with its first panic")
    }
}

/// One thread waits, woken by others under tokio's name for it. A wake-up that comes first is kept, and now and then
/// one comes without reason.
#[derive(Debug, Default)]
pub struct Notify(loom::sync::Notify);

impl Notify {
    pub fn notify_one(&self) {
        self.0.notify();
    }

    pub fn wait(&self) {
        self.0.wait();
    }
}
