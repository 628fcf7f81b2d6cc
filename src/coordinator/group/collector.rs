//! Consumer group metrics, collected at scrape time.
//!
//! Lag compares a group's committed offsets with the start and end of each log. The committed offsets are copied first and
//! the logs are read second: the log end offset only grows, so no group appears to be ahead of its log. Both copies serve
//! the whole scrape. A partition deleted in between is left out.

use std::collections::BTreeMap;

use super::{GroupState, Groups, Lag};
use crate::metrics::{Label, Samples, catalog};
use crate::storage::ScrapedOffsets;

/// The committed offsets of all groups, copied for one scrape.
pub struct AllCommitted(Vec<GroupCommits>);

struct GroupCommits {
    group: String,
    topics: Vec<TopicCommits>,
}

struct TopicCommits {
    topic: String,
    /// Partition and committed offset.
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
                .map(|(topic, partitions)| TopicCommits {
                    topic: topic.clone(),
                    committed: partitions
                        .iter()
                        .map(|(partition, committed)| (*partition, committed.offset))
                        .collect(),
                })
                .collect();
            Some(GroupCommits { group, topics })
        });
        AllCommitted(copied.collect())
    }

    /// Writes the samples of all groups. `committed` must have been copied before `logs` were read.
    pub fn collect(&self, committed: &AllCommitted, logs: &ScrapedOffsets, out: &mut Samples) {
        self.collect_members(out);
        for group in &committed.0 {
            for topic in &group.topics {
                collect_lag(&group.group, topic, logs, out);
            }
        }
    }

    fn collect_members(&self, out: &mut Samples) {
        let mut active = 0_u64;
        let mut by_state: BTreeMap<GroupState, u64> =
            GroupState::LIVE.iter().map(|state| (*state, 0)).collect();
        let mut members_by_group = Vec::new();
        for group in self.all() {
            let group = group.lock();
            let group = group.protocol();
            let Some(count) = by_state.get_mut(&group.state()) else {
                continue;
            };
            *count += 1;
            let members = group.member_count() as u64;
            active += u64::from(members > 0);
            members_by_group.push((group.id().to_owned(), members, group.completed_rebalances()));
        }
        out.family(&catalog::CONSUMER_GROUPS_TOTAL)
            .sample(&[], active);
        for (state, groups) in by_state {
            out.family(&catalog::CONSUMER_GROUPS_BY_STATE)
                .sample(&[("state", &state.name())], groups);
        }
        for (group, members, rebalances) in members_by_group {
            out.family(&catalog::CONSUMER_GROUP_MEMBERS)
                .sample(&[("group", &group)], members);
            out.family(&catalog::CONSUMER_GROUP_REBALANCES_TOTAL)
                .sample(&[("group", &group)], rebalances);
        }
    }
}

fn collect_lag(group: &String, topic: &TopicCommits, logs: &ScrapedOffsets, out: &mut Samples) {
    let logs = logs.of_topic(&topic.topic);
    for (partition, committed) in &topic.committed {
        let Some(log) = usize::try_from(*partition).ok().and_then(|it| logs.get(it)) else {
            continue;
        };
        let labels: [Label<'_>; 3] = [
            ("group", group),
            ("topic", &topic.topic),
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
