//! Tables for people: what a run did, what a plan would do.
//!
//! Pure: a report and a width give the text. What is up to date is counted, not listed, so that
//! the last screen of a run shows what happened. On a terminal no line of a table wraps.

#[cfg(test)]
pub(super) mod tests;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::builder::styling::Style;

use super::{error::HINT, printable, size, style, styled, word};
use crate::model::outcome::{Outcome, Pulls, Report, Row, Totals};

/// A cell: its text, and how it looks.
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
    /// The cell in this style.
    #[must_use]
    pub(crate) fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

/// A line of a table: its cells, and what is said below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    /// One a column; missing ones are empty.
    pub cells: Vec<Cell>,
    /// Indented below, never shortened.
    pub notes: Vec<String>,
}

/// Between two columns, in characters.
pub(crate) const GAP: usize = 2;
/// No column is shortened below this.
const NARROWEST: usize = 12;

/// Writes the lines in aligned columns under their header; nothing at all without lines.
///
/// Wider than `width`, the widest columns are shortened in the middle: a reference's ends tell
/// most.
///
/// # Errors
/// The writer's.
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
    let mut owed = 0;
    for (cell, &width) in cells.iter().zip(widths) {
        let text = shortened(&cell.text, width);
        if !text.is_empty() {
            write!(out, "{:owed$}{}", "", styled(cell.style, &text))?;
            owed = 0;
        }
        owed += width - text.chars().count() + GAP;
    }
    writeln!(out)
}

/// The text in at most `width` characters, the middle replaced by `…`; the end keeps more, as
/// the tag is there.
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

/// Writes what a run did: settings it changed, every row that was not up to date, and the summary.
///
/// # Errors
/// The writer's.
pub(crate) fn sync(out: &mut dyn Write, report: &Report, width: Option<usize>) -> io::Result<()> {
    changes(out, report)?;
    rows(out, report, width)?;
    let requests = &report.requests;
    let mut parts = vec![
        format!("{} in {}", counted(&report.totals), lasted(report.seconds)),
        moved(report),
        format!(
            "{} + {} requests, {} AWS API calls",
            requests.source, requests.destination, requests.ecr_api
        ),
    ];
    if requests.retries > 0 {
        parts.push(format!("{} retries, {} throttled", requests.retries, requests.throttled));
    }
    parts.extend(report.pulls.iter().map(|pulls| {
        let Pulls { registry, limit, remaining, .. } = pulls;
        let spent = known(pulls.spent);
        format!("{registry}: {spent} pulls spent, {remaining} of {limit} left")
    }));
    summary(out, &parts)
}

/// Writes what a run would do: settings it would change, every row that is not up to date, and what it would cost.
///
/// What only a pull could tell is a `?`.
///
/// # Errors
/// The writer's.
pub(crate) fn plan(out: &mut dyn Write, report: &Report, width: Option<usize>) -> io::Result<()> {
    changes(out, report)?;
    rows(out, report, width)?;
    let blobs = &report.blobs;
    let mut parts = vec![
        counted(&report.totals),
        moved(report),
        format!(
            "blobs: {} to push, {} to mount, {} there",
            known(blobs.pushed),
            known(blobs.mounted),
            known(blobs.present)
        ),
    ];
    parts.extend(report.pulls.iter().map(|pulls| {
        let Pulls { registry, limit, remaining, .. } = pulls;
        let spent = known(pulls.spent);
        format!("{registry}: {spent} pulls to spend, {remaining} of {limit} left")
    }));
    summary(out, &parts)
}

/// A line for each setting's subject, as `pull-through plan` has them.
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
        // of what did not come about there is no size worth reading
        _ => None,
    };
    let mut notes: Vec<String> = Vec::new();
    for (depth, cause) in row.error.iter().flat_map(|error| error.lines()).enumerate() {
        let label = if depth == 0 { "" } else { "  caused by: " };
        notes.push(format!("{label}{}", printable(cause)));
    }
    notes.extend(
        row.hint.as_ref().map(|hint| format!("{} {}", styled(HINT, "hint:"), printable(hint))),
    );
    let outcome = Cell::from(word(row.outcome)).style(style(row.outcome));
    let cells = vec![
        outcome,
        Cell::from(&row.source),
        Cell::from(&row.destination),
        Cell::from(size.unwrap_or_default()),
    ];
    Line { cells, notes }
}

fn summary(out: &mut dyn Write, parts: &[String]) -> io::Result<()> {
    writeln!(out, "{}", printable(&parts.join(" · ")))
}

/// `12 copied, 3 up to date`: what there was none of is left out.
fn counted(totals: &Totals) -> String {
    let all = [
        (totals.copied, Outcome::Copied),
        (totals.planned, Outcome::Planned),
        (totals.warmed, Outcome::Warmed),
        (totals.up_to_date, Outcome::UpToDate),
        (totals.failed, Outcome::Failed),
        (totals.drifted, Outcome::Drifted),
        (totals.deferred, Outcome::Deferred),
        (totals.not_started, Outcome::NotStarted),
    ];
    let some = all.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> =
        some.map(|(count, outcome)| format!("{count} {}", word(*outcome))).collect();
    if parts.is_empty() { "no images".to_owned() } else { parts.join(", ") }
}

fn moved(report: &Report) -> String {
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
fn lasted(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string()
}
