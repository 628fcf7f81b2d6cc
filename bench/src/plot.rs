//! SVG charts for the report.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::outcome::{Comparison, Target};
use crate::quantity::{Unit, digits};

const SIZE: (u32, u32) = (860, 460);
const FONT: &str = "sans-serif";
/// Distinguishable by colour-blind readers.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 86, 86),
];

/// Line chart.
#[derive(Debug, Clone)]
pub struct Plot {
    /// File name without extension.
    pub name: String,
    pub title: String,
    pub x_label: String,
    pub y_label: String,
    pub log_x: bool,
    pub log_y: bool,
    pub lines: Vec<Line>,
}

/// A line and its name in the legend.
#[derive(Debug, Clone)]
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

impl Plot {
    /// Writes the chart to `NAME.svg` in the directory.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(format!("{}.svg", self.name));
        let area = SVGBackend::new(&path, SIZE).into_drawing_area();
        draw_lines(self, &area)
            .and_then(|()| area.present().map_err(plain))
            .map_err(|error| anyhow!("{}: {error:#}", path.display()))
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Converts plotters' errors, which borrow from the chart.
fn plain(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("{error}")
}

/// Draws logarithmic axes as linear ones of the logarithm, with the same code.
#[derive(Clone, Copy)]
struct Axis {
    log: bool,
    low: f64,
    high: f64,
}

impl Axis {
    fn over(log: bool, values: impl Iterator<Item = f64>) -> Axis {
        let mut axis = Axis {
            log,
            low: f64::INFINITY,
            high: f64::NEG_INFINITY,
        };
        for value in values.filter(|value| value.is_finite() && (!log || *value > 0.0)) {
            axis.low = axis.low.min(axis.place(value));
            axis.high = axis.high.max(axis.place(value));
        }
        if !log {
            axis.low = axis.low.min(0.0);
        }
        let room = ((axis.high - axis.low) * 0.06).max(1e-9);
        axis.high += room;
        if log {
            axis.low -= room;
        }
        axis
    }

    fn place(&self, value: f64) -> f64 {
        if self.log { value.log10() } else { value }
    }

