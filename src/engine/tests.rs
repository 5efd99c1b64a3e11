//! The engine under stress: thousands of small fixtures, each from a seed, in virtual time.
//!
//! Every run must end, whatever fails and however it is stopped, and must leave no partial content
//! visible. A failure prints its seed:
//!
//! ```text
//! ECR_MIRROR_STRESS_SEED=4711 cargo test --lib engine::tests     that fixture, many times
//! ECR_MIRROR_STRESS_RUNS=100000 cargo test --lib engine::tests   more fixtures
//! ```
//!
//! A seed determines the fixture, its faults and how its runs are stopped. It does not determine
//! the waits before retries, the order of hash maps and the order of tasks: repeat a seed many
//! times to reproduce a failure.

mod content;
mod fake_destination;
mod fault_injection;
mod fixture;
mod rng;
mod upstream;

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    thread,
    time::Duration,
};

use fake_destination::Log;
use fault_injection::{FaultInjection, FaultRates};
use fixture::EngineFixture;
use futures::future::join_all;
use parking_lot::Mutex;
use rng::Rng;
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use upstream::{FakeUpstream, StoredContent, UpstreamState};

use super::{
    Check, Mode, Shutdown, Summary,
    options::SourceEndpoint,
    state::source::{Reader, SourceRegistry},
};
use crate::{
    model::{
        Digest, Host, Location, RawManifest, Repository, Result, Tag, Target,
        outcome::{Outcome, Reason, Row},
    },
    remote::{Mounting, Mutability},
};

const FIXTURES: u64 = 1500;

/// A run that takes longer in virtual time counts as one that never ends.
///
/// One transfer at a time, with latency and faults everywhere, can take more than an hour.
const RUN_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

const THREADS: u64 = 2;

#[tokio::test]
async fn tags_are_read_only_until_an_answer_shows_that_pulls_are_limited() {
    let repository: Repository = "team/app".parse().unwrap();
    let manifest = RawManifest::new("{\"manifests\":[]}".into(), None).unwrap();
    let digest = manifest.digest().clone();
    let tags: Vec<Tag> = (0..8).map(|number| format!("v{number}").parse().unwrap()).collect();
    let tagged = tags.iter().map(|tag| ((repository.clone(), tag.clone()), digest.clone()));
    let state = UpstreamState {
        tags: tagged.collect(),
        pulls: Some(100),
        limit: 100,
        shows_limit_after: 1,
        ..UpstreamState::default()
    };
    let content = StoredContent { manifests: [(digest, manifest)].into(), blobs: HashMap::new() };
    let upstream = Arc::new(FakeUpstream {
        repositories: [(repository.clone(), content)].into(),
        state: Mutex::new(state),
        connections: Arc::new(Semaphore::new(8)),
        lists_digests: false,
        faults: Arc::new(FaultInjection::new(Rng::new(1))),
    });
    let endpoint = SourceEndpoint::new(Arc::clone(&upstream));
    let location = Location::from("cache.example".parse::<Host>().unwrap());
    let registry = Arc::new(SourceRegistry::new(location, endpoint, Arc::default()));
    let queue = Arc::new(registry.budget.queue(0));
    let reader = Reader::new(registry, repository, queue);
    let read = join_all(tags.iter().map(|tag| reader.read_tag(tag))).await;
    assert!(read.iter().all(Result::is_ok), "{read:?}");
    let state = upstream.state.lock();
    assert_eq!((state.spent, state.resolved), (1, 7));
}

#[test]
fn every_run_ends_and_leaves_only_what_is_complete() {
    for_each_seed(FIXTURES, |seed| Box::pin(test_runs(seed)));
}

#[test]
fn a_deep_run_repairs_what_a_destination_lost() {
    for_each_seed(FIXTURES / 10, |seed| Box::pin(test_repair(seed)));
}

#[test]
fn windows_of_pulls_are_used_up_and_a_run_with_nothing_to_do_spends_none() {
    for_each_seed(FIXTURES / 10, |seed| Box::pin(test_budget(seed)));
}

type Test = fn(u64) -> Pin<Box<dyn Future<Output = ()>>>;

fn for_each_seed(fixtures: u64, run_test: Test) {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("ECR_MIRROR_STRESS_SEED");
    let runs =
        number("ECR_MIRROR_STRESS_RUNS").unwrap_or(if seed.is_some() { 300 } else { fixtures });
    thread::scope(|scope| {
        for first in 0..THREADS {
            scope.spawn(move || {
                (first..runs)
                    .step_by(THREADS as usize)
                    .for_each(|run| test(seed.unwrap_or(run), run_test));
            });
        }
    });
}

