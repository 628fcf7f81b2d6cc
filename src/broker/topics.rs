//! Changes to topics: creation, deletion, more partitions, configs.
//!
//! The catalog determines which topics exist; storage holds their records. Each change runs in a task of its own, so that a
//! client that disconnects cannot stop it half-way, and one at a time. The next start repairs what a crash between the steps
//! leaves behind:
//!
//! * **Create, more partitions**: catalog first. A crash in between leaves a topic without (some) directories; they are
//!   created, empty, when it is opened. If storage fails, the catalog's change is rolled back.
//! * **Delete**: one transaction removes the topic and its committed offsets from the catalog and records its id as
//!   deleted; then storage removes the directories; then the id is removed. A crash in between leaves the id, by which
//!   the next start knows that directories with this id are to be removed and not to be adopted.
//! * **Configs**: catalog first, then the topic in memory, which a restart sets from the catalog.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::{Broker, OpenError};
use crate::catalog::{self, Catalog, TopicRow};
use crate::config::{ConfigError, ConfigType, TopicConfig};
use crate::storage::{self, Engine, Storage, Topic, TopicSpec};

/// Longest topic name in bytes; together with the partition's number it has to fit a directory name.
const NAME_LEN_MAX: usize = 249;

/// Topics in which Kafka keeps its own state. Clients cannot create them, and directories of these names that Kafka left
/// behind are not adopted. Topics of these names in the catalog are ordinary ones, created by earlier releases.
const INTERNAL: [&str; 4] = [
    "__cluster_metadata",
    CONSUMER_OFFSETS,
    "__share_group_state",
    "__transaction_state",
];

/// The topic in which Kafka keeps committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// Configs set for an adopted topic, whose own configs are unknown, so that the server's defaults neither delete nor compact
/// its records.
const ADOPTED_CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
];

/// A topic to be created.
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    /// Configs set for this topic, by Kafka's names.
    pub configs: BTreeMap<String, String>,
}

/// One edit of a topic's configs.
#[derive(Debug, Clone)]
pub struct ConfigEdit {
    pub name: String,
    pub operation: ConfigOperation,
}

#[derive(Debug, Clone)]
pub enum ConfigOperation {
    Set(String),
    /// Resets to the server's default.
    Delete,
    /// Adds items to a list, except those that it contains.
    Append(String),
    /// Removes items from a list.
    Subtract(String),
}

/// A changed config of a topic; `None` stands for the server's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    pub name: String,
    pub before: Option<String>,
    pub after: Option<String>,
}

/// Reasons for which a change of a topic fails.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TopicError {
    #[error("{0}")]
    InvalidName(String),
    #[error("topic '{0}' is internal to Kafka and cannot be created")]
    Internal(String),
    #[error("topic '{0}' already exists")]
    AlreadyExists(String),
    #[error("this server has no topic '{0}'")]
    Unknown(String),
    #[error("{0}")]
    InvalidPartitions(String),
    /// The change would exceed a limit of the server's settings.
    #[error("{0}")]
    LimitReached(String),
    #[error("{0}")]
    InvalidConfig(String),
    /// Kafka has another code for these than for invalid configs.
    #[error("{0}")]
    InvalidRequest(String),
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The task of the change ended early, as when the server is shutting down.
    #[error("the change was interrupted")]
    Interrupted,
}

impl TopicError {
    /// Creates the refusal to edit the items of a config that is no list.
    pub(super) fn no_list(name: &str) -> Self {
        TopicError::InvalidConfig(format!(
            "{name} is not a list: APPEND and SUBTRACT are not supported"
        ))
    }

    /// Returns true if the change failed because of the server's environment, not because of the request.
    fn is_fault(&self) -> bool {
        match self {
            TopicError::Catalog(error) => error.is_fault(),
            // Storage logs it once a minute, and clients retry all the time.
            TopicError::Storage(storage::Error::DiskFull { .. }) => false,
            TopicError::Storage(_) | TopicError::Interrupted => true,
            TopicError::InvalidName(_)
            | TopicError::Internal(_)
            | TopicError::AlreadyExists(_)
            | TopicError::Unknown(_)
            | TopicError::InvalidPartitions(_)
            | TopicError::LimitReached(_)
            | TopicError::InvalidConfig(_)
            | TopicError::InvalidRequest(_) => false,
        }
    }
}

