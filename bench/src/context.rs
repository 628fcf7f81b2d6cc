//! Input of every row: amount of work, directories, programs, and progress output.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::peers::Peers;

/// Amount of work for a figure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Measured turns of each side, after one warm-up turn each.
    pub pairs: usize,
    /// Factor for the bytes, requests and seconds of a turn.
    pub scale: f64,
}

impl Effort {
    pub const FULL: Effort = Effort {
        pairs: 5,
        scale: 1.0,
    };
    pub const QUICK: Effort = Effort {
        pairs: 3,
        scale: 0.3,
    };

    /// Scales a number for a turn.
    pub fn count(&self, full: u64) -> u64 {
        ((full as f64 * self.scale) as u64).max(1)
    }

    /// Scales the duration of a turn.
    pub fn time(&self, full: Duration) -> Duration {
        full.mul_f64(self.scale)
    }
}

/// Input of every row.
pub struct Context {
    pub effort: Effort,
    /// The server under test.
    pub server: PathBuf,
    pub peers: Peers,
    work: PathBuf,
    /// Directory in memory, where creating and removing files is cheap.
    memory: PathBuf,
    /// Command lines by server.
    commands: RefCell<BTreeMap<String, String>>,
    topics: Cell<u32>,
    began: Instant,
}

impl Context {
    pub fn new(
        effort: Effort,
        server: PathBuf,
        peers: Peers,
        work: &Path,
        memory: &Path,
    ) -> Context {
        Context {
            effort,
            server,
            peers,
            work: work.to_owned(),
            memory: memory.to_owned(),
            commands: RefCell::default(),
            topics: Cell::new(0),
            began: Instant::now(),
        }
    }

    /// Creates a directory that is removed on drop, on the same file system as all others.
    pub fn directory(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.work)?)
    }

    /// Creates one in memory, for rows that do not measure the disk: removing 10,000 partitions there may take a minute.
    pub fn memory_directory(&self) -> Result<tempfile::TempDir> {
        Ok(tempfile::tempdir_in(&self.memory)?)
    }

    /// Returns an unused topic name. All have the same length.
    pub fn topic(&self) -> String {
        self.topics.set(self.topics.get() + 1);
        format!("bench-{:06}", self.topics.get())
    }

    /// Prints a line of progress.
    pub fn say(&self, text: impl AsRef<str>) {
        eprintln!(
            "[{:7.1} s] {}",
            self.began.elapsed().as_secs_f64(),
            text.as_ref()
        );
    }

    /// Records a command line for the report, without the directory of this run.
    pub fn note_command(&self, what: &str, command: &Command) {
        let words = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_string_lossy().into_owned());
        let words = words.map(|word| {
            let word = word
                .replace(&*self.work.to_string_lossy(), "WORK")
                .replace(&*self.memory.to_string_lossy(), "WORK");
            without_folders(&word)
        });
        let line = words.collect::<Vec<_>>().join(" ");
        self.commands
            .borrow_mut()
            .entry(what.to_owned())
            .or_insert(line);
    }

    pub fn commands(&self) -> BTreeMap<String, String> {
        self.commands.borrow().clone()
    }

    /// Runs both sides alternately, A B A B, and returns their results in pairs. The first pair is for warm-up and dropped.
    pub fn pairs<A, B>(
        &self,
        what: &str,
        mut a: impl FnMut() -> Result<A>,
        mut b: impl FnMut() -> Result<B>,
    ) -> Result<Vec<(A, B)>> {
        self.say(format!("{what}: warming up"));
        a()?;
        b()?;
        self.cold_pairs(what, a, b)
    }

    /// Runs both sides alternately without warm-up, for sides that start new processes each time.
    pub fn cold_pairs<A, B>(
        &self,
        what: &str,
        mut a: impl FnMut() -> Result<A>,
        mut b: impl FnMut() -> Result<B>,
    ) -> Result<Vec<(A, B)>> {
        let pairs = self.effort.pairs;
        (1..=pairs)
            .map(|pair| {
                self.say(format!("{what}: pair {pair} of {pairs}"));
                Ok((a()?, b()?))
            })
            .collect()
    }

    /// Runs a single side repeatedly.
    pub fn turns<A>(&self, what: &str, mut a: impl FnMut() -> Result<A>) -> Result<Vec<A>> {
        let pairs = self.pairs(what, &mut a, || Ok(()))?;
        Ok(pairs.into_iter().map(|(a, ())| a).collect())
    }
}

/// Returns a word of a command line with paths reduced to their last component. A path may be the whole word, or part of
/// it between colons and equals signs.
fn without_folders(word: &str) -> String {
    if word.contains("://") {
        return word.to_owned();
    }
    word.split_inclusive([':', '='])
        .map(|part| match part.starts_with('/') {
            true => part.rsplit_once('/').map_or(part, |(_, file)| file),
            false => part,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_no_folder_of_the_machine() {
        for (word, shown) in [
            ("/srv/target/release/streamline", "streamline"),
            (
                "-javaagent:/opt/agent.jar=127.0.0.1:1:WORK/rules.yml",
                "-javaagent:agent.jar=127.0.0.1:1:WORK/rules.yml",
            ),
            ("tcp://127.0.0.1:9092", "tcp://127.0.0.1:9092"),
            ("--durability", "--durability"),
        ] {
            assert_eq!(without_folders(word), shown);
        }
    }
}
