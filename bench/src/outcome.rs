//! Findings of a row: comparisons with their targets, charts and remarks.

use crate::loads::Turn;
use crate::plot::Plot;
use crate::quantity::{Unit, digits};
use crate::stats::{Spread, median, spread_of_median, spread_of_ratio};

/// Findings of a row.
#[derive(Debug, Default)]
pub struct Findings {
    pub comparisons: Vec<Comparison>,
    pub plots: Vec<Plot>,
    /// Explanations for the reader, such as the exact workload.
    pub remarks: Vec<String>,
}

/// Targets of throughput and CPU.
#[derive(Clone, Copy)]
pub struct MovingTargets {
    pub speed: Target,
    pub cpu: Target,
}

impl Findings {
    /// Compares throughput and CPU of two sides.
    pub fn compare_moving(
        &mut self,
        what: &str,
        theirs: &str,
        pairs: &[(Turn, Turn)],
        targets: MovingTargets,
    ) -> &mut Findings {
        let sides = |figure: &dyn Fn(&Turn) -> f64| {
            (
                Side::new("Streamline", pairs.iter().map(|pair| figure(&pair.0))),
                Side::new(theirs, pairs.iter().map(|pair| figure(&pair.1))),
            )
        };
        let (our_speed, their_speed) = sides(&|(moved, _)| moved.bytes_per_second());
        self.compare(Comparison::ratio(
            what,
            Unit::BytesPerSecond,
            our_speed,
            their_speed,
            targets.speed,
        ));
        let (our_cpu, their_cpu) = sides(&|(moved, spent)| moved.cpu_per_gb(*spent));
        self.compare(Comparison::ratio(
            format!("CPU of {what}"),
            Unit::CpuSecondsPerGb,
            our_cpu,
            their_cpu,
            targets.cpu,
        ))
    }

    /// Returns true if a target is missed or in doubt.
    pub fn in_doubt(&self) -> bool {
        let verdicts = self.comparisons.iter().map(Comparison::verdict);
        verdicts
            .into_iter()
            .any(|verdict| !matches!(verdict, Verdict::Met | Verdict::NoTarget))
    }

    pub fn compare(&mut self, comparison: Comparison) -> &mut Findings {
        self.comparisons.push(comparison);
        self
    }

    pub fn remark(&mut self, remark: impl Into<String>) -> &mut Findings {
        self.remarks.push(remark.into());
        self
    }

    pub fn plot(&mut self, plot: Plot) -> &mut Findings {
        self.plots.push(plot);
        self
    }
}

/// Samples of one side.
#[derive(Debug, Clone)]
pub struct Side {
    pub name: String,
    pub samples: Vec<f64>,
}

impl Side {
    pub fn new(name: impl Into<String>, samples: impl IntoIterator<Item = f64>) -> Side {
        Side {
            name: name.into(),
            samples: samples.into_iter().collect(),
        }
    }

    pub fn median(&self) -> f64 {
        median(&self.samples)
    }
}

/// Target of the ratio, or of the figure if there is no other side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Shown for information.
    None,
}

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Such as "throughput, 1 KiB records".
    pub what: String,
    pub unit: Unit,
    pub ours: Side,
    pub theirs: Option<Side>,
    pub target: Target,
}

/// Outcome of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Met,
    NotMet,
    /// The interval includes the target, so another run may give another verdict.
    MetUnsurely,
    NotMetUnsurely,
    NoTarget,
}

impl Verdict {
    pub fn is_met(self) -> bool {
        matches!(self, Verdict::Met | Verdict::MetUnsurely)
    }

    pub fn show(self) -> &'static str {
        match self {
            Verdict::Met => "**met**",
            Verdict::NotMet => "**not met**",
            Verdict::MetUnsurely => "met, within the noise",
            Verdict::NotMetUnsurely => "not met, within the noise",
            Verdict::NoTarget => "–",
        }
    }
}

impl Comparison {
    /// Compares Streamline with another side, in pairs.
    pub fn ratio(
        what: impl Into<String>,
        unit: Unit,
        ours: Side,
        theirs: Side,
        target: Target,
    ) -> Comparison {
        Comparison {
            what: what.into(),
            unit,
            ours,
            theirs: Some(theirs),
            target,
        }
    }

    /// Reports a figure of Streamline alone.
    pub fn absolute(what: impl Into<String>, unit: Unit, ours: Side, target: Target) -> Comparison {
        Comparison {
            what: what.into(),
            unit,
            ours,
            theirs: None,
            target,
        }
    }

    /// Returns the number to compare with the target.
    pub fn value(&self) -> f64 {
        match &self.theirs {
            Some(theirs) => self.ours.median() / theirs.median(),
            None => self.ours.median(),
        }
    }

    pub fn spread(&self) -> Spread {
        match &self.theirs {
            Some(theirs) => spread_of_ratio(&self.ours.samples, &theirs.samples),
            None => spread_of_median(&self.ours.samples),
        }
    }

    pub fn verdict(&self) -> Verdict {
        let spread = self.spread();
        let (met, sure) = match self.target {
            Target::None => return Verdict::NoTarget,
            Target::AtLeast(limit) => (
                self.value() >= limit,
                spread.low >= limit || spread.high < limit,
            ),
            Target::AtMost(limit) => (
                self.value() <= limit,
                spread.high <= limit || spread.low > limit,
            ),
        };
        match (met, sure) {
            (true, true) => Verdict::Met,
            (true, false) => Verdict::MetUnsurely,
            (false, true) => Verdict::NotMet,
            (false, false) => Verdict::NotMetUnsurely,
        }
    }

    /// Returns the target as text, with the unit unless it is a ratio.
    pub fn target_text(&self) -> String {
        let show = |limit: f64| match self.theirs {
            Some(_) => format!("{} ×", digits(limit)),
            None => self.unit.show(limit),
        };
        match self.target {
            Target::AtLeast(limit) => format!("≥ {}", show(limit)),
            Target::AtMost(limit) => format!("≤ {}", show(limit)),
            Target::None => "–".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(ours: [f64; 3], theirs: [f64; 3], target: Target) -> Comparison {
        Comparison::ratio(
            "x",
            Unit::PerSecond,
            Side::new("a", ours),
            Side::new("b", theirs),
            target,
        )
    }

    #[test]
    fn a_target_is_met_only_when_the_spread_agrees() {
        let sure = comparison([4.0; 3], [1.0; 3], Target::AtLeast(2.0));
        assert_eq!(sure.verdict(), Verdict::Met);
        let unsure = comparison([4.0, 4.0, 1.0], [1.0; 3], Target::AtLeast(2.0));
        assert_eq!(unsure.verdict(), Verdict::MetUnsurely);
        let missed = comparison([4.0; 3], [1.0; 3], Target::AtMost(2.0));
        assert_eq!(missed.verdict(), Verdict::NotMet);
    }

    #[test]
    fn a_figure_of_ours_alone_is_held_against_the_target_itself() {
        let alone = Comparison::absolute(
            "x",
            Unit::Bytes,
            Side::new("a", [1024.0; 3]),
            Target::AtMost(2048.0),
        );
        assert_eq!(alone.verdict(), Verdict::Met);
        assert_eq!(alone.target_text(), "≤ 2.00 KiB");
    }
}
