//! Errors and warnings about a configuration, with the line that they are about.
//!
//! Never prints a line that can contain a secret, or the value of a variable.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::source::{Format, SourceFile, Sources};
use crate::model::{Error, Kind, NameError, text::is_unsafe_for_terminal};

pub(super) type Span = Range<usize>;

/// The characters of a long line that are shown.
const WINDOW: usize = 100;

/// All problems of an invalid configuration.
///
/// `Display` writes one `error: FILE:LINE:COLUMN` block for each problem, in file order, with its
/// hint, a blank line between two, without a final newline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n\n"))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    pub(super) fn whole_file(message: &str, hint: &str) -> Self {
        Self(vec![format!("error: {message}\nhint: {hint}")])
    }

    /// The blocks, one for each problem.
    pub(crate) fn problems(&self) -> &[String] {
        &self.0
    }

    /// The blocks as one message. The caller prints the first `error: `.
    pub(crate) fn into_error(self) -> Error {
        let text = self.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    }

    /// These problems of these files; at least one.
    pub(super) fn new(sources: &Sources, problems: Vec<Problem>) -> Self {
        Self(render("error", sources, problems))
    }
}

/// One `warning: FILE:LINE:COLUMN` block for each problem, in file order.
pub(super) fn warnings(sources: &Sources, problems: Vec<Problem>) -> Vec<String> {
    render("warning", sources, problems)
}

/// Each distinct problem once, in file order. `level` is `error` or `warning`.
fn render(level: &str, sources: &Sources, mut problems: Vec<Problem>) -> Vec<String> {
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| span.start));
    problems.dedup();
    let mut rendered = Vec::new();
    while let Some(first) = problems.first() {
        let file = sources.file(first.span.as_ref().unwrap_or(&(0..0)));
        let is_here = |problem: &Problem| {
            let span = problem.span.as_ref();
            span.is_none_or(|span| std::sync::Arc::ptr_eq(&sources.file(span), &file))
        };
        let rest = problems.iter().position(|problem| !is_here(problem));
        let rest = problems.split_off(rest.unwrap_or(problems.len()));
        let secrets = Secrets::find(&file);
        rendered.extend(problems.iter().map(|problem| problem.render(level, &file, &secrets)));
        problems = rest;
    }
    rendered
}

/// One problem: a label under the span, and a hint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    span: Option<Span>,
    label: String,
    hint: Option<String>,
    /// Then the line is shown up to the end of the caret: the rest can be a secret under a mistyped
    /// key.
    hides_rest: bool,
    /// Then the problem is that a key is absent.
    needs_key: bool,
}

impl From<Problem> for Vec<Problem> {
    fn from(problem: Problem) -> Self {
        vec![problem]
    }
}

impl Problem {
    /// A problem at this span. A reader reads the label after the text above the caret.
    pub(super) fn at(span: &Span, label: impl Into<String>) -> Self {
        Self { span: Some(span.clone()), ..Self::whole_file(label) }
    }

    /// A problem because another key is absent.
    pub(super) fn needing(span: &Span, label: impl Into<String>) -> Self {
        Self { needs_key: true, ..Self::at(span, label) }
    }

    pub(super) fn empty(span: &Span) -> Self {
        Self::at(span, "must not be empty")
    }

    pub(super) fn whole_file(label: impl Into<String>) -> Self {
        Self { span: None, label: label.into(), hint: None, hides_rest: false, needs_key: false }
    }

    pub(super) fn invalid_name(span: &Span, error: NameError) -> Self {
        let label = error.problem.strip_prefix("is ").unwrap_or(&error.problem);
        Self { hint: error.hint, ..Self::at(span, label) }
    }

    pub(super) fn duplicate(span: &Span, item: &str) -> Self {
        Self::at(span, format!("duplicate {item}")).hint("remove one of the two")
    }

