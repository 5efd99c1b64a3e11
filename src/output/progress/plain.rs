//! Progress for cron and logs: a line for each image that something happened to.
//!
//! Up-to-date images are counted. A run that has nothing to tell for a minute says that it is
//! still there.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{Event, OutcomeCounts, View, finished, size, trouble};
use crate::model::outcome::Outcome;

/// How long a run may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// Lines on a writer.
pub(super) struct Plain<W> {
    out: W,
    tally: OutcomeCounts,
    last_line: Instant,
}

impl<W: Write> Plain<W> {
    pub(super) fn new(out: W, now: Instant) -> Self {
        Self { out, tally: OutcomeCounts::default(), last_line: now }
    }

    fn line(&mut self, text: &str, now: Instant) {
        let _ = writeln!(self.out, "{text}");
        self.last_line = now;
    }
}

impl<W: Write> View for Plain<W> {
    const EVERY: Duration = Duration::from_secs(1);

    fn take(&mut self, event: Event, now: Instant) {
        self.tally.take(&event);
        let line = match &event {
            // these stand in the final table, and nothing happened to them
            Event::Finished {
                outcome: Outcome::UpToDate | Outcome::Planned | Outcome::NotStarted,
                ..
            } => None,
            Event::Finished { .. } => finished(&event),
            _ => trouble(&event),
        };
        if let Some(line) = line {
            self.line(&line, now);
        }
    }

    fn tick(&mut self, now: Instant) {
        self.tally.finish();
        if now.duration_since(self.last_line) < SILENCE {
            return;
        }
        let tally = &self.tally;
        let text = format!(
            "still running: {} of {} images done, {} being copied, {} of {} pushed",
            tally.finished,
            tally.rows,
            tally.running.len(),
            size(tally.pushed()),
            size(tally.expected())
        );
        self.line(&text, now);
    }

    fn finish(&mut self) {
        if self.tally.up_to_date > 0 {
            let _ = writeln!(self.out, "{} up to date", self.tally.up_to_date);
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
    fn each_image_that_something_happened_to_is_a_line_and_the_rest_is_counted() {
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
            plain.take(event, now);
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
    fn a_silent_run_speaks_up_once_a_minute() {
        let start = Instant::now();
        let progress = Arc::new(Progress::default());
        progress.expected.add(2_000_000);
        progress.pushed.add(500_000);
        let mut plain = Plain::new(Vec::new(), start);
        plain.take(Event::Started { rows: 2 }, start);
        let image = "docker.io/library/nginx:1.27".to_owned();
        plain.take(Event::Copying { image, progress: progress.clone() }, start);
        for second in 1..=125 {
            plain.tick(start + Duration::from_secs(second));
        }
        let line = "still running: 0 of 2 images done, 1 being copied, 500.0 kB of 2.0 MB pushed\n";
        assert_eq!(text(&plain), line.repeat(2));
    }
}
