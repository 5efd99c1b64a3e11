//! The log: events of the program on stderr, beside the progress and not through it.
//!
//! Guards that libraries' wire traces, which carry credentials, are off whatever is asked for.

use std::io;

use clap::ValueEnum;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt::MakeWriter, layer::SubscriberExt};

use super::Screen;

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Errors only.
    Quiet,
    /// Warnings.
    #[default]
    Normal,
    /// What this program does.
    Verbose,
    /// Every step of it, and what its libraries tell.
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

/// Starts logging to stderr; `RUST_LOG` decides what is logged where it is set, libraries' traces
/// aside.
///
/// Once a process: a second call changes nothing.
pub fn start(verbosity: Verbosity, format: LogFormat, screen: &Screen) {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::builder().parse_lossy(directives),
        _ => EnvFilter::new(verbosity.directives()),
    };
    let look = Look {
        verbosity,
        format,
        ansi: screen.stderr().current_choice() != anstream::ColorChoice::Never,
    };
    let _ =
        tracing::subscriber::set_global_default(subscriber(filter, look, Beside(screen.clone())));
}

/// How lines are formed.
struct Look {
    verbosity: Verbosity,
    format: LogFormat,
    ansi: bool,
}

fn subscriber<W>(filter: EnvFilter, look: Look, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(look.ansi);
    let told = filter_fn(is_no_wire_trace);
    match (look.format, look.verbosity) {
        (LogFormat::Json, _) => Box::new(lines.json().flatten_event(true).finish().with(told)),
        (LogFormat::Text, Verbosity::Debug) => Box::new(lines.compact().finish().with(told)),
        (LogFormat::Text, _) => {
            Box::new(lines.compact().with_target(false).without_time().finish().with(told))
        }
    }
}

/// The AWS SDK's traces have whole requests and answers in them: logins, session tokens, secrets.
fn is_no_wire_trace(event: &Metadata<'_>) -> bool {
    *event.level() != Level::TRACE || event.target().starts_with("ecr_mirror")
}

/// Writes to stderr with the progress bars out of the way.
#[derive(Clone)]
struct Beside(Screen);

impl io::Write for Beside {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.tell(|out| out.write_all(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Beside {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What is logged at this verbosity, of one event a level of ours and of a library's trace.
    fn logged(verbosity: Verbosity, format: LogFormat) -> String {
        told(EnvFilter::new(verbosity.directives()), verbosity, format)
    }

    fn told(filter: EnvFilter, verbosity: Verbosity, format: LogFormat) -> String {
        let sink = Arc::new(Mutex::new(Vec::new()));
        let writer = {
            let sink = sink.clone();
            move || Sink(sink.clone())
        };
        let look = Look { verbosity, format, ansi: false };
        tracing::subscriber::with_default(subscriber(filter, look, writer), || {
            tracing::error!("ours-error");
            tracing::warn!("ours-warn \u{1b}[2J");
            tracing::info!("ours-info");
            tracing::debug!("ours-debug");
            tracing::trace!("ours-trace");
            tracing::warn!(target: "aws_config", "theirs-warn");
            tracing::info!(target: "aws_config", "theirs-info");
            tracing::debug!(target: "hyper", "authorization: Bearer theirs-debug");
            tracing::trace!(target: "hyper", "authorization: Bearer theirs-trace");
        });
        let bytes = sink.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_verbosity_logs_its_levels_and_none_the_wire() {
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
    fn no_filter_brings_a_librarys_wire_trace() {
        for filter in ["trace", "hyper=trace"] {
            for format in [LogFormat::Text, LogFormat::Json] {
                let text = told(EnvFilter::new(filter), Verbosity::Normal, format);
                assert!(text.contains("theirs-debug"), "{text}");
                assert!(!text.contains("theirs-trace"), "{text}");
            }
        }
        let ours = told(EnvFilter::new("trace"), Verbosity::Normal, LogFormat::Text);
        assert!(ours.contains("ours-trace"), "{ours}");
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
