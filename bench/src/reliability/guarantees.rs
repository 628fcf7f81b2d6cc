//! Reliability guarantees, and the tests that prove them.

use std::process::Command;

use crate::context::Effort;

/// A guarantee.
pub struct Guarantee {
    pub what: &'static str,
    pub proofs: &'static [Proof],
}

/// A proof of a guarantee.
pub struct Proof {
    pub what: &'static str,
    run: Run,
}

enum Run {
    /// Tests of the server.
    Tests {
        /// Arguments that select them.
        chosen: &'static [&'static str],
        /// The variable that sets the number of repetitions, and that number for the full campaign.
        times: Option<(&'static str, u64)>,
    },
    /// All fuzz targets; `seconds` is for each.
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

    /// Returns the command that builds it, if there is one. Runs in the project's folder.
    pub fn build(&self) -> Option<Command> {
        let Run::Tests { chosen, .. } = self.run else {
            return None;
        };
        let mut command = cargo_test();
        command.args(chosen).arg("--no-run");
        Some(command)
    }

    /// Returns the command that runs it. Runs in the project's folder.
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
    // Tests the release build of the server, unless this program is a debug build.
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command
}

/// All guarantees, in the order of the report.
pub const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        what: "A record acknowledged with acks=all survives `kill -9` and power failure, one acknowledged with acks=1 \
               survives `kill -9`; records of idempotent producers occur once and in order",
        proofs: &[
            Proof::repeated(
                "`kill -9` under load",
                &["--test", "crash"],
                "CRASH_CYCLES",
                1_000,
            ),
            Proof::repeated(
                "simulated power failures",
                &["--test", "power_loss"],
                "POWER_CUTS",
                20_000,
            ),
            Proof::repeated(
                "the log compared with a model",
                &["--test", "property"],
                "PROPTEST_CASES",
                5_000,
            ),
        ],
    },
    Guarantee {
        what: "Corrupt data is detected, reported and never served",
        proofs: &[Proof::tests(
            "every byte of a small log flipped",
            &["--lib", "storage::local::tests::damage"],
        )],
    },
    Guarantee {
        what: "With a full disk, records are rejected with Kafka's error, `/health` reports it, and the server recovers without \
               a restart",
        proofs: &[Proof::tests(
            "a small mounted file system",
            &["--test", "faults", "full_disk"],
        )],
    },
    Guarantee {
        what: "Records are never acknowledged after a failed `fdatasync`, which is not retried; one that hangs or is slow \
               delays only the requests that wait for it",
        proofs: &[
            Proof::tests(
                "failing and hanging `fdatasync`, by `strace`",
                &["--test", "faults", "syncing"],
            ),
            Proof::tests(
                "slow `fdatasync`, by `strace`",
                &["--test", "faults", "slow_disk"],
            ),
        ],
    },
    Guarantee {
        what: "No malformed request ends the process or uses more memory than its frame",
        proofs: &[
            Proof::tests("hostile clients", &["--test", "it", "hostile"]),
            Proof {
                what: "fuzzing of all decoders, connections and files",
                run: Run::Fuzz { seconds: 180 },
            },
        ],
    },
    Guarantee {
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
    Guarantee {
        what: "No recorded value is lost and no waiter misses its event in any interleaving of threads",
        proofs: &[Proof::tests(
            "instruments and waiters under `loom`",
            &["--package", "models"],
        )],
    },
    Guarantee {
        what: "Jumps of the wall clock end no session or wait, expire nothing early, and lose no records",
        proofs: &[Proof::tests(
            "the clock set forward and back by `libfaketime`",
            &["--test", "faults", "clock"],
        )],
    },
];
