//! Tests every fault of networks and registries, row by row of one table.
//!
//! Each row runs with its faults. The run must end within the bound and with the expected outcome,
//! and each fault must occur at least once. A clean run afterwards must reach the state of an
//! undisturbed run. `faults.md` lists the results; `ECR_MIRROR_BLESS=1` writes it.

mod scene;
mod table;
mod variations;

use std::{fmt::Write as _, time::Duration};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::outcome::{self, Outcome},
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
    sandbox::{BlobMounting, Options},
};
use futures::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, timeout};

use self::{
    scene::{Scene, Setup},
    table::{Expected, ROWS, Retries, Row},
};
use super::{
    content::assert_whole,
    screen::assert_document,
    world::{ECR, Run, World},
};

/// The default policy with shorter waits. No expected outcome depends on their length.
fn short() -> RetryPolicy {
    let seconds = Duration::from_secs;
    let stall = StallTimeouts {
        answer: seconds(3),
        read: seconds(2),
        early: seconds(1),
        send: seconds(2),
        completion: seconds(3),
        ..StallTimeouts::default()
    };
    RetryPolicy::new(short_retry(), stall, OutagePolicy::default())
}

/// The short retries with the default stall timeouts: a slow machine must not cause a retry.
fn short_with_default_stalls() -> RetryPolicy {
    RetryPolicy::new(short_retry(), StallTimeouts::default(), OutagePolicy::default())
}

fn short_retry() -> Retry {
    let (first, longest) = (Duration::from_millis(60), Duration::from_secs(2));
    Retry { attempts: 6, first, longest }
}

/// Prefix of the result of a row that exceeds its bound.
const UNFINISHED: &str = "not over after";

