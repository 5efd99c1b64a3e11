//! The log on stderr, above the progress bars.
//!
//! The wire traces of libraries could contain credentials: they are off for every `-v` and every
//! `RUST_LOG`.

use std::{fmt, io};

use clap::ValueEnum;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    field::MakeExt,
    filter::LevelFilter,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{Writer, debug_fn},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
};

use super::{Screen, json, printable};

/// The format of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The amount of logging.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Warnings.
    #[default]
    Normal,
    /// Actions of this program.
    Verbose,
    /// Every step of this program, and the messages of its libraries.
    Debug,
}

impl Verbosity {
    fn directives(self) -> &'static str {
        match self {
            Self::Quiet => "error",
            Self::Normal => "error,ecr_mirror=warn",
            Self::Verbose => "warn,ecr_mirror=info",
            Self::Debug => "info,ecr_mirror=debug",
        }
    }
}

/// Starts logging to stderr. `RUST_LOG` overrides `verbosity`, except for the traces of libraries.
///
/// A second call in a process changes nothing.
pub(crate) fn start(verbosity: Verbosity, format: LogFormat, screen: &Screen) {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::builder().parse_lossy(directives),
        _ => EnvFilter::new(verbosity.directives()),
    };
    let ansi = screen.stderr().current_choice() != anstream::ColorChoice::Never;
    let screen = screen.clone();
    let writer = move || StderrWriter(screen.clone());
    let subscriber = subscriber(filter, LineFormat { verbosity, format, ansi }, writer);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// The most verbose level: the traces of AWS libraries show complete requests and responses.
const CEILING: LevelFilter = LevelFilter::DEBUG;

struct LineFormat {
    verbosity: Verbosity,
    format: LogFormat,
    ansi: bool,
}

fn subscriber(
    filter: EnvFilter,
    line: LineFormat,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Subscriber + Send + Sync> {
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(line.ansi);
    if line.format == LogFormat::Json {
        let lines = lines.json().flatten_event(true).map_event_format(Escaped);
        return Box::new(lines.finish().with(CEILING));
    }
    // fields can contain a registry's text: the library escapes the message only
    let fields = debug_fn(|line, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(line, "{}", printable(&value)),
            name => write!(line, "{name}={}", printable(&value)),
        }
    });
    let lines = lines.compact().fmt_fields(fields.delimited(" "));
    match line.verbosity {
        Verbosity::Debug => Box::new(lines.finish().with(CEILING)),
        _ => Box::new(lines.with_target(false).without_time().finish().with(CEILING)),
    }
}

/// Escapes terminal controls in JSON lines.
struct Escaped<F>(F);

impl<S, N, F> FormatEvent<S, N> for Escaped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut json = String::new();
        self.0.format_event(context, Writer::new(&mut json), event)?;
        line.write_str(&json::escaped(&json))
    }
}

/// Writes to stderr above the progress bars.
struct StderrWriter(Screen);

impl io::Write for StderrWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.log(|out| out.write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// The log of one event per level of ours, and of a library's events.
    fn logged(verbosity: Verbosity, format: LogFormat) -> String {
        logged_with(verbosity.directives(), verbosity, format)
    }

    fn logged_with(directives: &str, verbosity: Verbosity, format: LogFormat) -> String {
        let sink = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let sink = sink.clone();
            move || Sink(sink.clone())
        };
        let line_format = LineFormat { verbosity, format, ansi: false };
        let filter = EnvFilter::new(directives);
        tracing::subscriber::with_default(subscriber(filter, line_format, writer), || {
            tracing::error!("ours-error");
            tracing::warn!(error = ?Raw, "ours-warn \u{1b}[2J");
            tracing::info!("ours-info");
            tracing::debug!("ours-debug");
            tracing::trace!("ours-trace");
            tracing::warn!(target: "aws_config", "theirs-warn");
            tracing::info!(target: "aws_config", "theirs-info");
            tracing::debug!(target: "hyper", "authorization: Bearer theirs-debug");
            tracing::trace!(target: "hyper", "authorization: Bearer theirs-trace");
        });
        let bytes = sink.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Has terminal controls in its `Debug` text.
    struct Raw;

    impl fmt::Debug for Raw {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("\u{1b}[2J\u{9b}2J")
        }
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_verbosity_logs_its_levels_and_no_wire_trace() {
        let all =
            ["ours-error", "ours-warn", "ours-info", "ours-debug", "theirs-warn", "theirs-info"];
        for (verbosity, expected) in [
            (Verbosity::Quiet, &all[..1]),
            (Verbosity::Normal, &all[..2]),
            (Verbosity::Verbose, &["ours-error", "ours-warn", "ours-info", "theirs-warn"]),
            (Verbosity::Debug, &all[..]),
        ] {
            let text = logged(verbosity, LogFormat::Text);
            for name in all {
                assert_eq!(text.contains(name), expected.contains(&name), "{verbosity:?} {name}");
            }
            assert!(!text.contains("Bearer") && !text.contains('\u{1b}'), "{text}");
        }
    }

    #[test]
    fn no_directive_enables_wire_traces() {
        for directives in ["trace", "hyper=trace", "warn,hyper=trace", "aws_config=debug,trace"] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let text = logged_with(directives, Verbosity::Normal, format);
                assert!(!text.contains("theirs-trace"), "{directives}: {text}");
                assert!(!text.contains(['\u{1b}', '\u{9b}']), "{directives}: {text:?}");
            }
        }
        let text = logged_with("trace", Verbosity::Normal, LogFormat::Text);
        assert!(text.contains("ours-debug") && text.contains("theirs-debug"), "{text}");
    }

    #[test]
    fn json_lines_are_json() {
        let text = logged(Verbosity::Debug, LogFormat::Json);
        assert_eq!(text.lines().count(), 6);
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(event["message"].is_string() && event["timestamp"].is_string(), "{line}");
        }
    }
}
