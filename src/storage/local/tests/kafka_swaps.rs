//! Logs of a Kafka broker that was killed while it replaced segments.

use super::*;

const VALUES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
const RECORDS_PER_SEGMENT: usize = 3;

/// Returns the closed log of an unclean shutdown, and the paths of its segment files.
fn killed() -> (Fixture, Vec<std::path::PathBuf>) {
    let mut fixture = Fixture::new(&[("internal.segment.bytes", "256")]);
    for value in VALUES {
        fixture.append(&[value]);
    }
    fixture.restart();
    fixture.topics.close().unwrap();
    std::fs::remove_file(fixture.dir.path().join(".kafka_cleanshutdown")).unwrap();
    let logs = files(&fixture.log_dir(), ".log");
    assert_eq!(logs.len(), VALUES.len() / RECORDS_PER_SEGMENT);
    (fixture, logs)
}

/// Writes the content of some segments under the name of the first one, and this suffix.
fn write_joined(segments: &[std::path::PathBuf], suffix: &str) {
    let content: Vec<u8> = (segments.iter())
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    std::fs::write(with_suffix(&segments[0], suffix), content).unwrap();
}

fn with_suffix(path: &Path, suffix: &str) -> std::path::PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

fn rename(path: &Path, suffix: &str) {
    std::fs::rename(path, with_suffix(path, suffix)).unwrap();
}

/// Opens the log twice: the second start finds what the first one left.
fn assert_all_served(fixture: &mut Fixture, segments: usize) {
    for _ in 0..2 {
        fixture.crash();
        assert_eq!(fixture.values(), expected(&VALUES));
        assert_eq!(fixture.damaged_ranges(), 0);
        assert_eq!(files(&fixture.log_dir(), ".log").len(), segments);
        for suffix in [".swap", ".cleaned", ".deleted", ".damaged"] {
            assert_eq!(files(&fixture.log_dir(), suffix).len(), 0, "{suffix}");
        }
    }
    assert_eq!(fixture.append(&["next"]).base_offset, 12);
}

#[test]
fn a_committed_replacement_is_completed() {
    for renamed in 0..=3 {
        for has_index in [false, true] {
            let (mut fixture, logs) = killed();
            write_joined(&logs[..3], ".swap");
            if has_index {
                let index = logs[0].with_extension("index");
                std::fs::write(with_suffix(&index, ".swap"), b"").unwrap();
            }
            for old in &logs[..renamed] {
                rename(old, ".deleted");
            }
            assert_all_served(&mut fixture, 2);
        }
    }
}

#[test]
fn the_rest_of_a_completed_replacement_is_renamed() {
    let (mut fixture, logs) = killed();
    write_joined(&logs[..3], ".swap");
    for old in &logs[..3] {
        rename(old, ".deleted");
    }
    std::fs::rename(with_suffix(&logs[0], ".swap"), &logs[0]).unwrap();
    let index = with_suffix(&logs[0].with_extension("txnindex"), ".swap");
    std::fs::write(index, b"").unwrap();
    assert_all_served(&mut fixture, 2);
    assert_eq!(files(&fixture.log_dir(), ".txnindex").len(), 1);
}

/// The new segments of a split take the suffix in descending order.
#[test]
fn a_replacement_that_was_not_committed_is_abandoned() {
    let (mut fixture, logs) = killed();
    write_joined(&logs[1..2], ".swap");
    write_joined(&logs[..1], ".cleaned");
    write_joined(&logs[..2], "");
    std::fs::remove_file(&logs[1]).unwrap();
    assert_all_served(&mut fixture, 3);
    // A single segment, of which only the log had been renamed.
    let (mut fixture, logs) = killed();
    write_joined(&logs[1..3], ".swap");
    std::fs::write(
        with_suffix(&logs[1].with_extension("index"), ".cleaned"),
        b"",
    )
    .unwrap();
    assert_all_served(&mut fixture, 4);
}

#[test]
fn deleted_segments_are_removed_without_a_replacement() {
    let (mut fixture, logs) = killed();
    rename(&logs[0], ".deleted");
    fixture.crash();
    assert_eq!(fixture.values(), expected(&VALUES)[RECORDS_PER_SEGMENT..]);
    assert_eq!(files(&fixture.log_dir(), ".deleted").len(), 0);
}
