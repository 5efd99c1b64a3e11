//! What a person sees while a run goes on: bars on a terminal, lines elsewhere, or nothing.
//!
//! The run hands its events over without waiting; one thread draws them and samples the counters
//! of running images. No view can slow a run down or fail it.

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

use super::{Screen, error::CAUTION, printable, size, style, styled, word};
use crate::model::{
    event::{Event, Observer, Progress, Silent},
    outcome::Outcome,
};
use bars::Bars;
use plain::Plain;

/// How a run shows its progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ProgressKind {
    /// `bar` where stderr is a terminal, else `plain`.
    #[default]
    Auto,
    /// One bar for all and a line for each running image.
    Bar,
    /// A line for each finished image.
    Plain,
    /// Nothing.
    None,
}

/// Watches a run until it is dropped; then the view is finished and the terminal is clean.
#[derive(Debug, Default)]
pub(crate) struct ProgressView {
    view: Option<(Sender<Message>, JoinHandle<()>)>,
}

#[derive(Debug)]
enum Message {
    Event(Event),
    Finish,
}

impl ProgressView {
    /// Begins to watch. Bars need a terminal: without one `bar` is `plain`.
    pub(crate) fn start(kind: ProgressKind, screen: &Screen) -> Self {
        match kind {
            ProgressKind::None => Self::default(),
            ProgressKind::Auto | ProgressKind::Bar if screen.is_watched() => {
                Self::with(Bars::new(screen.clone()))
            }
            _ => Self::with(Plain::new(screen.stderr(), Instant::now())),
        }
    }

    fn with(view: impl View + Send + 'static) -> Self {
        let (events, received) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("progress".to_owned()).spawn(|| draw(received, view));
        // a system without room for one more thread does without the view
        Self { view: thread.ok().map(|thread| (events, thread)) }
    }

    /// Who is to be told what happens. May outlive the watch; it then tells nobody.
    pub(crate) fn observer(&self) -> Arc<dyn Observer> {
        match &self.view {
            Some((events, _)) => Arc::new(ProgressSender(events.clone())),
            None => Arc::new(Silent),
        }
    }
}

impl Drop for ProgressView {
    fn drop(&mut self) {
        if let Some((events, thread)) = self.view.take() {
            let _ = events.send(Message::Finish);
            let _ = thread.join();
        }
    }
}

struct ProgressSender(Sender<Message>);

impl Observer for ProgressSender {
    fn observe(&self, event: &Event) {
        let _ = self.0.send(Message::Event(event.clone()));
    }
}

/// A way to show a run. What it cannot write, it drops.
trait View {
    /// How often it is to be drawn anew.
    const EVERY: Duration;

    /// Something happened.
    fn take(&mut self, event: Event, now: Instant);
    /// Time passed.
    fn tick(&mut self, now: Instant);
    /// The run is over.
    fn finish(&mut self);
}

fn draw<V: View>(events: Receiver<Message>, mut view: V) {
    let mut due = Instant::now() + V::EVERY;
    loop {
        match events.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Message::Event(event)) => view.take(event, Instant::now()),
            Ok(Message::Finish) | Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        if now >= due {
            view.tick(now);
            due = now + V::EVERY;
        }
    }
    view.finish();
}

/// What is known of the run by now, sampled from its counters.
#[derive(Debug, Default)]
struct OutcomeCounts {
    rows: usize,
    finished: usize,
    up_to_date: usize,
    running: Vec<Running>,
    /// Bytes of images that are through: expected and pushed alike.
    settled: u64,
}

/// An image that is being copied.
#[derive(Debug)]
struct Running {
    image: String,
    progress: Arc<Progress>,
}

impl Running {
    fn expected(&self) -> u64 {
        self.progress.expected.value()
    }

    /// Bytes pushed, without those that failed attempts pushed in vain, as far as can be told.
    fn pushed(&self) -> u64 {
        self.progress.pushed.value().min(self.expected())
    }
}

impl OutcomeCounts {
    fn take(&mut self, event: &Event) {
        match event {
            Event::Started { rows } => self.rows += rows,
            Event::Copying { image, progress } => {
                let (image, progress) = (printable(image).into_owned(), progress.clone());
                self.running.push(Running { image, progress });
            }
            Event::Finished { outcome, .. } => {
                self.finished += 1;
                self.up_to_date += usize::from(*outcome == Outcome::UpToDate);
            }
            Event::Changed(_) | Event::Warning { .. } => {}
        }
    }

    /// Drops the images that are through: those whose counters nobody but this view holds.
    ///
    /// An image may go to several destinations, so that a finished row does not tell.
    fn finish(&mut self) {
        let settled = &mut self.settled;
        self.running.retain(|running| {
            let goes_on = Arc::strong_count(&running.progress) > 1;
            if !goes_on {
                *settled += running.pushed();
            }
            goes_on
        });
    }

    fn expected(&self) -> u64 {
        self.settled + self.running.iter().map(Running::expected).sum::<u64>()
    }

    fn pushed(&self) -> u64 {
        self.settled + self.running.iter().map(Running::pushed).sum::<u64>()
    }
}

/// The line that tells of this event, where it is worth one whatever the view: trouble, and what changes for good.
fn trouble(event: &Event) -> Option<String> {
    match event {
        Event::Finished { outcome: Outcome::Failed | Outcome::Drifted, .. } => finished(event),
        Event::Changed(change) => Some(printable(&change.to_string()).into_owned()),
        Event::Warning { subject, text } => {
            let (subject, text) = (printable(subject), printable(text));
            Some(format!("{} {subject}: {text}", styled(CAUTION, "warning:")))
        }
        _ => None,
    }
}

/// The line for a finished row.
fn finished(event: &Event) -> Option<String> {
    let Event::Finished { image, destination, outcome, bytes, error } = event else { return None };
    let from_to = format!("{} → {}", printable(image), printable(destination));
    let label = styled(style(*outcome), word(*outcome));
    Some(match (outcome, error) {
        (Outcome::Copied, _) => format!("{label} {from_to} ({})", size(*bytes)),
        (_, Some(error)) => format!("{label} {from_to}: {}", printable(&error.replace('\n', ": "))),
        (_, None) => format!("{label} {from_to}"),
    })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Remembers what it was told.
    struct Memory(Arc<Mutex<Vec<String>>>);

    impl View for Memory {
        const EVERY: Duration = Duration::from_millis(1);

        fn take(&mut self, event: Event, _now: Instant) {
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
    fn a_watch_that_ends_has_shown_everything_and_waits_for_no_observer() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let watch = ProgressView::with(Memory(told.clone()));
        let observer = watch.observer();
        let warning = |text: &str| Event::Warning { subject: String::new(), text: text.to_owned() };
        for text in ["a", "b", "c"] {
            observer.observe(&warning(text));
        }
        drop(watch);
        observer.observe(&warning("too late"));
        assert_eq!(*told.lock(), ["a", "b", "c", "finished"]);
    }

    #[test]
    fn the_bars_templates_are_right() {
        // a wrong template panics; on a hidden target nothing is drawn
        let screen = Screen::new(clap::ColorChoice::Never);
        let mut bars = Bars::new(screen);
        let progress = Arc::new(Progress::default());
        progress.expected.add(10);
        bars.take(
            Event::Copying { image: "a".to_owned(), progress: progress.clone() },
            Instant::now(),
        );
        bars.tick(Instant::now());
        bars.finish();
    }
}
