//! Progress on a terminal: a bar for the run, and a line for each running image.
//!
//! The lines fit the terminal. Warnings are printed above them and stay.

use std::{
    io,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Event, RunState, Running, Screen, View, size};
use crate::output::{
    error::WARNING,
    printable, styled,
    text::{after, columns, wrapped},
};

/// The maximum number of lines of running images.
const MOST: usize = 16;
/// The time after which an image that is compared has a line, because its host fails.
const FAILING: Duration = Duration::from_secs(1);
/// The columns of the longest activity: `waiting (rate limit)`, `999.9 MB of 999.9 MB`.
const ACTIVITY: usize = 20;
/// The columns before a reference that has a line of its own.
const INDENT: usize = 4;

pub(super) struct Bars {
    screen: Screen,
    state: RunState,
    overall: ProgressBar,
    /// The bar counts bytes, and no longer images.
    counts_bytes: bool,
    lines: Vec<ProgressBar>,
}

impl Bars {
    pub(super) fn new(screen: Screen) -> Self {
        let overall = ProgressBar::new(0).with_style(overall_style("{spinner} {msg}"));
        let overall = screen.bars.add(overall);
        Self { screen, state: RunState::default(), overall, counts_bytes: false, lines: Vec::new() }
    }

    /// Draws the overall bar: by bytes once every image is compared, by images until then. Names no
    /// time that is left while only manifests are pushed.
    fn show_overall(&mut self, width: usize) {
        let (state, overall) = (&self.state, &self.overall);
        if state.rows == 0 {
            return overall.set_message("selecting images");
        }
        let (pushed, expected) = (state.pushed(), state.expected());
        if state.knows_size() != self.counts_bytes {
            self.counts_bytes = state.knows_size();
            overall.reset_eta();
        }
        let bytes = format!("{} of {}", size(pushed), size(expected));
        let rest = match self.counts_bytes {
            true if pushed == expected => "finishing".to_owned(),
            true if width < 70 => bytes,
            true => format!("{bytes}, {{eta}} left"),
            false if pushed > 0 => format!("{} pushed", size(pushed)),
            false => String::new(),
        };
        let counted = state.counted();
        let text = match width.checked_sub(columns(&counted) + 2 + columns(&rest)) {
            Some(10..) => format!("{{msg}}  {{wide_bar}}  {rest}"),
            Some(_) => format!("{{msg}}  {rest}"),
            None => "{msg}".to_owned(),
        };
        overall.set_style(overall_style(&text));
        overall.set_message(counted);
        if self.counts_bytes {
            overall.set_length(expected);
            overall.set_position(pushed);
        } else {
            overall.set_length(state.rows as u64);
            overall.set_position(state.finished as u64);
        }
    }

