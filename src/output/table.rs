//! Tables of runs and plans.
//!
//! A table lists the rows that need attention; the others are counted. Rows that end for the same
//! reason stand together above that reason, which is written once.

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::HashMap,
    io::{self, Write},
    time::Duration,
};

use clap::builder::styling::Style;

use super::{
    changes::write_change,
    destinations::Destinations,
    error::{ERROR, HINT, WARNING},
    printable, size, style, styled,
    text::{columns, longest_word, wrapped},
    word,
};
use crate::model::{
    outcome::{
        Blobs, BoundingRate, Bounds, Outcome, Pulls, Reason, Report, Requests, Row, Totals,
        UnusableDestination,
    },
    text::{count, grouped},
};

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
}

/// A text below a row, indented and wrapped.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    label: &'static str,
    style: Style,
    text: String,
}

impl Note {
    pub(crate) fn hint(text: &str) -> Self {
        Self { label: "hint: ", style: HINT, ..Self::from(text) }
    }

    fn warning(text: &str) -> Self {
        Self { label: "warning: ", style: WARNING, ..Self::from(text) }
    }

    fn error(text: &str) -> Self {
        Self { label: "error: ", style: ERROR, ..Self::from(text) }
    }

    fn write(&self, out: &mut dyn Write, indent: usize, width: Option<usize>) -> io::Result<()> {
        let lead = indent + columns(self.label);
        let text = wrapped(&self.text, width, lead, indent);
        writeln!(out, "{:indent$}{}{text}", "", styled(self.style, self.label))
    }
}

impl<T: AsRef<str>> From<T> for Note {
    fn from(text: T) -> Self {
        let text = printable(text.as_ref()).into_owned();
        Self { label: "", style: Style::new(), text }
    }
}

/// A row of a table, with notes below it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line {
    /// One for each column; missing ones are empty.
    pub cells: Vec<Cell>,
    pub notes: Vec<Note>,
}

/// A column: its title, and the side at which its cells are aligned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Column {
    Left(&'static str),
    Right(&'static str),
}

impl Column {
    fn title(self) -> &'static str {
        match self {
            Self::Left(title) | Self::Right(title) => title,
        }
    }
}

/// Columns between two cells.
const GAP: usize = 2;
/// The columns before a line that continues the one above.
const INDENT: usize = 4;

/// The place of a column in each row.
#[derive(Debug, Clone, Copy)]
struct ColumnPlace {
    column: Column,
    index: usize,
    width: usize,
    /// The columns before it. The first column of a continuation line is at [`INDENT`].
    start: usize,
    breaks_line: bool,
}

/// Writes the lines in aligned columns under their header; writes nothing without lines. Omits
/// columns without content.
///
/// A column that does not fit into `width` continues on the next line. The last one is wrapped
/// between words. No reference is cut.
pub(crate) fn grid(
    out: &mut dyn Write,
    header: &[Column],
    lines: &[Line],
    width: Option<usize>,
) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let places = places(header, lines, width);
    let bold = |column: &Column| Cell::from(column.title()).style(Style::new().bold());
    let header = Line { cells: header.iter().map(bold).collect(), notes: Vec::new() };
    for line in [&header].into_iter().chain(lines) {
        write_cells(out, &line.cells, &places, width)?;
        line.notes.iter().try_for_each(|note| note.write(out, INDENT, width))?;
    }
    Ok(())
}

fn places(header: &[Column], lines: &[Line], limit: Option<usize>) -> Vec<ColumnPlace> {
    let cells = |index: usize| lines.iter().filter_map(move |line| line.cells.get(index));
    let filled = header.iter().enumerate();
    let filled: Vec<_> =
        filled.filter(|(index, _)| cells(*index).any(|cell| !cell.text.is_empty())).collect();
    let (mut places, mut end): (Vec<ColumnPlace>, usize) = (Vec::new(), 0);
    for (position, &(index, &column)) in filled.iter().enumerate() {
        let texts = || cells(index).map(|cell| cell.text.as_str()).chain([column.title()]);
        let width = texts().map(columns).max().unwrap_or_default();
        let needed = match position + 1 == filled.len() {
            true => texts().map(longest_word).max().unwrap_or_default(),
            false => width,
        };
        let start = if position == 0 { 0 } else { end + GAP };
        let breaks_line =
            position > 0 && end > 0 && limit.is_some_and(|limit| start + needed > limit);
        let start = if breaks_line { INDENT } else { start };
        places.push(ColumnPlace { column, index, width, start, breaks_line });
        end = start + width;
    }
    places
}

