//! The time of an event.

/// Time of an event on both clocks: deadlines use the monotonic clock, stored times the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) monotonic_ms: u64,
    pub(super) unix_ms: i64,
}

impl Now {
    /// Returns the monotonic time after a timeout in milliseconds. A negative timeout, which a client can send, counts as 0.
    pub(super) fn after(self, timeout_ms: i32) -> u64 {
        self.monotonic_ms
            .saturating_add(u64::try_from(timeout_ms).unwrap_or(0))
    }
}
