//! Features: formats and protocols whose level an operator finalizes, as the clients of a cluster expect (KIP-584).
//!
//! [`SUPPORTED`] is the only list of features and of the levels that this release has. The catalog stores the levels that were
//! set; a feature without one has its default. A level that this release does not support is refused at the start, since what
//! was written at that level may not be understood.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{OpenError, blocking};
use crate::catalog::{self, Catalog};
use crate::coordinator::transaction::TRANSACTION_VERSION;

/// A feature and its levels.
#[derive(Debug)]
pub struct Feature {
    pub name: &'static str,
    /// Supported levels. Level 0 means that the feature is off.
    pub levels: RangeInclusive<i16>,
    /// Level of a feature that was never set.
    default: i16,
}

const fn feature(name: &'static str, levels: RangeInclusive<i16>, default: i16) -> Feature {
    Feature {
        name,
        levels,
        default,
    }
}

/// The features of Kafka 4.4, by name, with the levels that this release supports.
pub const SUPPORTED: &[Feature] = &[
    // With one replica, the leader is the only one that can ever be eligible: both levels are the same.
    feature("eligible.leader.replicas.version", 0..=1, 1),
    feature("group.version", 0..=0, 0),
    feature("kraft.version", 0..=0, 0),
    // The level of Kafka 4.4. There are no older metadata records to stay compatible with.
    feature("metadata.version", 33..=33, 33),
    feature("share.version", 0..=0, 0),
    feature("streams.version", 0..=0, 0),
    feature(
        "transaction.version",
        0..=TRANSACTION_VERSION,
        TRANSACTION_VERSION,
    ),
];

/// The levels in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizedFeatures {
    /// By name; all of [`SUPPORTED`].
    pub levels: BTreeMap<&'static str, i16>,
    /// Number of changes made to them.
    pub epoch: i64,
}

/// Permitted direction of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateDirection {
    Upgrade,
    Downgrade,
}

/// A requested change of a level.
#[derive(Debug, Clone)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub direction: UpdateDirection,
}

/// A changed level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureChange {
    pub name: &'static str,
    pub before: i16,
    pub after: i16,
}

/// Reasons for which levels cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error("this server has no feature {0}")]
    Unknown(String),
    #[error("{name} cannot have level {level}: this server supports {} to {}", .supported.start(), .supported.end())]
    Unsupported {
        name: &'static str,
        level: i16,
        supported: RangeInclusive<i16>,
    },
    #[error("{name} has level {current}, and {level} is lower: specify a downgrade")]
    Lower {
        name: &'static str,
        current: i16,
        level: i16,
    },
    #[error("{name} has level {current}, and a downgrade to {level} would raise it")]
    Higher {
        name: &'static str,
        current: i16,
        level: i16,
    },
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The task of the change ended early, as when the server is shutting down.
    #[error("the change was interrupted")]
    Interrupted,
}

/// The levels in effect, and their changes.
pub struct Features {
    catalog: Arc<dyn Catalog>,
    finalized: RwLock<FinalizedFeatures>,
    /// Held during each change.
    changes: tokio::sync::Mutex<()>,
}

impl Features {
    /// Reads the stored levels.
    pub(super) async fn open(catalog: Arc<dyn Catalog>) -> Result<Arc<Features>, OpenError> {
        blocking(move || {
            let stored = catalog.feature_levels()?;
            let mut levels = BTreeMap::new();
            for feature in SUPPORTED {
                let level = stored.levels.get(feature.name).copied();
                let level = level.unwrap_or(feature.default);
                if !feature.levels.contains(&level) {
                    return Err(OpenError::Feature {
                        name: feature.name,
                        level,
                    });
                }
                levels.insert(feature.name, level);
            }
            let finalized = FinalizedFeatures {
                levels,
                epoch: stored.epoch,
            };
            Ok(Arc::new(Features {
                catalog,
                finalized: RwLock::new(finalized),
                changes: tokio::sync::Mutex::default(),
            }))
        })
        .await
    }

    pub fn finalized(&self) -> FinalizedFeatures {
        self.finalized.read().clone()
    }

    /// Changes levels, all or none. With `validate_only` it checks everything and changes nothing. Returns the changes. The
    /// change completes even if the caller is dropped.
    pub async fn update(
        self: &Arc<Self>,
        updates: Vec<FeatureUpdate>,
        validate_only: bool,
    ) -> Result<Vec<FeatureChange>, FeatureError> {
        let features = Arc::clone(self);
        let task = tokio::spawn(async move {
            let _turn = features.changes.lock().await;
            let changes = features.check(updates)?;
            if !validate_only && !changes.is_empty() {
                features.apply(&changes).await?;
            }
            Ok(changes)
        });
        task.await.unwrap_or(Err(FeatureError::Interrupted))
    }

