//! Validation of batches before an append, and the changes that the topic's settings require.
//!
//! All of it runs before the append lock is taken.

use std::sync::Arc;

use super::error::{Error, RecordsWithoutKey, TimestampsOutOfRange};
use crate::config::{CompressionType, TimestampType, TopicConfig};
use crate::record::{Compression, DecompressLimit, RecordBatch, RecordsSummary};

/// The timestamp of a record that has none.
const NO_TIMESTAMP: i64 = -1;

/// Batches as they will be stored, except for offsets and leader epoch.
#[derive(Debug)]
pub(in crate::storage) struct Validated {
    pub batches: Vec<RecordBatch>,
    /// The timestamp given to the records, if the topic uses `LogAppendTime`.
    pub log_append_time_ms: Option<i64>,
}

/// Checks batches against the topic's limits, and recompresses and stamps them as its settings require.
pub(in crate::storage) fn validate(
    mut batches: Vec<RecordBatch>,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<Validated, Error> {
    if batches.is_empty() {
        return Err(crate::record::Error::Empty.into());
    }
    let stamps = config.message_timestamp_type == TimestampType::LogAppendTime;
    for batch in &mut batches {
        let header = batch.header();
        let attributes = header.attributes;
        if attributes.is_control() || (attributes.is_transactional() && !header.is_idempotent()) {
            return Err(Error::NotAClientBatch);
        }
        check_size(batch, config)?;
        batch.check_readable_by_kafka()?;
        let summary = batch.validate_records(DecompressLimit::default())?;
        if config.cleanup_policy.compact {
            check_keys(batch)?;
        }
        if !stamps {
            let range = TimeRange::of(config, now_ms);
            if !range.covers(summary) {
                range.check_each(batch)?;
            }
            if summary.max_timestamp != batch.header().max_timestamp {
                *batch = batch.with_max_timestamp(summary.max_timestamp);
            }
        }
        if let Some(codec) = codec_of(config.compression_type)
            && codec != batch.compression()
        {
            let level = level_of(config, codec);
            *batch = batch.recompress(codec, level, DecompressLimit::default())?;
            check_size(batch, config)?;
        }
        if stamps {
            *batch = batch.with_log_append_time(now_ms);
        }
    }
    Ok(Validated {
        batches,
        log_append_time_ms: stamps.then_some(now_ms),
    })
}

fn check_size(batch: &RecordBatch, config: &TopicConfig) -> Result<(), Error> {
    let limit = config.max_message_bytes.max(0) as usize;
    match batch.size_bytes() > limit {
        true => Err(Error::BatchTooLarge {
            size: batch.size_bytes(),
            limit,
        }),
        false => Ok(()),
    }
}

/// Checks that every record has a key: compaction could not tell which records it supersedes.
fn check_keys(batch: &RecordBatch) -> Result<(), Error> {
    let mut count = 0;
    let mut listed = Vec::new();
    batch.visit_keyless(DecompressLimit::default(), |index| {
        count += 1;
        if listed.len() < TimestampsOutOfRange::LISTED_MAX {
            listed.push(index);
        }
    })?;
    match count {
        0 => Ok(()),
        count => Err(Error::RecordsWithoutKey(Arc::new(RecordsWithoutKey {
            count,
            listed,
        }))),
    }
}

/// The timestamps that a topic accepts, for records that have one.
struct TimeRange {
    min_ms: i64,
    max_ms: i64,
    now_ms: i64,
}

impl TimeRange {
    fn of(config: &TopicConfig, now_ms: i64) -> Self {
        TimeRange {
            min_ms: now_ms.saturating_sub(config.message_timestamp_before_max_ms),
            max_ms: now_ms.saturating_add(config.message_timestamp_after_max_ms),
            now_ms,
        }
    }

    /// Returns true if the summary alone proves that all timestamps are accepted.
    fn covers(&self, summary: RecordsSummary) -> bool {
        let is_min_known = summary.min_timestamp != NO_TIMESTAMP || self.min_ms <= 0;
        is_min_known && self.accepts(summary.min_timestamp) && self.accepts(summary.max_timestamp)
    }

    /// Returns true if a timestamp is accepted. A record without one always is, as in Kafka.
    fn accepts(&self, timestamp_ms: i64) -> bool {
        timestamp_ms == NO_TIMESTAMP || (self.min_ms..=self.max_ms).contains(&timestamp_ms)
    }

    /// Checks every record, so that the error can list the wrong ones.
    fn check_each(&self, batch: &RecordBatch) -> Result<(), Error> {
        let mut count = 0;
        let mut listed = Vec::new();
        batch.visit_timestamps(DecompressLimit::default(), |index, timestamp_ms| {
            if !self.accepts(timestamp_ms) {
                count += 1;
                if listed.len() < TimestampsOutOfRange::LISTED_MAX {
                    listed.push((index, timestamp_ms));
                }
            }
        })?;
        let Some((index, timestamp_ms)) = listed.first().copied() else {
            return Ok(());
        };
        Err(Error::TimestampsOutOfRange(Arc::new(
            TimestampsOutOfRange {
                count,
                index,
                timestamp_ms,
                listed,
                min_ms: self.min_ms,
                max_ms: self.max_ms,
                now_ms: self.now_ms,
            },
        )))
    }
}

/// Returns the level of a codec that has levels here.
fn level_of(config: &TopicConfig, codec: Compression) -> Option<i32> {
    match codec {
        Compression::Gzip => Some(config.compression_gzip_level),
        Compression::Zstd => Some(config.compression_zstd_level),
        Compression::None | Compression::Snappy | Compression::Lz4 => None,
    }
}

fn codec_of(wanted: CompressionType) -> Option<Compression> {
    match wanted {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Compression::None),
        CompressionType::Gzip => Some(Compression::Gzip),
        CompressionType::Snappy => Some(Compression::Snappy),
        CompressionType::Lz4 => Some(Compression::Lz4),
        CompressionType::Zstd => Some(Compression::Zstd),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn batch(timestamp_ms: i64) -> RecordBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(timestamp_ms, None, Some(&[7; 1000]), &[]);
        builder.push(timestamp_ms + 5, None, Some(&[7; 1000]), &[]);
        builder.build().unwrap()
    }

    fn validate_one(batch: RecordBatch, config: &TopicConfig) -> Result<RecordBatch, Error> {
        validate(vec![batch], config, NOW_MS).map(|validated| validated.batches[0].clone())
    }

    #[test]
    fn batches_are_stored_unchanged_unless_the_topic_requires_otherwise() {
        let config = TopicConfig::default();
        assert_eq!(validate_one(batch(NOW_MS), &config).unwrap(), batch(NOW_MS));
        let config = TopicConfig {
            compression_type: CompressionType::Zstd,
            ..config
        };
        let stored = validate_one(batch(NOW_MS), &config).unwrap();
        assert_eq!(stored.compression(), Compression::Zstd);
        assert!(stored.size_bytes() < batch(NOW_MS).size_bytes());
    }

    #[test]
    fn a_batch_above_the_limit_is_refused_with_both_numbers() {
        let config = TopicConfig {
            max_message_bytes: 500,
            ..TopicConfig::default()
        };
        assert!(matches!(
            validate_one(batch(NOW_MS), &config),
            Err(Error::BatchTooLarge { limit: 500, .. })
        ));
    }

    #[test]
    fn timestamps_out_of_bounds_are_refused_and_missing_ones_are_not() {
        let config = TopicConfig {
            message_timestamp_before_max_ms: 1_000,
            message_timestamp_after_max_ms: 1_000,
            ..TopicConfig::default()
        };
        validate_one(batch(NOW_MS - 900), &config).unwrap();
        for timestamp_ms in [NOW_MS - 1_001, NOW_MS + 996] {
            assert!(matches!(
                validate_one(batch(timestamp_ms), &config),
                Err(Error::TimestampsOutOfRange(_))
            ));
        }
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(-1, None, None, &[]);
        validate_one(builder.build().unwrap(), &config).unwrap();
    }

    fn out_of_range(
        codec: Compression,
        timestamps: &[i64],
        config: &TopicConfig,
    ) -> Option<Arc<TimestampsOutOfRange>> {
        let mut builder = BatchBuilder::new(codec);
        for timestamp_ms in timestamps {
            builder.push(*timestamp_ms, None, None, &[]);
        }
        match validate_one(builder.build().unwrap(), config) {
            Ok(_) => None,
            Err(Error::TimestampsOutOfRange(found)) => Some(found),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_record_with_a_timestamp_out_of_range_is_listed() {
        let config = TopicConfig {
            message_timestamp_before_max_ms: 1_000,
            ..TopicConfig::default()
        };
        let micros = NOW_MS * 1000;
        // The record without a timestamp hides none of the others.
        let timestamps = [NOW_MS, -1, NOW_MS - 5_000, NOW_MS - 1_000, micros];
        for codec in Compression::ALL {
            let found = out_of_range(codec, &timestamps, &config).unwrap();
            assert_eq!(found.listed, [(2, NOW_MS - 5_000), (4, micros)], "{codec}");
            assert_eq!((found.count, found.index), (2, 2));
        }
        let hidden = out_of_range(Compression::None, &[-1, NOW_MS - 5_000, NOW_MS], &config);
        assert_eq!(hidden.unwrap().listed, [(1, NOW_MS - 5_000)]);
        assert_eq!(
            out_of_range(Compression::None, &[-1, NOW_MS], &config),
            None
        );
    }

    #[test]
    fn not_all_of_too_many_records_are_listed() {
        let timestamps = vec![NOW_MS * 1000; TimestampsOutOfRange::LISTED_MAX + 7];
        let found = out_of_range(Compression::Zstd, &timestamps, &TopicConfig::default()).unwrap();
        assert_eq!(found.listed.len(), TimestampsOutOfRange::LISTED_MAX);
        assert_eq!(found.count, TimestampsOutOfRange::LISTED_MAX + 7);
    }

    #[test]
    fn the_unit_of_a_timestamp_is_guessed() {
        let config = TopicConfig {
            message_timestamp_before_max_ms: 1_000,
            ..TopicConfig::default()
        };
        let said = |timestamp_ms| {
            out_of_range(Compression::None, &[timestamp_ms], &config)
                .unwrap()
                .to_string()
        };
        assert!(said(NOW_MS / 1000).contains("seems to be in seconds"));
        assert!(said(NOW_MS * 1000).contains("seems to be in microseconds"));
        assert!(said(NOW_MS * 1_000_000).contains("seems to be in nanoseconds"));
        assert!(!said(NOW_MS - 2_000).contains("seems"));
        assert!(!said(i64::MAX).contains("seems"));
    }

    #[test]
    fn log_append_time_overrides_the_producers_timestamp() {
        let config = TopicConfig {
            message_timestamp_type: TimestampType::LogAppendTime,
            ..TopicConfig::default()
        };
        let validated = validate(vec![batch(5)], &config, NOW_MS).unwrap();
        assert_eq!(validated.log_append_time_ms, Some(NOW_MS));
        let records = validated.batches[0]
            .records(DecompressLimit::default())
            .unwrap();
        for record in records {
            assert_eq!(record.unwrap().timestamp_ms, NOW_MS);
        }
    }

    #[test]
    fn a_compacted_topic_requires_keys_and_the_records_without_are_listed() {
        let overrides = [("cleanup.policy".to_string(), "compact".to_string())];
        let compacted = TopicConfig::default().apply(&overrides.into()).unwrap();
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new(codec);
            for key in [None, Some(&b"k"[..]), Some(b""), None] {
                builder.push(NOW_MS, key, Some(b"v"), &[]);
            }
            let batch = builder.build().unwrap();
            validate_one(batch.clone(), &TopicConfig::default()).unwrap();
            let Err(Error::RecordsWithoutKey(found)) = validate_one(batch, &compacted) else {
                panic!("keys are missing");
            };
            assert_eq!(
                (found.count, &found.listed[..]),
                (2, &[0, 3][..]),
                "{codec}"
            );
            assert_eq!(
                found.to_string(),
                "2 of the batch's records have no key, which a compacted topic requires; \
                 the first is record 0"
            );
        }
    }

    #[test]
    fn control_and_transactional_batches_are_refused() {
        for builder in [
            BatchBuilder::new(Compression::None).control(),
            BatchBuilder::new(Compression::None).transactional(),
        ] {
            let mut builder = builder;
            builder.push(NOW_MS, None, None, &[]);
            assert!(matches!(
                validate_one(builder.build().unwrap(), &TopicConfig::default()),
                Err(Error::NotAClientBatch)
            ));
        }
    }
}