fn write_cells(
    out: &mut dyn Write,
    cells: &[Cell],
    places: &[ColumnPlace],
    width: Option<usize>,
) -> io::Result<()> {
    let (mut end, empty) = (0, Cell::default());
    for (position, place) in places.iter().enumerate() {
        let cell = cells.get(place.index).unwrap_or(&empty);
        if cell.text.is_empty() {
            continue;
        }
        if place.breaks_line {
            writeln!(out)?;
            end = 0;
        }
        let before = match place.column {
            Column::Right(_) => place.start + place.width - columns(&cell.text),
            Column::Left(_) => place.start,
        };
        write!(out, "{:1$}", "", before.saturating_sub(end))?;
        let is_last = position + 1 == places.len();
        let text = if is_last {
            wrapped(&cell.text, width, before, place.start)
        } else {
            cell.text.clone()
        };
        write!(out, "{}", styled(cell.style, &text))?;
        end = before + columns(&cell.text);
    }
    writeln!(out)
}

/// The parts of a report that are written, and for which terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableView<'a> {
    /// The columns of the terminal; without one nothing is wrapped.
    pub width: Option<usize>,
    pub destinations: &'a Destinations,
    /// Lists every row, not only those that need attention.
    pub lists_all: bool,
}

/// Writes the report of a run: changed settings, the rows that need attention, and the summary.
pub(crate) fn sync(out: &mut dyn Write, report: &Report, view: &TableView<'_>) -> io::Result<()> {
    attention(out, report, view)?;
    let Requests { source, destination, ecr_api, retries, throttled } = report.requests;
    let mut parts = vec![format!("{} in {}", counted(&report.totals), duration(report.seconds))];
    let (read, written) = (report.bytes.from_source, report.bytes.to_destination);
    if read.into_iter().chain(written).any(|bytes| bytes > 0) {
        parts.push(format!("{} read, {} written", known_size(read), known_size(written)));
    }
    parts.push(format!(
        "{}, {}",
        count(source + destination, "request"),
        count(ecr_api, "AWS API call")
    ));
    if retries > 0 {
        let retries = count(retries, "retry");
        parts.push(format!("{retries}, {throttled} throttled"));
    }
    parts.extend(report.pulls.iter().map(|pulls| {
        let Pulls { registry, limit, remaining, spent, .. } = pulls;
        let spent = count(spent.unwrap_or_default(), "pull");
        format!("{registry}: {spent} spent, {remaining} of {limit} left")
    }));
    summary(out, &parts, view)?;
    rates(out, report, view)
}

/// Writes changed settings, the rows that need attention and the destinations that cannot be used;
/// writes nothing without these.
pub(crate) fn attention(
    out: &mut dyn Write,
    report: &Report,
    view: &TableView<'_>,
) -> io::Result<()> {
    changes(out, report, view)?;
    rows(out, report, view, &RUN_COLUMNS, |row| {
        let needs_attention = matches!(
            row.outcome,
            Outcome::Failed
                | Outcome::Drifted
                | Outcome::Deferred
                | Outcome::Interrupted
                | Outcome::Archived
        );
        view.lists_all || needs_attention || !row.warnings.is_empty()
    })?;
    unusable(out, report, view)
}

const RUN_COLUMNS: [Column; 3] =
    [Column::Left("OUTCOME"), Column::Right("SIZE"), Column::Left("IMAGE")];

const PLAN_COLUMNS: [Column; 4] =
    [Column::Left("OUTCOME"), Column::Left("REASON"), Column::Right("SIZE"), Column::Left("IMAGE")];

