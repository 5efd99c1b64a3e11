//! Output for people and machines: tables, JSON, progress, log and errors.
//!
//! Data goes to stdout, everything else to stderr. Text from outside (names, messages of
//! registries) passes through [`printable`] before it reaches a terminal. Views write styled text to
//! any writer; [`Screen`] applies the policy for colours and width.

pub(crate) mod changes;
pub(crate) mod destinations;
pub(crate) mod doctor;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod github;
pub(crate) mod images;
pub(crate) mod json;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod manual;
pub(crate) mod metrics;
pub(crate) mod progress;
pub(crate) mod rules;
pub(crate) mod summary;
pub(crate) mod table;
mod text;
pub(crate) mod uses;

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    os::fd::AsFd,
    sync::{Arc, OnceLock},
};

use anstream::{AutoStream, ColorChoice, adapter::strip_bytes};
use bytesize::ByteSize;
use clap::builder::styling::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressDrawTarget};
use serde_json::Value;
use tracing::Level;

use self::{destinations::Destinations, log::LogFormat, table::TableView};
pub(crate) use crate::model::text::printable;
use crate::model::{Error, Kind, Result, outcome::Outcome};

/// The stdout and stderr of a command; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    stdout: ColorChoice,
    stderr: ColorChoice,
    format: LogFormat,
    bars: MultiProgress,
    destinations: Arc<OnceLock<Destinations>>,
}

impl Screen {
    /// `Auto` colours terminals, and respects `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE`. With
    /// [`LogFormat::Json`] every line of stderr is a JSON object.
    pub(crate) fn new(policy: clap::ColorChoice, format: LogFormat) -> Self {
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
        Self { stdout, stderr, format, bars, destinations: Arc::default() }
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

    /// Writes text to stderr, above the progress bars; in a JSON log as one object. Ignores errors:
    /// there is no stream to report them.
    pub(crate) fn tell(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        self.log(|out| match self.format {
            LogFormat::Text => write(out),
            LogFormat::Json => {
                let mut styled = Vec::new();
                write(&mut styled)?;
                let text = strip_bytes(&styled).into_vec();
                match String::from_utf8_lossy(&text).trim_end() {
                    "" => Ok(()),
                    text => json::log_line(out, Level::INFO, text, Value::Null),
                }
            }
        });
    }

    /// Writes lines without styles to stderr, as [`Self::tell`] does, wrapped at its width.
    pub(crate) fn tell_lines(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let mut lines = Vec::new();
        let _ = write(&mut lines);
        let width = self.stderr_width();
        self.tell(|out| {
            let lines = String::from_utf8_lossy(&lines);
            lines.lines().try_for_each(|line| writeln!(out, "{}", text::wrapped(line, width, 0, 4)))
        });
    }

    /// Writes lines of the log's format to stderr, above the progress bars.
    fn log(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let _ = self.bars.suspend(|| write(&mut self.stderr().lock()));
    }

    /// Names the destinations of the run, which a header shows before the first row.
    pub(crate) fn set_destinations(&self, destinations: Destinations) {
        let _ = self.destinations.set(destinations);
    }

    fn destinations(&self) -> &Destinations {
        self.destinations.get_or_init(Destinations::default)
    }

    /// The view of a report on stdout.
    pub(crate) fn view(&self, lists_all: bool) -> TableView<'_> {
        TableView { width: self.width(), destinations: self.destinations(), lists_all }
    }

    /// The view of a report on stderr.
    pub(crate) fn view_of_stderr(&self, lists_all: bool) -> TableView<'_> {
        TableView { width: self.stderr_width(), ..self.view(lists_all) }
    }

    /// The columns of stdout's terminal; `None` without one, so that nothing is wrapped.
    pub(crate) fn width(&self) -> Option<usize> {
        width_of(io::stdout())
    }

    /// The columns of stderr's terminal; `None` without one and in a JSON log.
    pub(crate) fn stderr_width(&self) -> Option<usize> {
        width_of(io::stderr()).filter(|_| self.format == LogFormat::Text)
    }

    /// Returns `true` if stderr is a terminal that can show bars.
    fn shows_bars(&self) -> bool {
        self.format == LogFormat::Text && io::stderr().is_terminal() && !self.bars.is_hidden()
    }

    fn stderr(&self) -> AutoStream<io::Stderr> {
        AutoStream::new(io::stderr(), self.stderr)
    }
}

/// The columns of the stream's terminal. Without one the variable `COLUMNS` counts, as for `--help`.
fn width_of(stream: impl AsFd) -> Option<usize> {
    let terminal = terminal_size::terminal_size_of(stream).map(|(width, _)| usize::from(width.0));
    terminal.or_else(|| std::env::var("COLUMNS").ok()?.parse().ok()).filter(|width| *width > 0)
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
        Outcome::Interrupted => "interrupted",
        Outcome::Archived => "archived",
        Outcome::Kept => "kept",
    }
}

/// The outcome's colour: green is done, red needs action, yellow needs another run.
fn style(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Copied | Outcome::Warmed => AnsiColor::Green.on_default(),
        Outcome::UpToDate => Style::new(),
        Outcome::Planned => AnsiColor::Cyan.on_default(),
        Outcome::Failed | Outcome::Drifted => AnsiColor::Red.on_default().bold(),
        Outcome::Deferred
        | Outcome::NotStarted
        | Outcome::Interrupted
        | Outcome::Archived
        | Outcome::Kept => AnsiColor::Yellow.on_default(),
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
