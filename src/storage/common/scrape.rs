//! Metrics of the logs.
//!
//! Read from the live partitions at scrape time; nothing is pushed, so a deleted topic's series disappear with the next
//! scrape and an idle partition costs nothing.

use std::sync::Arc;

use super::topic::Topic;
use crate::metrics::{LabelValue, Samples, catalog};
use crate::storage::Offsets;

/// The offsets of every log as one scrape shows them.
///
/// Each log is read once per scrape. A collector that relates other offsets to those of a log takes them from here, so
/// that all numbers of one exposition agree.
#[derive(Debug, Default)]
pub struct ScrapedOffsets {
    /// Sorted by topic; by partition within it.
    topics: Vec<(Arc<str>, Vec<Offsets>)>,
}

impl ScrapedOffsets {
    /// Returns the offsets of a topic's partitions, by number; none if the scrape shows no such topic.
    pub fn of_topic(&self, name: &str) -> &[Offsets] {
        match self
            .topics
            .binary_search_by(|(topic, _)| (**topic).cmp(name))
        {
            Ok(index) => &self.topics[index].1,
            Err(_) => &[],
        }
    }
}

impl FromIterator<(Arc<str>, Vec<Offsets>)> for ScrapedOffsets {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Vec<Offsets>)>>(topics: I) -> Self {
        let mut topics: Vec<_> = topics.into_iter().collect();
        topics.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Self { topics }
    }
}

/// Writes the samples of every log and returns the offsets among them.
pub(in crate::storage) fn collect(topics: &[Arc<Topic>], out: &mut Samples) -> ScrapedOffsets {
    out.family(&catalog::TOPICS_TOTAL)
        .sample(&[], topics.len() as u64);
    for topic in topics {
        out.family(&catalog::PARTITIONS_TOTAL)
            .sample(&[("topic", topic.name())], topic.partition_count() as u64);
    }
    let scraped = topics.iter().map(|topic| {
        let partitions = topic.partitions();
        let mut offsets = Vec::with_capacity(partitions.len());
        for partition in partitions.iter() {
            let number = partition.number();
            let labels: [(&str, &dyn LabelValue); 2] =
                [("topic", topic.name()), ("partition", &number)];
            let snapshot = partition.snapshot();
            out.family(&catalog::RECORDS_TOTAL)
                .sample(&labels, snapshot.records_total);
            out.family(&catalog::LOG_SIZE_BYTES)
                .sample(&labels, snapshot.size_bytes);
            out.family(&catalog::LOG_END_OFFSET)
                .sample(&labels, snapshot.offsets.log_end);
            out.family(&catalog::LOG_START_OFFSET)
                .sample(&labels, snapshot.offsets.log_start);
            out.family(&catalog::LOG_HIGH_WATERMARK)
                .sample(&labels, snapshot.offsets.high_watermark);
            out.family(&catalog::LOG_LAST_STABLE_OFFSET)
                .sample(&labels, snapshot.offsets.last_stable);
            out.family(&catalog::SEGMENTS_TOTAL)
                .sample(&labels, snapshot.segments as u64);
            offsets.push(snapshot.offsets);
        }
        (Arc::clone(topic.name()), offsets)
    });
    scraped.collect()
}
