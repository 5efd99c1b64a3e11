//! The engine under stress: thousands of small worlds, each from a seed, in virtual time.
//!
//! Every run must end, whatever fails and whenever it is ended, and leave
//! nothing half-done to be seen. What fails here says its seed:
//!
//! ```text
//! ECR_MIRROR_STRESS_SEED=4711 cargo test --lib engine::tests     that world, many times
//! ECR_MIRROR_STRESS_RUNS=100000 cargo test --lib engine::tests   more worlds
//! ```
//!
//! A seed fixes the world, its weather and how its runs are ended. The waits
//! before retries and the order of hash maps are chance of their own, and so
//! is who is first: one seed is run many times to see it again.

mod content;
mod fake_destination;
mod fault_injection;
mod rng;
mod upstream;
mod world;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
    time::Duration,
};

use fake_destination::Log;
use fault_injection::FaultRates;
use rng::Rng;
use tokio::time::{sleep, timeout};
use world::EngineFixture;

use super::{Mode, Shutdown, Summary};
use crate::{
    model::{
        Digest, Target,
        outcome::{Outcome, Row},
    },
    remote::{Mounting, Mutability},
};

/// Worlds of one test run.
const WORLDS: u64 = 3000;

/// Virtual time after which a run is taken for one that never ends.
///
/// One transfer at once, slow and failing wherever it may, can take more than an hour.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

const THREADS: u64 = 2;

#[test]
fn every_run_ends_and_leaves_only_what_is_complete() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("ECR_MIRROR_STRESS_SEED");
    let runs =
        number("ECR_MIRROR_STRESS_RUNS").unwrap_or(if seed.is_some() { 300 } else { WORLDS });
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                (first..runs).step_by(THREADS as usize).for_each(|run| live(seed.unwrap_or(run)));
            });
        }
    });
}

/// The life of one world.
fn live(seed: u64) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let lived = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life(seed))));
    if let Err(panic) = lived {
        eprintln!("to see it again: ECR_MIRROR_STRESS_SEED={seed} cargo test --lib engine::tests");
        resume_unwind(panic);
    }
}

/// Some runs in whatever weather, then one that completes everything, then one that finds it so.
async fn life(seed: u64) {
    let mut dice = Rng::new(seed);
    let world = EngineFixture::new(&mut dice);
    if dice.chance(200) {
        world.sky.turn(FaultRates::calm(&mut dice));
        let (planned, log) = Run::new(&world, Mode::Plan).natural().await;
        assert_eq!(log.iter().map(|log| log.writes).sum::<u64>(), 0, "a plan writes nothing");
        assert!(planned.rows.iter().all(|row| row.outcome == Outcome::Planned));
    }
    let foul = dice.of(0..=2);
    for _ in 0..foul {
        world.sky.turn(FaultRates::foul(&mut dice));
        world.limit_pulls(dice.chance(150).then(|| dice.of(0..=12)));
        Run::new(&world, Mode::Mirror).ended(&mut dice).await;
        world.limit_pulls(None);
        if dice.chance(200) {
            world.move_tags(&mut dice);
        }
    }
    world.take_reads();
    world.sky.turn(FaultRates::calm(&mut dice));
    let (summary, logs) = Run::new(&world, Mode::Mirror).natural().await;
    succeeded(&world, &summary.rows);
    each_byte_once(&world, &logs, foul == 0);
    counted(&summary, &logs);

    let (summary, logs) = Run::new(&world, Mode::Mirror).natural().await;
    succeeded(&world, &summary.rows);
    assert!(summary.rows.iter().all(|row| row.outcome != Outcome::Copied), "{:#?}", summary.rows);
    assert_eq!(logs.iter().map(|log| log.writes).sum::<u64>(), 0, "what is there is left alone");
}

/// One run over a world.
struct Run<'a> {
    world: &'a EngineFixture,
    intent: Mode,
    shutdown: Shutdown,
}

impl<'a> Run<'a> {
    fn new(world: &'a EngineFixture, intent: Mode) -> Self {
        world.ends.iter().for_each(|end| drop(end.destination.take_log()));
        Self { world, intent, shutdown: Shutdown::default() }
    }

    /// The run as it ends by itself, and what every destination had to write.
    async fn natural(self) -> (Summary, Vec<Log>) {
        let summary = self.complete().await;
        let told = |row: &Row| row.outcome == Outcome::NotStarted;
        assert!(!summary.rows.iter().any(told), "nobody ended this run");
        let logs = self.world.ends.iter().map(|end| end.destination.take_log()).collect();
        (summary, logs)
    }

