//! The report: Markdown with SVG charts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::iter;
use std::path::Path;

use anyhow::Result;

use crate::outcome::{Comparison, Findings, Target, Verdict};
use crate::plot;
use crate::quantity::{Unit, digits};
use crate::rows::{Part, Row};

/// Charts of all rows together.
const TARGETS: &str = "targets.svg";
const THROUGHPUT: &str = "throughput.svg";

/// Outcome of a row.
pub struct Measured {
    pub row: &'static Row,
    /// Findings, or the reason why there are none.
    pub findings: Result<Findings, String>,
    /// Findings of the second run, if the first left a target in doubt.
    pub again: Option<Findings>,
    /// Of the first run.
    pub seconds: f64,
}

/// Contents of the report besides the rows.
pub struct Frame {
    /// The command line.
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
    let mut out = String::from("# Benchmark report\n\n");
    let _ = writeln!(
        out,
        "Written by `{}` in {:.0} min. Each figure is the median of {} turns, which alternate with the other side's; a ratio\n\
         is a ratio of medians. In brackets: the 90 % interval of the ratio, or of the figure if there is no other side, from\n\
         2,000 resamplings of the turns. \"Within the noise\" means that the interval includes the target, so another run may\n\
         give another verdict. A row that did not clearly meet all its targets was run a second time, unless it takes minutes;\n\
         the result is in the last column, and a verdict that it contradicts is marked unconfirmed.\n",
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
    out.push_str("## Machine\n\n| property | value |\n|---|---|\n");
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
            Ok(findings) => {
                let again = measured.again.iter().flat_map(|again| &again.comparisons);
                let again = again.map(Some).chain(iter::repeat(None));
                for (comparison, again) in findings.comparisons.iter().zip(again) {
                    line(out, comparison, again);
                }
            }
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

fn line(out: &mut String, comparison: &Comparison, again: Option<&Comparison>) {
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
        verdict(comparison, again),
    );
}

/// Returns the verdict, and whether the second run confirms it.
fn verdict(comparison: &Comparison, again: Option<&Comparison>) -> String {
    let first = comparison.verdict();
    let Some(again) = again.filter(|_| first != Verdict::NoTarget) else {
        return first.show().to_owned();
    };
    let value = match again.theirs {
        Some(_) => digits(again.value()),
        None => again.unit.show(again.value()),
    };
    let second = again.verdict();
    let unconfirmed = if first.is_met() == second.is_met() {
        ""
    } else {
        "**unconfirmed**: "
    };
    format!(
        "{unconfirmed}{}; again {value}: {}",
        first.show(),
        second.show()
    )
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

/// Returns a comparison as a line of progress.
pub fn one_line(comparison: &Comparison) -> String {
    let mut out = String::new();
    line(&mut out, comparison, None);
    out.trim()
        .trim_matches('|')
        .replace("**", "")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Side;

    fn comparison(ours: f64) -> Comparison {
        Comparison::ratio(
            "moving",
            Unit::PerSecond,
            Side::new("this", [ours; 3]),
            Side::new("that", [10.0; 3]),
            Target::AtLeast(0.7),
        )
    }

    fn measured(again: Option<f64>) -> Measured {
        Measured {
            row: &crate::rows::ALL[0],
            findings: Ok(Findings {
                comparisons: vec![comparison(8.0)],
                ..Findings::default()
            }),
            again: again.map(|again| Findings {
                comparisons: vec![comparison(again)],
                ..Findings::default()
            }),
            seconds: 1.0,
        }
    }

    fn shown(measured: &Measured) -> String {
        let mut out = String::new();
        table(&mut out, &[measured]);
        out
    }

    #[test]
    fn a_row_shows_both_sides_the_ratio_and_the_verdict() {
        let expected =
            "| moving | 8.00/s | that: 10.0/s | 0.800 [0.800 … 0.800] | ≥ 0.700 × | **met** |\n";
        let shown = shown(&measured(None));
        assert!(shown.contains(expected), "{shown}");
    }

    #[test]
    fn a_verdict_that_a_second_run_contradicts_is_unconfirmed() {
        let contradicted = shown(&measured(Some(5.0)));
        assert!(
            contradicted.contains("**unconfirmed**: **met**; again 0.500: **not met**"),
            "{contradicted}"
        );
        let confirmed = shown(&measured(Some(9.0)));
        assert!(
            confirmed.contains("| **met**; again 0.900: **met** |"),
            "{confirmed}"
        );
    }

    #[test]
    fn a_row_that_could_not_be_measured_says_why() {
        let failed = Measured {
            findings: Err("Kafka is not available\nand more".to_owned()),
            ..measured(None)
        };
        assert!(shown(&failed).contains("not measured: Kafka is not available |"));
        let mut out = String::new();
        details(&mut out, &[&failed]);
        assert!(out.contains("and more"), "{out}");
    }
}
