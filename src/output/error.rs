//! Errors and warnings on stderr.
//!
//! Each cause has its own line and is printed once.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;
use tracing::Level;

use super::{
    Screen, json,
    log::LogFormat,
    printable, styled,
    text::{columns, wrapped},
};
use crate::model::Error;

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
}
