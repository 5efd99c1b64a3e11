//! Progress for cron and logs: a line for each copied image, in text or in JSON.
//!
//! The final table lists the images that failed; a JSON log has a line for each of them, too. A host
//! that fails for some seconds has a line. A run without a line for a minute writes that it is still
//! running.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tracing::Level;

use super::{Event, RunState, Screen, View, size};
use crate::{
    model::outcome::Outcome,
    output::{
        error::WARNING,
        json::log_line,
        log::LogFormat,
        printable, style, styled,
        text::{after, wrapped},
        word,
    },
};

/// The longest time without a line.
const SILENCE: Duration = Duration::from_secs(60);
/// The time after which a host that fails has a line.
const FAILING: Duration = Duration::from_secs(5);

pub(super) struct Plain {
    screen: Screen,
    state: RunState,
    last_line: Instant,
    /// When the last line about a failing host was written.
    last_failing: Option<Instant>,
}

/// A line of the log.
#[derive(Debug)]
struct Message {
    level: Level,
    /// For people, with styles.
    text: String,
    /// For a JSON log, with its fields.
    name: String,
    fields: Value,
}

impl Message {
    fn new(level: Level, text: String) -> Self {
        Self { level, name: text.clone(), text, fields: json!({}) }
    }
}

impl Plain {
    pub(super) fn new(screen: Screen, now: Instant) -> Self {
        Self { screen, state: RunState::default(), last_line: now, last_failing: None }
    }

    fn write(&mut self, message: &Message, now: Instant) {
        let Message { level, text, name, fields } = message;
        let screen = &self.screen;
        screen.log(|out| match screen.format {
            LogFormat::Text => {
                screen.destinations().write_once(out, screen.stderr_width())?;
                writeln!(out, "{text}")
            }
            LogFormat::Json => log_line(out, *level, name, fields.clone()),
        });
        self.last_line = now;
    }

    /// The line for an event; `None` if the final table lists or counts it.
    fn message(&self, event: &Event) -> Option<Message> {
        let is_json = self.screen.format == LogFormat::Json;
        match event {
            Event::Finished { image, destination, outcome, bytes, error } => {
                let level = match outcome {
                    Outcome::Copied | Outcome::Warmed => Level::INFO,
                    Outcome::UpToDate | Outcome::Planned | Outcome::NotStarted => return None,
                    _ if !is_json => return None,
                    Outcome::Failed | Outcome::Drifted => Level::ERROR,
                    _ => Level::WARN,
                };
                let size = if *outcome == Outcome::Copied { size(*bytes) } else { String::new() };
                let shown = self.screen.destinations().image(image, destination);
                let label = format!("{}  {size:>8}  ", styled(style(*outcome), word(*outcome)));
                // `copied` or `warmed`, and the size
                let text = after(&label, 18, &shown, self.screen.stderr_width(), 4);
                let fields = json!({
                    "source": image, "destination": destination, "bytes": bytes, "error": error,
                });
                let name = word(*outcome).to_owned();
                Some(Message { level, text, name, fields })
            }
            Event::Changed(_) if !is_json => None,
            Event::Changed(change) => {
                Some(Message::new(Level::INFO, printable(&change.to_string()).into_owned()))
            }
            Event::Warning { is_in_report: true, .. } if !is_json => None,
            Event::Warning { subject, text, .. } => {
                let text = format!("{}: {}", printable(subject), printable(text));
                let lines = wrapped(&text, self.screen.stderr_width(), "warning: ".len(), 4);
                let styled = format!("{} {lines}", styled(WARNING, "warning:"));
                Some(Message { text: styled, ..Message::new(Level::WARN, text) })
            }
            Event::Started { .. } | Event::Working { .. } => None,
        }
    }

    /// The line about hosts that have failed for some seconds, or about a silent run.
    fn due(&mut self, now: Instant) -> Option<Message> {
        let is_recent = |at: Instant| now.duration_since(at) < SILENCE;
        let failing = self.state.running.iter().filter_map(|running| {
            let (time, error) = running.failing().filter(|(time, _)| *time >= FAILING)?;
            Some((time, &running.subject, error))
        });
        let failing: Vec<_> = failing.collect();
        if let Some((_, subject, error)) = failing.iter().max_by_key(|(time, ..)| *time)
            && !self.last_failing.is_some_and(is_recent)
        {
            self.last_failing = Some(now);
            let others = match failing.len() - 1 {
                0 => String::new(),
                1 => " and 1 other image".to_owned(),
                others => format!(" and {others} other images"),
            };
            let text = format!("retrying {subject}{others}: {error}");
            let lines = wrapped(&text, self.screen.stderr_width(), 0, 4);
            return Some(Message { text: lines, ..Message::new(Level::WARN, text) });
        }
        if is_recent(self.last_line) {
            return None;
        }
        let state = &self.state;
        let copying = state.running.iter().filter(|running| running.is_copying()).count();
        let text = format!(
            "still running: {}, {copying} being copied, {} of {} pushed",
            state.counted(),
            size(state.pushed()),
            size(state.expected())
        );
        let lines = wrapped(&text, self.screen.stderr_width(), 0, 4);
        Some(Message { text: lines, ..Message::new(Level::INFO, text) })
    }
}