fn test(seed: u64, run_test: Test) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(run_test(seed))));
    if let Err(panic) = result {
        eprintln!("to reproduce: ECR_MIRROR_STRESS_SEED={seed} cargo test --lib engine::tests");
        resume_unwind(panic);
    }
}

/// Runs with faults, then a run that completes everything, then one that finds it complete.
async fn test_runs(seed: u64) {
    let mut rng = Rng::new(seed);
    let fixture = EngineFixture::new(&mut rng);
    if rng.chance(200) {
        fixture.faults.set_rates(FaultRates::none(&mut rng));
        let (planned, logs) = Run::new(&fixture, Mode::Plan).undisturbed().await;
        assert_eq!(logs.iter().map(|log| log.writes).sum::<u64>(), 0, "a plan writes nothing");
        assert!(planned.rows.iter().all(|row| row.outcome == Outcome::Planned));
    }
    let faulty_runs = rng.range(0..=2);
    for _ in 0..faulty_runs {
        fixture.faults.set_rates(FaultRates::some(&mut rng));
        fixture.limit_pulls(rng.chance(150).then(|| rng.range(0..=12)));
        Run::new(&fixture, Mode::Mirror).stopped(&mut rng).await;
        fixture.limit_pulls(None);
        if rng.chance(200) {
            fixture.move_tags(&mut rng);
        }
    }
    fixture.take_reads();
    fixture.faults.set_rates(FaultRates::none(&mut rng));
    let (summary, logs) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert_success(&fixture, &summary.rows);
    assert_each_byte_once(&fixture, &logs, faulty_runs == 0);
    let resolved = fixture.upstreams.values().map(|upstream| upstream.state.lock().resolved);
    let resolved = resolved.sum::<u64>();
    assert!(faulty_runs > 0 || resolved == 0, "a tag that every target lacks is read at once");
    assert_counts(&summary, &logs);

    let (summary, logs) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert_success(&fixture, &summary.rows);
    assert!(summary.rows.iter().all(|row| row.outcome != Outcome::Copied), "{:#?}", summary.rows);
    let writes = logs.iter().map(|log| log.writes).sum::<u64>();
    assert_eq!(writes, 0, "existing content is not written again");
}

/// A deep run completes every image whose content the destination lost, and writes nothing else.
async fn test_repair(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut fixture = EngineFixture::new(&mut rng);
    fixture.faults.set_rates(FaultRates::none(&mut rng));
    let (summary, _) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert_success(&fixture, &summary.rows);
    let destination = &rng.choose(&fixture.endpoints).destination;
    let has_lost =
        (0..rng.range(1..=3)).fold(false, |lost, _| destination.lose_content(&mut rng) || lost);
    fixture.check = Check::Deep;
    let (planned, logs) = Run::new(&fixture, Mode::Plan).undisturbed().await;
    assert_eq!(logs.iter().map(|log| log.writes).sum::<u64>(), 0, "a plan writes nothing");
    let repaired = |rows: &[Row]| {
        let repaired = rows.iter().filter(|row| row.reason == Some(Reason::Repaired));
        repaired.map(|row| row.destination.clone()).collect::<Vec<_>>()
    };
    let planned = repaired(&planned.rows);
    // a lost blob may belong to no image of this run
    assert!(planned.is_empty() || has_lost);
    let (summary, _) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert_success(&fixture, &summary.rows);
    // two images share what the first one repairs
    assert!(repaired(&summary.rows).iter().all(|row| planned.contains(row)));
    assert_eq!(repaired(&summary.rows).is_empty(), planned.is_empty());
    let (summary, logs) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert!(summary.rows.iter().all(|row| row.outcome != Outcome::Copied), "{:#?}", summary.rows);
    assert_eq!(logs.iter().map(|log| log.writes).sum::<u64>(), 0);
}

