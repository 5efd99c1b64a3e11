//! Soak test: one process syncs a changing catalogue again and again, while five percent of the
//! requests to either side fail.
//!
//! Each round changes the catalogue: tags move, appear and disappear, and the destination loses
//! content. After a disturbed run, every tag is complete and has its old or its expected digest. A
//! clean run reaches exactly the expected state. A third run moves nothing. The runs take place in
//! a separate process ([`client`]), so that memory and descriptors do not include the sandbox. At
//! the end, the process may hold at most 1.1 times the memory that it held after a sixth of the
//! time, such as minute 5 of 30.
//!
//! `cargo test` runs [`ROUNDS`] rounds. A longer run prints its progress:
//!
//! ```text
//! ECR_MIRROR_SOAK=30m cargo test --release --test mirror soak -- --nocapture
//! ```
//!
//! `ECR_MIRROR_SOAK_SEED=7` changes the seed, which determines the changes and the faults.

mod catalogue;
mod client;

use std::time::{Duration, Instant};

use ecr_mirror::sandbox::{BlobMounting, Options};
use serde_json::Value;

use self::{
    catalogue::Catalogue,
    client::{Client, Usage},
};
use super::{content::assert_whole, world::World};

/// Transient faults of a source. Each round uses one of them for five percent of the requests.
const SOURCE_FAULTS: [&str; 17] = [
    "reset@upstream",
    "cut@upstream",
    "cut-last@upstream",
    "stall@upstream",
    "silent@upstream",
    "slow=40000@upstream",
    "status=408@upstream",
    "status=500@upstream",
    "status=502@upstream",
    "status=503@upstream",
    "throttle@upstream",
    "throttle=1@upstream",
    "corrupt@upstream",
    "short@upstream",
    "long@upstream",
    "html@upstream",
    "omit-digest@upstream",
];
/// Transient faults of the destination. Only the registry is silent: an AWS call without an answer
/// would take half a minute.
const DESTINATION_FAULTS: [&str; 17] = [
    "reset@ecr",
    "cut@ecr",
    "cut-last@ecr",
    "stall@ecr",
    "silent@ecr:PUT",
    "status=408@ecr",
    "status=500@ecr",
    "status=502@ecr",
    "status=503@ecr",
    "status=504@ecr",
    "throttle@ecr",
    "throttle=1@ecr",
    "no-location@ecr",
    "wrong-location@ecr",
    "vanish@ecr",
    "late-blobs=50@ecr",
    "swap-missing-status@ecr",
];

/// Duration from which the memory limit applies: memory has settled after a sixth of it.
const MEMORY_CHECK_FROM: Duration = Duration::from_secs(60);
/// Time limit of a run, several times the longest one.
const RUN_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval between progress lines of a long soak.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// Minimum number of rounds.
const ROUNDS: u64 = 2;

/// Requested duration of the soak.
fn duration() -> Duration {
    let given = std::env::var("ECR_MIRROR_SOAK").ok();
    let read = |text: String| humantime::parse_duration(&text).expect("ECR_MIRROR_SOAK is a time");
    given.map_or(Duration::ZERO, read)
}

fn seed() -> u64 {
    let given = std::env::var("ECR_MIRROR_SOAK_SEED").ok();
    given.map_or(1, |text| text.parse().expect("ECR_MIRROR_SOAK_SEED is a number"))
}

/// Totals so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    copied: u64,
    failed: u64,
    retries: u64,
    /// Duration of the slowest disturbed run.
    slowest: Duration,
}

