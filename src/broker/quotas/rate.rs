//! Rates over a sliding window, as Kafka measures them for quotas.
//!
//! The window is a ring of samples. A rate is the sum of the samples divided by the time they cover, which is at least all
//! samples but the current one: so a client that was idle may use a whole window's worth at once.

use super::window::Window;

/// The recent amounts of one client, by sample.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: Vec<Sample>,
    current: usize,
}

#[derive(Debug)]
struct Sample {
    began_ms: u64,
    last_ms: u64,
    amount: f64,
}

impl Sample {
    fn new(now_ms: u64) -> Self {
        Sample {
            began_ms: now_ms,
            last_ms: now_ms,
            amount: 0.0,
        }
    }
}

impl Rate {
    /// Adds an amount, which may be negative to take an earlier one back.
    pub(super) fn record(&mut self, window: Window, amount: f64, now_ms: u64) {
        if self.samples.is_empty() {
            self.samples.push(Sample::new(now_ms));
        }
        let current = &self.samples[self.current];
        if now_ms.saturating_sub(current.began_ms) >= window.sample_ms {
            self.advance(window, now_ms);
        }
        let current = &mut self.samples[self.current];
        current.amount += amount;
        current.last_ms = now_ms;
    }

    /// Begins the next sample. The ring has one more than the window, for a sample that overlaps its start.
    fn advance(&mut self, window: Window, now_ms: u64) {
        self.current = (self.current + 1) % (window.samples + 1);
        match self.samples.get_mut(self.current) {
            Some(oldest) => *oldest = Sample::new(now_ms),
            None => self.samples.push(Sample::new(now_ms)),
        }
    }

    /// Returns how long the client has to pause, in milliseconds, until its rate is back within `limit` a second.
    pub(super) fn throttle_ms(&mut self, window: Window, limit: f64, now_ms: u64) -> f64 {
        self.forget_old(window, now_ms);
        let covered_ms = self.covered_ms(window, now_ms) as f64;
        let amount: f64 = self.samples.iter().map(|sample| sample.amount).sum();
        let rate = amount / (covered_ms / 1000.0);
        match rate > limit {
            true => ((rate - limit) / limit * covered_ms).round(),
            false => 0.0,
        }
    }

    /// Returns whether the rate no longer differs from a new one.
    pub(super) fn is_idle(&self, window: Window, now_ms: u64) -> bool {
        let is_old = |sample: &Sample| window.is_past(sample.last_ms, now_ms);
        self.samples.iter().all(is_old)
    }

    fn forget_old(&mut self, window: Window, now_ms: u64) {
        for sample in &mut self.samples {
            if window.is_past(sample.last_ms, now_ms) {
                *sample = Sample::new(now_ms);
            }
        }
    }

    /// Returns the time to which the samples belong: at least all but one sample's time.
    fn covered_ms(&self, window: Window, now_ms: u64) -> u64 {
        let began = self.samples.iter().map(|sample| sample.began_ms).min();
        let elapsed = now_ms.saturating_sub(began.unwrap_or(now_ms));
        let whole = elapsed / window.sample_ms;
        let missing = (window.samples as u64 - 1).saturating_sub(whole);
        (elapsed + missing * window.sample_ms).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window {
        samples: 11,
        sample_ms: 1000,
    };

    fn charge(rate: &mut Rate, amount: f64, now_ms: u64) -> f64 {
        rate.record(WINDOW, amount, now_ms);
        rate.throttle_ms(WINDOW, 100.0, now_ms)
    }

    #[test]
    fn an_idle_client_may_use_all_but_one_sample_at_once() {
        let mut rate = Rate::default();
        assert_eq!(charge(&mut rate, 1000.0, 5000), 0.0);
        // 1100 in 10 s are 110/s, which needs one more second.
        assert_eq!(charge(&mut rate, 100.0, 5000), 1000.0);
        assert_eq!(rate.throttle_ms(WINDOW, 100.0, 5999), 1.0);
        assert_eq!(rate.throttle_ms(WINDOW, 100.0, 6000), 1000.0);
    }

    #[test]
    fn a_steady_client_that_obeys_gets_its_rate() {
        let mut rate = Rate::default();
        let (mut now_ms, mut sent) = (0, 0.0);
        while now_ms < 600_000 {
            sent += 30.0;
            now_ms += 1 + charge(&mut rate, 30.0, now_ms) as u64;
        }
        let per_second = sent / (now_ms as f64 / 1000.0);
        assert!((99.0..104.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn amounts_are_forgotten_after_the_window() {
        let mut rate = Rate::default();
        assert!(rate.is_idle(WINDOW, 0));
        assert!(charge(&mut rate, 5000.0, 0) > 0.0);
        assert!(!rate.is_idle(WINDOW, 10_999));
        assert!(rate.is_idle(WINDOW, 11_000));
        assert_eq!(rate.throttle_ms(WINDOW, 100.0, 11_000), 0.0);
    }

    #[test]
    fn an_amount_taken_back_does_not_count() {
        let mut rate = Rate::default();
        assert!(charge(&mut rate, 5000.0, 0) > 0.0);
        assert_eq!(charge(&mut rate, -5000.0, 10), 0.0);
    }

    #[test]
    fn the_ring_keeps_one_sample_more_than_the_window() {
        let mut rate = Rate::default();
        for second in 0..100 {
            charge(&mut rate, 1.0, second * 1000);
        }
        assert_eq!(rate.samples.len(), WINDOW.samples + 1);
    }
}
