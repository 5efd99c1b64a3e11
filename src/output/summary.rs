//! The summary of a run in Markdown, for the page that a CI system shows.
//!
//! Pure. The first line has the verdict. Text from registries is shown and never obeyed: it stands in
//! code spans, or its punctuation is escaped.

use super::{
    changes::{self, Section},
    printable, size,
    table::{counted, duration},
    word,
};
use crate::model::{
    Error,
    outcome::{Outcome, Report, Row},
    setting_change::SettingChange,
    text::printable_line,
};

/// Characters shown of one error.
const SHOWN: usize = 2_000;
/// Bytes that are kept for the end of a section.
const CLOSING: usize = 100;

/// Summarizes a run of `command` that could not read what the notes name, in at most `limit` bytes after the verdict.
pub(crate) fn of_run(
    command: &str,
    report: &Report,
    exit: u8,
    notes: &[String],
    limit: usize,
) -> String {
    let totals = &report.totals;
    let verdict = match exit {
        129.. => "interrupted",
        // also without the report of a shard
        _ if exit == 1 || totals.failed + totals.drifted > 0 => "failed",
        _ if totals.deferred + totals.not_started > 0 => "incomplete",
        _ => "succeeded",
    };
    let time = duration(report.seconds);
    let mut summary = LimitedText::new(
        format!("**{command} {verdict}**: {} in {time}, exit status {exit}", counted(totals)),
        limit,
    );
    let rows = |outcomes: &'static [Outcome]| {
        report.images.iter().filter(move |row| outcomes.contains(&row.outcome))
    };
    let problem = &[Outcome::Failed, Outcome::Drifted];
    summary.list("### Failed and drifted", rows(problem).map(attention));
    let rest = &[Outcome::Deferred, Outcome::NotStarted, Outcome::Archived];
    summary.list("### Not mirrored", rows(rest).map(attention));
    summary.list("### Not read", notes.iter().map(|note| item(&code(note), None)));
    let warned = report.images.iter().filter(|row| !row.warnings.is_empty());
    summary.list("### Warnings", warned.map(warnings));
    let done = &[Outcome::Copied, Outcome::Warmed, Outcome::Planned];
    summary.details("Images", rows(done).map(image));
    summary.details("Settings", report.changes.iter().map(setting));
    summary.text
}

/// Summarizes a run that attempted no image.
pub(crate) fn of_error(command: &str, error: &Error, exit: u8) -> String {
    let causes = error.chain().join(": ");
    let verdict = format!("**{command} failed**: exit status {exit}");
    let mut summary = LimitedText::new(verdict, usize::MAX);
    summary.list("### Error", [item(&code(&causes), error.remedy())].into_iter());
    summary.text
}