/// Rows that run at once. Most of their time is waiting.
const CONCURRENT_ROWS: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_the_outcome_in_the_table_and_a_clean_run_recovers() {
    let scenes = Scene::ALL.iter().map(|&scene| async move {
        let setup = Setup::new(scene).await;
        setup.undisturbed().await;
        if scene == Scene::Catalogue {
            // the tag moves in some runs and not in others: both versions must exist
            setup.move_tag();
            setup.undisturbed().await;
        }
        (scene, setup.state())
    });
    let undisturbed = join_all(scenes).await;
    let state = |row: &Row| &undisturbed.iter().find(|(scene, _)| *scene == row.scene).unwrap().1;
    let rows = ROWS.iter().enumerate().map(|(at, row)| {
        let state = state(row);
        async move { (at, row, run_row(row, state).await) }
    });
    // unordered: a slow row does not delay the others
    let mut seen: Vec<_> = stream::iter(rows).buffer_unordered(CONCURRENT_ROWS).collect().await;
    // a busy machine may be too slow for this many rows: run a slow row again alone
    for (_, row, seen) in seen.iter_mut().filter(|(.., seen)| seen.starts_with(UNFINISHED)) {
        *seen = run_row(row, state(row)).await;
    }
    seen.sort_by_key(|(at, ..)| *at);
    let seen: Vec<_> = seen.into_iter().map(|(_, row, seen)| (row, seen)).collect();
    let wrong: Vec<String> = seen
        .iter()
        .filter(|(row, seen)| *seen != row.expected.to_string())
        .map(|(row, seen)| format!("{}, {}: {seen}", row.fault, row.switches.join(" ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_document("tests/mirror/faults.md", &document(&seen));
}

/// Runs a row and returns its result.
async fn run_row(row: &Row, undisturbed: &scene::State) -> String {
    let name = format!("{} at {}", row.fault, row.side);
    let setup = Setup::new(row.scene).await;
    row.switches.iter().for_each(|switch| setup.fault(switch));
    let begun = Instant::now();
    let policy = match row.retries {
        Retries::Free => short(),
        Retries::Never => short_with_default_stalls(),
    };
    let report = timeout(Duration::from_secs(row.bound), setup.disturbed(&policy)).await;
    let Ok(report) = report else { return format!("{UNFINISHED} {} s", row.bound) };
    let took = begun.elapsed();
    if !setup.idle().is_empty() {
        return format!("did not occur: {:?}", setup.idle());
    }
    setup.assert_whole();

    let mut outcomes: Vec<Outcome> = report.images.iter().map(|row| row.outcome).collect();
    outcomes.dedup();
    let errors: Vec<&str> = report.images.iter().filter_map(|row| row.error.as_deref()).collect();
    let seen = match (&row.expected, &outcomes[..]) {
        (Expected::Copied, [Outcome::Copied]) => Expected::Copied.to_string(),
        (Expected::Fails(says), [Outcome::Failed]) if errors.iter().all(|e| e.contains(says)) => {
            row.expected.to_string()
        }
        (Expected::Deferred(says), [Outcome::Deferred])
            if errors.iter().all(|e| e.contains(says)) =>
        {
            row.expected.to_string()
        }
        _ => format!("{outcomes:?} after {took:?}: {errors:#?}"),
    };
    if row.retries == Retries::Never {
        assert_eq!(report.requests.retries, 0, "{name}: {seen}");
    }

    setup.clear();
    setup.undisturbed().await;
    assert_eq!(&setup.state(), undisturbed, "{name}");
    seen
}

/// The Markdown table.
fn document(seen: &[(&Row, String)]) -> String {
    let mut text = String::from(
        "# Faults\n\n\
         The faults of networks and registries, and the outcome of a run under each. Each row is a \
         test: a sync of two images with these switches of the sandbox. The sync must end within \
         the bound and with the expected outcome. It must leave no incomplete tag at the \
         destination. A clean run afterwards must reach the state of an undisturbed run. The tests \
         shorten the waits: 60 ms to 2 s between attempts, and 2 or 3 s until a stall fails.\n\n\
         `cargo test --test mirror faults` checks this table; with `ECR_MIRROR_BLESS=1` it writes \
         the table.\n\n\
         | fault | side | switches | expected | seen | within |\n\
         |---|---|---|---|---|---|\n",
    );
    for (row, seen) in seen {
        let switches: Vec<String> = row.switches.iter().map(|name| format!("`{name}`")).collect();
        let Row { fault, side, expected, bound, .. } = row;
        let switches = if switches.is_empty() { "–".to_owned() } else { switches.join(", ") };
        writeln!(text, "| {fault} | {side} | {switches} | {expected} | {seen} | {bound} s |")
            .unwrap();
    }
    text
}

/// A policy with short waits. Only a very slow machine exceeds its timeouts.
fn short_outage() -> RetryPolicy {
    let millis = Duration::from_millis;
    let retry = Retry { attempts: 6, first: millis(33), longest: millis(1_000) };
    let stall = StallTimeouts { answer: millis(1_500), ..StallTimeouts::default() };
    let outage = OutagePolicy { failures: 10, lasting: millis(2_000), probe: millis(1_000) };
    RetryPolicy::new(retry, stall, outage)
}

/// Counts the requests to `dead.example.com`: all requests to sources, minus those in the journal
/// for other hosts.
fn requests_to_the_dead_host(run: &Run) -> u64 {
    let of_others = |asked: &&String| !asked.contains(" dead.example.com/");
    run.report.requests.source - run.source_requests().iter().filter(of_others).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_gets_few_requests_and_other_hosts_are_unaffected() {
    for dead in ["silent@upstream//dead.example.com/", "status=503@upstream//dead.example.com/"] {
        let mut world = World::new().await;
        for n in 0..200 {
            world = world.select(&format!("dead.example.com/team/app{n}:1"), "");
        }
        for n in 0..20 {
            let image = format!("quay.io/team/live{n}:1");
            world.upstream().image(&image).platforms(["linux/amd64"]).layer_size(4 << 10).push();
            world = world.select(&image, "");
        }
        world.fault(dead);
        let run = world.run_with(&short_outage(), Mode::Mirror, Shutdown::default()).await;
        // 200 images with 6 attempts each would be 1200
        let requests = requests_to_the_dead_host(&run);
        assert!(requests < 1_000, "{dead}: {requests}");
        run.assert_exit(1);
        let (failed, copied): (Vec<_>, Vec<_>) =
            run.report.images.iter().partition(|row| row.source.starts_with("dead.example.com/"));
        assert_eq!((failed.len(), copied.len()), (200, 20));
        assert!(copied.iter().all(|row| row.outcome == Outcome::Copied), "{copied:#?}");
        for row in &failed {
            assert_eq!(row.outcome, Outcome::Failed, "{row:?}");
        }
        let says =
            |row: &&&outcome::Row, text| row.error.as_deref().is_some_and(|it| it.contains(text));
        let cannot_reach = |row: &&outcome::Row| says(&row, "cannot reach dead.example.com");
        assert!(failed.iter().all(cannot_reach), "{failed:#?}");
        let outage_errors: Vec<_> =
            failed.iter().filter(|row| says(row, "`dead.example.com` is down")).collect();
        assert!(outage_errors.iter().all(|row| row.hint.is_some()));
        // a host that answers at once uses up its retries before it is considered down
        match dead.starts_with("silent") {
            true => assert!(outage_errors.len() > 10, "{}", outage_errors.len()),
            false => assert!(failed.iter().all(|row| says(&row, "503")), "{failed:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_everything_does_not_use_the_retries_of_another_host() {
    let mut world = World::new().await;
    for n in 0..200 {
        world = world.select(&format!("dead.example.com/team/app{n}:1"), "");
    }
    for n in 0..20 {
        let image = format!("quay.io/team/live:{n}");
        // one manifest each, because ECR accepts ten per second
        world.upstream().image(&image).single().layers(6).layer_size(4 << 10).push();
        world = world.select(&image, "");
    }
    world.fault("reset@upstream//dead.example.com/");
    world.fault("status=503@upstream//quay.io/%10");
    // with so long an outage limit, only the retry budget ends the retries
    let mut policy = short_outage();
    policy.outage.lasting = Duration::from_secs(60);
    let run = world.run_with(&policy, Mode::Mirror, Shutdown::default()).await;
    let requests = requests_to_the_dead_host(&run);
    assert!(requests < 1_000, "{requests}");
    run.assert_exit(1);
    let totals = run.report.totals;
    assert_eq!((totals.copied, totals.failed), (20, 200), "{totals:?}");
    let (mut spent, mut others) = (0, 0);
    for row in &run.report.images {
        let is_spent =
            row.error.as_deref().is_some_and(|e| e.contains("retry budget of this host"));
        match row.source.starts_with("dead.example.com/") {
            true => spent += usize::from(is_spent),
            false => others += usize::from(is_spent),
        }
    }
    assert!(spent > 50 && others == 0, "{spent} {others}");
    assert!(run.report.requests.retries > 500, "the live host was retried, too");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_take_over_a_blob_when_its_carrier_fails() {
    join_all([BlobMounting::Off, BlobMounting::On].map(run_with_frequent_faults)).await;
}

async fn run_with_frequent_faults(blob_mounting: BlobMounting) {
    let mut world = World::with(Options { blob_mounting, ..Options::default() }).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        for tag in ["1", "2"] {
            let reference = format!("quay.io/team/{name}:{tag}");
            let image = world.upstream().image(&reference).base("debian");
            image.platforms(["linux/amd64"]).layers(3).layer_size(4 << 10).push();
            world = world.select(&reference, "");
        }
    }
    // a damaged image fails and is not retried, other faults are retried
    for fault in ["corrupt@upstream%20", "cut@upstream%10", "status=503@ecr:PUT%10", "reset%3"] {
        world.fault(fault);
    }
    let disturbed = timeout(Duration::from_secs(60), world.sync()).await;
    let disturbed = disturbed.expect("the run ends");
    disturbed.assert_exit(1);
    let totals = disturbed.report.totals;
    assert_eq!(totals.copied + totals.failed, 12, "{totals:?}");
    assert!(totals.copied > 0, "{totals:?}");
    assert_whole(&world.ecr());
    world.sandbox.faults().clear();
    let clean = world.sync().await;
    clean.assert_exit(0);
    assert_eq!(clean.report.totals.copied, totals.failed);
    assert_whole(&world.ecr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_destination_does_not_stop_the_other() {
    let world = World::new().await.configured(&format!(
        "[[destination]]\nregistry = \"{ECR}\"\nprefix = \"good\"\n\
         [[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
         prefix = \"bad\"\n"
    ));
    let world = world.image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    for path in ["blobs", "manifests"] {
        // a proxy that answers every push with 200 and its own page
        world.fault(&format!("html@ecr:PUT/v2/bad/team/app/{path}/"));
        let run = world.sync().await;
        assert_eq!(run.report.exit, 1, "{path}");
        assert_ne!(run.row("/good/").outcome, Outcome::Failed, "{path}");
        assert_eq!(run.row("/bad/").outcome, Outcome::Failed, "{path}");
        assert_whole(&world.ecr());
        world.sandbox.faults().clear();
    }
    world.sync().await.assert_exit(0);
}