/// Writes the report of a plan: settings to change, every row that is not up to date, and the cost.
/// A number that only a pull could determine is `?`, or between bounds.
pub(crate) fn plan(out: &mut dyn Write, report: &Report, view: &TableView<'_>) -> io::Result<()> {
    changes(out, report, view)?;
    let is_listed = |row: &Row| view.lists_all || row.outcome != Outcome::UpToDate;
    rows(out, report, view, &PLAN_COLUMNS, is_listed)?;
    unusable(out, report, view)?;
    let mut parts = vec![counted(&report.totals)];
    let (read, written) = (report.bytes.from_source, report.bytes.to_destination);
    if let (Some(read), Some(written)) = (read, written) {
        parts.push(format!("{} to read, {} to write", size(read), size(written)));
    }
    if let Blobs { pushed: Some(pushed), mounted: Some(mounted), present: Some(present) } =
        report.blobs
    {
        parts.push(format!(
            "{} to push, {} to mount, {} there",
            count(pushed, "blob"),
            grouped(mounted),
            grouped(present)
        ));
    }
    summary(out, &parts, view)?;
    report.pulls.iter().try_for_each(|pulls| summary(out, &[pulls_of_plan(pulls)], view))?;
    rates(out, report, view)?;
    if report.images.iter().any(|row| row.outcome == Outcome::Planned && row.bytes_pushed.is_none())
    {
        let text = "`plan --resolve` reads the manifests and shows every number; that spends pulls";
        Note::hint(text).write(out, 0, view.width)?;
    }
    Ok(())
}

/// A line for each rate that bounds the run, and how to raise it.
fn rates(out: &mut dyn Write, report: &Report, view: &TableView<'_>) -> io::Result<()> {
    for BoundingRate { registry, action, per_second, requests, seconds } in &report.rates {
        let registry =
            if report.rates.len() > 1 { format!(" to {registry}") } else { String::new() };
        let rate = format!("{action} at {}/s", (per_second * 100.0).round() / 100.0);
        let text = match requests {
            Some(Bounds { least, most }) => {
                let bound = if least == most { "" } else { "at most " };
                let minutes = (seconds / 60.0).ceil();
                format!("{bound}{} {rate}{registry}: about {minutes} min", grouped(*most))
            }
            None => {
                let (waited, all) = (duration(*seconds), duration(report.seconds));
                format!("{rate}{registry} bounded this run: requests waited in {waited} of {all}")
            }
        };
        summary(out, &[text + "; if AWS has granted more, set `rates`"], view)?;
    }
    Ok(())
}

fn pulls_of_plan(pulls: &Pulls) -> String {
    let Pulls { registry, limit, remaining, spent, bounds, window_seconds } = pulls;
    let Some(bounds) = spent.is_none().then_some(*bounds).flatten() else {
        let spent = count(spent.unwrap_or_default(), "pull");
        return format!("{registry}: {spent} to spend, {remaining} of {limit} left");
    };
    let left = match bounds.most.saturating_sub(*remaining).div_ceil((*limit).max(1)) {
        0 => "left: one run".to_owned(),
        more => {
            let window = humantime::format_duration(Duration::from_secs(*window_seconds));
            format!("left: about {} runs, one every {window}", more + 1)
        }
    };
    let range = match bounds.least == bounds.most {
        true => grouped(bounds.most),
        false => format!("{}–{}", grouped(bounds.least), grouped(bounds.most)),
    };
    format!("{registry}: {range} pulls, {remaining} {left}")
}

fn changes(out: &mut dyn Write, report: &Report, view: &TableView<'_>) -> io::Result<()> {
    if report.changes.is_empty() {
        return Ok(());
    }
    view.destinations.write_once(out, view.width)?;
    report.changes.iter().try_for_each(|change| write_change(out, change, view.width))?;
    writeln!(out)
}

fn unusable(out: &mut dyn Write, report: &Report, view: &TableView<'_>) -> io::Result<()> {
    for UnusableDestination { destination, error, hint } in &report.unusable {
        view.destinations.write_once(out, view.width)?;
        Note::error(&format!("cannot use {destination}: {error}")).write(out, 0, view.width)?;
        hint.iter().try_for_each(|hint| Note::hint(hint).write(out, 0, view.width))?;
        writeln!(out)?;
    }
    Ok(())
}

