//! What is wrong with a configuration, or not meant, shown where it is written.
//!
//! Guards the secrets of a file: a line that may hold one is never printed,
//! and what a variable was replaced by is not in the text that is shown.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use crate::model::{NameError, text::is_unsafe_for_terminal};

/// Where in the file something is written, in bytes.
pub(super) type Span = Range<usize>;

/// How many characters of a long line are shown.
const WINDOW: usize = 100;

/// Everything that is wrong with a configuration, ready to be printed.
///
/// `Display` is the whole message: one `error: FILE:LINE:COLUMN` block for each
/// problem, in the order of the file, hints included, without a final newline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// What is wrong with the file as a whole.
    pub(super) fn of_file(message: &str, hint: &str) -> Self {
        Self(vec![format!("error: {message}\nhint: {hint}")])
    }

    /// These problems of this text, never none.
    pub(super) fn new(name: &str, text: &str, problems: Vec<Problem>) -> Self {
        Self(SourceFile { level: "error", name, text }.render(problems))
    }
}

/// What is allowed and most likely not meant, ready to be printed: a block for each, that begins
/// with `warning: FILE:LINE:COLUMN`, in the order of the file.
pub(super) fn warnings(name: &str, text: &str, problems: Vec<Problem>) -> Vec<String> {
    SourceFile { level: "warning", name, text }.render(problems)
}

/// A file, and what its problems are called.
struct SourceFile<'a> {
    level: &'static str,
    name: &'a str,
    text: &'a str,
}

impl SourceFile<'_> {
    /// Each of these once, in the order of the file.
    fn render(&self, mut problems: Vec<Problem>) -> Vec<String> {
        problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
        problems.dedup();
        let secrets = Secrets::of(self.text);
        problems.iter().map(|problem| problem.render(self, &secrets)).collect()
    }
}

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    span: Option<Span>,
    label: String,
    hint: Option<String>,
    shown: Shown,
}

/// How much of the line is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Line,
    /// Up to the end of the caret: what follows may be a secret under a mistyped key.
    ToCaret,
}

impl Problem {
    /// Something wrong at this place; the label is read after the text above the caret.
    pub(super) fn at(span: &Span, label: impl Into<String>) -> Self {
        Self { span: Some(span.clone()), label: label.into(), hint: None, shown: Shown::Line }
    }

    /// Something wrong that is nowhere in the file.
    pub(super) fn nowhere(label: impl Into<String>) -> Self {
        Self { span: None, label: label.into(), hint: None, shown: Shown::Line }
    }

    /// A text that is not the name it should be.
    pub(super) fn name(span: &Span, error: NameError) -> Self {
        let label = error.problem.strip_prefix("is ").unwrap_or(&error.problem);
        Self { hint: error.hint, ..Self::at(span, label) }
    }

    /// Says what would be right.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Shows nothing of the line after the caret.
    pub(super) fn hide_rest(self) -> Self {
        Self { shown: Shown::ToCaret, ..self }
    }

    fn render(&self, page: &SourceFile<'_>, secrets: &Secrets<'_>) -> String {
        let SourceFile { level, name, text } = page;
        let mut message = match &self.span {
            None => format!("{level}: {name}: {}", self.label),
            Some(span) => {
                let place = SourcePosition::of(span, text, self.shown);
                format!(
                    "{level}: {name}:{}:{}\n{}",
                    place.line,
                    place.column,
                    place.snippet(&self.label, secrets)
                )
            }
        };
        if let Some(hint) = &self.hint {
            message.push_str("\nhint: ");
            message.push_str(hint);
        }
        message
    }
}

/// The line, counted from 1, in which this place is.
pub(super) fn line_of(text: &str, span: &Span) -> usize {
    let start = text.floor_char_boundary(span.start);
    1 + text[..start].bytes().filter(|&b| b == b'\n').count()
}

/// A span as a person finds it.
struct SourcePosition<'a> {
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    /// The part of the line before the caret, under it, and after it.
    parts: [&'a str; 3],
    /// What of the line is shown, in bytes of the text.
    shown: Span,
}

impl<'a> SourcePosition<'a> {
    fn of(span: &Span, text: &'a str, shown: Shown) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let end = text.ceil_char_boundary(span.end.min(line_end)).clamp(start, line_end);
        let until = if shown == Shown::ToCaret { end } else { line_end };
        Self {
            line: line_of(text, span),
            column: 1 + text[line_start..start].chars().filter(|&c| c != '\u{feff}').count(),
            parts: [&text[line_start..start], &text[start..end], &text[end..until]],
            shown: line_start..until,
        }
    }

    fn snippet(&self, label: &str, secrets: &Secrets<'_>) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if secrets.may_show(&self.shown) {
            return format!("{number} | (not shown: it may hold a secret)\n{margin} | {label}");
        }
        let [before, under, after] = self.parts.map(printable);
        let (from, width) = (before.chars().count(), under.chars().count());
        let line: Vec<char> = [before, under, after].concat().chars().collect();
        let cut = match line.len() > WINDOW {
            true => from.saturating_sub(WINDOW / 2).min(line.len() - WINDOW),
            false => 0,
        };
        let end = line.len().min(cut + WINDOW);
        let shown: String = line[cut..end].iter().collect();
        let opening = if cut > 0 { "…" } else { "" };
        let closing = if end < line.len() { "…" } else { "" };
        let blank = " ".repeat(from - cut + opening.chars().count());
        let carets = "^".repeat(width.min(end.saturating_sub(from)).max(1));
        let line = format!("{number} | {opening}{shown}{closing}");
        format!("{}\n{margin} | {blank}{carets} {label}", line.trim_end())
    }
}