    fn check(&self, updates: Vec<FeatureUpdate>) -> Result<Vec<FeatureChange>, FeatureError> {
        let finalized = self.finalized.read();
        let mut changes = Vec::new();
        for update in updates {
            let feature = SUPPORTED.iter().find(|each| each.name == update.name);
            let feature = feature.ok_or(FeatureError::Unknown(update.name))?;
            let (name, before) = (feature.name, finalized.levels[feature.name]);
            check_level(feature, before, update.level, update.direction)?;
            if before != update.level {
                changes.push(FeatureChange {
                    name,
                    before,
                    after: update.level,
                });
            }
        }
        Ok(changes)
    }

    async fn apply(&self, changes: &[FeatureChange]) -> Result<(), FeatureError> {
        let levels = changes.iter().map(|it| (it.name.to_owned(), it.after));
        let epoch = self.catalog.set_feature_levels(levels.collect()).await?;
        let mut finalized = self.finalized.write();
        finalized
            .levels
            .extend(changes.iter().map(|it| (it.name, it.after)));
        finalized.epoch = epoch;
        Ok(())
    }
}

fn check_level(
    feature: &Feature,
    current: i16,
    level: i16,
    direction: UpdateDirection,
) -> Result<(), FeatureError> {
    let name = feature.name;
    if !feature.levels.contains(&level) {
        return Err(FeatureError::Unsupported {
            name,
            level,
            supported: feature.levels.clone(),
        });
    }
    match direction {
        UpdateDirection::Upgrade if level < current => Err(FeatureError::Lower {
            name,
            current,
            level,
        }),
        UpdateDirection::Downgrade if level > current => Err(FeatureError::Higher {
            name,
            current,
            level,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Sqlite;

    const ELR: &str = "eligible.leader.replicas.version";

    async fn open(catalog: &Arc<Sqlite>) -> Result<Arc<Features>, OpenError> {
        Features::open(Arc::clone(catalog) as Arc<dyn Catalog>).await
    }

    fn to(name: &str, level: i16, direction: UpdateDirection) -> Vec<FeatureUpdate> {
        vec![FeatureUpdate {
            name: name.to_owned(),
            level,
            direction,
        }]
    }

    #[test]
    fn features_are_listed_by_name_with_a_supported_default() {
        assert!(SUPPORTED.is_sorted_by_key(|feature| feature.name));
        for feature in SUPPORTED {
            assert!(feature.levels.contains(&feature.default), "{feature:?}");
        }
    }

    #[tokio::test]
    async fn a_level_that_was_set_survives_a_restart_and_counts_as_a_change() {
        let catalog = Arc::new(Sqlite::in_memory().unwrap());
        let features = open(&catalog).await.unwrap();
        assert_eq!(features.finalized().epoch, 0);
        assert_eq!(features.finalized().levels[ELR], 1);
        let off = || to(ELR, 0, UpdateDirection::Downgrade);
        let expected = [FeatureChange {
            name: ELR,
            before: 1,
            after: 0,
        }];
        assert_eq!(features.update(off(), true).await.unwrap(), expected);
        assert_eq!(features.finalized().levels[ELR], 1);
        assert_eq!(features.update(off(), false).await.unwrap(), expected);
        assert_eq!(features.update(off(), false).await.unwrap(), []);
        let reopened = open(&catalog).await.unwrap();
        for features in [features, reopened] {
            let finalized = features.finalized();
            assert_eq!((finalized.levels[ELR], finalized.epoch), (0, 1));
        }
    }

    #[tokio::test]
    async fn a_change_with_one_refused_level_changes_nothing() {
        let catalog = Arc::new(Sqlite::in_memory().unwrap());
        let features = open(&catalog).await.unwrap();
        for (name, level, direction, message) in [
            ("nope", 1, UpdateDirection::Upgrade, "has no feature nope"),
            (
                "group.version",
                2,
                UpdateDirection::Upgrade,
                "supports 0 to 0",
            ),
            (ELR, 0, UpdateDirection::Upgrade, "specify a downgrade"),
            (ELR, -1, UpdateDirection::Downgrade, "cannot have level -1"),
        ] {
            let mut updates = to("metadata.version", 33, UpdateDirection::Upgrade);
            updates.extend(to(ELR, 0, UpdateDirection::Downgrade));
            updates.extend(to(name, level, direction));
            let refused = features.update(updates, false).await.unwrap_err();
            assert!(refused.to_string().contains(message), "{refused}");
        }
        features
            .update(to(ELR, 0, UpdateDirection::Downgrade), false)
            .await
            .unwrap();
        let refused = features
            .update(to(ELR, 1, UpdateDirection::Downgrade), false)
            .await;
        assert!(refused.unwrap_err().to_string().contains("would raise it"));
        assert_eq!(features.finalized().epoch, 1);
    }

    #[tokio::test]
    async fn a_stored_level_of_a_newer_release_is_refused_at_the_start() {
        let catalog = Arc::new(Sqlite::in_memory().unwrap());
        let newer = BTreeMap::from([("group.version".to_owned(), 9)]);
        catalog.set_feature_levels(newer).await.unwrap();
        let refused = open(&catalog).await.err().unwrap().to_string();
        assert!(refused.contains("group.version has level 9"), "{refused}");
    }
}
