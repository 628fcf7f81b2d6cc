//! The open topics of an engine, each with its partitions as the engine's own type.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;
use uuid::Uuid;

use super::error::Error;
use super::topic::{Topic, TopicInfo};
use crate::storage::PartitionLog;

/// The open topics of an engine, by name and by id.
pub(in crate::storage) struct Registry<P> {
    topics: RwLock<Topics<P>>,
}

struct Topics<P> {
    by_name: BTreeMap<Arc<str>, Entry<P>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

struct Entry<P> {
    topic: Arc<Topic>,
    partitions: Vec<Arc<P>>,
}

impl<P> Default for Registry<P> {
    fn default() -> Self {
        Self {
            topics: RwLock::new(Topics {
                by_name: BTreeMap::new(),
                by_id: HashMap::new(),
            }),
        }
    }
}

impl<P: PartitionLog + 'static> Registry<P> {
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        let topics = self.topics.read();
        Some(Arc::clone(&topics.by_name.get(name)?.topic))
    }

    /// Returns a topic that must exist.
    pub fn existing(&self, name: &str) -> Result<Arc<Topic>, Error> {
        self.get(name).ok_or_else(|| Error::UnknownTopic {
            topic: name.to_string(),
        })
    }

    /// Returns an error if there is a topic of that name.
    pub fn check_free(&self, name: &str) -> Result<(), Error> {
        match self.topics.read().by_name.contains_key(name) {
            true => Err(Error::TopicExists {
                topic: name.to_string(),
            }),
            false => Ok(()),
        }
    }

    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.topics.read().by_id.get(&id).cloned()
    }

    /// Returns all topics, sorted by name.
    pub fn list(&self) -> Vec<Arc<Topic>> {
        let topics = self.topics.read();
        let entries = topics.by_name.values();
        entries.map(|entry| Arc::clone(&entry.topic)).collect()
    }

    /// Returns the partitions of a topic, by number; none if it does not exist.
    pub fn partitions_of(&self, name: &str) -> Vec<Arc<P>> {
        let topics = self.topics.read();
        let entry = topics.by_name.get(name);
        entry.map_or(Vec::new(), |entry| entry.partitions.clone())
    }

    /// Returns the partitions of all topics.
    pub fn partitions(&self) -> Vec<Arc<P>> {
        let topics = self.topics.read();
        let entries = topics.by_name.values();
        entries
            .flat_map(|entry| entry.partitions.iter().cloned())
            .collect()
    }

    pub fn insert(&self, info: Arc<TopicInfo>, partitions: Vec<Arc<P>>) -> Arc<Topic> {
        let topic = Arc::new(Topic::new(info, logs(&partitions)));
        let mut topics = self.topics.write();
        topics.by_id.insert(topic.id(), Arc::clone(&topic));
        let entry = Entry {
            topic: Arc::clone(&topic),
            partitions,
        };
        topics.by_name.insert(Arc::clone(topic.name()), entry);
        topic
    }

    /// Adds partitions to a topic.
    pub fn extend(&self, name: &str, added: Vec<Arc<P>>) {
        let mut topics = self.topics.write();
        if let Some(entry) = topics.by_name.get_mut(name) {
            entry.partitions.extend(added);
            entry.topic.set_partitions(logs(&entry.partitions));
        }
    }

    pub fn remove(&self, topic: &Topic) {
        let mut topics = self.topics.write();
        topics.by_name.remove(topic.name());
        topics.by_id.remove(&topic.id());
    }
}

fn logs<P: PartitionLog + 'static>(partitions: &[Arc<P>]) -> Arc<[Arc<dyn PartitionLog>]> {
    let partitions = partitions.iter();
    partitions
        .map(|partition| Arc::clone(partition) as Arc<dyn PartitionLog>)
        .collect()
}
