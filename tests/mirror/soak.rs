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
const AT_SOURCES: [&str; 17] = [
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
const AT_DESTINATIONS: [&str; 17] = [
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
const SETTLED: Duration = Duration::from_secs(60);
/// Time limit of a run, several times the longest one.
const STUCK: Duration = Duration::from_secs(120);
/// Interval between progress lines of a long soak.
const TOLD: Duration = Duration::from_secs(15);

/// Minimum number of rounds.
const ROUNDS: u64 = 2;

/// Requested duration of the soak.
fn lasting() -> Duration {
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
async fn hours_of_faults_and_changes_leave_the_wanted_state_and_no_more_memory() {
    let (lasting, seed) = (lasting(), seed());
    let mounting = BlobMounting::On;
    let world = World::with(Options { blob_mounting: mounting, ..Options::default() }).await;
    let mut catalogue = Catalogue::new(seed);
    let mut client = Client::start(world.sandbox.address());
    let (begun, mut told) = (Instant::now(), Instant::now());
    let (mut tally, mut usages) = (Tally::default(), Vec::new());
    while begun.elapsed() < lasting || tally.rounds < ROUNDS {
        let what = format!("seed {seed}, round {}", tally.rounds);
        round(&world, &mut catalogue, &mut client, (&mut tally, &what)).await;
        let (usage, passed) = (client.usage(), begun.elapsed());
        usages.push((passed, usage));
        if told.elapsed() >= TOLD {
            told = Instant::now();
            say(&format!("{passed:.0?}: {tally:?}, {usage:?}"));
        }
    }
    let (early, late) = (at_a_sixth(&usages, lasting), usages[usages.len() - 1].1);
    say(&format!("{lasting:?} of seed {seed}: {tally:?}; first {early:?}, in the end {late:?}"));
    assert!(
        tally.copied > 0 && tally.retries > 0,
        "something changed, something struck: {tally:?}"
    );
    if lasting >= SETTLED {
        assert!(late.resident * 10 <= early.resident * 11, "{early:?}, then {late:?}");
        let (first, last) = usages.split_at(usages.len() / 2);
        assert!(fewest(last) <= fewest(first) + 2, "{} and {}", fewest(first), fewest(last));
    }
}

fn at_a_sixth(usages: &[(Duration, Usage)], lasting: Duration) -> Usage {
    usages.iter().find(|(passed, _)| *passed >= lasting / 6).expect("a sixth has passed").1
}

/// The lowest number of descriptors: descriptors of a run that just ended may still be open.
fn fewest(usages: &[(Duration, Usage)]) -> usize {
    usages.iter().map(|(_, usage)| usage.descriptors).min().expect("there are rounds")
}

/// Changes the catalogue and mirrors it: disturbed, undisturbed, and once more.
async fn round(
    world: &World,
    catalogue: &mut Catalogue,
    client: &mut Client,
    (tally, what): (&mut Tally, &str),
) {
    catalogue.change(world.upstream(), &world.ecr());
    let toml = catalogue.toml();
    let faults = world.sandbox.faults();
    faults.clear();
    // the pull limit must not interfere
    world.fault("pull-limit=1000000000");
    faults.sow(catalogue.number());
    let source = format!("{}%5", catalogue.one_of(&AT_SOURCES));
    let destination = format!("{}%5", catalogue.one_of(&AT_DESTINATIONS));
    let what = format!("{what}, {source} {destination}");
    world.fault(&source);
    world.fault(&destination);

    let begun = Instant::now();
    let disturbed = client.sync(&toml, STUCK, &what).await;
    if begun.elapsed() > tally.slowest {
        tally.slowest = begun.elapsed();
        say(&format!("{what}: {:.1?}", tally.slowest));
    }
    assert_whole(&world.ecr());
    catalogue.assert_nothing_lost(&world.ecr(), &what);
    for row in disturbed["images"].as_array().unwrap() {
        let is_told = !row["error"].is_null();
        match row["outcome"].as_str().unwrap() {
            "copied" | "up_to_date" => assert!(!is_told, "{what}: {row}"),
            "failed" => assert!(is_told, "{what}: {row}"),
            _ => panic!("{what}: {row}"),
        }
    }
    faults.clear();
    world.fault("pull-limit=1000000000");

    let clean = client.sync(&toml, STUCK, &what).await;
    assert_eq!(clean["exit"], 0, "{what}: {clean:#}");
    assert_whole(&world.ecr());
    catalogue.assert_reached(&world.ecr(), &clean, &what);

    let again = client.sync(&toml, STUCK, &what).await;
    assert_eq!(again["exit"], 0, "{what}: {again:#}");
    assert_eq!(again["totals"]["up_to_date"], catalogue.wanted(), "{what}: {again:#}");
    assert_eq!(again["bytes"]["to_destination"], 0, "{what}: {again:#}");
    [&disturbed, &clean].into_iter().for_each(|report| tally.add(report));
    tally.rounds += 1;
}

/// Prints a progress line in a long soak.
fn say(text: &str) {
    if lasting() >= TOLD {
        eprintln!("soak: {text}");
    }
}
