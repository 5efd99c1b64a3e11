//! What networks and registries do to a run, and what it makes of it: one table.
//!
//! Every row is carried out: within its bound, with the expected outcome, each of its switches
//! striking at least once, and after it a clean run reaches the state of an undisturbed one. What
//! was seen is written in `faults.md`; `ECR_MIRROR_BLESS=1` writes it anew.

mod scene;
mod table;

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::outcome::{self, Outcome},
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
    sandbox::{BlobMounting, Options},
};
use futures::{StreamExt, future::join_all, stream};
use tokio::time::{Instant, timeout};

use self::{
    scene::{Scene, Stage},
    table::{Expected, ROWS, Retries, Row},
};
use super::{
    content::assert_whole,
    world::{ECR, World},
};

/// The usual patience, a fifteenth as long: nothing in the table is decided by how long it lasts.
fn short() -> RetryPolicy {
    let seconds = Duration::from_secs;
    let retry = Retry { attempts: 6, first: Duration::from_millis(60), longest: seconds(2) };
    let stall = StallTimeouts {
        answer: seconds(3),
        read: seconds(2),
        send: seconds(2),
        completion: seconds(3),
        ..StallTimeouts::default()
    };
    RetryPolicy::new(retry, stall, OutagePolicy::default())
}

/// Rows at once: most of their time is waiting.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_ends_as_the_table_says_and_leaves_nothing_behind() {
    let scenes = Scene::ALL.iter().map(|&scene| async move {
        let stage = Stage::set(scene).await;
        stage.undisturbed().await;
        if scene == Scene::Catalogue {
            // where the tag moves, it does so sooner or later
            stage.move_tag();
            stage.undisturbed().await;
        }
        (scene, stage.state())
    });
    let undisturbed = join_all(scenes).await;
    let rows = ROWS.iter().enumerate().map(|(at, row)| {
        let state = &undisturbed.iter().find(|(scene, _)| *scene == row.scene).unwrap().1;
        async move { (at, row, carried_out(row, state).await) }
    });
    // one that takes long holds up no other
    let mut seen: Vec<_> = stream::iter(rows).buffer_unordered(AT_ONCE).collect().await;
    seen.sort_by_key(|(at, ..)| *at);
    let seen: Vec<_> = seen.into_iter().map(|(_, row, seen)| (row, seen)).collect();
    let wrong: Vec<String> = seen
        .iter()
        .filter(|(row, seen)| *seen != row.expected.to_string())
        .map(|(row, seen)| format!("{}, {}: {seen}", row.fault, row.switches.join(" ")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_written(&document(&seen));
}

/// What was seen of a row.
async fn carried_out(row: &Row, undisturbed: &scene::State) -> String {
    let name = format!("{} at {}", row.fault, row.side);
    let stage = Stage::set(row.scene).await;
    row.switches.iter().for_each(|switch| stage.fault(switch));
    let begun = Instant::now();
    let report = timeout(Duration::from_secs(row.bound), stage.disturbed(&short())).await;
    let Ok(report) = report else { return format!("not over after {} s", row.bound) };
    let took = begun.elapsed();
    if !stage.idle().is_empty() {
        return format!("struck nobody: {:?}", stage.idle());
    }
    stage.assert_whole();

    let mut outcomes: Vec<Outcome> = report.images.iter().map(|row| row.outcome).collect();
    outcomes.dedup();
    let errors: Vec<&str> = report.images.iter().filter_map(|row| row.error.as_deref()).collect();
    let seen = match (&row.expected, &outcomes[..]) {
        (Expected::Copied, [Outcome::Copied]) => Expected::Copied.to_string(),
        (Expected::Fails(says), [Outcome::Failed]) if errors.iter().all(|e| e.contains(says)) => {
            row.expected.to_string()
        }
        _ => format!("{outcomes:?} after {took:?}: {errors:#?}"),
    };
    if row.retries == Retries::Never {
        assert_eq!(report.requests.retries, 0, "{name}: {seen}");
    }

    stage.clear();
    stage.undisturbed().await;
    assert_eq!(&stage.state(), undisturbed, "{name}");
    seen
}

/// The table for people to read.
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

fn assert_written(document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mirror/faults.md");
    if std::env::var_os("ECR_MIRROR_BLESS").is_some() {
        fs::write(&path, document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, document, "run it once with ECR_MIRROR_BLESS=1");
}

/// A run whose waits are a thirtieth of the usual ones.
fn hasty() -> RetryPolicy {
    let millis = Duration::from_millis;
    let retry = Retry { attempts: 6, first: millis(33), longest: millis(1_000) };
    let stall = StallTimeouts { answer: millis(500), ..StallTimeouts::default() };
    let outage = OutagePolicy { failures: 10, lasting: millis(1_000), probe: millis(500) };
    RetryPolicy::new(retry, stall, outage)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_down_is_soon_left_alone_and_the_others_go_on() {
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
        let begun = Instant::now();
        let run = world.run_with(&hasty(), Mode::Mirror, Shutdown::default()).await;
        // 200 images, 6 attempts, half a second each on 32 connections would take 19 s
        assert!(begun.elapsed() < Duration::from_secs(10), "{dead}: {:?}", begun.elapsed());
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
        let left_alone: Vec<_> =
            failed.iter().filter(|row| says(row, "`dead.example.com` is down")).collect();
        assert!(left_alone.iter().all(|row| row.hint.is_some()));
        // what answers at once has spent its retries before it has been down for long enough
        match dead.starts_with("silent") {
            true => assert!(left_alone.len() > 10, "{}", left_alone.len()),
            false => assert!(failed.iter().all(|row| says(&row, "503")), "{failed:#?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_refuses_all_takes_no_retries_from_one_that_fails_now_and_then() {
    let mut world = World::new().await;
    for n in 0..200 {
        world = world.select(&format!("dead.example.com/team/app{n}:1"), "");
    }
    for n in 0..20 {
        let image = format!("quay.io/team/live:{n}");
        // one manifest each, because ECR takes ten a second
        world.upstream().image(&image).single().layers(6).layer_size(4 << 10).push();
        world = world.select(&image, "");
    }
    world.fault("reset@upstream//dead.example.com/");
    world.fault("status=503@upstream//quay.io/%10");
    // so long an outage that nothing but the budget ends the retries
    let mut patience = hasty();
    patience.outage.lasting = Duration::from_secs(60);
    let begun = Instant::now();
    let run = world.run_with(&patience, Mode::Mirror, Shutdown::default()).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
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
async fn whoever_waits_for_a_blob_of_an_image_that_fails_gets_it_otherwise() {
    join_all([BlobMounting::Off, BlobMounting::On].map(weathers_a_storm)).await;
}

async fn weathers_a_storm(blob_mounting: BlobMounting) {
    let mut world = World::with(Options { blob_mounting, ..Options::default() }).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        for tag in ["1", "2"] {
            let reference = format!("quay.io/team/{name}:{tag}");
            let image = world.upstream().image(&reference).base("debian");
            image.platforms(["linux/amd64"]).layers(3).layer_size(4 << 10).push();
            world = world.select(&reference, "");
        }
    }
    // damage fails an image for good, the rest is retried
    for fault in ["corrupt@upstream%20", "cut@upstream%10", "status=503@ecr:PUT%10", "reset%3"] {
        world.fault(fault);
    }
    let stormy = timeout(Duration::from_secs(60), world.sync()).await;
    let stormy = stormy.expect("nobody waits for ever");
    stormy.assert_exit(1);
    let totals = stormy.report.totals;
    assert_eq!(totals.copied + totals.failed, 12, "{totals:?}");
    assert!(totals.copied > 0, "{totals:?}");
    assert_whole(&world.ecr());
    world.sandbox.faults().clear();
    let calm = world.sync().await;
    calm.assert_exit(0);
    assert_eq!(calm.report.totals.copied, totals.failed);
    assert_whole(&world.ecr());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_destination_that_breaks_does_not_stop_the_other() {
    let world = World::new().await.configured(&format!(
        "[[destination]]\nregistry = \"{ECR}\"\nprefix = \"good\"\n\
         [[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
         prefix = \"bad\"\n"
    ));
    let world = world.image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    for path in ["blobs", "manifests"] {
        // something in between that answers every push with its own page and 200
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