impl From<ConfigError> for TopicError {
    fn from(error: ConfigError) -> Self {
        TopicError::InvalidConfig(error.to_string())
    }
}

impl Broker {
    /// Checks that a topic can be created, and returns its effective configs.
    pub fn check_new_topic(&self, new: &NewTopic) -> Result<TopicConfig, TopicError> {
        check_name(&new.name)?;
        if self.topics.get(&new.name).is_some() {
            return Err(TopicError::AlreadyExists(new.name.clone()));
        }
        if is_internal(&new.name) {
            return Err(TopicError::Internal(new.name.clone()));
        }
        let topics = self.topics.list();
        if let Some(other) = topics
            .iter()
            .find(|other| collides(other.name(), &new.name))
        {
            return Err(TopicError::InvalidName(format!(
                "topic '{}' collides with existing topic '{}': the names differ only in '.' and '_'",
                new.name,
                other.name()
            )));
        }
        if new.partitions < 1 {
            return Err(TopicError::InvalidPartitions(format!(
                "a topic needs at least 1 partition, got {}",
                new.partitions
            )));
        }
        self.check_partitions_max(new.partitions)?;
        Ok(self.dynamic.config().topic_defaults.apply(&new.configs)?)
    }

    /// Creates a topic. Of several attempts with the same name one succeeds, the others return `AlreadyExists`.
    pub async fn create_topic(self: &Arc<Self>, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        self.change(|broker| broker.create_now(new)).await
    }

    /// Deletes a topic, its records and all committed offsets of it.
    pub async fn delete_topic(self: &Arc<Self>, topic: Arc<Topic>) -> Result<(), TopicError> {
        self.change(|broker| broker.delete_now(topic)).await
    }

    /// Checks that a topic can be extended to `total` partitions. Returns the current number.
    pub fn check_new_partitions(&self, name: &str, total: i32) -> Result<i32, TopicError> {
        let topic = self.known_topic(name)?;
        let current = topic.partition_count();
        if total <= current {
            return Err(TopicError::InvalidPartitions(format!(
                "topic '{name}' has {current} partitions, cannot change to {total}: partitions can only be added"
            )));
        }
        self.check_partitions_max(total - current)?;
        Ok(current)
    }

    /// Extends a topic to `total` partitions. Returns the previous number.
    pub async fn add_partitions(
        self: &Arc<Self>,
        name: String,
        total: i32,
    ) -> Result<i32, TopicError> {
        self.change(move |broker| broker.add_partitions_now(name, total))
            .await
    }

