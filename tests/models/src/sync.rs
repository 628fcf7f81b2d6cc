//! The names of `src/sync.rs`, implemented by loom.

pub use loom::sync::MutexGuard;
pub use loom::sync::atomic;
pub use loom::{hint, thread};

/// A mutex with the interface of parking_lot's.
#[derive(Debug, Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a model ends with its first panic")
    }
}

/// A notification for one waiting thread, with tokio's method name. A wake-up sent before the wait is kept; spurious
/// wake-ups occur.
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
