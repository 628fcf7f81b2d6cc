//! Source files of the server, compiled against loom's atomics, mutexes and threads. The models are in `tests/`.
//!
//! The files are included unchanged, so a model's result holds for the code that the server runs. Each replacement for a
//! file around them states what it must have in common with the original.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod metrics;
pub mod storage;
pub mod sync;

/// Runs `model` in every interleaving with at most `preemptions` preemptions of runnable threads, and with every value that
/// the memory model allows a load to return. Prints the number of interleavings.
pub fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "figures: {}: {} interleavings",
        std::thread::current()
            .name()
            .unwrap_or("a model")
            .replace('_', " "),
        orders.load(Ordering::Relaxed)
    );
}
