//! The report: Markdown, with pictures beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::outcome::{Comparison, Findings, Target, Verdict};
use crate::plot;
use crate::quantity::{Unit, digits};
use crate::rows::{Part, Row};

/// Pictures of all rows together.
const TARGETS: &str = "targets.svg";
const THROUGHPUT: &str = "throughput.svg";

/// What became of a row.
pub struct Measured {
    pub row: &'static Row,
    /// Or why there are none.
    pub findings: Result<Findings, String>,
    pub seconds: f64,
}

/// What the report says besides the rows.
pub struct Frame {
    /// As the user called the harness.
    pub call: String,
    pub pairs: usize,
    pub machine: Vec<(&'static str, String)>,
    pub commands: BTreeMap<String, String>,
    pub seconds: f64,
}

/// Writes `report.md` and its pictures into the directory.
pub fn write(directory: &Path, frame: &Frame, measured: &[Measured]) -> Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("report.md"), text(frame, measured))?;
    let found = || {
        measured
            .iter()
            .filter_map(|measured| measured.findings.as_ref().ok())
    };
    for plot in found().flat_map(|findings| &findings.plots) {
        plot.write(directory)?;
    }
    let comparisons: Vec<&Comparison> =
        found().flat_map(|findings| &findings.comparisons).collect();
    plot::write_targets(&directory.join(TARGETS), &comparisons)?;
    plot::write_throughput(&directory.join(THROUGHPUT), &comparisons)?;
    Ok(())
}

fn text(frame: &Frame, measured: &[Measured]) -> String {
    let mut out = String::from("# What was measured\n\n");
    let _ = writeln!(
        out,
        "Written by `{}` in {:.0} min. Each figure is the median of {} turns, taken in turn with the other side's; a ratio is\n\
         a ratio of medians. In brackets: where the ratio, or the figure if there is no other side, lies in 90 % of 2,000\n\
         resamplings of the turns. \"Within the noise\" means that the target lies there too, so that another run may say\n\
         otherwise.\n",
        frame.call,
        frame.seconds / 60.0,
        frame.pairs,
    );
    summary(&mut out, measured);
    for &part in Part::ALL {
        let rows: Vec<&Measured> = measured.iter().filter(|m| m.row.part == part).collect();
        if !rows.is_empty() {
            let _ = writeln!(out, "## {}\n", part.title());
            table(&mut out, &rows);
            details(&mut out, &rows);
        }
    }
    out.push_str("## The machine\n\n| what | is |\n|---|---|\n");
    for (what, is) in &frame.machine {
        let _ = writeln!(out, "| {what} | {is} |");
    }
    out.push_str("\n## Command lines\n\nWORK is the directory of the run, removed at its end.\n\n");
    for (what, line) in &frame.commands {
        let _ = writeln!(out, "- {what}: `{line}`");
    }
    out
}

fn summary(out: &mut String, measured: &[Measured]) {
    let comparisons: Vec<&Comparison> = measured
        .iter()
        .filter_map(|measured| measured.findings.as_ref().ok())
        .flat_map(|findings| &findings.comparisons)
        .collect();
    let verdicts: Vec<Verdict> = comparisons
        .iter()
        .map(|comparison| comparison.verdict())
        .collect();
    let count = |wanted: Verdict| {
        verdicts
            .iter()
            .filter(|verdict| **verdict == wanted)
            .count()
    };
    let _ = writeln!(
        out,
        "Of {} targets, {} are met, {} met within the noise, {} not met within the noise, {} not met.\n",
        verdicts.len() - count(Verdict::NoTarget),
        count(Verdict::Met),
        count(Verdict::MetUnsurely),
        count(Verdict::NotMetUnsurely),
        count(Verdict::NotMet),
    );
    if comparisons
        .iter()
        .any(|comparison| comparison.target != Target::None)
    {
        let _ = writeln!(out, "![How far each target is met]({TARGETS})\n");
    }
    if comparisons
        .iter()
        .any(|comparison| comparison.unit == Unit::BytesPerSecond)
    {
        let _ = writeln!(out, "![Throughput]({THROUGHPUT})\n");
    }
}

fn table(out: &mut String, rows: &[&Measured]) {
    out.push_str("| work | ours | against | ratio | target | |\n|---|---|---|---|---|---|\n");
    for measured in rows {
        match &measured.findings {
            Ok(findings) => findings
                .comparisons
                .iter()
                .for_each(|comparison| line(out, comparison)),
            Err(why) => {
                let first = why.lines().next().unwrap_or_default();
                let _ = writeln!(
                    out,
                    "| {} | not measured: {first} | | | | |",
                    measured.row.name
                );
            }
        }
    }
    out.push('\n');
}

fn line(out: &mut String, comparison: &Comparison) {
    let show = |value: f64| comparison.unit.show(value);
    let spread = comparison.spread();
    let (ours, against, ratio) = match &comparison.theirs {
        Some(theirs) => (
            show(comparison.ours.median()),
            format!("{}: {}", theirs.name, show(theirs.median())),
            format!(
                "{} [{} … {}]",
                digits(comparison.value()),
                digits(spread.low),
                digits(spread.high)
            ),
        ),
        None => (
            format!(
                "{} [{} … {}]",
                show(comparison.value()),
                show(spread.low),
                show(spread.high)
            ),
            String::new(),
            String::new(),
        ),
    };
    let _ = writeln!(
        out,
        "| {} | {ours} | {against} | {ratio} | {} | {} |",
        comparison.what,
        comparison.target_text(),
        comparison.verdict().show(),
    );
}

fn details(out: &mut String, rows: &[&Measured]) {
    for measured in rows {
        let _ = writeln!(
            out,
            "**{}** ({:.0} s): {}.\n",
            measured.row.name, measured.seconds, measured.row.about
        );
        match &measured.findings {
            Ok(findings) => {
                for remark in &findings.remarks {
                    let _ = writeln!(out, "{remark}\n");
                }
                for plot in &findings.plots {
                    let _ = writeln!(out, "![{}]({}.svg)\n", plot.title, plot.name);
                }
            }
            Err(why) => {
                let _ = writeln!(out, "Not measured:\n\n```\n{why}\n```\n");
            }
        }
    }
}

/// A comparison as a line of progress.
pub fn one_line(comparison: &Comparison) -> String {
    let mut out = String::new();
    line(&mut out, comparison);
    out.trim()
        .trim_matches('|')
        .replace("**", "")
        .trim()
        .to_owned()
}
