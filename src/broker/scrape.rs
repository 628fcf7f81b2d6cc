//! Logs and consumer groups in one exposition.
//!
//! Each of them reads its own state once per scrape; here is the order in which they do, by which the lag of a group
//! agrees with the offsets that the same exposition shows.

use super::Broker;
use crate::metrics::{Collector, Samples};

impl Collector for Broker {
    fn collect(&self, out: &mut Samples) {
        let committed = self.groups.all_committed();
        let logs = self.topics.collect(out);
        self.groups.collect(&committed, &logs, out);
    }
}
