//! The checks of `doctor`: a line for each on a terminal, or JSON.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;

use super::{
    error::{HINT, WARNING},
    printable, styled,
    table::{Column, Line, grid},
};
use crate::model::check_report::{CheckResult, CheckRow, ListedCheck};

/// The column of the text below a check's first line.
const INDENT: usize = 6;

/// Writes the checks, worst first, and their numbers. Omits passed ones unless `with_passed`.
///
/// Checks that are skipped for the same reason share a line.
pub(crate) fn checks(
    out: &mut dyn Write,
    rows: &[CheckRow],
    with_passed: bool,
    width: Option<usize>,
) -> io::Result<()> {
    let shown = rows.iter().filter(|row| with_passed || row.result != CheckResult::Ok);
    for (ids, row) in merged(shown) {
        let at = row.subject.as_ref().map(|subject| format!(" at {subject}")).unwrap_or_default();
        let text = format!("{}{at}: {}", ids.join(", "), row.text);
        let word = styled(style(row.result), row.result.word());
        let padding = INDENT - row.result.word().len();
        write!(out, "{word}{:padding$}", "")?;
        wrapped(out, &text, width)?;
        if let Some(hint) = &row.hint {
            write!(out, "{:INDENT$}{} ", "", styled(HINT, "hint:"))?;
            wrapped_from(out, hint, INDENT + "hint: ".len(), width)?;
        }
    }
    writeln!(out, "{}", summary(rows))
}

/// The rows with the ids of those that differ in their id only and are skipped.
fn merged<'a>(rows: impl Iterator<Item = &'a CheckRow>) -> Vec<(Vec<&'static str>, &'a CheckRow)> {
    let mut all: Vec<(Vec<&'static str>, &CheckRow)> = Vec::new();
    for row in rows {
        let is_same = |other: &CheckRow| {
            row.result == CheckResult::Skip
                && (other.result, &other.subject, &other.text)
                    == (row.result, &row.subject, &row.text)
        };
        match all.iter_mut().find(|(_, other)| is_same(other)) {
            Some((ids, _)) => ids.push(row.id),
            None => all.push((vec![row.id], row)),
        }
    }
    all
}

fn style(result: CheckResult) -> Style {
    match result {
        CheckResult::Fail => AnsiColor::Red.on_default().bold(),
        CheckResult::Warn => WARNING,
        CheckResult::Skip => Style::new(),
        CheckResult::Ok => AnsiColor::Green.on_default(),
    }
}

/// Like `12 checks: 10 ok, 1 warn, 1 fail`.
fn summary(rows: &[CheckRow]) -> String {
    let all = [CheckResult::Ok, CheckResult::Skip, CheckResult::Warn, CheckResult::Fail];
    let count = |result| rows.iter().filter(|row| row.result == result).count();
    let parts: Vec<String> = all
        .into_iter()
        .filter(|result| count(*result) > 0)
        .map(|result| format!("{} {}", count(result), result.word()))
        .collect();
    let plural = if rows.len() == 1 { "" } else { "s" };
    format!("{} check{plural}: {}", rows.len(), parts.join(", "))
}

fn wrapped(out: &mut dyn Write, text: &str, width: Option<usize>) -> io::Result<()> {
    wrapped_from(out, text, INDENT, width)
}

/// Writes the text from this column on, with further lines indented by [`INDENT`]. Breaks at spaces
/// only: no reference and no command is cut inside a word.
fn wrapped_from(
    out: &mut dyn Write,
    text: &str,
    column: usize,
    width: Option<usize>,
) -> io::Result<()> {
    let (width, mut used) = (width.unwrap_or(usize::MAX), column);
    let text = printable(text);
    for (index, word) in text.split_whitespace().enumerate() {
        let length = word.chars().count();
        if index > 0 && used.saturating_add(1 + length) > width {
            write!(out, "\n{:INDENT$}", "")?;
            used = INDENT;
        } else if index > 0 {
            write!(out, " ")?;
            used += 1;
        }
        write!(out, "{word}")?;
        used += length;
    }
    writeln!(out)
}

/// Writes the checks as JSON, format version 1.
pub(crate) fn json(out: &mut dyn Write, rows: &[CheckRow], exit: u8) -> io::Result<()> {
    let document = json!({ "version": 1, "exit": exit, "checks": rows });
    writeln!(out, "{document:#}")
}

/// Writes the checks that a configuration has, without running them.
pub(crate) fn list(
    out: &mut dyn Write,
    checks: &[ListedCheck],
    width: Option<usize>,
) -> io::Result<()> {
    let line = |check: &ListedCheck| Line {
        cells: [check.id, check.group.word(), check.asks].map(Into::into).into(),
        notes: Vec::new(),
    };
    let lines: Vec<Line> = checks.iter().map(line).collect();
    grid(out, &["CHECK", "GROUP", "ASKS"].map(Column::Left), &lines, width)
}

/// Writes the listed checks as JSON, format version 1.
pub(crate) fn list_json(out: &mut dyn Write, checks: &[ListedCheck]) -> io::Result<()> {
    let document = json!({ "version": 1, "checks": checks });
    writeln!(out, "{document:#}")
}

#[cfg(test)]
mod tests;
