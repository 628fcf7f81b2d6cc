//! Listings and descriptions of transactions, independent of protocol versions.

use std::collections::{BTreeMap, HashSet};

use regex::Regex;

use super::{ProducerIdentity, TransactionError, TransactionState, Transactions, require_id};
use crate::catalog::TransactionRow;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionListing {
    pub id: String,
    pub producer_id: i64,
    pub state: TransactionState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionDescription {
    pub state: TransactionState,
    pub timeout_ms: i32,
    /// −1 if the producer has not begun a transaction.
    pub started_ms: i64,
    pub producer: ProducerIdentity,
    /// Partitions by topic.
    pub partitions: BTreeMap<String, Vec<i32>>,
}

/// Selects transactional ids. An absent condition selects all.
#[derive(Debug, Clone, Default)]
pub struct TransactionFilter {
    pub states: Option<Vec<TransactionState>>,
    pub producer_ids: Option<HashSet<i64>>,
    /// Minimum age of the transaction.
    pub older_than_ms: Option<i64>,
    /// Matches the whole id.
    pub pattern: Option<Regex>,
}

impl TransactionFilter {
    fn selects(&self, row: &TransactionRow, now_ms: i64) -> bool {
        let age_ms = now_ms.saturating_sub(row.started_ms);
        let is_old = |older_than_ms: i64| age_ms > older_than_ms;
        self.states
            .as_ref()
            .is_none_or(|states| states.contains(&row.state))
            && self
                .producer_ids
                .as_ref()
                .is_none_or(|ids| ids.contains(&row.producer_id))
            && self.older_than_ms.is_none_or(is_old)
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(&row.id))
    }
}

impl Transactions {
    /// Lists the selected transactional ids, in order.
    pub fn list(&self, filter: &TransactionFilter) -> Vec<TransactionListing> {
        let now_ms = self.clock.now_ms();
        let mut all: Vec<_> = self
            .rows()
            .into_iter()
            .filter(|row| filter.selects(row, now_ms))
            .map(|row| TransactionListing {
                id: row.id,
                producer_id: row.producer_id,
                state: row.state,
            })
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Describes a transactional id; `None` if it does not exist.
    pub fn describe(&self, id: &str) -> Result<Option<TransactionDescription>, TransactionError> {
        require_id(id)?;
        let row = self.find(id).and_then(|slot| slot.read().clone());
        Ok(row.map(|row| {
            let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
            for (topic, number) in &row.partitions {
                if let Some(topic) = self.topics.get_by_id(*topic) {
                    let of_topic = partitions.entry(topic.name().to_string()).or_default();
                    of_topic.push(*number);
                }
            }
            TransactionDescription {
                state: row.state,
                timeout_ms: row.timeout_ms,
                started_ms: row.started_ms,
                producer: ProducerIdentity {
                    producer_id: row.producer_id,
                    producer_epoch: row.producer_epoch,
                },
                partitions,
            }
        }))
    }
}
