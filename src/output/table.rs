//! Tables of runs and plans.
//!
//! Images that are up to date are counted and not listed, so that the last screen of a run shows the
//! changes. On a terminal no line of a table wraps.

#[cfg(test)]
pub(super) mod tests;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::builder::styling::Style;

use super::{error::HINT, printable, size, style, styled, word};
use crate::model::outcome::{Blobs, Outcome, Pulls, Report, Requests, Row, Totals};

#[derive(Debug, Clone, Default)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: printable(text.as_ref()).into_owned(), style: Style::new() }
    }
}

impl Cell {
    #[must_use]
    pub(crate) fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A row of a table, with notes below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    /// One for each column; missing ones are empty.
    pub cells: Vec<Cell>,
    /// Indented below the row, never shortened.
    pub notes: Vec<String>,
}

/// Characters between two columns.
pub(crate) const GAP: usize = 2;
/// The width below which no column is shortened.
const NARROWEST: usize = 12;

/// Writes the lines in aligned columns under their header; writes nothing without lines.
///
/// If the table is wider than `width`, the widest columns are shortened in the middle, because the
/// ends of a reference distinguish it.
pub(crate) fn grid(
    out: &mut dyn Write,
    header: &[&str],
    lines: &[Line],
    width: Option<usize>,
) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let bold = |title: &&str| Cell::from(*title).style(Style::new().bold());
    let header = Line { cells: header.iter().map(bold).collect(), notes: Vec::new() };
    let widths = widths(&header, lines, width);
    for line in [&header].into_iter().chain(lines) {
        write_cells(out, &line.cells, &widths)?;
        for note in &line.notes {
            writeln!(out, "    {note}")?;
        }
    }
    Ok(())
}

