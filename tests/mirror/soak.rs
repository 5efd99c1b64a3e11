//! The mirror over hours: one process that syncs a changing catalogue again and again, while five
//! of a hundred requests on either side go wrong.
//!
//! Each round the catalogue changes: tags move, appear and vanish, and things get lost at the
//! destination. A disturbed run leaves every tag whole and where it was or where it belongs; a
//! clean one reaches exactly the wanted state; a third moves nothing. The runs are those of a
//! process of their own ([`client`]), so that its memory and its descriptors are the mirror's and
//! not the sandbox's: at the end it has at most 1.1 times the memory of a sixth of the time, which
//! of half an hour is minute 5.
//!
//! `cargo test` does [`ROUNDS`] of it. For longer, and told as it goes:
//!
//! ```text
//! ECR_MIRROR_SOAK=30m cargo test --release --test mirror soak -- --nocapture
//! ```
//!
//! `ECR_MIRROR_SOAK_SEED=7` is another half hour: the seed decides how the catalogue changes and
//! what goes wrong.

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

/// What one request of twenty to a source suffers: all that comes and goes.
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
/// The same at the destination; what AWS does not answer takes its half minute, so that only the
/// registry is silent.
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

/// From here on memory has settled, and a sixth of the time says something about it.
const SETTLED: Duration = Duration::from_secs(60);
/// How long a run may take: several times what the slowest one does.
const STUCK: Duration = Duration::from_secs(120);
/// How often a long soak tells how it is getting on.
const TOLD: Duration = Duration::from_secs(15);

/// Rounds of a short soak.
const ROUNDS: u64 = 2;

/// The length of the soak, which takes [`ROUNDS`] at least.
fn lasting() -> Duration {
    let given = std::env::var("ECR_MIRROR_SOAK").ok();
    let read = |text: String| humantime::parse_duration(&text).expect("ECR_MIRROR_SOAK is a time");
    given.map_or(Duration::ZERO, read)
}

fn seed() -> u64 {
    let given = std::env::var("ECR_MIRROR_SOAK_SEED").ok();
    given.map_or(1, |text| text.parse().expect("ECR_MIRROR_SOAK_SEED is a number"))
}

/// What was done so far.
#[derive(Debug, Default)]
struct Tally {
    rounds: u64,
    copied: u64,
    failed: u64,
    retries: u64,
    /// How long a disturbed run took at most.
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

/// Descriptors when it had the fewest: those of a run that just ended may still be closing.
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
    // pulls are not what is scarce here
    world.fault("pull-limit=1000000000");
    faults.set_seed(catalogue.number());
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

/// Tells a person who waits for it.
fn say(text: &str) {
    if lasting() >= TOLD {
        eprintln!("soak: {text}");
    }
}