    fn label(&self, place: f64) -> String {
        let value = if self.log { 10f64.powf(place) } else { place };
        let short = |value: f64| {
            let text = digits(value);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        };
        if value.abs() >= 1e6 {
            format!("{} M", short(value / 1e6))
        } else if value.abs() >= 1e3 {
            format!("{} k", short(value / 1e3))
        } else {
            short(value)
        }
    }
}

fn draw_lines(plot: &Plot, area: &Area) -> Result<()> {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    let x = Axis::over(plot.log_x, points().map(|point| point.0));
    let y = Axis::over(plot.log_y, points().map(|point| point.1));
    area.fill(&WHITE).map_err(plain)?;
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, (FONT, 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(x.low..x.high, y.low..y.high)
        .map_err(plain)?;
    chart
        .configure_mesh()
        .x_desc(&plot.x_label)
        .y_desc(&plot.y_label)
        .x_labels(9)
        .y_labels(8)
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .draw()
        .map_err(plain)?;
    for (line, colour) in plot.lines.iter().zip(COLOURS.iter().cycle()) {
        let places: Vec<(f64, f64)> = line
            .points
            .iter()
            .filter(|(px, py)| (!plot.log_x || *px > 0.0) && (!plot.log_y || *py > 0.0))
            .map(|&(px, py)| (x.place(px), y.place(py)))
            .collect();
        // Single measurements are shown as points.
        let dots = match places.len() {
            0..=30 => places.clone(),
            _ => Vec::new(),
        };
        chart
            .draw_series(LineSeries::new(places, colour.stroke_width(2)))
            .map_err(plain)?
            .label(&line.name)
            .legend(|(at_x, at_y)| {
                PathElement::new([(at_x, at_y), (at_x + 18, at_y)], colour.stroke_width(2))
            });
        chart
            .draw_series(
                dots.into_iter()
                    .map(|dot| Circle::new(dot, 3, colour.filled())),
            )
            .map_err(plain)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()
        .map_err(plain)?;
    Ok(())
}

/// A bar and its label on the left.
struct Bar {
    label: String,
    value: f64,
    colour: RGBColor,
}

/// Draws how far each target is met: bars right of 1 are met, bars left of it are not.
pub fn write_targets(path: &Path, comparisons: &[&Comparison]) -> Result<()> {
    let bars = comparisons.iter().filter_map(|comparison| {
        let value = comparison.value();
        let met = match comparison.target {
            Target::AtLeast(limit) => value / limit,
            // Limits the bar of a figure of zero.
            Target::AtMost(limit) => limit / value.max(limit / 1e2),
            Target::None => return None,
        };
        Some(Bar {
            label: comparison.what.clone(),
            value: met.clamp(1e-2, 1e2),
            colour: COLOURS[usize::from(met < 1.0)],
        })
    });
    write_bars(
        path,
        "How far each target is met (1 is just met)",
        &bars.collect::<Vec<_>>(),
        true,
    )
}

/// Draws the throughput of both sides of comparisons with a target; others would repeat one of them.
pub fn write_throughput(path: &Path, comparisons: &[&Comparison]) -> Result<()> {
    let mut bars = Vec::new();
    for comparison in comparisons {
        if comparison.unit == Unit::BytesPerSecond
            && comparison.target != Target::None
            && let Some(theirs) = &comparison.theirs
        {
            for (side, colour) in [(&comparison.ours, COLOURS[0]), (theirs, COLOURS[4])] {
                bars.push(Bar {
                    label: format!("{}: {}", comparison.what, side.name),
                    value: side.median() / 1e6,
                    colour,
                });
            }
        }
    }
    write_bars(path, "Throughput, MB/s", &bars, false)
}

/// Approximate size of a letter of a label.
const LETTER_WIDTH: u32 = 6;

/// Draws bars to the right and, on a logarithmic axis, to the left of 1. Writes no file if there are none.
fn write_bars(path: &Path, title: &str, bars: &[Bar], log: bool) -> Result<()> {
    if bars.is_empty() {
        return Ok(());
    }
    let around_one = if log { &[0.8, 1.25][..] } else { &[] };
    let axis = Axis::over(
        log,
        bars.iter()
            .map(|bar| bar.value)
            .chain(around_one.iter().copied()),
    );
    let height = 90 + 22 * bars.len() as u32;
    let longest = bars.iter().map(|bar| bar.label.chars().count()).max();
    let label_width = 30 + LETTER_WIDTH * longest.unwrap_or(0) as u32;
    let area = SVGBackend::new(path, (SIZE.0, height)).into_drawing_area();
    area.fill(&WHITE).map_err(plain)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 18))
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(label_width)
        .build_cartesian_2d(axis.low..axis.high, bars.len() as f64..0.0)
        .map_err(plain)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .light_line_style(TRANSPARENT)
        .y_labels(0)
        .x_labels(8)
        .label_style((FONT, 13))
        .x_label_formatter(&|place| axis.label(*place))
        .draw()
        .map_err(plain)?;
    for (row, bar) in bars.iter().enumerate() {
        let top = row as f64 + 0.18;
        let corners = [(0.0, top), (axis.place(bar.value), top + 0.64)];
        chart
            .draw_series([Rectangle::new(corners, bar.colour.filled())])
            .map_err(plain)?;
        let (_, pixel_y) = chart.backend_coord(&(0.0, row as f64 + 0.5));
        let style = (FONT, 13).into_font().color(&BLACK);
        area.draw_text(&bar.label, &style, (12, pixel_y - 7))
            .map_err(plain)?;
    }
    area.present().map_err(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Side;

    #[test]
    fn pictures_are_written_with_all_that_they_show() {
        let directory = tempfile::tempdir().unwrap();
        let plot = Plot {
            name: "some".to_owned(),
            title: "Some title".to_owned(),
            x_label: "things".to_owned(),
            y_label: "a second".to_owned(),
            log_x: true,
            log_y: true,
            lines: vec![Line {
                name: "this one".to_owned(),
                points: vec![(1.0, 10.0), (100.0, 2_000.0), (1_000.0, 0.0)],
            }],
        };
        plot.write(directory.path()).unwrap();
        let svg = std::fs::read_to_string(directory.path().join("some.svg")).unwrap();
        for text in ["Some title", "things", "a second", "this one"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn every_target_has_its_bar() {
        let met = Comparison::ratio(
            "faster than that",
            Unit::Seconds,
            Side::new("a", [1.0]),
            Side::new("b", [4.0]),
            Target::AtMost(0.5),
        );
        let without = Comparison {
            what: "no target".to_owned(),
            target: Target::None,
            ..met.clone()
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("targets.svg");
        write_targets(&path, &[&met, &without]).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("faster than that") && !svg.contains("no target"));
    }

    #[test]
    fn throughput_is_shown_of_both_sides_and_nothing_else_is() {
        let fast = Comparison::ratio(
            "moving",
            Unit::BytesPerSecond,
            Side::new("this", [2e9]),
            Side::new("that", [1e9]),
            Target::AtLeast(1.0),
        );
        let other = Comparison {
            what: "waiting".to_owned(),
            unit: Unit::Seconds,
            ..fast.clone()
        };
        let orienting = Comparison {
            what: "orienting".to_owned(),
            target: Target::None,
            ..fast.clone()
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("throughput.svg");
        write_throughput(&path, &[&fast, &other, &orienting]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains("moving: this") && svg.contains("moving: that"));
        assert!(!svg.contains("waiting") && !svg.contains("orienting"));
    }
}
