//! Progress on a terminal: a bar for everything, and a line for each running image.
//!
//! At most as many lines as the terminal has room for; trouble is printed above them and stays.

use std::{
    io,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, OutcomeCounts, Running, Screen, View, size, trouble};
use crate::output::table::shortened;

/// Running images shown at most.
const MOST: usize = 16;

/// Bars on the screen's stderr.
pub(super) struct Bars {
    screen: Screen,
    tally: OutcomeCounts,
    overall: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let overall = ProgressBar::new(0).with_style(template("{spinner} {msg}"));
        let overall = screen.bars.add(overall);
        Self { screen, tally: OutcomeCounts::default(), overall, lines: Vec::new() }
    }

    /// Draws the bar for everything: images alone until there are bytes to move.
    fn show_overall(&self) {
        let (tally, overall) = (&self.tally, &self.overall);
        if overall.length() == Some(0) && tally.expected() > 0 {
            overall.set_style(template(
                "{msg}  {wide_bar}  {decimal_bytes} of {decimal_total_bytes}  \
                 {decimal_bytes_per_sec}  {eta} left",
            ));
        }
        overall.set_length(tally.expected());
        overall.set_message(format!("{}/{} images", tally.finished, tally.rows));
        overall.set_position(tally.pushed());
    }

    /// Draws exactly these lines below the overall bar.
    fn show(&mut self, texts: Vec<String>) {
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                self.screen.bars.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let line = ProgressBar::new(0).with_style(template("{wide_msg}"));
            self.lines.push(self.screen.bars.add(line));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(text);
        }
    }
}

impl View for Bars {
    const EVERY: Duration = Duration::from_millis(200);

    fn take(&mut self, event: Event, _now: Instant) {
        self.tally.take(&event);
        if let Some(line) = trouble(&event) {
            self.screen.tell(|out| writeln!(out, "{line}"));
        }
    }

    fn tick(&mut self, _now: Instant) {
        self.tally.finish();
        self.show_overall();
        let size = terminal_size::terminal_size_of(io::stderr());
        let (width, height) = size.map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)));
        // the overall bar, "and N more", and the line that the cursor is on
        let room = height.saturating_sub(3).min(MOST);
        self.show(lines(&self.tally.running, room, width));
    }

    fn finish(&mut self) {
        self.show(Vec::new());
        self.overall.finish_and_clear();
    }
}

fn template(text: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("templates are constants, and right")
}

/// A line for each running image, oldest first, at most `room` of them, then how many more.
fn lines(running: &[Running], room: usize, width: usize) -> Vec<String> {
    let shown = &running[..running.len().min(room)];
    let sizes: Vec<String> = shown
        .iter()
        .map(|one| format!("{} of {}", size(one.pushed()), size(one.expected())))
        .collect();
    let right = sizes.iter().map(|text| text.len()).max().unwrap_or_default();
    let longest = shown.iter().map(|one| one.image.chars().count()).max().unwrap_or_default();
    let left = longest.min(width.saturating_sub(right + 4)).max(8);
    let mut lines: Vec<String> = shown
        .iter()
        .zip(&sizes)
        .map(|(one, size)| format!("  {:<left$}  {size:>right$}", shortened(&one.image, left)))
        .collect();
    if running.len() > room {
        lines.push(format!("  and {} more", running.len() - room));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::event::Progress;

    fn copying(image: &str, pushed: u64, expected: u64) -> (Event, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        progress.expected.add(expected);
        progress.pushed.add(pushed);
        (Event::Copying { image: image.to_owned(), progress: progress.clone() }, progress)
    }

    #[test]
    fn each_running_image_is_a_line_as_far_as_there_is_room() {
        let mut tally = OutcomeCounts::default();
        let mut held = Vec::new();
        for (image, pushed, expected) in [
            ("docker.io/library/nginx:1.27", 31_457_280, 62_914_560),
            ("quay.io/prometheus/prometheus:v3\u{1b}[2J", 0, 1_000),
            ("docker.io/library/redis:7", 1, 2),
        ] {
            let (event, progress) = copying(image, pushed, expected);
            tally.take(&event);
            held.push(progress);
        }
        assert_eq!(
            lines(&tally.running, 2, 80),
            [
                "  docker.io/library/nginx:1.27         31.5 MB of 62.9 MB",
                "  quay.io/prometheus/prometheus:v3[2J       0 B of 1.0 kB",
                "  and 1 more",
            ]
        );
        for line in lines(&tally.running, 16, 40) {
            assert!(line.chars().count() <= 40, "{line}");
        }
    }

    #[test]
    fn an_image_is_through_when_the_run_lets_go_of_its_counters() {
        let mut tally = OutcomeCounts::default();
        let (event, first) = copying("a", 700, 1_000);
        tally.take(&event);
        drop(event);
        let (event, _second) = copying("b", 70, 100);
        tally.take(&event);
        drop(event);
        tally.finish();
        assert_eq!((tally.running.len(), tally.pushed(), tally.expected()), (2, 770, 1_100));
        // it failed: what it never pushed is no longer expected
        drop(first);
        tally.finish();
        assert_eq!((tally.running.len(), tally.pushed(), tally.expected()), (1, 770, 800));
    }

    #[test]
    fn bytes_pushed_in_vain_do_not_overfill_the_bar() {
        let mut tally = OutcomeCounts::default();
        let (event, _held) = copying("a", 1_500, 1_000);
        tally.take(&event);
        assert_eq!((tally.pushed(), tally.expected()), (1_000, 1_000));
    }
}
