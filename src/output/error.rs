//! An error as a person reads it: what failed, why, and what to do.
//!
//! Every cause stands on its own line and none is printed twice.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};

use super::{Screen, printable, styled};
use crate::model::Error;

/// Prints the error that ends a command to stderr.
pub(crate) fn print(screen: &Screen, error: &Error) {
    screen.tell(|out| write(out, error));
}

/// Prints to stderr what is not quite right; the text says `warning:` itself.
///
/// A text of several lines (an excerpt of the configuration) keeps them.
pub(crate) fn warn(screen: &Screen, text: &str) {
    let text = text.strip_prefix("warning: ").unwrap_or(text);
    screen.tell(|out| paragraph(out, &styled(CAUTION, "warning:"), text));
}

/// Writes `error: …`, a `caused by: …` for each cause, and `hint: …` where there is one.
///
/// A message of several lines (an excerpt of the configuration) keeps them.
///
/// # Errors
/// The writer's.
pub(crate) fn write(out: &mut dyn Write, error: &Error) -> io::Result<()> {
    let chain = error.chain();
    for (depth, message) in chain.iter().enumerate() {
        match depth {
            0 => paragraph(out, &styled(ALARM, "error:"), message)?,
            _ => paragraph(out, "  caused by:", message)?,
        }
    }
    match error.remedy() {
        Some(hint) => paragraph(out, &styled(HINT, "hint:"), hint),
        None => Ok(()),
    }
}

/// The label's colour for what went wrong.
const ALARM: Style = AnsiColor::Red.on_default().bold();
/// The label's colour for what is not quite right.
pub(super) const CAUTION: Style = AnsiColor::Yellow.on_default().bold();
/// The label's colour for what to do.
pub(super) const HINT: Style = AnsiColor::Cyan.on_default().bold();

fn paragraph(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    write!(out, "{label}")?;
    for (number, line) in text.trim_end().split('\n').enumerate() {
        let lead = if number == 0 { " " } else { "" };
        writeln!(out, "{lead}{}", printable(line))?;
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
        write(&mut out, error).unwrap();
        strip_str(&String::from_utf8(out).unwrap()).to_string()
    }

    #[test]
    fn an_error_says_what_failed_then_why_then_what_to_do() {
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
