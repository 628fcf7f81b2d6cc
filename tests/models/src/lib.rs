//! Files of the server, compiled over loom's atomics, mutexes and threads; the models are in `tests/`.
//!
//! They are the very files: whatever a model proves or refutes is true of what the server runs. What stands around them
//! here, and what each stand-in has to have in common with the original, is said in its file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub mod metrics;
pub mod storage;
pub mod sync;

/// Runs `model` in every order of events in which threads that could have gone on are interrupted at most so many times,
/// and with every value that the memory model lets a load see. Says how many those were.
pub fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    let orders = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!(
        "figures: {}: {} orders of events",
        std::thread::current()
            .name()
            .unwrap_or("a model")
            .replace('_', " "),
        orders.load(Ordering::Relaxed)
    );
}
