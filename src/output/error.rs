//! Errors and warnings on stderr.
//!
//! Each cause has its own line and is printed once.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};

use super::{Screen, printable, styled};
use crate::model::Error;

pub(crate) fn print(screen: &Screen, error: &Error) {
    screen.tell(|out| write(out, error));
}

/// Prints a warning, with or without its `warning: `. Keeps the lines of an excerpt.
pub(crate) fn warn(screen: &Screen, text: &str) {
    let text = text.strip_prefix("warning: ").unwrap_or(text);
    screen.tell(|out| paragraph(out, &styled(WARNING, "warning:"), text));
}

/// Writes `error: …`, a `caused by: …` for each cause, and the `hint: …` if there is one. Keeps the
/// lines of an excerpt.
pub(crate) fn write(out: &mut dyn Write, error: &Error) -> io::Result<()> {
    let mut label = styled(ERROR, "error:");
    for message in error.chain() {
        paragraph(out, &label, &message)?;
        label = "  caused by:".to_owned();
    }
    error.remedy().map_or(Ok(()), |hint| paragraph(out, &styled(HINT, "hint:"), hint))
}

const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
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