/// Summarizes the changes of `pull-through plan`, in at most `limit` bytes after the verdict.
pub(crate) fn of_changes(
    sections: &[Section<'_>],
    failures: &[Error],
    exit: u8,
    limit: usize,
) -> String {
    let counts = match (changes::summary(sections), failures.is_empty()) {
        (Some(counts), _) => counts,
        (None, true) => "no change".to_owned(),
        (None, false) => "unknown".to_owned(),
    };
    let verdict = format!("**pull-through plan**: {counts}, exit status {exit}");
    let mut summary = LimitedText::new(verdict, limit);
    let failure = |error: &Error| item(&code(&error.chain().join(": ")), error.remedy());
    summary.list("### Registries that could not be read", failures.iter().map(failure));
    for section in sections {
        let registry = code(&section.registry);
        summary.list(&format!("### {registry}"), section.changes.iter().copied().map(setting));
        summary.details("Left over", section.leftovers.iter().copied().map(setting));
    }
    summary.text
}

/// `- **failed** SOURCE → DESTINATION: ERROR`, and the hint below.
fn attention(row: &Row) -> String {
    let error = row.error.as_deref().map(|error| format!(": {}", code(error)));
    let image = format!("**{}** {}{}", word(row.outcome), arrow(row), error.unwrap_or_default());
    item(&image, row.hint.as_deref())
}

fn warnings(row: &Row) -> String {
    let texts: Vec<String> = row.warnings.iter().map(|text| code(text)).collect();
    item(&format!("{}: {}", arrow(row), texts.join(", ")), None)
}

fn image(row: &Row) -> String {
    let bytes = row.bytes_pushed.map(|bytes| format!(", {}", size(bytes))).unwrap_or_default();
    item(&format!("{} {}{bytes}", word(row.outcome), arrow(row)), None)
}

fn setting(change: &SettingChange) -> String {
    item(&code(&change.to_string()), change.hint.as_deref())
}

fn arrow(row: &Row) -> String {
    format!("{} → {}", code(&row.source), code(&row.destination))
}

/// An item of a list, with its hint.
fn item(text: &str, hint: Option<&str>) -> String {
    let hint = hint.map(|hint| format!("  \n  hint: {}", escaped(hint))).unwrap_or_default();
    format!("- {text}{hint}\n")
}

/// A code span. Its fence is longer than every run of backticks in the text.
///
/// Source: CommonMark 0.31, "Code spans".
fn code(text: &str) -> String {
    let text = printable_line(text, SHOWN);
    let runs = text.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or_default() + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// The text without the meaning of its punctuation.
///
/// Source: CommonMark 0.31, "Backslash escapes"; the colon ends the links of GitHub's dialect.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in printable(text).chars() {
        if "\\`*_{}[]<>()#+-!|~&@:".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A text that grows by whole items, up to a limit in bytes.
struct LimitedText {
    text: String,
    limit: usize,
}

impl LimitedText {
    fn new(verdict: String, limit: usize) -> Self {
        let limit = limit.saturating_add(verdict.len());
        Self { text: verdict + "\n", limit }
    }

    /// A list below a heading; nothing without items.
    fn list(&mut self, heading: &str, items: impl Iterator<Item = String>) {
        self.section(&format!("\n{heading}\n\n"), items, "");
    }

    /// A list that is folded below its title and number of items; nothing without items.
    fn details(&mut self, title: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        let opening = format!("\n<details><summary>{title}: {}</summary>\n\n", items.len());
        self.section(&opening, items.into_iter(), "\n</details>\n");
    }

    fn section(&mut self, opening: &str, items: impl Iterator<Item = String>, closing: &str) {
        let mut items = items.peekable();
        let first = items.peek().map(String::len);
        let room = self.limit.saturating_sub(self.text.len() + opening.len() + CLOSING);
        if first.is_none_or(|first| first > room) {
            return;
        }
        self.text.push_str(opening);
        let mut omitted = 0;
        for item in items {
            match omitted == 0 && self.text.len() + item.len() + CLOSING <= self.limit {
                true => self.text.push_str(&item),
                false => omitted += 1,
            }
        }
        if omitted > 0 {
            self.text.push_str(&format!("- … and {omitted} more\n"));
        }
        self.text.push_str(closing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    #[test]
    fn the_first_line_is_the_verdict_and_failures_come_before_copies() {
        let text = of_run("sync", &report(), 1, &["a:1: no `FROM`".to_owned()], 1 << 20);
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("**sync failed**: 1 copied"), "{first}");
        assert!(first.ends_with("in 12.3 s, exit status 1"), "{first}");
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part} in\n{text}"));
        assert!(at("### Failed and drifted") < at("**drifted** `docker.io/library/fixed:1` → "));
        assert!(at("### Not read") < at("- `` a:1: no `FROM` ``"), "{text}");
        assert!(at("**drifted**") < at("<details><summary>Images: 3</summary>"));
        assert!(text.contains("\n  hint: check that the tag exists\n"), "{text}");
        assert!(!text.contains("library/alpine"), "images that are up to date are not listed");
    }

    #[test]
    fn text_from_a_registry_stays_text() {
        for (text, expected) in [
            ("a", "`a`"),
            ("</details>|x", "`</details>|x`"),
            ("a`b", "``a`b``"),
            ("`a", "`` `a ``"),
            ("```", "```` ``` ````"),
            ("one\n# two\u{1b}[2J\u{202e}", "`one # two[2J`"),
        ] {
            assert_eq!(code(text), expected, "{text:?}");
        }
        assert_eq!(code(&"x".repeat(5_000)).len(), SHOWN + 2);
        assert_eq!(
            escaped("see [x](https://e.example) <b>@me</b> `y` # 1\n- z"),
            "see \\[x\\]\\(https\\://e.example\\) \\<b\\>\\@me\\</b\\> \\`y\\` \\# 1 \\- z"
        );
    }

    #[test]
    fn a_long_summary_is_cut_between_items_below_its_limit() {
        let mut report = report();
        let failed = report.images[4].clone();
        report.images.extend(vec![failed; 10_000]);
        for limit in [0, 150, 400, 5_000, 100_000] {
            let text = of_run("sync", &report, 1, &[], limit);
            let verdict = text.lines().next().unwrap().len();
            assert!(text.len() <= limit + verdict + 1, "{limit}: {}", text.len());
            assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
            assert_eq!(text.contains(" more\n"), limit >= 400, "{limit}: {text}");
        }
    }
}
