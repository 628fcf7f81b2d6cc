//! Timeouts of transactions, and expiration of transactional ids.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use super::ending::Reason;
use super::{Slot, Transactions, state};

impl Transactions {
    /// Aborts transactions that exceed their timeout, and removes unused transactional ids. Never returns: spawn it once and
    /// abort it at shutdown.
    pub async fn run(self: Arc<Self>) {
        let settings = &self.settings;
        let mut timeouts =
            every(settings.transaction_abort_timed_out_transaction_cleanup_interval_ms);
        let mut expirations =
            every(settings.transaction_remove_expired_transaction_cleanup_interval_ms);
        loop {
            tokio::select! {
                _ = timeouts.tick() => self.abort_timed_out(),
                _ = expirations.tick() => self.remove_expired(),
            }
        }
    }

    /// Aborts the transactions that exceed their timeout. Their producers are fenced.
    pub(super) fn abort_timed_out(&self) {
        let now_ms = self.clock.now_ms();
        for slot in self.all() {
            let mut locked = slot.write();
            let Some(row) = locked.as_mut() else { continue };
            if !state::is_timed_out(row, now_ms) {
                continue;
            }
            tracing::warn!(
                transactional_id = row.id,
                producer_id = row.producer_id,
                age_ms = now_ms - row.started_ms,
                timeout_ms = row.timeout_ms,
                "transaction timed out, aborting it"
            );
            let aborted = state::fence(row, now_ms);
            // Completed in the background.
            drop(self.decide(Arc::clone(&slot), row, aborted, Reason::TimedOut));
        }
    }

    /// Removes the transactional ids that have not been used for the time of the settings.
    pub(super) fn remove_expired(&self) {
        let now_ms = self.clock.now_ms();
        let expiration_ms = self.settings.transactional_id_expiration_ms;
        let mut removed = 0;
        for slot in self.all() {
            let mut locked = slot.write();
            let is_expired = |row: &_| state::is_expired(row, expiration_ms, now_ms);
            let Some(row) = locked.take_if(|row| is_expired(row)) else {
                continue;
            };
            // Before a new row of the same name can be stored.
            drop(self.catalog.delete_transaction(&row.id));
            self.slots.write().remove(&row.id);
            removed += 1;
        }
        if removed > 0 {
            tracing::info!(removed, "unused transactional ids expired");
        }
    }

    fn all(&self) -> Vec<Arc<Slot>> {
        self.slots.read().values().cloned().collect()
    }
}

fn every(interval_ms: u64) -> Interval {
    let mut interval = tokio::time::interval(Duration::from_millis(interval_ms));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