fn widths(header: &Line, lines: &[Line], limit: Option<usize>) -> Vec<usize> {
    let column = |at: usize| {
        let cells = [header].into_iter().chain(lines).filter_map(|line| line.cells.get(at));
        cells.map(Cell::width).max().unwrap_or_default()
    };
    let mut widths: Vec<usize> = (0..header.cells.len()).map(column).collect();
    let gaps = GAP * widths.len().saturating_sub(1);
    while limit.is_some_and(|limit| widths.iter().sum::<usize>() + gaps > limit) {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

fn write_cells(out: &mut dyn Write, cells: &[Cell], widths: &[usize]) -> io::Result<()> {
    let mut padding = 0;
    for (cell, &width) in cells.iter().zip(widths) {
        let text = shortened(&cell.text, width);
        if !text.is_empty() {
            write!(out, "{:padding$}{}", "", styled(cell.style, &text))?;
            padding = 0;
        }
        padding += width - text.chars().count() + GAP;
    }
    writeln!(out)
}

/// The text in at most `width` characters, with `…` in the middle. Keeps more of the end, which has
/// the tag.
pub(super) fn shortened(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let front = kept / 3;
    let back = text.chars().skip(length - (kept - front));
    text.chars().take(front).chain(['…']).chain(back).collect()
}

/// Writes the report of a run: changed settings, every row that was not up to date, and the summary.
pub(crate) fn sync(out: &mut dyn Write, report: &Report, width: Option<usize>) -> io::Result<()> {
    changes(out, report)?;
    rows(out, report, width)?;
    let Requests { source, destination, ecr_api, retries, throttled } = report.requests;
    let mut parts = vec![
        format!("{} in {}", counted(&report.totals), duration(report.seconds)),
        bytes(report),
        format!("{source} + {destination} requests, {ecr_api} AWS API calls"),
    ];
    if retries > 0 {
        parts.push(format!("{retries} retries, {throttled} throttled"));
    }
    parts.extend(pulls(report, "spent"));
    summary(out, &parts)
}

/// Writes the report of a plan: settings to change, every row that is not up to date, and the cost.
/// A number that only a pull could determine is `?`.
pub(crate) fn plan(out: &mut dyn Write, report: &Report, width: Option<usize>) -> io::Result<()> {
    changes(out, report)?;
    rows(out, report, width)?;
    let Blobs { pushed, mounted, present } = report.blobs;
    let (pushed, mounted, present) = (known(pushed), known(mounted), known(present));
    let blobs = format!("blobs: {pushed} to push, {mounted} to mount, {present} there");
    let mut parts = vec![counted(&report.totals), bytes(report), blobs];
    parts.extend(pulls(report, "to spend"));
    summary(out, &parts)
}

fn pulls(report: &Report, verb: &str) -> impl Iterator<Item = String> {
    report.pulls.iter().map(move |pulls| {
        let Pulls { registry, limit, remaining, .. } = pulls;
        format!("{registry}: {} pulls {verb}, {remaining} of {limit} left", known(pulls.spent))
    })
}

fn changes(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    for change in &report.changes {
        writeln!(out, "{}", printable(&change.to_string()))?;
    }
    if report.changes.is_empty() { Ok(()) } else { writeln!(out) }
}

fn rows(out: &mut dyn Write, report: &Report, width: Option<usize>) -> io::Result<()> {
    let listed = report.images.iter().filter(|row| row.outcome != Outcome::UpToDate);
    let lines: Vec<Line> = listed.map(line).collect();
    grid(out, &["OUTCOME", "SOURCE", "DESTINATION", "SIZE"], &lines, width)?;
    if lines.is_empty() { Ok(()) } else { writeln!(out) }
}

fn line(row: &Row) -> Line {
    let size = match row.outcome {
        Outcome::Copied => row.bytes_pushed.map(size),
        Outcome::Planned | Outcome::Deferred => Some(known_size(row.bytes_pushed)),
        // an image that was not copied has no size to report
        _ => None,
    };
    let mut notes: Vec<String> = Vec::new();
    for (depth, cause) in row.error.iter().flat_map(|error| error.lines()).enumerate() {
        // an indented line belongs to the line above it
        let label = if depth == 0 || cause.starts_with(' ') { "" } else { "  caused by: " };
        notes.push(format!("{label}{}", printable(cause)));
    }
    let hint = |hint: &String| format!("{} {}", styled(HINT, "hint:"), printable(hint));
    notes.extend(row.hint.as_ref().map(hint));
    let outcome = Cell::from(word(row.outcome)).style(style(row.outcome));
    let size = Cell::from(size.unwrap_or_default());
    Line { cells: vec![outcome, (&row.source).into(), (&row.destination).into(), size], notes }
}

fn summary(out: &mut dyn Write, parts: &[String]) -> io::Result<()> {
    writeln!(out, "{}", printable(&parts.join(" · ")))
}

/// Like `12 copied, 3 up to date`; omits zeros.
pub(super) fn counted(totals: &Totals) -> String {
    let all = [
        (totals.copied, Outcome::Copied),
        (totals.planned, Outcome::Planned),
        (totals.warmed, Outcome::Warmed),
        (totals.up_to_date, Outcome::UpToDate),
        (totals.failed, Outcome::Failed),
        (totals.drifted, Outcome::Drifted),
        (totals.deferred, Outcome::Deferred),
        (totals.not_started, Outcome::NotStarted),
        (totals.archived, Outcome::Archived),
    ];
    let nonzero = all.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> =
        nonzero.map(|(count, outcome)| format!("{count} {}", word(*outcome))).collect();
    if parts.is_empty() { "no images".to_owned() } else { parts.join(", ") }
}

fn bytes(report: &Report) -> String {
    let bytes = &report.bytes;
    let (read, written) = (known_size(bytes.from_source), known_size(bytes.to_destination));
    format!("{read} from sources, {written} to destinations")
}

fn known(number: Option<u64>) -> String {
    number.map_or_else(|| "?".to_owned(), |number| number.to_string())
}

fn known_size(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "?".to_owned(), size)
}

/// `12.3 s` below a minute, `1h 2m 3s` above.
pub(super) fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}
