//! Output for people and machines: tables, JSON, progress, log and errors.
//!
//! Data goes to stdout, everything else to stderr. Text from outside (names, messages of
//! registries) passes through [`printable`] before it reaches a terminal. Views write styled text to
//! any writer; [`Screen`] applies the policy for colours and width.

pub(crate) mod changes;
pub(crate) mod doctor;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod github;
pub(crate) mod images;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod progress;
pub(crate) mod rules;
pub(crate) mod summary;
pub(crate) mod table;

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use bytesize::ByteSize;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};

pub(crate) use crate::model::text::printable;
use crate::model::{Error, Kind, Result, outcome::Outcome};

/// The stdout and stderr of a command; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    stdout: ColorChoice,
    stderr: ColorChoice,
    bars: MultiProgress,
}

impl Screen {
    /// `Auto` colours terminals, and respects `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE`.
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

    /// Writes data to stdout and flushes it. A closed pipe (`| head`) is not an error.
    pub(crate) fn print(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let mut out = BufWriter::new(AutoStream::new(io::stdout().lock(), self.stdout));
        match write(&mut out).and_then(|()| out.flush()) {
            Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(Kind::Unavailable, "cannot write to stdout").because(cause))
            }
            _ => Ok(()),
        }
    }

    /// Writes to stderr, above the progress bars. Ignores errors: there is no stream to report them.
    pub(crate) fn tell(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = self.bars.suspend(|| write(&mut self.stderr().lock()));
    }

    /// The columns of stdout's terminal; `None` without a terminal, so that nothing is shortened.
    pub(crate) fn width(&self) -> Option<usize> {
        terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0))
    }

    /// Returns `true` if stderr is a terminal that can show bars.
    fn shows_bars(&self) -> bool {
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
        Outcome::Archived => "archived",
    }
}

/// The outcome's colour: green is done, red needs action, yellow needs another run.
fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Copied | Outcome::Warmed => AnsiColor::Green.on_default(),
        Outcome::UpToDate => Style::new(),
        Outcome::Planned => AnsiColor::Cyan.on_default(),
        Outcome::Failed | Outcome::Drifted => AnsiColor::Red.on_default().bold(),
        Outcome::Deferred | Outcome::NotStarted | Outcome::Archived => {
            AnsiColor::Yellow.on_default()
        }
    }
}

/// The text in this style. The stream drops styles if the policy says so.
fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_text_does_not_control_a_terminal() {
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
