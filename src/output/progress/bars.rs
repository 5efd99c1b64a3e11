//! Progress on a terminal: a bar for the run, and a line for each running image.
//!
//! The lines fit the terminal. Failures and warnings are printed above them and stay.

use std::{
    io,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, RunState, Running, Screen, View, notable, size};
use crate::output::table::shortened;

/// The maximum number of running images that are shown.
const MOST: usize = 16;

pub(super) struct Bars {
    screen: Screen,
    state: RunState,
    overall: ProgressBar,
    lines: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let overall = ProgressBar::new(0).with_style(template("{spinner} {msg}"));
        let overall = screen.bars.add(overall);
        Self { screen, state: RunState::default(), overall, lines: Vec::new() }
    }

    /// Draws the overall bar, which counts images only until there are bytes to move.
    fn show_overall(&self) {
        let (state, overall) = (&self.state, &self.overall);
        if overall.length() == Some(0) && state.expected() > 0 {
            overall.set_style(template(
                "{msg}  {wide_bar}  {decimal_bytes} of {decimal_total_bytes}  \
                 {decimal_bytes_per_sec}  {eta} left",
            ));
        }
        overall.set_length(state.expected());
        overall.set_message(format!("{}/{} images", state.finished, state.rows));
        overall.set_position(state.pushed());
    }

    /// Draws these lines below the overall bar.
    fn show_lines(&mut self, texts: Vec<String>) {
        for line in self.lines.drain(texts.len().min(self.lines.len())..).rev() {
            self.screen.bars.remove(&line);
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
    const TICK: Duration = Duration::from_millis(200);

    fn handle(&mut self, event: Event, _now: Instant) {
        self.state.update(&event);
        if let Some(line) = notable(&event) {
            self.screen.tell(|out| writeln!(out, "{line}"));
        }
    }

    fn tick(&mut self, _now: Instant) {
        self.state.remove_finished();
        self.show_overall();
        let size = terminal_size::terminal_size_of(io::stderr());
        let (width, height) = size.map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)));
        // the overall bar, "and N more", and the line that the cursor is on
        let room = height.saturating_sub(3).min(MOST);
        self.show_lines(lines(&self.state.running, room, width));
    }

    fn finish(&mut self) {
        self.show_lines(Vec::new());
        self.overall.finish_and_clear();
    }
}

fn template(text: &'static str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates are valid constants")
}

/// A line for each running image, oldest first, at most `room`, then the number of the others.
fn lines(running: &[Running], room: usize, width: usize) -> Vec<String> {
    let shown = &running[..running.len().min(room)];
    let moved = |image: &Running| format!("{} of {}", size(image.pushed()), size(image.expected()));
    let sizes: Vec<String> = shown.iter().map(moved).collect();
    let right = sizes.iter().map(|text| text.len()).max().unwrap_or_default();
    let longest = shown.iter().map(|shown| shown.image.chars().count()).max().unwrap_or_default();
    let left = longest.min(width.saturating_sub(right + 4)).max(8);
    let line = |(shown, size): (&Running, &String)| {
        format!("  {:<left$}  {size:>right$}", shortened(&shown.image, left))
    };
    let mut lines: Vec<String> = shown.iter().zip(&sizes).map(line).collect();
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
    fn each_running_image_has_a_line_while_there_is_room() {
        let mut state = RunState::default();
        let mut held = Vec::new();
        for (image, pushed, expected) in [
            ("docker.io/library/nginx:1.27", 31_457_280, 62_914_560),
            ("quay.io/prometheus/prometheus:v3\u{1b}[2J", 0, 1_000),
            ("docker.io/library/redis:7", 1, 2),
        ] {
            let (event, progress) = copying(image, pushed, expected);
            state.update(&event);
            held.push(progress);
        }
        assert_eq!(
            lines(&state.running, 2, 80),
            [
                "  docker.io/library/nginx:1.27         31.5 MB of 62.9 MB",
                "  quay.io/prometheus/prometheus:v3[2J       0 B of 1.0 kB",
                "  and 1 more",
            ]
        );
        for line in lines(&state.running, 16, 40) {
            assert!(line.chars().count() <= 40, "{line}");
        }
    }

    #[test]
    fn an_image_is_finished_when_the_run_drops_its_counters() {
        let mut state = RunState::default();
        let (event, first) = copying("a", 700, 1_000);
        state.update(&event);
        drop(event);
        let (event, _second) = copying("b", 70, 100);
        state.update(&event);
        drop(event);
        state.remove_finished();
        assert_eq!((state.running.len(), state.pushed(), state.expected()), (2, 770, 1_100));
        // it failed: the rest of its bytes is not expected any more
        drop(first);
        state.remove_finished();
        assert_eq!((state.running.len(), state.pushed(), state.expected()), (1, 770, 800));
    }

    #[test]
    fn repeated_bytes_do_not_overfill_the_bar() {
        let mut state = RunState::default();
        let (event, _held) = copying("a", 1_500, 1_000);
        state.update(&event);
        assert_eq!((state.pushed(), state.expected()), (1_000, 1_000));
    }
}