/// Images that need P pulls in all, at most k each, are mirrored after ⌈P ÷ (window − k + 1)⌉ runs.
/// Then a run spends no pull.
async fn test_budget(seed: u64) {
    let world = || async {
        let mut rng = Rng::new(seed);
        let mut fixture = EngineFixture::new(&mut rng);
        // one source has one window
        let source = fixture.images[0].origin.location.clone();
        fixture.images.retain(|image| image.origin.location == source);
        if !fixture.uniform || rng.chance(500) {
            fixture.list_images();
        }
        fixture.faults.set_rates(FaultRates::none(&mut rng));
        (fixture, rng)
    };
    let (fixture, mut rng) = world().await;
    let mut needs = Vec::new();
    for image in &fixture.images {
        let (mut alone, _) = world().await;
        alone.images = vec![image.clone()];
        alone.renew_pulls(1_000);
        let (summary, _) = Run::new(&alone, Mode::Mirror).undisturbed().await;
        assert_success(&alone, &summary.rows);
        needs.push(alone.renew_pulls(0));
    }
    let (all, most) = (needs.iter().sum::<u64>(), needs.iter().copied().max().unwrap());
    let window = most + rng.range(0..=most + 3);
    let mut fixture = fixture;
    fixture.reserved_pulls = rng.range(0..=2);
    let limit = window + fixture.reserved_pulls;
    let bound = all.div_ceil(window - most + 1);
    let mut runs = 0;
    fixture.renew_pulls(limit);
    loop {
        let (summary, _) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
        let spent = fixture.renew_pulls(limit);
        assert!(spent <= window, "{spent} pulls of a window of {window} are spent");
        runs += u64::from(spent > 0);
        assert!(runs <= bound, "{runs} runs, {needs:?}, window {window}: {:#?}", summary.rows);
        if summary.rows.iter().all(|row| row.outcome != Outcome::Deferred) {
            assert_success(&fixture, &summary.rows);
            break;
        }
        assert!(
            spent > window - most,
            "{spent} of {window} are spent, {needs:?}: {:#?}",
            summary.rows
        );
    }
    let (summary, _) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert!(summary.rows.iter().all(|row| row.outcome == Outcome::UpToDate), "{:#?}", summary.rows);
    assert_eq!(fixture.renew_pulls(limit), 0, "a run with nothing to do spends no pull");

    // an image that needs more than the window has
    let (mut fixture, _) = world().await;
    let largest = needs.iter().position(|needed| *needed == most).unwrap();
    fixture.images = vec![fixture.images[largest].clone()];
    fixture.renew_pulls(most - 1);
    let (summary, _) = Run::new(&fixture, Mode::Mirror).undisturbed().await;
    assert!(summary.rows.iter().all(|row| row.outcome == Outcome::Failed), "{:#?}", summary.rows);
    assert!(summary.rows[0].error.as_ref().is_some_and(|error| error.contains("needs")));
}

/// One run over a fixture.
struct Run<'a> {
    fixture: &'a EngineFixture,
    mode: Mode,
    shutdown: Shutdown,
}

impl<'a> Run<'a> {
    fn new(fixture: &'a EngineFixture, mode: Mode) -> Self {
        fixture.endpoints.iter().for_each(|endpoint| drop(endpoint.destination.take_log()));
        Self { fixture, mode, shutdown: Shutdown::default() }
    }

    /// Runs to the end; returns a log per destination.
    async fn undisturbed(self) -> (Summary, Vec<Log>) {
        let summary = self.complete().await;
        let is_not_started =
            |row: &Row| matches!(row.outcome, Outcome::NotStarted | Outcome::Interrupted);
        assert!(!summary.rows.iter().any(is_not_started), "the run was not stopped");
        let endpoints = self.fixture.endpoints.iter();
        (summary, endpoints.map(|endpoint| endpoint.destination.take_log()).collect())
    }

    /// Runs, and may be stopped at any time, in any way.
    async fn stopped(self, rng: &mut Rng) {
        let mut delay = || {
            let scale = rng.range(0..=16);
            Duration::from_millis(rng.range(0..=1 << scale))
        };
        let (first, second) = (delay(), delay());
        match rng.range(0..=4) {
            0 => drop(self.complete().await),
            1 => {
                drop(timeout(first, self.run()).await);
                // dropped tasks end when they are polled next
                sleep(Duration::from_millis(1)).await;
                self.assert_no_leftovers();
            }
            choice => {
                let stop = async {
                    sleep(first).await;
                    self.shutdown.stop();
                    sleep(second).await;
                    if choice == 2 {
                        self.shutdown.drop_running();
                    }
                };
                futures::join!(self.complete(), stop);
            }
        }
    }

