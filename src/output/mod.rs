//! What a person and a machine read: views of events and of the report, never the truth.
//!
//! stdout is data, stderr is talk. Everything that comes from outside (names, messages of
//! registries) passes through [`printable`] on its way to a terminal. The views are pure: they
//! write styled text to any writer, and [`Screen`] decides once what becomes of colours and width.

pub(crate) mod changes;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod table;

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use bytesize::ByteSize;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};

pub(crate) use crate::model::text::printable;
use crate::model::{Error, Kind, Result, outcome::Outcome};

/// The terminal of a command, or what stands in its place; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    stdout: ColorChoice,
    stderr: ColorChoice,
    bars: MultiProgress,
}

impl Screen {
    /// The process's own streams, coloured as the policy says.
    ///
    /// `Auto` colours terminals, and heeds `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE`.
    pub(crate) fn new(policy: clap::ColorChoice) -> Self {
        let stdout = match policy {
            clap::ColorChoice::Auto => AutoStream::choice(&io::stdout()),
            clap::ColorChoice::Always => ColorChoice::Always,
            clap::ColorChoice::Never => ColorChoice::Never,
        };
        let stderr = match policy {
            clap::ColorChoice::Auto => AutoStream::choice(&io::stderr()),
            _ => stdout,
        };
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { stdout, stderr, bars }
    }

    /// Writes data to stdout and flushes it. A reader that has gone away (`| head`) is no error.
    ///
    /// # Errors
    /// When stdout takes nothing more, such as on a full disk.
    pub(crate) fn print(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let mut out = BufWriter::new(AutoStream::new(io::stdout().lock(), self.stdout));
        match write(&mut out).and_then(|()| out.flush()) {
            Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(Kind::Unavailable, "cannot write to stdout").because(cause))
            }
            _ => Ok(()),
        }
    }

    /// Writes talk to stderr, above the progress bars where there are any.
    ///
    /// Where stderr takes nothing there is nobody left to tell.
    pub(crate) fn tell(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = self.bars.suspend(|| write(&mut self.stderr().lock()));
    }

    /// Columns of the terminal that stdout is; `None` where it is none and nothing need be cut.
    pub(crate) fn width(&self) -> Option<usize> {
        terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
    }

    /// Whether stderr is a terminal.
    fn is_watched(&self) -> bool {
        io::stderr().is_terminal() && !self.bars.is_hidden()
    }

    fn stderr(&self) -> AutoStream<io::Stderr> {
        AutoStream::new(io::stderr(), self.stderr)
    }
}

/// Bytes in decimal units, like `31.5 MB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// The outcome in a word or two.
fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Copied => "copied",
        Outcome::UpToDate => "up to date",
        Outcome::Warmed => "warmed",
        Outcome::Planned => "planned",
        Outcome::Failed => "failed",
        Outcome::Drifted => "drifted",
        Outcome::Deferred => "deferred",
        Outcome::NotStarted => "not started",
    }
}

/// The outcome's colour: green is done, red needs someone, yellow needs another run.
fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Copied | Outcome::Warmed => AnsiColor::Green.on_default(),
        Outcome::UpToDate => Style::new(),
        Outcome::Planned => AnsiColor::Cyan.on_default(),
        Outcome::Failed | Outcome::Drifted => AnsiColor::Red.on_default().bold(),
        Outcome::Deferred | Outcome::NotStarted => AnsiColor::Yellow.on_default(),
    }
}

/// The text in that style, for a stream that drops styles by policy.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printable_steers_a_terminal() {
        for (text, expected) in [
            ("docker.io/library/nginx:1.27 → x", "docker.io/library/nginx:1.27 → x"),
            ("\u{1b}[31mred\u{1b}[0m", "[31mred[0m"),
            ("a\nb\tc\r\u{7}\u{9b}d", "a b cd"),
            ("user\u{202e}gpj.exe", "usergpj.exe"),
        ] {
            assert_eq!(printable(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_decimal() {
        for (bytes, expected) in
            [(0, "0 B"), (999, "999 B"), (31_457_280, "31.5 MB"), (1_100_000_000, "1.1 GB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
