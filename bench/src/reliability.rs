//! The reliability campaign: runs the proofs of all guarantees for about an hour.
//!
//! The proofs are the project's own tests and fuzz targets with more repetitions than usual. They print results on lines
//! that start with `figures:`, which the report quotes.

mod guarantees;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::context::Effort;
use crate::machine;
use crate::process::Process;
use guarantees::{GUARANTEES, Proof};

/// Prefix of output lines for the report.
const FIGURES: &str = "figures: ";
/// Maximum number of lines of a failed proof's output in the report.
const SHOWN_MAX: usize = 40;

/// Outcome of a proof.
struct Outcome {
    call: String,
    holds: bool,
    figures: Vec<String>,
    /// The end of its output.
    output: String,
    took: Duration,
}

/// Runs every proof and writes `reliability.md` into the directory. Logs go to `logs`.
pub fn campaign(effort: Effort, out: &Path, logs: &Path, call: &str) -> Result<ExitCode> {
    fs::create_dir_all(logs).with_context(|| format!("{}", logs.display()))?;
    let machine = machine::facts(logs);
    let began = Instant::now();
    for proof in GUARANTEES.iter().flat_map(|guarantee| guarantee.proofs) {
        build(proof)?;
    }
    let mut rows = Vec::new();
    for guarantee in GUARANTEES {
        eprintln!("{}", guarantee.what);
        for proof in guarantee.proofs {
            let log = logs.join(format!("{}.log", rows.len()));
            let outcome = run(proof, effort, &log)?;
            eprintln!("  {}: {}", proof.what, outcome.verdict());
            for figures in &outcome.figures {
                eprintln!("    {figures}");
            }
            rows.push((guarantee.what, proof.what, outcome));
        }
    }
    let report = Report {
        call,
        machine,
        rows,
        took: began.elapsed(),
    };
    fs::create_dir_all(out)?;
    let file = out.join("reliability.md");
    fs::write(&file, report.text()).with_context(|| format!("{}", file.display()))?;
    eprintln!("written to {}", file.display());
    Ok(
        match report.rows.iter().all(|(.., outcome)| outcome.holds) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
    )
}

/// Builds a proof's tests beforehand, so that its time does not include the build.
fn build(proof: &Proof) -> Result<()> {
    if let Some(mut command) = proof.build() {
        let process = Process::start(proof.what, command.current_dir(root()))?;
        let status = process.wait()?;
        ensure!(status.success(), "{}: build failed", in_words(&command));
    }
    Ok(())
}

fn run(proof: &Proof, effort: Effort, log: &Path) -> Result<Outcome> {
    let mut command = proof.command(effort);
    command.current_dir(root());
    let call = in_words(&command);
    eprintln!("  {call}");
    let began = Instant::now();
    let process = Process::start_logged(proof.what, &mut command, log)?;
    let status = process.wait()?;
    let output = fs::read(log).with_context(|| format!("{}", log.display()))?;
    let output = String::from_utf8_lossy(&output);
    let figures = figures(&output);
    Ok(Outcome {
        call,
        // Without figures no test ran: after a renaming the filter matches none, and cargo reports success.
        holds: status.success() && !figures.is_empty(),
        output: end_of(&output),
        figures,
        took: began.elapsed(),
    })
}

impl Outcome {
    fn verdict(&self) -> &'static str {
        match (self.holds, self.figures.is_empty()) {
            (true, _) => "holds",
            (false, false) => "BROKEN",
            (false, true) => "NOT RUN",
        }
    }
}

/// Returns the results that the tests printed. The test harness may have printed text before them on the line.
fn figures(output: &str) -> Vec<String> {
    let figures = output
        .lines()
        .filter_map(|line| line.split_once(FIGURES))
        .map(|(_, figures)| figures.trim().to_owned());
    figures.collect()
}

fn end_of(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_MAX)..].join("\n")
}

