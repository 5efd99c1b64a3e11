//! Progress for cron and logs: a line for each copied or failed image.
//!
//! Up-to-date images are counted. A run without a line for a minute writes that it is still running.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{Event, RunState, View, finished, notable, size};
use crate::model::outcome::Outcome;

/// The longest time without a line.
const SILENCE: Duration = Duration::from_secs(60);

pub(super) struct Plain<W> {
    out: W,
    state: RunState,
    last_line: Instant,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W, now: Instant) -> Self {
        Self { out, state: RunState::default(), last_line: now }
    }

    fn line(&mut self, text: &str, now: Instant) {
        let _ = writeln!(self.out, "{text}");
        self.last_line = now;
    }
}

impl<W: Write> View for Plain<W> {
    const TICK: Duration = Duration::from_secs(1);

    fn handle(&mut self, event: Event, now: Instant) {
        self.state.update(&event);
        let line = match &event {
            // the final table lists or counts these
            Event::Finished {
                outcome: Outcome::UpToDate | Outcome::Planned | Outcome::NotStarted,
                ..
            } => None,
            Event::Finished { .. } => finished(&event),
            _ => notable(&event),
        };
        if let Some(line) = line {
            self.line(&line, now);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.state.remove_finished();
        if now.duration_since(self.last_line) < SILENCE {
            return;
        }
        let state = &self.state;
        let text = format!(
            "still running: {} of {} images done, {} being copied, {} of {} pushed",
            state.finished,
            state.rows,
            state.running.len(),
            size(state.pushed()),
            size(state.expected())
        );
        self.line(&text, now);
    }

    fn finish(&mut self) {
        if self.state.up_to_date > 0 {
            let _ = writeln!(self.out, "{} up to date", self.state.up_to_date);
        }
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use anstream::adapter::strip_str;

    use super::*;
    use crate::model::event::Progress;

    fn done(outcome: Outcome, image: &str, error: Option<&str>) -> Event {
        Event::Finished {
            image: format!("docker.io/library/{image}"),
            destination: format!("localhost:5000/{image}"),
            outcome,
            bytes: 31_457_280,
            error: error.map(str::to_owned),
        }
    }

    fn text(plain: &Plain<Vec<u8>>) -> String {
        strip_str(std::str::from_utf8(&plain.out).unwrap()).to_string()
    }

    #[test]
    fn copied_and_failed_images_have_a_line_and_the_rest_is_counted() {
        let now = Instant::now();
        let mut plain = Plain::new(Vec::new(), now);
        let warning = Event::Warning {
            subject: "docker.io/library/redis:7".to_owned(),
            text: "no `linux/s390x`\u{1b}[2J".to_owned(),
        };
        for event in [
            Event::Started { rows: 6 },
            done(Outcome::UpToDate, "alpine:3", None),
            done(Outcome::Copied, "nginx:1.27", None),
            warning,
            done(Outcome::Failed, "gone:1", Some("cannot read\n404 \u{1b}[31m")),
            done(Outcome::UpToDate, "alpine:2", None),
            done(Outcome::Deferred, "later:1", None),
            done(Outcome::NotStarted, "last:1", None),
        ] {
            plain.handle(event, now);
        }
        plain.finish();
        assert_eq!(
            text(&plain),
            "copied docker.io/library/nginx:1.27 → localhost:5000/nginx:1.27 (31.5 MB)\n\
             warning: docker.io/library/redis:7: no `linux/s390x`[2J\n\
             failed docker.io/library/gone:1 → localhost:5000/gone:1: cannot read: 404 [31m\n\
             deferred docker.io/library/later:1 → localhost:5000/later:1\n\
             2 up to date\n"
        );
    }

    #[test]
    fn a_silent_run_writes_a_line_once_a_minute() {
        let start = Instant::now();
        let progress = Arc::new(Progress::default());
        progress.expected.add(2_000_000);
        progress.pushed.add(500_000);
        let mut plain = Plain::new(Vec::new(), start);
        plain.handle(Event::Started { rows: 2 }, start);
        let image = "docker.io/library/nginx:1.27".to_owned();
        plain.handle(Event::Copying { image, progress: progress.clone() }, start);
        for second in 1..=125 {
            plain.tick(start + Duration::from_secs(second));
        }
        let line = "still running: 0 of 2 images done, 1 being copied, 500.0 kB of 2.0 MB pushed\n";
        assert_eq!(text(&plain), line.repeat(2));
    }
}
