//! The groups as a scrape sees them.
//!
//! Lag is one snapshot per partition because of the order of reading: the committed offset first, then the end of the
//! log, which only grows. What is deleted meanwhile has no end of log and is left out.

use std::collections::BTreeMap;

use super::{GroupState, Groups};
use crate::catalog::GroupOffsets;
use crate::metrics::{Collector, Label, Samples, catalog};

impl Collector for Groups {
    fn collect(&self, out: &mut Samples) {
        let mut active = 0_u64;
        let mut by_state: BTreeMap<GroupState, u64> =
            GroupState::LIVE.iter().map(|state| (*state, 0)).collect();
        let mut of_members = Vec::new();
        for seat in self.seats() {
            let seat = seat.lock();
            let Some(count) = by_state.get_mut(&seat.group.state()) else {
                continue;
            };
            *count += 1;
            let members = seat.group.member_count() as u64;
            active += u64::from(members > 0);
            of_members.push((
                seat.group.id().to_owned(),
                members,
                seat.group.completed_rebalances(),
            ));
        }
        out.family(&catalog::CONSUMER_GROUPS_TOTAL)
            .sample(&[], active);
        for (state, groups) in by_state {
            out.family(&catalog::CONSUMER_GROUPS_BY_STATE)
                .sample(&[("state", &state.name())], groups);
        }
        for (group, members, rebalances) in of_members {
            out.family(&catalog::CONSUMER_GROUP_MEMBERS)
                .sample(&[("group", &group)], members);
            out.family(&catalog::CONSUMER_GROUP_REBALANCES_TOTAL)
                .sample(&[("group", &group)], rebalances);
        }
        for group in self.catalog.groups_with_offsets() {
            if let Some(offsets) = self.catalog.offsets(&group) {
                self.collect_offsets(&group, &offsets.read(), out);
            }
        }
    }
}

impl Groups {
    fn collect_offsets(&self, group: &str, offsets: &GroupOffsets, out: &mut Samples) {
        for (topic, partitions) in offsets {
            for (partition, committed) in partitions {
                let Some(log_end) = self.logs.log_end_offset(topic, *partition) else {
                    continue;
                };
                let labels: [Label<'_>; 3] = [
                    ("group", &group),
                    ("topic", topic),
                    ("partition", partition),
                ];
                // A client may commit any offset, also one behind the end.
                let lag = log_end.saturating_sub(committed.offset).max(0);
                out.family(&catalog::CONSUMER_LAG).sample(&labels, lag);
                out.family(&catalog::CONSUMER_GROUP_COMMITTED_OFFSET)
                    .sample(&labels, committed.offset);
            }
        }
    }
}
