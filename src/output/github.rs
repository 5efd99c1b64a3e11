//! Annotations of GitHub Actions: errors that GitHub shows beside the line of the file.
//!
//! They are written to stderr, which the runner reads as well, so that stdout stays data.
//!
//! Source: GitHub documentation, "Workflow commands for GitHub Actions".

use std::io::{self, Write};

use super::{Screen, printable};
use crate::model::{
    Error, Kind,
    outcome::{Outcome, Report, Row},
};

/// The annotations of one kind that GitHub shows for a step.
const SHOWN: usize = 10;

/// Returns `true` in a step of GitHub Actions.
fn is_runner() -> bool {
    std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true")
}

/// Annotates the problems of the configuration. `is_file` returns whether a name in the error is a file's.
pub(crate) fn annotate_error(screen: &Screen, error: &Error, is_file: fn(&str) -> bool) {
    if is_runner() && error.kind() == Kind::Configuration {
        let text = error.chain().join(": ");
        screen.tell(|out| write(out, problems(&text, error.remedy(), is_file)));
    }
}

/// Annotates the failed and drifted images of a run. `find` returns the file and the line that a row's
/// image is written in.
pub(crate) fn annotate_report<'f>(
    screen: &Screen,
    report: &Report,
    find: impl Fn(&Row) -> Option<(&'f str, u32)>,
) {
    if is_runner() {
        let failed = |row: &&Row| matches!(row.outcome, Outcome::Failed | Outcome::Drifted);
        let rows = report.images.iter().filter(failed);
        screen.tell(|out| write(out, rows.map(|row| image(find(row), row))));
    }
}

fn write(out: &mut dyn Write, commands: impl Iterator<Item = String>) -> io::Result<()> {
    for command in commands.take(SHOWN) {
        writeln!(out, "{command}")?;
    }
    Ok(())
}

/// The command for an image: its source, its error and the fix.
fn image(written: Option<(&str, u32)>, row: &Row) -> String {
    let parts = [row.error.as_deref(), row.hint.as_deref()].into_iter().flatten();
    let text: Vec<&str> = [row.source.as_str()].into_iter().chain(parts).collect();
    match written {
        Some((file, line)) => {
            command(&[("file", file), ("line", &line.to_string())], &text.join("\n"))
        }
        None => command(&[], &text.join("\n")),
    }
}

/// A command for each problem of a configuration's message: blocks that begin with
/// `FILE:LINE:COLUMN`, then an excerpt of two lines, then the hint.
fn problems<'a>(
    text: &'a str,
    hint: Option<&'a str>,
    is_file: fn(&str) -> bool,
) -> impl Iterator<Item = String> {
    text.split("\nerror: ").map(move |block| {
        let (head, rest) = block.split_once('\n').unwrap_or((block, ""));
        let mut parts = head.rsplitn(3, ':');
        let mut number = || parts.next()?.parse::<usize>().ok().map(|number| number.to_string());
        let (column, line) = (number(), number());
        match (parts.next(), line, column) {
            (Some(file), Some(line), Some(column)) => {
                // the second line of the excerpt has the problem below the carets
                let lines = rest.lines().skip(1);
                let lines = lines.map(|line| line.trim_start_matches([' ', '|', '^']));
                let text: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
                let properties = [("file", file), ("line", &line), ("col", &column)];
                match is_file(file) {
                    true => command(&properties, &text.join("\n")),
                    false => command(&[], &format!("{head}\n{}", text.join("\n"))),
                }
            }
            _ => {
                let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
                command(&[], &(block.trim_end().to_owned() + &hint))
            }
        }
    })
}

fn command(properties: &[(&str, &str)], message: &str) -> String {
    let escaped = |value: &str| data(value).replace(':', "%3A").replace(',', "%2C");
    let properties = properties.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    let properties: Vec<String> = properties.collect();
    let blank = if properties.is_empty() { "" } else { " " };
    format!("::error{blank}{}::{}", properties.join(","), data(message))
}

/// The text in a command, without a line end.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| printable(line).replace('%', "%25")).collect();
    lines.join("%0A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::table::tests::report;

    #[test]
    fn a_problem_of_the_configuration_points_at_its_line() {
        let text = "conf/a,b.toml:7:13\n7 | platforms = [\"arm\"]\n  |              ^^^^^ not a platform, 100%\nhint: write `linux/arm64`\n\n\
            error: mirror.toml:9:1\n9 | (not shown: it may hold a secret)\n  | unknown key\n\
            error: teams/b.txt:2:1\n2 | A:1\n  | ^^^ has uppercase letters\n\n\
            error: standard input:3:4\n3 | x\n  |    ^ unknown key\n\n\
            error: mirror.toml: the configuration is empty\nhint: start from `mirror.toml.example`";
        assert_eq!(
            problems(text, None, |name| name != "standard input").collect::<Vec<_>>(),
            [
                "::error file=conf/a%2Cb.toml,line=7,col=13::not a platform, 100%25%0Ahint: write `linux/arm64`",
                "::error file=mirror.toml,line=9,col=1::unknown key",
                "::error file=teams/b.txt,line=2,col=1::has uppercase letters",
                "::error::standard input:3:4%0Aunknown key",
                "::error::mirror.toml: the configuration is empty%0Ahint: start from `mirror.toml.example`",
            ]
        );
    }

    #[test]
    fn text_from_a_registry_begins_no_command() {
        let mut report = report();
        let row = &mut report.images[4];
        row.error = Some("404\r\n::add-path::/evil\u{1b}[2J".to_owned());
        let command = image(Some(("teams/b.txt", 7)), row);
        assert_eq!(
            command,
            "::error file=teams/b.txt,line=7::docker.io/library/gone:1%0A404%0A::add-path::/evil[2J%0Acheck that the tag exists"
        );
        assert!(image(None, row).starts_with("::error::docker.io/library/gone:1"));
    }
}
