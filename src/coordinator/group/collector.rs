//! The groups as a scrape sees them.
//!
//! Lag relates what a group has committed to the ends of a log. Committed offsets are copied first, then the logs are
//! read: a log's end only grows, so that no group seems to be ahead of it. All samples of the scrape are made of these
//! two copies. A partition that was deleted meanwhile is left out.

use std::collections::BTreeMap;

use super::{GroupState, Groups, Lag};
use crate::metrics::{Label, Samples, catalog};
use crate::storage::ScrapedOffsets;

/// The committed offsets of all groups, copied for one scrape.
pub struct AllCommitted(Vec<OfGroup>);

struct OfGroup {
    group: String,
    topics: Vec<OfTopic>,
}

struct OfTopic {
    topic: String,
    /// Partitions with their offsets.
    committed: Vec<(i32, i64)>,
}

impl Groups {
    /// Copies the committed offsets of all groups.
    pub fn all_committed(&self) -> AllCommitted {
        let groups = self.catalog.groups_with_offsets().into_iter();
        let copied = groups.filter_map(|group| {
            let offsets = self.catalog.offsets(&group)?;
            let topics = offsets
                .read()
                .iter()
                .map(|(topic, partitions)| OfTopic {
                    topic: topic.clone(),
                    committed: partitions
                        .iter()
                        .map(|(partition, committed)| (*partition, committed.offset))
                        .collect(),
                })
                .collect();
            Some(OfGroup { group, topics })
        });
        AllCommitted(copied.collect())
    }

    /// Writes the samples of all groups. `committed` was copied before `logs` were read.
    pub fn collect(&self, committed: &AllCommitted, logs: &ScrapedOffsets, out: &mut Samples) {
        self.collect_members(out);
        for of_group in &committed.0 {
            for of_topic in &of_group.topics {
                collect_lag(&of_group.group, of_topic, logs, out);
            }
        }
    }

    fn collect_members(&self, out: &mut Samples) {
        let mut active = 0_u64;
        let mut by_state: BTreeMap<GroupState, u64> =
            GroupState::LIVE.iter().map(|state| (*state, 0)).collect();
        let mut of_members = Vec::new();
        for slot in self.slots() {
            let slot = slot.lock();
            let Some(count) = by_state.get_mut(&slot.group.state()) else {
                continue;
            };
            *count += 1;
            let members = slot.group.member_count() as u64;
            active += u64::from(members > 0);
            of_members.push((
                slot.group.id().to_owned(),
                members,
                slot.group.completed_rebalances(),
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
    }
}

fn collect_lag(group: &String, of_topic: &OfTopic, logs: &ScrapedOffsets, out: &mut Samples) {
    let logs = logs.of_topic(&of_topic.topic);
    for (partition, committed) in &of_topic.committed {
        let Some(log) = usize::try_from(*partition).ok().and_then(|it| logs.get(it)) else {
            continue;
        };
        let labels: [Label<'_>; 3] = [
            ("group", group),
            ("topic", &of_topic.topic),
            ("partition", partition),
        ];
        let lag = Lag::of(*committed, log.log_start, log.log_end);
        out.family(&catalog::CONSUMER_LAG)
            .sample(&labels, lag.records);
        out.family(&catalog::CONSUMER_LOST_RECORDS)
            .sample(&labels, lag.lost);
        out.family(&catalog::CONSUMER_GROUP_COMMITTED_OFFSET)
            .sample(&labels, *committed);
    }
}
