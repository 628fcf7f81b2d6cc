//! A plan of calls to the file system that fail, fall short or run out of space.
//!
//! The plan records every call, so that a test can verify that a failed call was not retried.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::fs::Op;

/// The effect on a call that a plan matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails with this error and does nothing.
    Error(io::ErrorKind),
    /// A write writes at most this many bytes and reports so; other calls are not affected.
    Short(usize),
    /// The call blocks until the plan is dropped, and then runs.
    Hang,
}

/// A plan of calls that fail. Shared by a test and the [`Fs`](crate::fs::Fs) under test.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    /// Signalled when a plan is dropped.
    healed: Condvar,
}

#[derive(Debug, Default)]
struct Plan {
    rules: Vec<Rule>,
    space_left: Option<u64>,
    /// Set if removed bytes become free again.
    gives_back: bool,
    calls: Vec<(Op, PathBuf)>,
    /// Number of times a plan was dropped.
    heals: u64,
}

#[derive(Debug)]
struct Rule {
    op: Op,
    path_part: String,
    fault: Fault,
    times_left: usize,
}

impl Faults {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Applies `fault` to the next `times` calls of kind `op` on paths that contain `path_part`. Earlier rules take
    /// precedence.
    pub fn plan(&self, op: Op, path_part: &str, fault: Fault, times: usize) {
        self.plan.lock().rules.push(Rule {
            op,
            path_part: path_part.to_string(),
            fault,
            times_left: times,
        });
    }

    /// Limits further writes to `bytes`; a write that exceeds them writes what fits and fails as on a full disk.
    pub fn limit_space(&self, bytes: u64) {
        let mut plan = self.plan.lock();
        plan.space_left = Some(bytes);
        plan.gives_back = false;
    }

    /// Limits writes in the same way; removed, truncated or replaced bytes become free again.
    pub fn limit_disk(&self, bytes: u64) {
        let mut plan = self.plan.lock();
        plan.space_left = Some(bytes);
        plan.gives_back = true;
    }

    /// Drops every rule and limit; blocked calls continue.
    pub fn heal(&self) {
        let mut plan = self.plan.lock();
        plan.rules.clear();
        plan.space_left = None;
        plan.gives_back = false;
        plan.heals += 1;
        self.healed.notify_all();
    }

    /// Returns the number of calls of kind `op` on paths that contain `path_part`.
    pub fn calls(&self, op: Op, path_part: &str) -> usize {
        let plan = self.plan.lock();
        plan.calls
            .iter()
            .filter(|(called, path)| *called == op && contains(path, path_part))
            .count()
    }

    pub(super) fn space_left(&self) -> Option<u64> {
        self.plan.lock().space_left
    }

    pub(super) fn gives_back(&self) -> bool {
        self.plan.lock().gives_back
    }

    pub(super) fn give_back(&self, bytes: u64) {
        let mut plan = self.plan.lock();
        if plan.gives_back
            && let Some(left) = &mut plan.space_left
        {
            *left += bytes;
        }
    }

    /// Takes this many bytes of the space left, or none.
    pub(super) fn take_space(&self, bytes: u64) -> io::Result<()> {
        match &mut self.plan.lock().space_left {
            Some(left) if *left < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(left) => {
                *left -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(super) fn check(&self, op: Op, path: &Path) -> io::Result<()> {
        let mut plan = self.plan.lock();
        plan.calls.push((op, path.to_path_buf()));
        match plan.meet(op, path) {
            Some(Fault::Error(kind)) => Err(kind.into()),
            Some(Fault::Hang) => {
                self.hang(&mut plan);
                Ok(())
            }
            Some(Fault::Short(_)) | None => Ok(()),
        }
    }

    fn hang(&self, plan: &mut MutexGuard<'_, Plan>) {
        let heals = plan.heals;
        while plan.heals == heals {
            self.healed.wait(plan);
        }
    }

    /// Returns the bytes that a write may write.
    pub(super) fn clip_write(&self, path: &Path, slices: &[IoSlice<'_>]) -> io::Result<Vec<u8>> {
        let mut plan = self.plan.lock();
        plan.calls.push((Op::Write, path.to_path_buf()));
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut allowed = match plan.meet(Op::Write, path) {
            Some(Fault::Error(kind)) => return Err(kind.into()),
            Some(Fault::Short(bytes)) => bytes.min(asked),
            Some(Fault::Hang) => {
                self.hang(&mut plan);
                asked
            }
            None => asked,
        };
        if let Some(left) = &mut plan.space_left {
            if *left == 0 && asked > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            allowed = allowed.min(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= allowed as u64;
        }
        let mut clipped: Vec<u8> = Vec::with_capacity(allowed);
        for slice in slices {
            let room = allowed - clipped.len();
            clipped.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        Ok(clipped)
    }
}

impl Plan {
    fn meet(&mut self, op: Op, path: &Path) -> Option<Fault> {
        let rule = self
            .rules
            .iter_mut()
            .find(|rule| rule.op == op && rule.times_left > 0 && contains(path, &rule.path_part))?;
        rule.times_left -= 1;
        Some(rule.fault)
    }
}

fn contains(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
}
