//! The chart: per scenario a bar for each program, as SVG.

use std::fmt::Write as _;

use crate::{
    measure::median,
    programs::Program,
    scenario::{Measured, Series},
};

/// Width of the longest bar of a scenario.
const LONGEST: f64 = 420.0;
/// Height of a row.
const ROW: usize = 22;
/// Left end of the bars.
const LEFT: usize = 110;

/// The bars of one scenario.
pub(crate) struct Group {
    name: String,
    bars: Vec<(Program, f64)>,
}

impl Group {
    /// The median seconds of each program.
    pub(crate) fn new(measured: &Measured) -> Self {
        let seconds = |series: &Series| {
            (series.program, median(series.trials.iter().map(|trial| trial.cost.seconds)))
        };
        let name = measured.scenario.title();
        Self { name, bars: measured.series.iter().map(seconds).collect() }
    }
}

/// The chart. The longest bar of each scenario has the full width.
pub(crate) fn svg(groups: &[Group], latency: &str) -> String {
    let lines: usize = groups.iter().map(|group| group.bars.len() + 2).sum();
    let (width, height) = (LEFT + LONGEST as usize + 100, (lines + 1) * ROW);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#24292f}}.limit{{fill:#b8bec6}}.ours{{fill:#1a7f37}}\
         .peer{{fill:#57606a}}@media(prefers-color-scheme:dark){{text{{fill:#d0d7de}}}}</style>\n"
    );
    let mut y = ROW;
    for group in groups {
        let _ =
            writeln!(text, "<text x=\"0\" y=\"{y}\" font-weight=\"bold\">{}</text>", group.name);
        let slowest = group.bars.iter().fold(0.0, |most: f64, bar| most.max(bar.1));
        for (program, seconds) in &group.bars {
            y += ROW;
            let class = match program {
                Program::Limit => "limit",
                Program::Ours => "ours",
                _ => "peer",
            };
            let length = (LONGEST * seconds / slowest).max(1.0);
            let (top, end) = (y - 13, LEFT as f64 + length + 6.0);
            let _ = writeln!(
                text,
                "<text x=\"0\" y=\"{y}\">{}</text><rect class=\"{class}\" x=\"{LEFT}\" y=\"{top}\" \
                 width=\"{length:.0}\" height=\"16\"/><text x=\"{end:.0}\" y=\"{y}\">{seconds:.2} s</text>",
                program.name(),
            );
        }
        y += 2 * ROW;
    }
    let note =
        format!("seconds, {latency} of round trip on each side; each group has its own scale");
    let _ = writeln!(
        text,
        "<text x=\"0\" y=\"{}\" font-size=\"11\">{note}</text>\n</svg>",
        y - ROW / 2
    );
    text
}