impl Tally {
    fn add(&mut self, report: &Value) {
        let number = |of: &str, key: &str| report[of][key].as_u64().unwrap();
        self.copied += number("totals", "copied");
        self.failed += number("totals", "failed");
        self.retries += number("requests", "retries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_of_faults_and_changes_reaches_the_expected_state_in_bounded_memory() {
    let (duration, seed) = (duration(), seed());
    let mounting = BlobMounting::On;
    let world = World::with(Options { blob_mounting: mounting, ..Options::default() }).await;
    let mut catalogue = Catalogue::new(seed);
    let mut client = Client::start(world.sandbox.address());
    let (begun, mut last_progress) = (Instant::now(), Instant::now());
    let (mut tally, mut usages) = (Tally::default(), Vec::new());
    while begun.elapsed() < duration || tally.rounds < ROUNDS {
        let label = format!("seed {seed}, round {}", tally.rounds);
        round(&world, &mut catalogue, &mut client, &mut tally, &label).await;
        let (usage, passed) = (client.usage(), begun.elapsed());
        usages.push((passed, usage));
        if last_progress.elapsed() >= PROGRESS_INTERVAL {
            last_progress = Instant::now();
            print_progress(&format!("{passed:.0?}: {tally:?}, {usage:?}"));
        }
    }
    let (early, late) = (usage_after_a_sixth(&usages, duration), usages[usages.len() - 1].1);
    print_progress(&format!(
        "{duration:?} of seed {seed}: {tally:?}; first {early:?}, in the end {late:?}"
    ));
    assert!(
        tally.copied > 0 && tally.retries > 0,
        "something changed, and faults occurred: {tally:?}"
    );
    if duration >= MEMORY_CHECK_FROM {
        assert!(late.resident * 10 <= early.resident * 11, "{early:?}, then {late:?}");
        let (first, last) = usages.split_at(usages.len() / 2);
        assert!(
            fewest_descriptors(last) <= fewest_descriptors(first) + 2,
            "{} and {}",
            fewest_descriptors(first),
            fewest_descriptors(last)
        );
    }
}

fn usage_after_a_sixth(usages: &[(Duration, Usage)], duration: Duration) -> Usage {
    usages.iter().find(|(passed, _)| *passed >= duration / 6).expect("a sixth has passed").1
}

/// The lowest number of descriptors: descriptors of a run that just ended may still be open.
fn fewest_descriptors(usages: &[(Duration, Usage)]) -> usize {
    usages.iter().map(|(_, usage)| usage.descriptors).min().expect("there are rounds")
}

/// Changes the catalogue and mirrors it: disturbed, undisturbed, and once more.
async fn round(
    world: &World,
    catalogue: &mut Catalogue,
    client: &mut Client,
    tally: &mut Tally,
    label: &str,
) {
    catalogue.change(world.upstream(), &world.ecr());
    let toml = catalogue.toml();
    let faults = world.sandbox.faults();
    faults.clear();
    // the pull limit must not interfere
    world.fault("pull-limit=1000000000");
    faults.set_seed(catalogue.number());
    let source = format!("{}%5", catalogue.pick(&SOURCE_FAULTS));
    let destination = format!("{}%5", catalogue.pick(&DESTINATION_FAULTS));
    let label = format!("{label}, {source} {destination}");
    world.fault(&source);
    world.fault(&destination);

    let begun = Instant::now();
    let disturbed = client.sync(&toml, RUN_TIMEOUT, &label).await;
    if begun.elapsed() > tally.slowest {
        tally.slowest = begun.elapsed();
        print_progress(&format!("{label}: {:.1?}", tally.slowest));
    }
    assert_whole(&world.ecr());
    catalogue.assert_nothing_lost(&world.ecr(), &label);
    for row in disturbed["images"].as_array().unwrap() {
        let has_error = !row["error"].is_null();
        match row["outcome"].as_str().unwrap() {
            "copied" | "up_to_date" => assert!(!has_error, "{label}: {row}"),
            "failed" => assert!(has_error, "{label}: {row}"),
            _ => panic!("{label}: {row}"),
        }
    }
    faults.clear();
    world.fault("pull-limit=1000000000");

    let clean = client.sync(&toml, RUN_TIMEOUT, &label).await;
    assert_eq!(clean["exit"], 0, "{label}: {clean:#}");
    assert_whole(&world.ecr());
    catalogue.assert_reached(&world.ecr(), &clean, &label);

    let again = client.sync(&toml, RUN_TIMEOUT, &label).await;
    assert_eq!(again["exit"], 0, "{label}: {again:#}");
    assert_eq!(again["totals"]["up_to_date"], catalogue.image_count(), "{label}: {again:#}");
    assert_eq!(again["bytes"]["to_destination"], 0, "{label}: {again:#}");
    [&disturbed, &clean].into_iter().for_each(|report| tally.add(report));
    tally.rounds += 1;
}

/// Prints a progress line in a long soak.
fn print_progress(text: &str) {
    if duration() >= PROGRESS_INTERVAL {
        eprintln!("soak: {text}");
    }
}
