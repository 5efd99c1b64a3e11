//! Tests pull limits: images above the limit are deferred to the next run, and no pull is spent to
//! find out.

use ecr_mirror::{
    engine::Mode,
    model::{Digest, outcome::Outcome},
};
use http::Method;

use super::{content::assert_whole, world::World};

/// Four images on Docker Hub. Each is an index with two images and needs three pulls.
async fn hub() -> World {
    let mut world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world = world.image(&format!("docker.io/team/{name}:1"), ["linux/amd64", "linux/arm64"]);
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn images_above_the_pull_limit_are_deferred_and_copied_by_the_next_run() {
    let world = hub().await.image("quay.io/team/free:1", ["linux/amd64"]);
    world.fault("pull-limit=7");
    let first = world.sync().await;
    first.assert_exit(3);
    assert_eq!(first.row("quay.io").outcome, Outcome::Copied, "other registries are unaffected");
    let totals = first.report.totals;
    assert!(totals.copied > 1 && totals.deferred > 0, "{totals:?}");
    assert_eq!((totals.copied + totals.deferred, totals.failed), (5, 0));
    for row in first.report.images.iter().filter(|row| row.outcome == Outcome::Deferred) {
        assert!(row.error.is_some() && row.hint.is_some(), "{row:?}");
    }
    let [pulls] = &first.report.pulls[..] else { panic!("{:?}", first.report.pulls) };
    assert_eq!((pulls.registry.as_str(), pulls.limit), ("docker.io", 7));
    assert_eq!(pulls.window_seconds, 21_600);
    let hub = |run: &super::world::Run| {
        run.manifests(Method::GET).iter().filter(|pull| pull.contains("docker.io")).count() as u64
    };
    assert_eq!(pulls.spent, Some(hub(&first)), "a pull is a manifest that was read");
    assert_eq!(pulls.remaining + hub(&first), 7);

    world.sandbox.faults().clear();
    let second = world.sync().await;
    second.assert_exit(0);
    assert_eq!(second.report.totals.copied, totals.deferred);
    assert_eq!(hub(&first) + hub(&second), 12, "no pull is wasted");
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_windows_complete_the_images_in_the_order_of_the_configuration() {
    let world = hub().await;
    // one window allows one image and two more pulls
    world.fault("pull-limit=5");
    let mut pulls = 0;
    for window in 1..=4 {
        let run = world.sync().await;
        run.assert_exit(if window < 4 { 3 } else { 0 });
        let outcomes: Vec<Outcome> = run.report.images.iter().map(|row| row.outcome).collect();
        let mut expected = [Outcome::Deferred; 4];
        expected[..window - 1].fill(Outcome::UpToDate);
        expected[window - 1] = Outcome::Copied;
        assert_eq!(outcomes, expected, "window {window}");
        assert_whole(&world.ecr());
        pulls += run.manifests(Method::GET).len();
        // a run before the next window has no pulls left, and sends no request for manifests
        let early = world.sync().await;
        assert_eq!(early.manifests(Method::GET), Vec::<String>::new(), "window {window}");
        assert_eq!(early.writes(), Vec::<String>::new(), "window {window}");
        early.assert_exit(if window < 4 { 3 } else { 0 });
        world.upstream().renew_pulls();
    }
    assert_eq!(pulls, 12, "no pull is wasted");
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_one_digest_need_the_pulls_of_one_image() {
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"];
    let mut world = World::new().await;
    for tag in ["1.27", "1.27.3", "latest"] {
        let reference = format!("docker.io/team/app:{tag}");
        world.upstream().image(&reference).platforms(platforms).seed(1).push();
        world = world.select(&reference, "");
    }
    world.fault("pull-limit=6");
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.manifests(Method::GET).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_above_the_limit_are_deferred_and_do_not_add_to_their_image() {
    let image = "docker.io/team/app:1";
    let world = World::new().await.select(image, "signatures = \"all\"");
    world.upstream().image(image).platforms(["linux/amd64", "linux/arm64"]).push();
    let index = world.source(image);
    let content: serde_json::Value = serde_json::from_slice(&index.bytes).unwrap();
    let images = content["manifests"].as_array().unwrap().iter();
    let images = images.map(|entry| entry["digest"].as_str().unwrap().parse().unwrap());
    for (subject, seed) in images.chain([index.digest.clone()]).zip(1..) {
        let tag = format!("docker.io/team/app:sha256-{}.sig", Digest::hex(&subject));
        world.upstream().image(&tag).platforms(["linux/amd64"]).seed(seed).push();
    }
    world.fault("pull-limit=5");
    let first = world.sync().await;
    first.assert_exit(3).assert_all(Outcome::Deferred);
    world.upstream().renew_pulls();
    world.sync().await.assert_exit(0);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_are_not_spent_on_indexes_alone() {
    let world = hub().await;
    world.fault("pull-limit=4");
    let run = world.sync().await;
    run.assert_exit(3);
    assert_eq!((run.report.totals.copied, run.report.totals.deferred), (1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_needs_more_pulls_than_the_limit_fails_and_is_not_deferred() {
    let world = World::new().await.image(
        "docker.io/team/wide:1",
        ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"],
    );
    world.fault("pull-limit=3");
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    assert!(run.row("team/wide").hint.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_listing_an_image_reads_its_index_and_then_all_or_none_of_its_manifests() {
    let world = hub().await;
    world.fault("pull-limit=5");
    world.fault("status=404@upstream:GET//hub.docker.com/");
    let run = world.sync().await;
    run.assert_exit(3);
    assert_eq!(run.report.totals.copied, 1);
    // three pulls of the copied image, and an index of each other one as far as the limit allows
    let reads = run.manifests(Method::GET);
    let of = |name: &str| reads.iter().filter(|read| read.contains(name)).count();
    let partial = ["team/b/", "team/c/", "team/d/"].map(of);
    assert!(of("team/a/") == 3 && partial.iter().all(|reads| *reads <= 1), "{reads:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reserved_pulls_are_not_spent() {
    let world = hub().await.configured("[registry.\"docker.io\"]\nreserve_pulls = 95");
    let run = world.sync().await;
    run.assert_exit(3);
    assert!(run.report.pulls[0].remaining >= 95, "{:?}", run.report.pulls);
    assert!(run.report.totals.copied > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_images_respect_the_limit_and_the_reserve() {
    let mut world = World::new().await;
    for name in 0..12 {
        let reference = format!("docker.io/team/p{name}:1");
        world.upstream().image(&reference).platforms(["linux/amd64", "linux/arm64"]).push();
        let digest = world.source(&reference).digest;
        world = world.select(&format!("{reference}@{digest}"), "");
    }
    world.fault("pull-limit=12");
    let world = world.configured("[registry.\"docker.io\"]\nreserve_pulls = 2");
    let run = world.sync().await;
    run.assert_exit(3);
    assert!(run.report.pulls[0].remaining >= 2, "{:?}", run.report.pulls);
    let totals = run.report.totals;
    assert!(totals.copied >= 3 && totals.copied + totals.deferred == 12, "{totals:?}");
    assert_eq!(run.manifests(Method::GET).len() as u64, 3 * totals.copied, "no pull is wasted");
    // the first answer requires a login
    let mut looks = run.manifests(Method::HEAD);
    looks.dedup();
    assert_eq!(looks.len(), 1, "the limit is asked for once: {looks:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_spends_no_pull_and_omits_the_numbers_that_need_one() {
    let world = hub().await;
    let digest = world.source("docker.io/team/a:1").digest;
    let pinned = format!("docker.io/team/a:1@{digest}");
    let world = world.select(&pinned, "repository = \"pinned\"");
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    plan.assert_exit(0).assert_all(Outcome::Planned);
    assert_eq!(plan.writes(), Vec::<String>::new());
    assert_eq!(plan.manifests(Method::GET), Vec::<String>::new());
    assert!(plan.manifests(Method::HEAD).len() >= 4);
    for row in &plan.report.images {
        assert_eq!(row.bytes_pushed, None, "{row:?}");
        assert!(row.source_digest.is_some(), "{row:?}");
    }
    let report = &plan.report;
    let [pulls] = &report.pulls[..] else { panic!("{:?}", report.pulls) };
    assert_eq!((pulls.spent, pulls.limit, pulls.remaining), (None, 100, 100));
    assert_eq!((report.bytes.from_source, report.bytes.to_destination), (None, None));
    assert_eq!(
        (report.blobs.present, report.blobs.mounted, report.blobs.pushed),
        (None, None, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_spends_pulls_reports_every_number() {
    let world = hub().await;
    let plan = world.plan(Mode::Plan).await;
    plan.assert_exit(0).assert_all(Outcome::Planned);
    assert_eq!(plan.writes(), Vec::<String>::new());
    assert_eq!(plan.manifests(Method::GET).len(), 12);
    assert_eq!(plan.report.pulls[0].spent, Some(12));
    let sync = world.sync().await;
    sync.assert_exit(0);
    assert_eq!(plan.report.bytes, sync.report.bytes);
    assert_eq!(plan.report.pulls[0].spent, sync.report.pulls[0].spent);
    // nothing is left to read, so the number of pulls is known
    let settled = world.plan(Mode::PlanWithoutPulls).await;
    assert_eq!(settled.report.pulls[0].spent, Some(0));
}