    pub(super) fn conflict(span: &Span, other: &str) -> Self {
        Self::at(span, format!("cannot be combined with {other}")).hint("remove one of the two")
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Returns `true` if the text at the problem contains this word.
    pub(super) fn covers(&self, word: &str, sources: &Sources) -> bool {
        self.span.as_ref().is_some_and(|span| {
            let file = sources.file(span);
            file.text.get(file.local(span)).is_some_and(|text| text.contains(word))
        })
    }

    /// The offset at which the problem begins.
    pub(super) fn start(&self) -> Option<usize> {
        self.span.as_ref().map(|span| span.start)
    }

    /// Returns `true` if the problem can be gone when this key, which has a mistake itself, is right.
    pub(super) fn may_follow_from(&self, key: &str) -> bool {
        self.needs_key || self.label.contains(&format!("`{key}`"))
    }

    /// Hides the line after the caret.
    pub(super) fn hide_rest(self) -> Self {
        Self { hides_rest: true, ..self }
    }

    fn render(&self, level: &str, file: &SourceFile, secrets: &Secrets<'_>) -> String {
        // a name, a label or a hint can repeat a value
        let [name, label] = [&file.name.to_string(), &self.label].map(|text| printable(text));
        let message = match &self.span {
            None => format!("{level}: {name}: {label}"),
            Some(span) => {
                let span = file.local(span);
                let position = SourcePosition::find(&span, &file.text, self.hides_rest);
                let snippet = position.snippet(&label, secrets);
                format!("{level}: {name}:{}:{}\n{snippet}", position.line, position.column)
            }
        };
        self.hint.iter().fold(message, |message, hint| message + "\nhint: " + &printable(hint))
    }
}

/// A span as line, column and text.
struct SourcePosition<'a> {
    /// Counted from 1.
    line: usize,
    /// In characters, counted from 1.
    column: usize,
    /// The part of the line before the caret, under it, and after it.
    parts: [&'a str; 3],
    /// The shown part of the line, in bytes of the text.
    shown: Span,
}

impl<'a> SourcePosition<'a> {
    fn find(span: &Span, text: &'a str, hides_rest: bool) -> Self {
        let start = text.floor_char_boundary(span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line_end = line_start + text[line_start..line_end].trim_end_matches('\r').len();
        let start = start.min(line_end);
        let end = text.ceil_char_boundary(span.end.min(line_end)).clamp(start, line_end);
        let until = if hides_rest { end } else { line_end };
        Self {
            line: 1 + text[..line_start].bytes().filter(|&b| b == b'\n').count(),
            column: 1 + text[line_start..start].chars().filter(|&c| c != '\u{feff}').count(),
            parts: [&text[line_start..start], &text[start..end], &text[end..until]],
            shown: line_start..until,
        }
    }

    fn snippet(&self, label: &str, secrets: &Secrets<'_>) -> String {
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        if secrets.may_contain(&self.shown) {
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

/// The text with tabs as four blanks, and without characters that control a terminal.
fn printable(text: &str) -> String {
    let text = text.replace('\t', "    ").replace('\u{feff}', "");
    text.replace(is_unsafe_for_terminal, "\u{fffd}")
}

/// The parts of a file that can contain secrets.
struct Secrets<'a> {
    text: &'a str,
    /// The values of secret keys. Incomplete if the text is not TOML.
    spans: Vec<Span>,
    is_toml: bool,
    format: Format,
}

impl<'a> Secrets<'a> {
    fn find(file: &'a SourceFile) -> Self {
        let SourceFile { text, format, .. } = file;
        if *format == Format::List {
            return Self { text, spans: Vec::new(), is_toml: false, format: *format };
        }
        let (document, errors) = DeTable::parse_recoverable(text);
        let spans = secret_spans(document.get_ref());
        Self { text, spans, is_toml: errors.is_empty(), format: *format }
    }

    /// Returns `true` if this part of a line, from its beginning, can contain a secret.
    fn may_contain(&self, shown: &Span) -> bool {
        let line = &self.text[shown.clone()];
        if self.format == Format::List {
            // an `@` ends a login, unless a digest follows it
            return line.match_indices('@').any(|(at, _)| !line[at + 1..].starts_with("sha"));
        }
        let overlaps = |secret: &Span| {
            secret.start < shown.end && shown.start < secret.end.max(secret.start + 1)
        };
        self.spans.iter().any(overlaps)
            || holds_secret(line)
            || holds_login(line)
            || (!self.is_toml && continues_secret(&self.text[..shown.start], line))
    }
}

/// Returns `true` if the value under a key of this name, spelled correctly or not, can be a secret.
pub(super) fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = ["passw", "pasw", "pwd", "token", "secret", "credential"];
    key == "pass" || words.iter().any(|word| key.contains(word))
}

/// Returns `true` if the line, read alone, has a secret key with a value.
fn holds_secret(line: &str) -> bool {
    let is_written = line.match_indices('=').any(|(at, _)| {
        let key = line[..at].trim_end().trim_end_matches(['"', '\'']);
        // an earlier `=` ends the key too: else a line of `=` needs quadratic time
        let ends = [' ', '\t', '.', ',', '{', '"', '\'', '='];
        key.rsplit(ends).next().is_some_and(is_secret_key)
    });
    is_written || line.split(['{', ',']).any(is_secret_without_equals)
}

/// Returns `true` if the text begins with a secret key that is not followed by `=`, like
/// `password: "…"`: not TOML, but still a secret.
fn is_secret_without_equals(text: &str) -> bool {
    let is_quote_or_blank = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let text = text.trim_start_matches(is_quote_or_blank);
    let key = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').next();
    let key = key.unwrap_or_default();
    let rest = text[key.len()..].trim_start_matches(is_quote_or_blank);
    is_secret_key(key) && !rest.is_empty() && !rest.starts_with([']', '}', '/', '.'])
}

/// Returns `true` if a URL of the line contains a login, like `https://user:password@host`. The `@`
/// of a digest does not count.
fn holds_login(line: &str) -> bool {
    let Some((_, rest)) = line.split_once("://") else { return false };
    rest.match_indices('@').any(|(at, _)| !rest[at + 1..].starts_with("sha256:"))
}

/// Returns `true` if the line can continue a secret of an earlier line, in a text that is not TOML.
///
/// A secret is complete if its line alone is TOML. The next line can still be meant to continue it:
/// people write `"one"` and `"two"` below each other.
fn continues_secret(before: &str, line: &str) -> bool {
    let mut is_next = false;
    for earlier in since_heading(before).lines().map(str::trim) {
        if earlier.is_empty() || earlier.starts_with('#') {
            continue;
        }
        // the value of a key at the end is in the next line
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

/// The text from its last heading on; the whole text if the part before is not TOML.
fn since_heading(text: &str) -> &str {
    let mut lines = text.rmatch_indices('\n').map(|(at, _)| text.split_at(at + 1));
    match lines.find(|(_, line)| is_heading(line)) {
        Some((before, section)) if DeTable::parse(before).is_ok() => section,
        _ => text,
    }
}

/// Returns `true` if the line begins like `[table]` or `[[table]]`, and not like a value.
fn is_heading(line: &str) -> bool {
    let name = line.trim_start().trim_start_matches('[');
    line.trim_start().starts_with('[') && name.starts_with(|c: char| c.is_ascii_alphabetic())
}

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
        // the span of a table under its own heading is only the heading
        walk(value.get_ref(), &mut spans);
    }
    spans
}
