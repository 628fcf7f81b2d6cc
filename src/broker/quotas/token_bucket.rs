//! Token buckets, by which Kafka limits changes of topics and partitions (KIP-599).
//!
//! A bucket holds at most what the quota allows in a whole window. It may be overdrawn by one change, however large; further
//! ones are refused until it is out of debt. So a burst delays the next change by what it took too much, and no more.

use super::window::Window;

/// The allowance of one client.
#[derive(Debug)]
pub(super) struct TokenBucket {
    tokens: f64,
    filled_ms: u64,
}

/// A new bucket is full, whatever its quota.
impl Default for TokenBucket {
    fn default() -> Self {
        TokenBucket {
            tokens: f64::INFINITY,
            filled_ms: 0,
        }
    }
}

impl TokenBucket {
    /// Takes tokens and returns the time in milliseconds after which the bucket is out of debt.
    pub(super) fn take(&mut self, window: Window, limit: f64, amount: f64, now_ms: u64) -> f64 {
        self.fill(window, limit, now_ms);
        self.tokens -= amount;
        self.debt_ms(limit)
    }

    /// Takes tokens unless the bucket is in debt; the error is the time in milliseconds after which it is out of it.
    pub(super) fn try_take(
        &mut self,
        window: Window,
        limit: f64,
        amount: f64,
        now_ms: u64,
    ) -> Result<(), f64> {
        self.fill(window, limit, now_ms);
        if self.tokens < 0.0 {
            return Err(self.debt_ms(limit));
        }
        self.tokens -= amount;
        Ok(())
    }

    /// Returns whether the bucket is as full as a new one, at the rate at which it was last filled.
    pub(super) fn is_idle(&self, window: Window, now_ms: u64) -> bool {
        self.tokens >= 0.0 && window.is_past(self.filled_ms, now_ms)
    }

    fn fill(&mut self, window: Window, limit: f64, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.filled_ms);
        let filled = self.tokens + limit * elapsed_ms as f64 / 1000.0;
        self.tokens = filled.min(limit * window.seconds());
        self.filled_ms = now_ms;
    }

    fn debt_ms(&self, limit: f64) -> f64 {
        match self.tokens < 0.0 {
            true => (-self.tokens / limit * 1000.0).round(),
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        samples: 10,
        sample_ms: 1000,
    };

    #[test]
    fn a_burst_overdraws_the_bucket_once() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.try_take(WINDOW, 2.0, 25.0, 7000), Ok(()));
        // 20 were there, so 5 are missing.
        assert_eq!(bucket.try_take(WINDOW, 2.0, 1.0, 7000), Err(2500.0));
        assert_eq!(bucket.try_take(WINDOW, 2.0, 1.0, 9000), Err(500.0));
        assert_eq!(bucket.try_take(WINDOW, 2.0, 1.0, 9500), Ok(()));
    }

    #[test]
    fn a_permissive_change_is_made_and_delays_the_next() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(WINDOW, 2.0, 20.0, 0), 0.0);
        assert_eq!(bucket.take(WINDOW, 2.0, 4.0, 0), 2000.0);
        assert_eq!(bucket.take(WINDOW, 2.0, 4.0, 1000), 3000.0);
    }

    #[test]
    fn a_bucket_is_idle_once_it_is_full_again() {
        let mut bucket = TokenBucket::default();
        bucket.take(WINDOW, 2.0, 20.0, 0);
        assert!(!bucket.is_idle(WINDOW, 9_999));
        assert!(bucket.is_idle(WINDOW, 10_000));
        bucket.take(WINDOW, 2.0, 100.0, 10_000);
        assert!(!bucket.is_idle(WINDOW, 60_000));
    }
}
