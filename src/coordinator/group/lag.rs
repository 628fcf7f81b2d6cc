//! Consumer lag in one partition.

/// Lag of a committed offset, relative to the start and end of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Unread records that still exist: from the committed offset or the log start offset, whichever is higher, to the log
    /// end offset. 0 for an offset past the end: a client may commit one, and a log truncated in recovery leaves one behind.
    pub records: i64,
    /// Records deleted by retention or DeleteRecords before the group committed an offset past them.
    pub lost: i64,
}

impl Lag {
    pub fn of(committed: i64, log_start: i64, log_end: i64) -> Self {
        Self {
            records: log_end.saturating_sub(committed.max(log_start)).max(0),
            // Clients may commit negative offsets, but the first record of a log has offset 0.
            lost: log_start.saturating_sub(committed.max(0)).max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_separates_readable_records_from_deleted_ones() {
        for (committed, log_start, log_end, records, lost) in [
            (20, 0, 100, 80, 0),
            (20, 60, 100, 40, 40),
            (60, 60, 100, 40, 0),
            (80, 60, 100, 20, 0),
            // Everything has expired.
            (5, 10, 10, 0, 5),
            (10, 10, 10, 0, 0),
            // The log was truncated, or the client committed past its end.
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
