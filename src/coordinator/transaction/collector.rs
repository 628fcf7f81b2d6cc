//! Transaction metrics, collected at scrape time.

use std::collections::BTreeMap;

use super::{TransactionState, Transactions, state};
use crate::metrics::{Samples, catalog};

impl Transactions {
    /// Writes the samples of all transactional ids.
    pub fn collect(&self, out: &mut Samples) {
        let mut by_state: BTreeMap<TransactionState, u64> = TransactionState::ALL
            .iter()
            .map(|state| (*state, 0))
            .collect();
        let mut oldest_ms = None;
        let mut markers: u64 = 0;
        for row in self.rows() {
            *by_state.entry(row.state).or_default() += 1;
            if row.state == TransactionState::Ongoing {
                oldest_ms = Some(row.started_ms.min(oldest_ms.unwrap_or(i64::MAX)));
            }
            if state::is_completing(&row) {
                markers += row.partitions.len() as u64;
            }
        }
        for (state, ids) in by_state {
            out.family(&catalog::TRANSACTIONAL_IDS_BY_STATE)
                .sample(&[("state", &state.name())], ids);
        }
        let now_ms = self.clock.now_ms();
        let age_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms).max(0));
        out.family(&catalog::TRANSACTION_OLDEST_OPEN_SECONDS)
            .sample(&[], age_ms as f64 / 1000.0);
        out.family(&catalog::TRANSACTION_MARKERS_PENDING)
            .sample(&[], markers);
    }
}
