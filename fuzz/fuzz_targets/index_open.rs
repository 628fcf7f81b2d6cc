//! Any bytes as the index files of a cleanly closed log: every record is found all the same.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use streamline::clock::SystemClock;
use streamline::config::{Durability, TopicConfig};
use streamline::metrics::Metrics;
use streamline::record::{BatchBuilder, BatchHeader, Compression};
use streamline::storage::{Isolation, StorageOptions, TopicSpec, Topics};
use uuid::Uuid;

/// Batches of one record, one a second.
const BATCHES: i64 = 40;

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    parent.join(format!("streamline-index-open-{}", std::process::id()))
});

static LOG: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut log = Vec::new();
    for offset in 0..BATCHES {
        let mut builder = BatchBuilder::new(Compression::None)
            .base_offset(offset)
            .leader_epoch(0);
        builder.push(offset * 1_000, None, Some(&[b'x'; 200]), &[]);
        log.extend_from_slice(builder.build().expect("it holds a record").bytes());
    }
    log
});

fuzz_target!(|data: &[u8]| {
    let (closed, index) = match data.split_first() {
        Some((first, rest)) => (first & 1 == 1, rest),
        None => (false, data),
    };
    let (offsets, times) = index.split_at(index.len() / 2 / 8 * 8);
    let dir = DIR.join("t-0");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the scratch directory can be made");
    let write = |name: &str, content: &[u8]| {
        std::fs::write(dir.join(name), content).expect("there is room");
    };
    write("00000000000000000000.log", &LOG);
    write("00000000000000000000.index", offsets);
    write("00000000000000000000.timeindex", times);
    if closed {
        write("00000000000000000040.log", &[]);
    }
    std::fs::write(DIR.join(".kafka_cleanshutdown"), "{}").expect("there is room");
    let spec = TopicSpec {
        name: "t".to_string(),
        id: Uuid::nil(),
        partitions: 1,
        config: TopicConfig::default(),
    };
    let options = StorageOptions::new(&*DIR, Durability::Os);
    let topics = Topics::open(options, vec![spec], SystemClock::new(), Metrics::new(false))
        .expect("an index is no reason not to open");
    let partition = topics
        .get("t")
        .and_then(|topic| topic.partition(0))
        .expect("it is open");
    assert_eq!(partition.offsets().log_end, BATCHES);
    for offset in (0..BATCHES).rev() {
        let fetched = partition
            .read(offset, 1, true, Isolation::ReadUncommitted)
            .expect("the log is sound");
        let bytes = fetched.records.expect("the offset is there").to_bytes();
        let header = BatchHeader::read(&bytes.expect("the file is there")).expect("a batch");
        assert_eq!(header.base_offset, offset);
        let found = partition
            .offset_for_timestamp(offset * 1_000)
            .expect("the log is sound");
        assert_eq!(found.map(|found| found.offset), Some(offset));
    }
    let newest = partition.max_timestamp().expect("the log is sound");
    assert_eq!(newest.map(|newest| newest.offset), Some(BATCHES - 1));
});
