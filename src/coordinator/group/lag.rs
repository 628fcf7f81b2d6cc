//! How far a group is behind in one partition.

/// A committed offset in relation to the ends of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Records that the group has yet to read and still can: those from the committed offset or the log start, whichever
    /// is higher, to the log end. 0 for an offset past the end, which a client may commit, and which a log that lost its
    /// end leaves behind.
    pub records: i64,
    /// Records that were deleted, by retention or DeleteRecords, before the group committed an offset past them.
    pub lost: i64,
}

impl Lag {
    pub fn of(committed: i64, log_start: i64, log_end: i64) -> Self {
        Self {
            records: log_end.saturating_sub(committed.max(log_start)).max(0),
            // Clients may commit negative offsets; the first record of a log has offset 0 all the same.
            lost: log_start.saturating_sub(committed.max(0)).max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_counts_what_can_still_be_read_and_what_cannot_any_more() {
        for (committed, log_start, log_end, records, lost) in [
            (20, 0, 100, 80, 0),
            (20, 60, 100, 40, 40),
            (60, 60, 100, 40, 0),
            (80, 60, 100, 20, 0),
            // Everything has expired.
            (5, 10, 10, 0, 5),
            (10, 10, 10, 0, 0),
            // The log lost its end, or the client committed ahead.
            (100, 0, 50, 0, 0),
            (i64::MAX, 0, 50, 0, 0),
            (-1, 0, 50, 50, 0),
            (-1, 10, 50, 40, 10),
            (i64::MIN, 0, i64::MAX, i64::MAX, 0),
        ] {
            let lag = Lag::of(committed, log_start, log_end);
            let expected = Lag { records, lost };
            assert_eq!(lag, expected, "{committed} in {log_start}..{log_end}");
        }
    }
}