fn rows(
    out: &mut dyn Write,
    report: &Report,
    view: &TableView<'_>,
    header: &[Column],
    is_listed: impl Fn(&Row) -> bool,
) -> io::Result<()> {
    let groups = groups(report.images.iter().filter(|row| is_listed(row)));
    if groups.is_empty() {
        return Ok(());
    }
    view.destinations.write_once(out, view.width)?;
    let mut hints: Vec<(&str, usize)> = Vec::new();
    for hint in groups.iter().filter_map(|group| group[0].hint.as_deref()) {
        match hints.iter_mut().find(|(known, _)| *known == hint) {
            Some((_, uses)) => *uses += 1,
            None => hints.push((hint, 1)),
        }
    }
    let is_shared = |hint: &str| hints.iter().any(|(known, uses)| *known == hint && *uses > 1);
    let mut lines = Vec::new();
    for group in &groups {
        let cells = group.iter().map(|row| cells(row, view, header));
        lines.extend(cells.map(|cells| Line { cells, notes: Vec::new() }));
        if let Some(line) = lines.last_mut() {
            let row = group[0];
            line.notes.extend(row.error.iter().map(Note::from));
            line.notes.extend(row.warnings.iter().map(|text| Note::warning(text)));
            let hint = row.hint.as_ref().filter(|hint| !is_shared(hint));
            line.notes.extend(hint.map(|hint| Note::hint(hint)));
        }
    }
    grid(out, header, &lines, view.width)?;
    for (hint, _) in hints.iter().filter(|(_, uses)| *uses > 1) {
        Note::hint(hint).write(out, 0, view.width)?;
    }
    writeln!(out)
}

/// The rows, those with the same outcome for the same reason together.
fn groups<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<Vec<&'a Row>> {
    let (mut groups, mut known): (Vec<Vec<&Row>>, HashMap<_, usize>) = Default::default();
    for row in rows {
        let has_notes = row.error.is_some() || row.hint.is_some() || !row.warnings.is_empty();
        let key = (row.outcome, &row.error, &row.hint, &row.warnings);
        match known.get(&key).copied().filter(|_| has_notes) {
            Some(at) => groups[at].push(row),
            None => {
                known.insert(key, groups.len());
                groups.push(vec![row]);
            }
        }
    }
    groups
}

fn cells(row: &Row, view: &TableView<'_>, header: &[Column]) -> Vec<Cell> {
    let size = match row.outcome {
        Outcome::Copied => row.bytes_pushed.map(size),
        Outcome::Planned => Some(known_size(row.bytes_pushed)),
        // an image that was not copied has no size to report
        _ => None,
    };
    let cell = |column: &Column| match column.title() {
        "OUTCOME" => Cell::from(word(row.outcome)).style(style(row.outcome)),
        "REASON" => row.reason.map(reason).unwrap_or_default().into(),
        "SIZE" => size.clone().unwrap_or_default().into(),
        _ => view.destinations.image(&row.source, &row.destination).into(),
    };
    header.iter().map(cell).collect()
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::New => "new",
        Reason::TagMoved => "tag moved",
        Reason::FilterChanged => "filter changed",
        Reason::ReferrerAdded => "referrer added",
        Reason::Repaired => "incomplete",
    }
}

/// Writes the parts in one line. A part that does not fit into it has the next line.
fn summary(out: &mut dyn Write, parts: &[String], view: &TableView<'_>) -> io::Result<()> {
    const SEPARATOR: &str = " · ";
    let mut line = String::new();
    for part in parts {
        let end = columns(&line) + columns(SEPARATOR) + columns(part);
        if view.width.is_some_and(|width| end > width) && !line.is_empty() {
            writeln!(out, "{}", wrapped(&line, view.width, 0, 0))?;
            line.clear();
        }
        if !line.is_empty() {
            line += SEPARATOR;
        }
        line.push_str(&printable(part));
    }
    writeln!(out, "{}", wrapped(&line, view.width, 0, 0))
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
        (totals.interrupted, Outcome::Interrupted),
        (totals.not_started, Outcome::NotStarted),
        (totals.archived, Outcome::Archived),
        (totals.kept, Outcome::Kept),
    ];
    let nonzero = all.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> =
        nonzero.map(|(count, outcome)| format!("{} {}", grouped(*count), word(*outcome))).collect();
    if parts.is_empty() { "no images".to_owned() } else { parts.join(", ") }
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
