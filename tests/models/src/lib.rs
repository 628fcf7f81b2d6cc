//! Files of the server, compiled over loom's atomics, mutexes and threads; the models are in `tests/`.
//!
//! They are the very files: whatever a model proves or refutes is true of what the server runs. What stands around them
//! here, and what each stand-in has to have in common with the original, is said in its file.

pub mod metrics;
pub mod storage;
pub mod sync;

/// Runs `model` in every order of events in which threads that could have gone on are interrupted at most so many times,
/// and with every value that the memory model lets a load see.
pub fn explore(interruptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.check(model);
}