impl View for Plain {
    const TICK: Duration = Duration::from_secs(1);

    fn handle(&mut self, event: Event, now: Instant) {
        self.state.update(&event);
        if let Some(message) = self.message(&event) {
            self.write(&message, now);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.state.remove_finished();
        if let Some(message) = self.due(now) {
            self.write(&message, now);
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anstream::adapter::strip_str;

    use super::*;
    use crate::{model::event::Progress, output::destinations::tests::screen};

    fn done(outcome: Outcome, image: &str, error: Option<&str>) -> Event {
        Event::Finished {
            image: format!("docker.io/library/{image}"),
            destination: format!("localhost:5000/library/{image}"),
            outcome,
            bytes: 31_457_280,
            error: error.map(str::to_owned),
        }
    }

    fn texts(plain: &mut Plain, events: &[Event]) -> Vec<String> {
        let messages = events.iter().filter_map(|event| plain.message(event));
        messages.map(|message| strip_str(&message.text).to_string()).collect()
    }

    #[test]
    fn copied_images_have_a_line_and_the_table_has_the_rest() {
        let events = [
            Event::Started { rows: 6 },
            done(Outcome::UpToDate, "alpine:3", None),
            done(Outcome::Copied, "nginx:1.27", None),
            Event::Warning {
                subject: "docker.io/library/redis:7".to_owned(),
                text: "no `linux/s390x`\u{1b}[2J".to_owned(),
                is_in_report: false,
            },
            done(Outcome::Failed, "gone:1", Some("cannot read\n404 \u{1b}[31m")),
            done(Outcome::Deferred, "later:1", None),
            done(Outcome::NotStarted, "last:1", None),
        ];
        let mut plain = Plain::new(screen(LogFormat::Text), Instant::now());
        assert_eq!(
            texts(&mut plain, &events),
            [
                "copied   31.5 MB  docker.io/library/nginx:1.27",
                "warning: docker.io/library/redis:7: no `linux/s390x`[2J",
            ]
        );
        // a program that reads the log does not read the table
        let plain = Plain::new(screen(LogFormat::Json), Instant::now());
        let messages: Vec<Message> =
            events.iter().filter_map(|event| plain.message(event)).collect();
        let names: Vec<&str> = messages.iter().map(|message| message.name.as_str()).collect();
        let warning = "docker.io/library/redis:7: no `linux/s390x`[2J";
        assert_eq!(names, ["copied", warning, "failed", "deferred"]);
        assert_eq!(messages[2].level, Level::ERROR);
        assert_eq!(messages[2].fields["source"], "docker.io/library/gone:1");
    }

    fn working(image: &str) -> (Event, Arc<Progress>) {
        let progress = Arc::<Progress>::default();
        let subject = format!("docker.io/library/{image}");
        (Event::Working { subject, rows: 1, progress: Arc::clone(&progress) }, progress)
    }

    #[test]
    fn a_silent_run_has_a_line_once_a_minute() {
        let start = Instant::now();
        let mut plain = Plain::new(screen(LogFormat::Text), start);
        plain.handle(Event::Started { rows: 2 }, start);
        let (event, progress) = working("nginx:1.27");
        progress.manifests.add(1);
        progress.expected.add(2_000_000);
        progress.pushed.add(500_000);
        plain.handle(event, start);
        let mut lines = Vec::new();
        for second in 1..=125 {
            let now = start + Duration::from_secs(second);
            if let Some(message) = plain.due(now) {
                plain.last_line = now;
                lines.push(message.text);
            }
        }
        let line = "still running: 0 of 2 images done, 1 being copied, 500.0 kB of 2.0 MB pushed";
        assert_eq!(lines, [line, line]);
    }

    #[test]
    fn a_host_that_fails_for_seconds_has_one_line_for_all_its_images() {
        let start = Instant::now();
        let mut plain = Plain::new(screen(LogFormat::Text), start);
        let mut held = Vec::new();
        for image in ["nginx:1", "nginx:2", "redis:7"] {
            let (event, progress) = working(image);
            plain.state.update(&event);
            held.push(progress);
        }
        held[0].record_retry_at(1, "connection refused".to_owned(), start - FAILING);
        held[1].record_retry_at(1, "connection refused".to_owned(), start - FAILING * 2);
        held[2].record_retry_at(2, "503".to_owned(), start);
        let line = plain.due(start).map(|message| message.text);
        let expected = "retrying docker.io/library/nginx:2 and 1 other image: connection refused";
        assert_eq!(line.as_deref(), Some(expected));
        assert!(plain.due(start + Duration::from_secs(1)).is_none(), "it is not repeated");
    }
}