/// Returns the command as typed in a shell.
fn in_words(command: &Command) -> String {
    let settings = command.get_envs().filter_map(|(name, value)| {
        let value = value?;
        Some(format!(
            "{}={}",
            name.to_string_lossy(),
            value.to_string_lossy()
        ))
    });
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words = words.map(|word| word.to_string_lossy().into_owned());
    settings.chain(words).collect::<Vec<_>>().join(" ")
}

/// Returns the project's folder.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

struct Report<'a> {
    call: &'a str,
    machine: Vec<(&'static str, String)>,
    /// Guarantee, proof and outcome.
    rows: Vec<(&'static str, &'static str, Outcome)>,
    took: Duration,
}

impl Report<'_> {
    fn text(&self) -> String {
        let broken = self.rows.iter().filter(|(.., outcome)| !outcome.holds);
        let mut out = String::from("# Reliability campaign\n\n");
        let _ = writeln!(
            out,
            "Written by `{}` in {:.0} min. Each proof is a test or a fuzz target with more repetitions than usual, which prints\n\
             the figures. Of {} proofs, {} hold.\n",
            self.call,
            self.took.as_secs_f64() / 60.0,
            self.rows.len(),
            self.rows.len() - broken.clone().count(),
        );
        out.push_str("| guarantee | proof | figures | took | |\n|---|---|---|---|---|\n");
        let mut last = "";
        for (guarantee, proof, outcome) in &self.rows {
            // Named only beside the first of its proofs.
            let guarantee = if *guarantee == last { "" } else { guarantee };
            let _ = writeln!(
                out,
                "| {guarantee} | {proof} | {} | {:.0} s | {} |",
                outcome.figures.join("<br>").replace('|', "\\|"),
                outcome.took.as_secs_f64(),
                outcome.verdict(),
            );
            if !guarantee.is_empty() {
                last = guarantee;
            }
        }
        for (_, proof, outcome) in broken {
            let _ = writeln!(out, "\n## {proof}\n\n```text\n{}\n```", outcome.output);
        }
        out.push_str("\n## Command lines\n\n");
        for (_, proof, outcome) in &self.rows {
            let _ = writeln!(out, "- {proof}: `{}`", outcome.call);
        }
        out.push_str("\n## Machine\n\n| property | value |\n|---|---|\n");
        for (what, is) in &self.machine {
            let _ = writeln!(out, "| {what} | {is} |");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(script: &'static str) -> Outcome {
        let log = tempfile::NamedTempFile::new().unwrap();
        let proof = Proof::of_script("a script", script);
        run(&proof, Effort::QUICK, log.path()).unwrap()
    }

    #[test]
    fn figures_are_taken_from_what_a_proof_prints() {
        let outcome = proof("echo test x ... figures: 3 kills; echo figures: 0 lost; echo ok");
        assert!(outcome.holds);
        assert_eq!(outcome.figures, ["3 kills", "0 lost"]);
    }

    #[test]
    fn a_proof_that_fails_or_prints_no_figures_does_not_hold() {
        let broken = proof("echo figures: 1 lost; echo why; exit 101");
        assert_eq!(broken.verdict(), "BROKEN");
        assert!(broken.output.ends_with("why"), "{}", broken.output);
        let silent = proof("echo running 0 tests");
        assert_eq!(silent.verdict(), "NOT RUN");
    }

    #[test]
    fn the_report_names_each_guarantee_once_and_shows_output_of_broken_proofs() {
        let report = Report {
            call: "bench reliability",
            machine: Vec::new(),
            rows: vec![
                ("survives", "first", proof("echo figures: 1")),
                ("survives", "second", proof("echo figures: 2; exit 1")),
            ],
            took: Duration::from_secs(60),
        };
        let text = report.text();
        assert!(text.contains("| survives | first | 1 | 0 s | holds |"));
        assert!(text.contains("|  | second | 2 | 0 s | BROKEN |"));
        assert!(text.contains("Of 2 proofs, 1 hold."));
        assert!(text.contains("\n## second\n"));
    }
}
