//! Errors and warnings on stderr.
//!
//! Each cause has its own line and is printed once.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;
use tracing::Level;

use super::{
    Screen, json,
    log::LogFormat,
    printable, styled,
    text::{columns, wrapped},
};
use crate::model::{Error, text::grouped};

pub(crate) fn print(screen: &Screen, error: &Error) {
    let width = screen.stderr_width();
    screen.log(|out| match screen.format {
        LogFormat::Text => write(out, error, width),
        LogFormat::Json => {
            let chain = error.chain();
            let fields = json!({ "causes": chain[1..], "hint": error.remedy() });
            json::log_line(out, Level::ERROR, &chain[0], fields)
        }
    });
}

/// Prints a warning, with or without its `warning: `. Keeps the lines of an excerpt.
pub(crate) fn warn(screen: &Screen, text: &str) {
    let text = text.strip_prefix("warning: ").unwrap_or(text);
    let width = screen.stderr_width();
    screen.log(|out| match screen.format {
        LogFormat::Text => paragraph(out, "warning:", WARNING, text, width),
        LogFormat::Json => json::log_line(out, Level::WARN, text, json!({})),
    });
}

/// The warnings of one kind that are printed.
const OF_ONE_KIND: usize = 5;

/// Prints these warnings, the first ones of each kind: long lists make one mistake often.
pub(crate) fn warn_of_each_kind(screen: &Screen, warnings: &[String]) {
    limited(warnings).iter().for_each(|text| warn(screen, text));
}

/// The first warnings of each kind, in order, and the number of the others. The hint tells the kind.
fn limited(warnings: &[String]) -> Vec<Cow<'_, str>> {
    let mut kinds: HashMap<&str, usize> = HashMap::new();
    for warning in warnings {
        *kinds.entry(kind(warning)).or_default() += 1;
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    let mut shown = Vec::new();
    for warning in warnings {
        let at = seen.entry(kind(warning)).or_default();
        *at += 1;
        let more = kinds[kind(warning)].saturating_sub(OF_ONE_KIND);
        if *at <= OF_ONE_KIND {
            shown.push(warning.into());
        } else if *at == OF_ONE_KIND + 1 {
            let text = format!("{} more with this hint: `-v` shows all", grouped(more as u64));
            shown.push(text.into());
        }
    }
    shown
}

fn kind(warning: &str) -> &str {
    warning.rsplit_once("\nhint: ").map_or(warning, |(_, hint)| hint)
}

/// Writes `error: …`, a `caused by: …` for each cause, and the `hint: …` if there is one. Keeps the
/// lines of an excerpt.
fn write(out: &mut dyn Write, error: &Error, width: Option<usize>) -> io::Result<()> {
    let (mut label, mut style) = ("error:", ERROR);
    for message in error.chain() {
        paragraph(out, label, style, &message, width)?;
        (label, style) = ("  caused by:", Style::new());
    }
    error.remedy().map_or(Ok(()), |hint| paragraph(out, "hint:", HINT, hint, width))
}

pub(super) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(super) const HINT: Style = AnsiColor::Cyan.on_default().bold();

fn paragraph(
    out: &mut dyn Write,
    label: &str,
    style: Style,
    text: &str,
    width: Option<usize>,
) -> io::Result<()> {
    let text = text.trim_end();
    // an excerpt points into the line above: it is not wrapped
    let width = width.filter(|_| !text.contains('\n'));
    write!(out, "{} ", styled(style, label))?;
    for line in text.split('\n') {
        writeln!(out, "{}", wrapped(&printable(line), width, columns(label) + 1, 4))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;
    use crate::model::Kind;

    fn written(error: &Error) -> String {
        let mut out = Vec::new();
        write(&mut out, error, None).unwrap();
        strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn an_error_has_its_causes_and_its_hint() {
        let cause = Error::new(Kind::Denied, "PUT /v2/nginx/blobs/uploads/…: 403 \u{1b}[2JDENIED")
            .hint("the role needs `ecr:CompleteLayerUpload` on this repository");
        let error = cause.context("cannot push blob sha256:9c1f… (31 MB)");
        assert_eq!(
            written(&error),
            "error: cannot push blob sha256:9c1f… (31 MB)\n\
             \x20 caused by: PUT /v2/nginx/blobs/uploads/…: 403 [2JDENIED\n\
             hint: the role needs `ecr:CompleteLayerUpload` on this repository\n"
        );
    }

    #[test]
    fn an_excerpt_of_the_configuration_keeps_its_lines() {
        let excerpt =
            "mirror.toml:7:13\n7 | platforms = [\"arm\"]\n  |              ^^^^^ not a platform";
        let error = Error::new(Kind::Configuration, excerpt);
        assert_eq!(written(&error), format!("error: {excerpt}\n"));
    }

    #[test]
    fn the_first_five_warnings_of_a_kind_are_shown_and_the_others_counted() {
        let many = (1..=8).map(|line| format!("warning: a:{line}\n{line} | x\nhint: rename it"));
        let mut warnings: Vec<String> = many.collect();
        warnings.insert(7, "warning: a:7:1\n7 | y\nhint: another".to_owned());
        let shown = limited(&warnings);
        assert_eq!(shown[..5], warnings[..5]);
        assert_eq!(shown[5..], ["3 more with this hint: `-v` shows all", &*warnings[7]]);
        assert_eq!(limited(&warnings[3..]).len(), 6, "five are all");
    }
}