    /// The run, which may be ended at any time, in any way there is.
    async fn ended(self, dice: &mut Rng) {
        let mut moment = || {
            let scale = dice.of(0..=16);
            Duration::from_millis(dice.of(0..=1 << scale))
        };
        let (first, second) = (moment(), moment());
        match dice.of(0..=4) {
            0 => drop(self.complete().await),
            1 => {
                let run =
                    self.world.mirror(self.intent, &self.shutdown).run(self.world.images.clone());
                drop(timeout(first, run).await);
                // what is dropped ends with its next turn
                sleep(Duration::from_millis(1)).await;
                self.nothing_half_done();
            }
            how => {
                let signals = async {
                    sleep(first).await;
                    self.shutdown.stop();
                    sleep(second).await;
                    if how == 2 {
                        self.shutdown.drop_running();
                    }
                };
                futures::join!(self.complete(), signals);
            }
        }
    }

    /// The run to its end.
    async fn complete(&self) -> Summary {
        let run = self.world.mirror(self.intent, &self.shutdown).run(self.world.images.clone());
        let summary = timeout(PATIENCE, run).await.expect("a run ends");
        let targets = || self.world.images.iter().flat_map(|image| &image.targets);
        assert_eq!(summary.rows.len(), targets().count(), "every row has an outcome");
        for (row, target) in summary.rows.iter().zip(targets()) {
            self.row_is_true(row, target);
        }
        self.nothing_half_done();
        summary
    }

    fn row_is_true(&self, row: &Row, target: &Target) {
        let end = &self.world.ends[target.destination.0];
        let is_there = matches!(row.outcome, Outcome::Copied | Outcome::UpToDate);
        if is_there && self.intent == Mode::Mirror {
            let there = end.destination.complete(&target.repository, &target.tag);
            assert!(there.is_some() && there == row.digest, "{there:?} is there, not {row:#?}");
        }
        let went_wrong =
            matches!(row.outcome, Outcome::Failed | Outcome::Drifted | Outcome::Deferred);
        // what was ended on its way says so, what was never begun says nothing
        let is_left = row.outcome == Outcome::NotStarted;
        assert!(is_left || row.error.is_some() == went_wrong, "{row:#?}");
    }

    fn nothing_half_done(&self) {
        assert_eq!(self.world.sky.complaints(), Vec::<String>::new());
        assert!(self.world.is_idle(), "a connection is held after the run");
    }
}

/// Every image is where it belongs, unless an immutable tag is in its way.
fn succeeded(world: &EngineFixture, rows: &[Row]) {
    let targets = world.images.iter().flat_map(|image| &image.targets);
    for (row, target) in rows.iter().zip(targets) {
        let is_immutable =
            world.ends[target.destination.0].destination.mutability == Mutability::Immutable;
        match row.outcome {
            Outcome::Copied | Outcome::UpToDate => {}
            Outcome::Drifted if is_immutable => {}
            _ => panic!("{row:#?}"),
        }
    }
}

/// What holds of a run in which nothing fails, however the destinations were left before.
///
/// A blob is uploaded at most once to a repository, and at most once to a destination that
/// mounts: the other repositories mount it. So a blob is read at most as often as there
/// are such uploads (a filter may have to read a configuration besides); once, where nothing
/// was there before and every image goes whole to every destination, and all of them mount:
/// the first image to need a blob then carries it everywhere at once.
fn each_byte_once(world: &EngineFixture, logs: &[Log], fresh: bool) {
    let mut uploads: HashMap<&Digest, u64> = HashMap::new();
    for (end, log) in world.ends.iter().zip(logs) {
        assert_eq!(log.refused, 0, "what a manifest names is there before it");
        let mut here: HashMap<&Digest, u64> = HashMap::new();
        for ((repository, digest), times) in &log.uploads {
            assert_eq!(*times, 1, "{digest} was uploaded {times} times to {repository}");
            *here.entry(digest).or_default() += 1;
        }
        for (digest, times) in here {
            let mounts = end.destination.mounting != Mounting::Never;
            assert!(times == 1 || !mounts, "{digest} was uploaded {times} times, not mounted");
            *uploads.entry(digest).or_default() += times;
        }
    }
    let configs = world.configs();
    for (digest, reads) in world.take_reads() {
        let most = uploads.get(&digest).copied().unwrap_or_default();
        assert!(
            reads <= most || configs.contains(&digest),
            "{digest} was read {reads} times for {most} uploads"
        );
        assert!(reads == 1 || !(fresh && world.uniform), "{digest} was read {reads} times");
    }
}

/// The report's numbers are those of the destinations.
fn counted(summary: &Summary, logs: &[Log]) {
    let sum = |of: fn(&Log) -> u64| Some(logs.iter().map(of).sum::<u64>());
    assert_eq!(summary.blobs.pushed, sum(|log| log.uploads.values().sum()));
    assert_eq!(summary.blobs.mounted, sum(|log| log.mounts));
    let pushed = summary.rows.iter().map(|row| row.bytes_pushed.unwrap()).sum::<u64>();
    assert_eq!(Some(pushed), sum(|log| log.bytes));
}
