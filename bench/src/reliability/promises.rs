//! What is promised, and which tests show it.

use std::process::Command;

use crate::context::Effort;

/// Something that holds whatever happens.
pub struct Promise {
    pub what: &'static str,
    pub proofs: &'static [Proof],
}

/// One way to show it.
pub struct Proof {
    pub what: &'static str,
    run: Run,
}

enum Run {
    /// Tests of the server, by the arguments that choose them.
    Tests {
        chosen: &'static [&'static str],
        /// The variable by which such a test is told how often, and how often for the whole campaign.
        times: Option<(&'static str, u64)>,
    },
    /// All fuzz targets, each for so many seconds.
    Fuzz { seconds: u64 },
    #[cfg(test)]
    Script(&'static str),
}

impl Proof {
    const fn tests(what: &'static str, chosen: &'static [&'static str]) -> Proof {
        let run = Run::Tests {
            chosen,
            times: None,
        };
        Proof { what, run }
    }

    const fn repeated(
        what: &'static str,
        chosen: &'static [&'static str],
        variable: &'static str,
        times: u64,
    ) -> Proof {
        let run = Run::Tests {
            chosen,
            times: Some((variable, times)),
        };
        Proof { what, run }
    }

    #[cfg(test)]
    pub fn of_script(what: &'static str, script: &'static str) -> Proof {
        let run = Run::Script(script);
        Proof { what, run }
    }

    /// What builds it, in the project's folder, if it does not build itself.
    pub fn build(&self) -> Option<Command> {
        let Run::Tests { chosen, .. } = self.run else {
            return None;
        };
        let mut command = cargo_test();
        command.args(chosen).arg("--no-run");
        Some(command)
    }

    /// What runs it, in the project's folder.
    pub fn command(&self, effort: Effort) -> Command {
        match self.run {
            Run::Tests { chosen, times } => {
                let mut command = cargo_test();
                command
                    .args(chosen)
                    .args(["--", "--nocapture", "--include-ignored"]);
                if let Some((variable, times)) = times {
                    command.env(variable, effort.count(times).to_string());
                }
                command
            }
            Run::Fuzz { seconds } => {
                let mut command = Command::new("fuzz/run.sh");
                command.arg(effort.count(seconds).to_string());
                command
            }
            #[cfg(test)]
            Run::Script(script) => {
                let mut command = Command::new("sh");
                command.args(["-c", script]);
                command
            }
        }
    }
}

fn cargo_test() -> Command {
    let mut command = Command::new("cargo");
    command.args(["test", "--locked"]);
    // What is proven is the server as it is released, unless this program is built otherwise itself.
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command
}

/// In the order of the report.
pub const PROMISES: &[Promise] = &[
    Promise {
        what: "A record acknowledged with acks=all survives `kill -9` and the loss of unsynchronised pages, one acknowledged \
               with acks=1 survives `kill -9`; idempotent producers' records are there once and in order",
        proofs: &[
            Proof::repeated(
                "`kill -9` under load",
                &["--test", "crash"],
                "CRASH_CYCLES",
                1_000,
            ),
            Proof::repeated(
                "simulated losses of power",
                &["--test", "power_loss"],
                "POWER_CUTS",
                20_000,
            ),
            Proof::repeated(
                "the log against a model of it",
                &["--test", "property"],
                "PROPTEST_CASES",
                5_000,
            ),
        ],
    },
    Promise {
        what: "Damage is found, reported, and never served",
        proofs: &[Proof::tests(
            "every byte of a small log flipped",
            &["--lib", "storage::tests::damage"],
        )],
    },
    Promise {
        what: "A full disk refuses records with Kafka's error, is reported by `/health`, and heals without a restart",
        proofs: &[Proof::tests(
            "a small mounted file system",
            &["--test", "faults", "full_disk"],
        )],
    },
    Promise {
        what: "What `fdatasync` failed for is never acknowledged, nor is it tried again; one that hangs or is slow holds up \
               those who wait for it alone",
        proofs: &[
            Proof::tests(
                "`fdatasync` failing and hanging, by `strace`",
                &["--test", "faults", "syncing"],
            ),
            Proof::tests(
                "`fdatasync` slowed, by `strace`",
                &["--test", "faults", "slow_disk"],
            ),
        ],
    },
    Promise {
        what: "No request, however malformed, ends the process or takes more memory than its frame",
        proofs: &[
            Proof::tests("hostile clients", &["--test", "it", "hostile"]),
            Proof {
                what: "fuzzing of each decoder, the connection and the files",
                run: Run::Fuzz { seconds: 180 },
            },
        ],
    },
    Promise {
        what: "Load above capacity slows clients, and exhausts neither memory nor descriptors",
        proofs: &[
            Proof::tests(
                "200 fast producers under a limit by `prlimit`",
                &["--test", "faults", "load"],
            ),
            Proof::tests(
                "consumers that stop reading",
                &["--test", "faults", "readers"],
            ),
            Proof::tests(
                "too few descriptors, by `prlimit`",
                &["--test", "faults", "descriptors"],
            ),
        ],
    },
    Promise {
        what: "No number recorded is lost, no wait misses what it waits for, in whatever order threads take their turns",
        proofs: &[Proof::tests(
            "instruments and waits in `loom`",
            &["--package", "models"],
        )],
    },
    Promise {
        what: "A wall clock that jumps ends no session and no wait, deletes nothing before its time, and loses nothing",
        proofs: &[Proof::tests(
            "the clock set forth and back by `libfaketime`",
            &["--test", "faults", "clock"],
        )],
    },
];
