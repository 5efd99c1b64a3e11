//! The problems of a text that is not TOML, in words for people who write it for the first time.

use super::{
    problem::{Problem, Span},
    source::SourceFile,
};

/// The lines of a file that are shown as not TOML.
const MAX_LINES: usize = 10;

const QUOTES: &str = "strings need quotes";

/// One problem for each invalid line: the parser can report its consequences before it.
pub(super) fn problems(file: &SourceFile, errors: &[toml::de::Error]) -> Vec<Problem> {
    let text = &file.text;
    if let Some(problem) = other_format(file) {
        return vec![problem];
    }
    let span = |error: &toml::de::Error| error.span().unwrap_or(text.len()..text.len());
    let mut errors: Vec<(Span, &str)> =
        errors.iter().map(|error| (span(error), error.message())).collect();
    let mut problems = Vec::new();
    while let Some(start) = errors.iter().map(|(span, _)| span.start).min() {
        let start = start.min(text.len());
        let line_end = text.as_bytes()[start..].iter().position(|&b| b == b'\n');
        let line_end = line_end.map_or(text.len(), |at| start + at);
        // the first that the parser reports, not the leftmost
        let first = errors.iter().find(|(span, _)| span.start <= line_end);
        // a line without a key can be the rest of a wrong one
        let is_rest = !problems.is_empty() && !begins_anew(text, start..line_end);
        if let Some((span, message)) = first.filter(|_| !is_rest) {
            problems.push(match unquoted(text, span) {
                Some(word) => {
                    Problem::at(&file.span(word), QUOTES).hint("write it like `\"nginx\"`")
                }
                None => Problem::at(&file.span(span.clone()), message.replace('\n', ", ")),
            });
        }
        if problems.len() == MAX_LINES || spans_lines(text, &errors[0].0, line_end) {
            break;
        }
        errors.retain(|(span, _)| span.start > line_end);
    }
    problems
}

/// Returns `true` if the line around this range has a key or a heading.
fn begins_anew(text: &str, range: Span) -> bool {
    let start = text[..text.floor_char_boundary(range.start)].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..range.end].trim_start();
    line.contains('=') || line.starts_with('[')
}

/// Returns `true` if a value does not end in its line: the parser then reads the rest wrongly.
fn spans_lines(text: &str, span: &Span, line_end: usize) -> bool {
    span.end > line_end + 1 && span.end <= text.len()
}

/// The unquoted word at a problem, if a value is expected there.
fn unquoted(text: &str, span: &Span) -> Option<Span> {
    let is_word = |c: char| c.is_alphanumeric() || "._-/:@{}$*".contains(c);
    let at = text.floor_char_boundary(span.start.min(text.len()));
    let before = &text[..at];
    let start = before.trim_end_matches(is_word).len();
    let end = at + text[at..].find(|c| !is_word(c)).unwrap_or(text.len() - at);
    let word = &text[start..end];
    let lead = text[..start].trim_end_matches([' ', '\t']);
    let line = &lead[lead.rfind('\n').map_or(0, |at| at + 1)..];
    let is_value = line.ends_with('=')
        || (line.ends_with(['[', ',']) && line.contains('='))
        || (line.is_empty() && lead.ends_with([',', '[']));
    let is_open = line.matches('"').count() % 2 == 1 || line.matches('\'').count() % 2 == 1;
    let is_text = word.starts_with(|c: char| c.is_alphanumeric() || c == '/' || c == '*');
    (is_value && is_text && !is_open).then_some(start..end)
}

/// The problem of a text in another format, at its first line.
fn other_format(file: &SourceFile) -> Option<Problem> {
    let text = file.text.trim_start_matches('\u{feff}');
    let skipped = file.text.len() - text.len();
    let mut at = skipped;
    let mut first = None;
    for line in text.split_inclusive('\n') {
        let content = line.trim();
        if !content.is_empty() && !content.starts_with('#') {
            first = Some((at + (line.len() - line.trim_start().len()), content));
            break;
        }
        at += line.len();
    }
    let (start, line) = first?;
    let name = match line {
        _ if is_yaml(line) => "YAML",
        _ if line.starts_with('{') || (line.starts_with('[') && is_json_list(line)) => "JSON",
        _ => return None,
    };
    let span = file.span(start..start + line.len());
    Some(Problem::at(&span, format!("this is {name}, not TOML")).hint(
        "start from `mirror.toml.example`; `ecr-mirror import` reads the files of regsync, skopeo and others",
    ))
}

fn is_yaml(line: &str) -> bool {
    let key = line.split_once(':').filter(|(_, rest)| rest.is_empty() || rest.starts_with(' '));
    let is_key = |key: &str| {
        let key = key.trim_matches(['"', '\'']);
        !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || "._-/".contains(c))
    };
    line == "---" || line.starts_with("- ") || key.is_some_and(|(key, _)| is_key(key))
}

/// Returns `true` for the beginning of a JSON list, which cannot be a table's heading.
fn is_json_list(line: &str) -> bool {
    let rest = line[1..].trim_start();
    rest.is_empty() || rest.starts_with('{')
}
