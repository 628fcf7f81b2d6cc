//! The offsets of every log as one scrape shows them.

use std::sync::Arc;

use crate::storage::local::Offsets;

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