    fn run(&self) -> impl Future<Output = Summary> + use<> {
        self.fixture.mirror(self.mode, &self.shutdown).run(self.fixture.images.clone())
    }

    async fn complete(&self) -> Summary {
        let summary = timeout(RUN_TIMEOUT, self.run()).await.expect("a run ends");
        let targets = || self.fixture.images.iter().flat_map(|image| &image.targets);
        assert_eq!(summary.rows.len(), targets().count(), "every row has an outcome");
        for (row, target) in summary.rows.iter().zip(targets()) {
            self.assert_row(row, target);
        }
        self.assert_no_leftovers();
        summary
    }

    fn assert_row(&self, row: &Row, target: &Target) {
        let endpoint = &self.fixture.endpoints[target.destination.0];
        let claims_success = matches!(row.outcome, Outcome::Copied | Outcome::UpToDate);
        if claims_success && self.mode == Mode::Mirror {
            let complete = endpoint.destination.complete(&target.repository, &target.tag);
            assert!(complete.is_some() && complete == row.digest, "not {complete:?}: {row:#?}");
        }
        let has_failed =
            matches!(row.outcome, Outcome::Failed | Outcome::Drifted | Outcome::Deferred);
        let has_error = has_failed || row.outcome == Outcome::Interrupted;
        assert_eq!(row.error.is_some(), has_error, "{row:#?}");
    }

    fn assert_no_leftovers(&self) {
        assert_eq!(self.fixture.faults.violations(), Vec::<String>::new());
        assert!(self.fixture.is_idle(), "a connection is held after the run");
    }
}

/// Every image is at its targets, except where an immutable tag refuses it.
fn assert_success(fixture: &EngineFixture, rows: &[Row]) {
    let targets = fixture.images.iter().flat_map(|image| &image.targets);
    for (row, target) in rows.iter().zip(targets) {
        let destination = &fixture.endpoints[target.destination.0].destination;
        match row.outcome {
            Outcome::Copied | Outcome::UpToDate => {}
            Outcome::Drifted if destination.mutability == Mutability::Immutable => {}
            _ => panic!("{row:#?}"),
        }
    }
}

/// A run without faults uploads and reads each blob once, whatever earlier runs left behind.
///
/// A blob is uploaded at most once to a repository. It is uploaded at most once to a destination
/// that mounts: the other repositories mount it. So a blob is read at most once per such upload,
/// except configurations that a filter reads. It is read exactly once if the run is the first one,
/// every image goes unfiltered to every destination, and all of them mount: then the first image
/// that needs a blob carries it to every destination.
fn assert_each_byte_once(fixture: &EngineFixture, logs: &[Log], is_first: bool) {
    let mut uploads: HashMap<&Digest, u64> = HashMap::new();
    for (endpoint, log) in fixture.endpoints.iter().zip(logs) {
        assert_eq!(log.refused, 0, "content is pushed before the manifest that names it");
        let mut per_destination: HashMap<&Digest, u64> = HashMap::new();
        for ((repository, digest), times) in &log.uploads {
            assert_eq!(*times, 1, "{digest} was uploaded {times} times to {repository}");
            *per_destination.entry(digest).or_default() += 1;
        }
        for (digest, times) in per_destination {
            let mounts = endpoint.destination.mounting != Mounting::Never;
            assert!(times == 1 || !mounts, "{digest} was uploaded {times} times, not mounted");
            *uploads.entry(digest).or_default() += times;
        }
    }
    let configs = fixture.configs();
    for (digest, reads) in fixture.take_reads() {
        let most = uploads.get(&digest).copied().unwrap_or_default();
        assert!(
            reads <= most || configs.contains(&digest),
            "{digest} was read {reads} times for {most} uploads"
        );
        assert!(reads == 1 || !(is_first && fixture.uniform), "{digest} was read {reads} times");
    }
}

/// The report's numbers are those of the destinations.
fn assert_counts(summary: &Summary, logs: &[Log]) {
    let sum = |count: fn(&Log) -> u64| Some(logs.iter().map(count).sum::<u64>());
    assert_eq!(summary.blobs.pushed, sum(|log| log.uploads.values().sum()));
    assert_eq!(summary.blobs.mounted, sum(|log| log.mounts));
    let pushed = summary.rows.iter().map(|row| row.bytes_pushed.unwrap()).sum::<u64>();
    assert_eq!(Some(pushed), sum(|log| log.bytes));
}