    /// Draws these lines below the overall bar.
    fn show_lines(&mut self, texts: Vec<String>) {
        for line in self.lines.drain(texts.len().min(self.lines.len())..).rev() {
            self.screen.bars.remove(&line);
        }
        while self.lines.len() < texts.len() {
            let line = ProgressBar::new(0).with_style(template("{msg}"));
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
        if let Event::Warning { subject, text, is_in_report: false } = &event {
            let (text, label) = (format!("{subject}: {text}"), "warning: ");
            let text = wrapped(&printable(&text), self.screen.stderr_width(), label.len(), 4);
            self.screen.tell(|out| writeln!(out, "{}{text}", styled(WARNING, label)));
        }
    }

    fn tick(&mut self, _now: Instant) {
        self.state.remove_finished();
        let size = terminal_size::terminal_size_of(io::stderr());
        let (width, height) = size.map_or((80, 24), |(w, h)| (usize::from(w.0), usize::from(h.0)));
        self.show_overall(width);
        // the empty line, the overall bar, "and N more", and the line that the cursor is on
        let room = height.saturating_sub(4).min(MOST);
        self.show_lines(lines(&self.state.running, room, width));
    }

    fn finish(&mut self) {
        self.show_lines(Vec::new());
        self.overall.finish_and_clear();
    }
}

/// The style of the overall bar, below an empty line: the `^C` that a terminal shows moves the cursor
/// down, so that the first line is not cleared.
fn overall_style(text: &str) -> ProgressStyle {
    template(&format!("\n{text}"))
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates are valid constants")
}

/// The work on an image: its bytes, or the reason why they do not move.
fn activity(image: &Running) -> String {
    let progress = &image.progress;
    let (pushed, expected) = (image.pushed(), image.expected());
    let (manifests, all) = (progress.pushed_manifests.value(), progress.manifests.value());
    if image.failing().is_some_and(|(time, _)| time >= FAILING) {
        return "retrying".to_owned();
    }
    let is_complete = pushed == expected;
    match (progress.waits.value(), progress.mounts.value()) {
        (1.., _) if is_complete => "waiting (rate limit)".to_owned(),
        (_, 1..) if is_complete => "mounting".to_owned(),
        _ if is_complete => format!("manifest {} of {all}", (manifests + 1).min(all)),
        _ => format!("{} of {}", size(pushed), size(expected)),
    }
}

/// A text for each image that is copied or whose host fails, oldest first, in at most `room` lines,
/// then the number of the others. A reference that does not fit has a line of its own.
fn lines(running: &[Running], room: usize, width: usize) -> Vec<String> {
    let is_shown = |image: &&Running| {
        image.is_copying() || image.failing().is_some_and(|(time, _)| time >= FAILING)
    };
    let all: Vec<&Running> = running.iter().filter(is_shown).collect();
    let text = |image: &&Running| {
        let start = format!("  {:>ACTIVITY$}  ", activity(image));
        let wrap = |text: &str| after(&start, columns(&start), text, Some(width), INDENT);
        let error = image.failing().filter(|(time, _)| *time >= FAILING);
        let whole = error.map(|(_, error)| wrap(&format!("{}: {error}", image.subject)));
        // a long error would hide other images
        let whole = whole.filter(|text| height(text, width) <= 2);
        whole.unwrap_or_else(|| wrap(&image.subject))
    };
    let mut lines: Vec<String> = all.iter().map(text).collect();
    let mut used = 0;
    let fits = |text: &&String| {
        used += height(text, width);
        used <= room
    };
    let shown = lines.iter().take_while(fits).count();
    lines.truncate(shown);
    if all.len() > shown {
        lines.push(format!("  and {} more", all.len() - shown));
    }
    lines
}

/// The lines that the text has on a terminal of this width.
fn height(text: &str, width: usize) -> usize {
    text.lines().map(|line| columns(line).div_ceil(width.max(1))).sum()
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
        progress.manifests.add(3);
        let event =
            Event::Working { subject: image.to_owned(), rows: 1, progress: progress.clone() };
        (event, progress)
    }

    fn state(images: &[(&str, u64, u64)]) -> (RunState, Vec<Arc<Progress>>) {
        let (mut state, mut held) = (RunState::default(), Vec::new());
        for &(image, pushed, expected) in images {
            let (event, progress) = copying(image, pushed, expected);
            state.update(&event);
            held.push(progress);
        }
        (state, held)
    }

    #[test]
    fn each_running_image_has_a_line_while_there_is_room() {
        let (state, _held) = state(&[
            ("docker.io/library/nginx:1.27", 31_457_280, 62_914_560),
            ("quay.io/prometheus/prometheus:v3\u{1b}[2J", 0, 1_000),
            ("docker.io/library/redis:7", 1, 2),
        ]);
        assert_eq!(
            lines(&state.running, 2, 80),
            [
                "    31.5 MB of 62.9 MB  docker.io/library/nginx:1.27",
                "         0 B of 1.0 kB  quay.io/prometheus/prometheus:v3[2J",
                "  and 1 more",
            ]
        );
        assert_eq!(
            lines(&state.running, 3, 40),
            ["    31.5 MB of 62.9 MB\n    docker.io/library/nginx:1.27", "  and 2 more",]
        );
    }

    #[test]
    fn a_line_says_why_no_bytes_move() {
        let (state, held) = state(&[("a", 5, 5), ("b", 5, 5), ("c", 5, 5), ("d", 0, 5)]);
        held[0].pushed_manifests.add(1);
        let (_waits, _mounts) = (held[1].waits.enter(), held[2].mounts.enter());
        let long_ago = Instant::now() - FAILING;
        held[3].record_retry_at(1, "connection refused".to_owned(), long_ago);
        assert_eq!(
            lines(&state.running, 9, 80),
            [
                "         manifest 2 of 3  a",
                "    waiting (rate limit)  b",
                "                mounting  c",
                "                retrying  d: connection refused",
            ]
            .map(|line| line.strip_prefix("  ").unwrap())
        );
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
        let (state, _held) = state(&[("a", 1_500, 1_000)]);
        assert_eq!((state.pushed(), state.expected()), (1_000, 1_000));
    }

    #[test]
    fn the_size_of_a_run_is_known_when_every_image_is_compared() {
        let (mut state, _held) = state(&[("a", 0, 5)]);
        state.update(&Event::Started { rows: 2 });
        assert!(!state.knows_size());
        let (event, _second) = copying("b", 0, 1);
        state.update(&event);
        assert!(state.knows_size());
    }
}