    /// Edits the configs of a topic. With `validate_only` it checks everything and changes nothing. Returns the changes.
    pub async fn edit_configs(
        self: &Arc<Self>,
        name: String,
        edits: Vec<ConfigEdit>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| async move {
            let defaults = &broker.dynamic.config().topic_defaults;
            let list_default = |name: &str| topic_list_default(name, defaults);
            let configs = edited(broker.overrides(&name), edits, list_default)?;
            broker.set_configs_now(name, configs, validate_only).await
        })
        .await
    }

    /// Replaces all configs set for a topic. Returns the changes.
    pub async fn replace_configs(
        self: &Arc<Self>,
        name: String,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        self.change(move |broker| broker.set_configs_now(name, configs, validate_only))
            .await
    }

    /// Runs one change to its end, even if the caller is dropped, and one at a time.
    pub(super) async fn change<T, F, Fut>(self: &Arc<Self>, change: F) -> Result<T, TopicError>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Broker>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, TopicError>> + Send,
    {
        let broker = Arc::clone(self);
        let task = tokio::spawn(async move {
            let turn = Arc::clone(&broker);
            let _turn = turn.topic_changes.lock().await;
            change(broker).await
        });
        let outcome = task.await.unwrap_or(Err(TopicError::Interrupted));
        if let Err(fault) = &outcome
            && fault.is_fault()
        {
            error!(%fault, "topic change failed");
        }
        outcome
    }

    async fn create_now(self: Arc<Self>, new: NewTopic) -> Result<Arc<Topic>, TopicError> {
        let config = self.check_new_topic(&new)?;
        let name = new.name.clone();
        // Before the catalog knows of the topic: a crash that leaves it there has the next start create it.
        self.in_storage(move |topics| topics.admit_topic(&name))
            .await?;
        let id = Uuid::new_v4();
        let row = TopicRow {
            name: new.name.clone(),
            id,
            partitions: new.partitions,
            configs: config.overrides.clone(),
        };
        match self.catalog.create_topic(row.clone()).await {
            Err(catalog::Error::TopicExists(_)) => {
                // Storage has no such topic: an earlier creation failed there and could not be rolled back in the catalog.
                self.catalog.delete_topic(&new.name).await?;
                self.catalog.create_topic(row).await?;
            }
            other => other?,
        }
        let spec = TopicSpec {
            name: new.name.clone(),
            id,
            partitions: new.partitions,
            config,
        };
        match self.in_storage(move |topics| topics.create(spec)).await {
            Ok(topic) => {
                debug!(
                    topic = new.name,
                    partitions = new.partitions,
                    "topic created"
                );
                Ok(topic)
            }
            Err(refused) => {
                if let Err(error) = self.catalog.delete_topic(&new.name).await {
                    error!(topic = new.name, %error, "cannot roll back the creation of a topic, it stays in the catalog");
                }
                Err(refused)
            }
        }
    }

    async fn delete_now(self: Arc<Self>, topic: Arc<Topic>) -> Result<(), TopicError> {
        let name = topic.name();
        if self.known_topic(name)?.id() != topic.id() {
            return Err(TopicError::Unknown(name.to_string()));
        }
        match self.catalog.delete_topic(name).await {
            // An earlier attempt removed it from the catalog, and then storage failed.
            Ok(()) | Err(catalog::Error::NoSuchTopic(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let owned = Arc::clone(name);
        self.in_storage(move |topics| topics.delete(&owned)).await?;
        if let Err(error) = self.catalog.forget_deleted_topic(topic.id()).await {
            // Harmless: the next start tries again.
            warn!(topic = %topic.name(), %error, "cannot remove the id of a deleted topic from the catalog");
        }
        debug!(topic = %topic.name(), "topic deleted");
        Ok(())
    }

    async fn add_partitions_now(
        self: Arc<Self>,
        name: String,
        total: i32,
    ) -> Result<i32, TopicError> {
        let before = self.check_new_partitions(&name, total)?;
        self.topics.admit_growth()?;
        self.catalog.set_partitions(&name, total).await?;
        let owned = name.clone();
        let added = self
            .in_storage(move |topics| topics.add_partitions(&owned, total))
            .await;
        if let Err(refused) = added {
            if let Err(error) = self.catalog.set_partitions(&name, before).await {
                error!(topic = name, %error, "cannot roll back the addition of partitions, they stay in the catalog");
            }
            return Err(refused);
        }
        debug!(topic = name, before, total, "partitions added");
        Ok(before)
    }

    async fn set_configs_now(
        self: Arc<Self>,
        name: String,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Vec<ConfigChange>, TopicError> {
        let before = self.known_topic(&name)?.config();
        let defaults = &self.dynamic.config().topic_defaults;
        let after = defaults.apply_over(&configs, &before.overrides)?;
        if validate_only {
            return Ok(Vec::new());
        }
        let changes = changes(&before.overrides, &after.overrides);
        self.catalog
            .set_topic_configs(&name, after.overrides.clone())
            .await?;
        self.topics.set_config(&name, after)?;
        Ok(changes)
    }

    /// Returns the configs set for a topic; empty for a topic that does not exist.
    pub(super) fn overrides(&self, name: &str) -> BTreeMap<String, String> {
        let topic = self.topics.get(name);
        topic.map_or_else(BTreeMap::new, |topic| topic.config().overrides.clone())
    }

    fn known_topic(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        self.topics
            .get(name)
            .ok_or_else(|| TopicError::Unknown(name.to_owned()))
    }

    fn check_partitions_max(&self, more: i32) -> Result<(), TopicError> {
        let there: i64 = self
            .topics
            .list()
            .iter()
            .map(|topic| i64::from(topic.partition_count()))
            .sum();
        let limit = self.config.max_partitions;
        if there + i64::from(more) > i64::from(limit) {
            return Err(TopicError::LimitReached(format!(
                "{more} more partitions than the existing {there} would exceed max_partitions = {limit}"
            )));
        }
        Ok(())
    }

    /// Runs a change of the storage on a blocking thread.
    async fn in_storage<T, F>(&self, work: F) -> Result<T, TopicError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Engine) -> Result<T, storage::Error> + Send + 'static,
    {
        let topics = Arc::clone(&self.topics);
        match tokio::task::spawn_blocking(move || work(&*topics)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(TopicError::Interrupted),
        }
    }
}

/// Topics of the catalog and the storage at the start, compared.
pub(super) struct TopicInventory {
    known: Vec<TopicRow>,
    /// Topics in the storage that the catalog does not know, such as those that Kafka wrote.
    adopted: Vec<TopicRow>,
    deleted: HashSet<Uuid>,
}

impl TopicInventory {
    /// Finishes deletions interrupted by a crash, and compares catalog and storage. Blocks.
    pub(super) fn take(
        catalog: &dyn Catalog,
        storage: &dyn Storage,
    ) -> Result<TopicInventory, OpenError> {
        let known = catalog.topics()?;
        let deleted = catalog.deleted_topics()?;
        let mut adopted = Vec::new();
        for found in storage.found_topics()? {
            if deleted.contains(&found.id) {
                info!(topic = found.name, "finishing interrupted topic deletion");
                storage.remove_topic(&found)?;
            } else if known.iter().all(|row| row.name != found.name) && is_adoptable(&found.name) {
                adopted.push(TopicRow {
                    name: found.name,
                    id: found.id,
                    partitions: found.partitions,
                    configs: BTreeMap::from(
                        ADOPTED_CONFIGS.map(|(name, value)| (name.to_owned(), value.to_owned())),
                    ),
                });
            }
        }
        Ok(TopicInventory {
            known,
            adopted,
            deleted,
        })
    }

    /// Returns the names of the adopted topics.
    pub(super) fn adopted(&self) -> HashSet<String> {
        self.adopted.iter().map(|row| row.name.clone()).collect()
    }

    /// Returns the topics to open.
    pub(super) fn topics(&self, defaults: &TopicConfig) -> Result<Vec<TopicSpec>, OpenError> {
        let mut specs = Vec::new();
        for row in self.known.iter().chain(&self.adopted) {
            let config = defaults
                .apply_over(&row.configs, &row.configs)
                .map_err(|error| OpenError::Config {
                    topic: row.name.clone(),
                    reason: error.to_string(),
                })?;
            specs.push(TopicSpec {
                name: row.name.clone(),
                id: row.id,
                partitions: row.partitions,
                config,
            });
        }
        Ok(specs)
    }

    /// Returns the largest producer id in the adopted logs. Their server allocated ids from 0, like this one, and the first
    /// records of a new producer with a reused id would be taken for retries. Blocks.
    pub(super) fn largest_adopted_producer_id(
        &self,
        topics: &dyn Engine,
    ) -> Result<Option<i64>, storage::Error> {
        let mut largest = None;
        for topic in self.adopted.iter().filter_map(|row| topics.get(&row.name)) {
            for partition in topic.partitions().iter() {
                largest = largest.max(partition.largest_producer_id()?);
            }
        }
        Ok(largest)
    }

    /// Updates the catalog, once the logs are open: adds adopted topics, removes ids of deleted ones.
    pub(super) async fn settle(
        self,
        catalog: &dyn Catalog,
        largest_producer_id: Option<i64>,
    ) -> Result<(), OpenError> {
        if let Some(id) = largest_producer_id {
            catalog.skip_producer_ids(id).await?;
        }
        for row in self.adopted {
            let (topic, partitions) = (&row.name, row.partitions);
            warn!(
                topic,
                partitions,
                "adopting topic found in the data directory, records are kept until its retention is set"
            );
            catalog.create_topic(row).await?;
        }
        for id in self.deleted {
            catalog.forget_deleted_topic(id).await?;
        }
        Ok(())
    }
}

fn is_adoptable(name: &str) -> bool {
    check_name(name).is_ok() && !is_internal(name)
}

/// Returns whether Kafka keeps state of its own in a topic of this name.
pub fn is_internal(name: &str) -> bool {
    INTERNAL.contains(&name)
}

/// Checks a topic name by Kafka's rules.
pub fn check_name(name: &str) -> Result<(), TopicError> {
    let reason = if name.is_empty() {
        "topic name is empty".to_owned()
    } else if name == "." || name == ".." {
        format!("topic name '{name}' is not allowed")
    } else if name.len() > NAME_LEN_MAX {
        format!(
            "topic name is longer than {NAME_LEN_MAX} bytes: {} bytes",
            name.len()
        )
    } else if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    {
        format!(
            "topic name '{name}' contains characters other than ASCII letters, digits, '.', '_' and '-'"
        )
    } else {
        return Ok(());
    };
    Err(TopicError::InvalidName(reason))
}

/// Returns whether two names differ only in dots and underscores. Kafka's metrics cannot distinguish them, so Kafka refuses
/// the second.
fn collides(one: &str, other: &str) -> bool {
    let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
    one != other && one.bytes().map(plain).eq(other.bytes().map(plain))
}

/// Returns `configs` after `edits`. `list_default` returns the default of a list, and an error for a config that is none.
pub(super) fn edited(
    mut configs: BTreeMap<String, String>,
    edits: Vec<ConfigEdit>,
    list_default: impl Fn(&str) -> Result<String, TopicError>,
) -> Result<BTreeMap<String, String>, TopicError> {
    for ConfigEdit { name, operation } in edits {
        match operation {
            ConfigOperation::Set(value) => {
                configs.insert(name, value);
            }
            // Kafka accepts any name here: MirrorMaker 2 deletes all configs that the source topic has by default.
            ConfigOperation::Delete => {
                configs.remove(&name);
            }
            ConfigOperation::Append(value) => {
                let mut items = list_items(&configs, &name, &list_default)?;
                if !value.trim().is_empty() {
                    for item in value.split(',').map(str::trim) {
                        if !items.iter().any(|each| each == item) {
                            items.push(item.to_owned());
                        }
                    }
                }
                configs.insert(name, items.join(","));
            }
            ConfigOperation::Subtract(value) => {
                let mut items = list_items(&configs, &name, &list_default)?;
                items.retain(|each| value.split(',').all(|item| item.trim() != each));
                configs.insert(name, items.join(","));
            }
        }
    }
    Ok(configs)
}

/// Returns the differences between two sets of configs.
pub(super) fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<ConfigChange> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| ConfigChange {
            name: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

/// Returns the default of a topic's list config; fails for a config that is no list.
fn topic_list_default(name: &str, defaults: &TopicConfig) -> Result<String, TopicError> {
    let definition = TopicConfig::definition(name)
        .ok_or_else(|| TopicError::InvalidConfig(format!("unknown topic config {name}")))?;
    match definition.kind.config_type() {
        ConfigType::List => Ok(definition.value(defaults)),
        _ => Err(TopicError::no_list(name)),
    }
}

/// Returns the items of a list config, as set or by default. Checks that the config is a list even if it is set.
fn list_items(
    configs: &BTreeMap<String, String>,
    name: &str,
    list_default: impl Fn(&str) -> Result<String, TopicError>,
) -> Result<Vec<String>, TopicError> {
    let default = list_default(name)?;
    let value = configs.get(name).unwrap_or(&default);
    Ok(value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    fn edit(name: &str, operation: ConfigOperation) -> ConfigEdit {
        ConfigEdit {
            name: name.to_owned(),
            operation,
        }
    }

    #[test]
    fn names_follow_kafkas_rules() {
        for name in ["a", "A.b_c-9", "...", &"x".repeat(249)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", &"x".repeat(250)] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_collide() {
        assert!(collides("a.b_c", "a_b.c"));
        assert!(!collides("a.b", "a.b"));
        assert!(!collides("a.b", "a-b"));
        assert!(!collides("a.b", "a.bc"));
    }

    #[test]
    fn edits_apply_in_order_and_keep_other_configs() {
        let before = configs(&[("retention.ms", "1"), ("segment.bytes", "1024")]);
        let defaults = TopicConfig::default();
        let after = edited(
            before,
            vec![
                edit("retention.ms", ConfigOperation::Delete),
                edit("retention.bytes", ConfigOperation::Set("5".into())),
            ],
            |name| topic_list_default(name, &defaults),
        );
        assert_eq!(
            after.unwrap(),
            configs(&[("retention.bytes", "5"), ("segment.bytes", "1024")])
        );
    }

    #[test]
    fn changes_are_the_configs_that_differ() {
        let before = configs(&[("a", "1"), ("b", "2"), ("c", "3")]);
        let after = configs(&[("b", "2"), ("c", "4"), ("d", "5")]);
        let change = |name: &str, before: Option<&str>, after: Option<&str>| ConfigChange {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        let expected = [
            change("a", Some("1"), None),
            change("c", Some("3"), Some("4")),
            change("d", None, Some("5")),
        ];
        assert_eq!(changes(&before, &after), expected);
        assert_eq!(changes(&before, &before), []);
    }

    fn edited_alone(
        before: &BTreeMap<String, String>,
        name: &str,
        operation: ConfigOperation,
    ) -> Result<BTreeMap<String, String>, TopicError> {
        let edits = vec![edit(name, operation)];
        let defaults = TopicConfig::default();
        edited(before.clone(), edits, |name| {
            topic_list_default(name, &defaults)
        })
    }

    #[test]
    fn list_edits_start_from_the_default_and_add_no_duplicates() {
        let after = |before: &BTreeMap<String, String>, operation| {
            edited_alone(before, "cleanup.policy", operation).unwrap()
        };
        let appended = after(
            &configs(&[]),
            ConfigOperation::Append("delete,compact".into()),
        );
        assert_eq!(appended["cleanup.policy"], "delete,compact");
        let subtracted = after(&appended, ConfigOperation::Subtract("compact".into()));
        assert_eq!(subtracted["cleanup.policy"], "delete");
        let emptied = after(&subtracted, ConfigOperation::Subtract("delete".into()));
        assert_eq!(emptied["cleanup.policy"], "");
        let unchanged = after(&emptied, ConfigOperation::Append(String::new()));
        assert_eq!(unchanged["cleanup.policy"], "");
    }

    #[test]
    fn list_edits_start_from_the_servers_default() {
        let keeping = TopicConfig::default()
            .apply(&configs(&[("cleanup.policy", "")]))
            .unwrap();
        let append = edit("cleanup.policy", ConfigOperation::Append(String::new()));
        let list_default = |name: &str| topic_list_default(name, &keeping);
        let after = edited(configs(&[]), vec![append], list_default).unwrap();
        assert_eq!(after["cleanup.policy"], "");
    }

    #[test]
    fn append_and_subtract_are_refused_for_other_types_than_lists() {
        for (name, operation) in [
            ("retention.ms", ConfigOperation::Append("1".into())),
            ("retention.ms", ConfigOperation::Subtract("1".into())),
            ("retention.msec", ConfigOperation::Append("1".into())),
        ] {
            let refused = edited_alone(&configs(&[]), name, operation);
            assert!(
                matches!(refused, Err(TopicError::InvalidConfig(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn deleting_an_unset_or_unknown_config_changes_nothing() {
        let before = configs(&[("segment.bytes", "1024")]);
        for name in ["retention.ms", "no.such.setting"] {
            let after = edited_alone(&before, name, ConfigOperation::Delete);
            assert_eq!(after.unwrap(), before, "{name}");
        }
    }
}
