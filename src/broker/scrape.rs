//! Collection of logs, consumer groups and transactions for one exposition.
//!
//! Each of them reads its own state once per scrape, in the order given here: it makes the lag of a group consistent with
//! the offsets of the same exposition.

use super::Broker;
use crate::metrics::{Collector, Samples};

impl Collector for Broker {
    fn collect(&self, out: &mut Samples) {
        let committed = self.groups.all_committed();
        let logs = self.topics.collect(out);
        self.groups.collect(&committed, &logs, out);
        self.transactions.collect(out);
    }
}
