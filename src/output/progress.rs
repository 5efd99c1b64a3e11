//! Progress of a run: bars on a terminal, lines elsewhere, or nothing.
//!
//! The run sends its events without waiting. One thread draws them and samples the counters of
//! running images, so that no view can slow a run down or fail it.

mod bars;
mod plain;

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use clap::ValueEnum;

use super::{Screen, printable, size};
use crate::model::{
    event::{Event, Observer, Progress, Silent},
    outcome::Outcome,
    text::{count, grouped},
};
use bars::Bars;
use plain::Plain;

/// The progress view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// `bar` if stderr is a terminal, else `plain`.
    #[default]
    Auto,
    /// One bar for the run and a line for each running image.
    Bar,
    /// A line for each copied image.
    Plain,
    /// Nothing.
    None,
}

/// Shows the progress of a run until it is dropped, which clears the bars.
#[derive(Debug, Default)]
pub(crate) struct ProgressView {
    /// The thread that draws, and its events; `None` ends it.
    view: Option<(Sender<Option<Event>>, JoinHandle<()>)>,
}

impl ProgressView {
    /// Starts the view. Without a terminal, `bar` is `plain`.
    pub(crate) fn start(kind: ProgressKind, screen: &Screen) -> Self {
        match kind {
            ProgressKind::None => Self::default(),
            ProgressKind::Auto | ProgressKind::Bar if screen.shows_bars() => {
                Self::with(Bars::new(screen.clone()))
            }
            _ => Self::with(Plain::new(screen.clone(), Instant::now())),
        }
    }

    fn with(view: impl View + Send + 'static) -> Self {
        let (events, received) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("progress".to_owned()).spawn(|| draw(received, view));
        // without a thread there is no view
        Self { view: thread.ok().map(|thread| (events, thread)) }
    }

    /// The observer to give to the run. It may outlive the view; its events are then dropped.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        match &self.view {
            Some((events, _)) => Arc::new(events.clone()),
            None => Arc::new(Silent),
        }
    }
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        if let Some((events, thread)) = self.view.take() {
            let _ = events.send(None);
            let _ = thread.join();
        }
    }
}

impl Observer for Sender<Option<Event>> {
    fn observe(&self, event: &Event) {
        let _ = self.send(Some(event.clone()));
    }
}

/// A way to show a run. Ignores write errors.
trait View {
    const TICK: Duration;

    fn handle(&mut self, event: Event, now: Instant);
    fn tick(&mut self, now: Instant);
    fn finish(&mut self);
}

fn draw<V: View>(events: Receiver<Option<Event>>, mut view: V) {
    let mut due = Instant::now() + V::TICK;
    loop {
        match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Some(event)) => view.handle(event, Instant::now()),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if now >= due {
            view.tick(now);
            due = now + V::TICK;
        }
    }
    view.finish();
}

/// The state of the run, sampled from its counters.
#[derive(Debug, Default)]
struct RunState {
    rows: usize,
    finished: usize,
    failed: usize,
    running: Vec<Running>,
    /// Bytes of finished images, which are expected and pushed.
    finished_bytes: u64,
}

/// An image, or the listing of a repository, that is in progress.
#[derive(Debug)]
struct Running {
    subject: String,
    rows: usize,
    progress: Arc<Progress>,
}

impl Running {
    fn expected(&self) -> u64 {
        self.progress.expected.value()
    }

    /// Bytes pushed. Repeated attempts count at most as the expected bytes.
    fn pushed(&self) -> u64 {
        self.progress.pushed.value().min(self.expected())
    }

    /// Returns `true` if the image is compared, and its content is copied.
    fn is_copying(&self) -> bool {
        self.progress.manifests.value() > 0
    }

    /// The time for which a host has answered nothing good, with its last error.
    fn failing(&self) -> Option<(Duration, String)> {
        let failing = self.progress.failing()?;
        Some((failing.since.elapsed(), printable(&failing.error).into_owned()))
    }
}

impl RunState {
    fn update(&mut self, event: &Event) {
        match event {
            Event::Started { rows } => self.rows += rows,
            Event::Working { subject, rows, progress } => {
                let (subject, progress) = (printable(subject).into_owned(), progress.clone());
                self.running.push(Running { subject, rows: *rows, progress });
            }
            Event::Finished { outcome, .. } => {
                self.finished += 1;
                self.failed += usize::from(matches!(outcome, Outcome::Failed | Outcome::Drifted));
            }
            Event::Changed(_) | Event::Warning { .. } => {}
        }
    }

    /// Removes finished images: the run holds their counters no more.
    ///
    /// A finished row does not suffice, because an image can have several destinations.
    fn remove_finished(&mut self) {
        let finished_bytes = &mut self.finished_bytes;
        self.running.retain(|running| {
            let is_running = Arc::strong_count(&running.progress) > 1;
            if !is_running {
                *finished_bytes += running.pushed();
            }
            is_running
        });
    }

    fn expected(&self) -> u64 {
        self.finished_bytes + self.running.iter().map(Running::expected).sum::<u64>()
    }

    fn pushed(&self) -> u64 {
        self.finished_bytes + self.running.iter().map(Running::pushed).sum::<u64>()
    }

    /// Returns `true` if every image is compared: then the expected bytes are those of the run.
    fn knows_size(&self) -> bool {
        let copying = self.running.iter().filter(|it| it.is_copying());
        self.rows > 0 && self.finished + copying.map(|it| it.rows).sum::<usize>() >= self.rows
    }

    /// Like `3 of 11 images done, 1 failed`.
    fn counted(&self) -> String {
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        let all = count(self.rows as u64, "image");
        format!("{} of {all} done{failed}", grouped(self.finished as u64))
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;
    use crate::output::log::LogFormat;

    /// Records its events.
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl View for Recorder {
        const TICK: Duration = Duration::from_millis(1);

        fn handle(&mut self, event: Event, _now: Instant) {
            if let Event::Warning { text, .. } = event {
                self.0.lock().push(text);
            }
        }

        fn tick(&mut self, _now: Instant) {}

        fn finish(&mut self) {
            self.0.lock().push("finished".to_owned());
        }
    }

    #[test]
    fn a_dropped_view_has_shown_every_event_and_does_not_wait_for_observers() {
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let progress = ProgressView::with(Recorder(recorded.clone()));
        let observer = progress.observer();
        let warning = |text: &str| Event::Warning {
            subject: String::new(),
            text: text.to_owned(),
            is_in_report: false,
        };
        for text in ["a", "b", "c"] {
            observer.observe(&warning(text));
        }
        drop(progress);
        observer.observe(&warning("too late"));
        assert_eq!(*recorded.lock(), ["a", "b", "c", "finished"]);
    }

    #[test]
    fn the_templates_of_the_bars_are_valid() {
        // a wrong template panics; on a hidden target nothing is drawn
        let screen = Screen::new(clap::ColorChoice::Never, LogFormat::Text);
        let mut bars = Bars::new(screen);
        let progress = Arc::new(Progress::default());
        progress.expected.add(10);
        progress.manifests.add(1);
        bars.handle(
            Event::Working { subject: "a".to_owned(), rows: 1, progress: progress.clone() },
            Instant::now(),
        );
        bars.tick(Instant::now());
        bars.finish();
    }
}