/// Tabs as four blanks, and nothing that moves a terminal's cursor or turns its text around.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push_str("    "),
            '\u{feff}' => {}
            c if is_unsafe_for_terminal(c) => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// Where the secrets of a file may be.
struct Secrets<'a> {
    text: &'a str,
    /// The values of secrets' keys; after what is no TOML they may be somewhere else.
    spans: Vec<Span>,
    is_toml: bool,
}

impl<'a> Secrets<'a> {
    fn of(text: &'a str) -> Self {
        let (document, errors) = DeTable::parse_recoverable(text);
        Self { text, spans: secret_spans(document.get_ref()), is_toml: errors.is_empty() }
    }

    /// Whether this part of a line, from its beginning, may have a secret in it.
    fn may_show(&self, shown: &Span) -> bool {
        let line = &self.text[shown.clone()];
        let overlaps = |secret: &Span| {
            secret.start < shown.end && shown.start < secret.end.max(secret.start + 1)
        };
        self.spans.iter().any(overlaps)
            || holds_secret(line)
            || holds_login(line)
            || (!self.is_toml && continues_secret(&self.text[..shown.start], line))
    }
}

/// Whether what stands under a key of this name, rightly or wrongly spelt, may be a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["passw", "pasw", "pwd", "token", "secret", "credential"];
    key == "pass" || words.iter().any(|word| key.contains(word))
}

/// Whether a secret's key has its value on this line, as far as the line alone can tell.
fn holds_secret(line: &str) -> bool {
    let is_written = line.match_indices('=').any(|(at, _)| {
        let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
        // an earlier `=` ends it, too, or a line of nothing else would take for ever
        let ends = [' ', '\t', '.', ',', '{', '"', '\'', '='];
        key.rsplit(ends).next().is_some_and(is_secret_key)
    });
    is_written || line.split(['{', ',']).any(is_secret_without_equals)
}

/// Whether this begins with a secret's key and goes on with something else than `=`, like
/// `password: "…"`: that is no TOML, and still a secret.
fn is_secret_without_equals(text: &str) -> bool {
    let around = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let text = text.trim_start_matches(around);
    let key = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next();
    let key = key.unwrap_or_default();
    let rest = text[key.len()..].trim_start_matches(around);
    is_secret_key(key) && !rest.is_empty() && !rest.starts_with([']', '}', '/', '.'])
}

/// Whether a URL of the line has a login in it, like `https://user:password@host`; a digest has
/// an `@` before it, too.
fn holds_login(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("://") else { return false };
    rest.match_indices('@').any(|(at, _)| !rest[at + 1..].starts_with("sha256:"))
}

/// Whether the line may go on with a secret that was begun before it, in a text that is no TOML.
///
/// A secret is complete where its line is TOML by itself. The next line that says something may
/// still be meant to go on with it: people write `"one"` and `"two"` below each other.
fn continues_secret(before: &str, line: &str) -> bool {
    let mut is_next = false;
    for earlier in since_heading(before).lines().map(str::trim) {
        if earlier.is_empty() || earlier.starts_with('#') {
            continue;
        }
        // a key at its end has its value in the next line
        if holds_secret(&format!("{earlier} =")) {
            if DeTable::parse(earlier).is_err() {
                return true;
            }
            is_next = true;
        } else if earlier.contains('=') || is_heading(earlier) {
            is_next = false;
        }
    }
    is_next && !is_heading(line)
}

/// The text from its last heading on; all of it where what is before that is not complete.
fn since_heading(text: &str) -> &str {
    let mut lines = text.rmatch_indices('\n').map(|(at, _)| text.split_at(at + 1));
    match lines.find(|(_, line)| is_heading(line)) {
        Some((before, section)) if DeTable::parse(before).is_ok() => section,
        _ => text,
    }
}

/// Whether the line begins as `[table]` or `[[table]]` do, and no value does.
fn is_heading(line: &str) -> bool {
    let name = line.trim_start().trim_start_matches('[');
    line.trim_start().starts_with('[') && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Where the values of secrets' keys are, lines in between included.
fn secret_spans(table: &DeTable<'_>) -> Vec<Span> {
    fn walk(value: &DeValue<'_>, spans: &mut Vec<Span>) {
        match value {
            DeValue::Table(table) => spans.extend(secret_spans(table)),
            DeValue::Array(items) => items.iter().for_each(|item| walk(item.get_ref(), spans)),
            _ => {}
        }
    }
    let mut spans = Vec::new();
    for (key, value) in table {
        if is_secret_key(key.get_ref()) {
            spans.push(value.span());
        }
        // the span of a table under a heading of its own is the heading
        walk(value.get_ref(), &mut spans);
    }
    spans
}
