//! Random variations of responses: status, headers, body and moment, for every kind of request.
//!
//! After each run every tag of the destination can be pulled whole. The exit status is 0 only if
//! every image is mirrored. A clean run then completes.
//!
//! `ECR_MIRROR_VARIATIONS=2000` runs more cases, `ECR_MIRROR_VARIATION_SEED=17` repeats one.

use std::{env, ops::Range, time::Duration};

use ecr_mirror::{
    model::{Reference, outcome::Outcome},
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
};
use futures::{StreamExt, stream};
use tokio::time::timeout;

use super::scene::{Scene, Setup, State};

/// Cases of one `cargo test`.
const CASES: u64 = 30;

/// Cases that run at once.
const CONCURRENT_CASES: usize = 8;

/// Most of them have no meaning for most requests.
const STATUSES: [u16; 40] = [
    200, 201, 202, 203, 204, 205, 206, 226, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403,
    404, 405, 406, 408, 409, 410, 411, 412, 413, 415, 416, 422, 425, 451, 500, 501, 502, 503, 504,
    507, 599,
];

const REDIRECTS: [u16; 6] = [300, 301, 302, 303, 307, 308];

const TO_SOURCE: [&str; 6] = [
    "@upstream",
    "@upstream:HEAD/manifests/",
    "@upstream:GET/manifests/",
    "@upstream:GET/blobs/",
    "@upstream/auth",
    "@upstream//quay.io/",
];

const TO_DESTINATION: [&str; 10] = [
    "@ecr",
    "@ecr:POST/blobs/uploads/",
    "@ecr:PUT/blobs/uploads/",
    "@ecr:PATCH/blobs/uploads/",
    "@ecr:HEAD/blobs/",
    "@ecr:HEAD/manifests/",
    "@ecr:GET/manifests/",
    "@ecr:PUT/manifests/",
    "@ecr:POST//api.ecr.",
    "@ecr:GET",
];

const OTHER_EFFECTS: [&str; 18] = [
    "html",
    "omit-digest",
    "wrong-digest",
    "no-location",
    "wrong-location",
    "relative-location",
    "cross-host-location",
    "ignore-range",
    "reset",
    "reset-after",
    "throttle",
    "throttle=3600",
    "cut",
    "cut-last",
    "corrupt",
    "short",
    "long",
    "max-body=3000",
];

const FREQUENCIES: [&str; 7] = ["", "", "*1", "*2", "*3", "%20", "%50"];

/// Steele, Lea and Flood's `splitmix64`.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn choose<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.next() as usize % items.len()]
    }
}

/// The faults of a case, each in the text form of the command line.
fn faults(rng: &mut Rng) -> Vec<String> {
    let mut faults: Vec<String> = (0..=rng.next() % 3).map(|_| fault(rng)).collect();
    // without its digest a changed manifest is another image
    if faults.iter().any(|fault| fault.starts_with("corrupt@upstream")) {
        faults.retain(|fault| !fault.starts_with("omit-digest@upstream"));
    }
    faults
}

fn fault(rng: &mut Rng) -> String {
    let effect = match rng.next() % 10 {
        0..3 => format!("status={}", rng.choose(&STATUSES)),
        3..5 => format!("status-after={}", rng.choose(&STATUSES)),
        5 => format!("redirect={}", rng.choose(&REDIRECTS)),
        6 => format!("refuse-whole={}", rng.choose(&STATUSES)),
        _ => rng.choose(&OTHER_EFFECTS).to_owned(),
    };
    let requests = match rng.next() % 3 {
        0 => rng.choose(&TO_SOURCE),
        _ => rng.choose(&TO_DESTINATION),
    };
    format!("{effect}{requests}{}", rng.choose(&FREQUENCIES))
}

/// Waits that are short enough for many cases.
fn hasty() -> RetryPolicy {
    let (first, longest) = (Duration::from_millis(2), Duration::from_millis(20));
    let early = Duration::from_millis(20);
    let stall = StallTimeouts { early, ..StallTimeouts::default() };
    RetryPolicy::new(Retry { attempts: 6, first, longest }, stall, OutagePolicy::default())
}

/// Runs one case and returns its problem.
async fn run_case(seed: u64, undisturbed: &[(Scene, State)]) -> Option<String> {
    let mut rng = Rng(seed);
    let (scene, expected) = &undisturbed[rng.next() as usize % undisturbed.len()];
    let faults = faults(&mut rng);
    let setup = Setup::new(*scene).await;
    faults.iter().for_each(|fault| setup.fault(fault));
    let case = format!("seed {seed}, {scene:?}, {}", faults.join(" "));
    let Ok(report) = timeout(Duration::from_secs(60), setup.disturbed(&hasty())).await else {
        return Some(format!("{case}: the run does not end"));
    };
    // panics with the tag
    setup.assert_whole();
    let state = setup.state();
    let has = |repository: &str, tag: &str, digest: Option<&str>| {
        let tags = state.get(repository).map(|(tags, _)| tags.as_slice()).unwrap_or_default();
        tags.iter().any(|(name, found)| name == tag && digest.is_none_or(|it| it == found.as_str()))
    };
    for row in &report.images {
        let Reference { repository, tag, .. } = row.destination.parse().unwrap();
        let digest = row.digest.as_ref().map(|digest| digest.as_str());
        let is_mirrored = matches!(row.outcome, Outcome::Copied | Outcome::UpToDate);
        if is_mirrored && !has(repository.as_str(), tag.unwrap().as_str(), digest) {
            return Some(format!("{case}: {row:?}, and the tag is not there"));
        }
    }
    for (repository, (tags, _)) in expected {
        let is_there = tags.iter().all(|(tag, it)| has(repository, tag, Some(it.as_str())));
        if report.exit == 0 && !is_there {
            return Some(format!("{case}: exit status 0, and {repository} lacks a tag"));
        }
    }
    setup.clear();
    setup.undisturbed().await;
    setup.assert_whole();
    let recovered = setup.state();
    let is_complete = expected.iter().all(|(name, (tags, _))| {
        recovered.get(name).is_some_and(|(found, _)| tags.iter().all(|tag| found.contains(tag)))
    });
    (!is_complete).then(|| format!("{case}: a clean run does not complete"))
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("the variable is a number"))
}

fn seeds() -> Range<u64> {
    match number("ECR_MIRROR_VARIATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ECR_MIRROR_VARIATIONS").unwrap_or(CASES),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_variation_of_responses_leaves_an_incomplete_tag_or_a_false_success() {
    let mut undisturbed = Vec::new();
    for scene in [Scene::Cloud, Scene::Loopback] {
        let setup = Setup::new(scene).await;
        setup.undisturbed().await;
        undisturbed.push((scene, setup.state()));
    }
    let undisturbed = &undisturbed;
    let cases = seeds().map(|seed| async move {
        // names the seed if an assertion fails
        eprintln!("variation {seed} begins");
        run_case(seed, undisturbed).await
    });
    let problems: Vec<_> = stream::iter(cases).buffer_unordered(CONCURRENT_CASES).collect().await;
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
