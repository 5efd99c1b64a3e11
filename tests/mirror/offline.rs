//! Tests `bootstrap --offline-ok`: a destination keeps its image while the source is unavailable.

use std::time::Duration;

use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use ecr_mirror::{
    engine::{Mode, Options, Shutdown, WithoutSource},
    model::outcome::Outcome,
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
};

use super::world::{Run, World, entry};

const APP: &str = "quay.io/team/app:1";
const NEW: &str = "quay.io/team/new:1";
const OTHER: &str = "ghcr.io/team/other:1";

/// A run that keeps images, or that does not, with short retries.
async fn run(world: &World, without_source: WithoutSource) -> Run {
    let (first, longest) = (Duration::from_millis(5), Duration::from_millis(20));
    let retry = Retry { attempts: 2, first, longest };
    let policy = RetryPolicy::new(retry, StallTimeouts::default(), OutagePolicy::default());
    let options = Options { mode: Mode::Mirror, without_source, ..Options::default() };
    world.run_options(&policy, options, Shutdown::default()).await
}

async fn offline(world: &World) -> Run {
    run(world, WithoutSource::Keep).await
}

/// The calls of ECR's API, without the login.
fn api_calls(run: &Run) -> Vec<&str> {
    let calls = run.journal.iter().filter_map(|entry| entry.operation.as_deref());
    calls.filter(|call| !call.contains("GetAuthorizationToken")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_of_an_unavailable_source_is_kept_and_only_a_missing_one_fails() {
    let world = World::new().await.image(APP, ["linux/amd64"]).image(OTHER, ["linux/amd64"]);
    world.sync().await.assert_exit(0);
    let digest = world.ecr().tag("team/app", "1").unwrap();
    let world = world.image(NEW, ["linux/amd64"]);
    for fault in ["status=503", "reset", "throttle", "throttle=3600"] {
        world.sandbox.faults().clear();
        world.fault(&format!("{fault}@upstream//quay.io/"));
        let run = offline(&world).await;
        let app = run.row("app:1");
        assert_eq!((app.outcome, app.digest.as_ref()), (Outcome::Kept, Some(&digest)), "{fault}");
        assert_eq!((&app.error, &app.source_digest), (&None, &None), "{fault}: {app:?}");
        let warning = &app.warnings[0];
        assert!(warning.starts_with("the destination keeps its image, pushed at 20"), "{warning}");
        assert!(warning.contains("Z: cannot "), "{warning}");
        assert!(warning.contains("quay.io"), "{warning}");
        assert_eq!(run.row("other:1").outcome, Outcome::UpToDate, "{fault}");
        let is_deferred = fault == "throttle=3600";
        let missing = if is_deferred { Outcome::Deferred } else { Outcome::Failed };
        assert_eq!(run.row("new:1").outcome, missing, "{fault}");
        run.assert_exit(if is_deferred { 3 } else { 1 });
        assert_eq!(run.report.totals.kept, 1, "{fault}");
        let (pushed, queries): (Vec<&str>, Vec<&str>) =
            api_calls(&run).into_iter().partition(|call| call.contains("DescribeImages"));
        assert_eq!((pushed.len(), queries.len()), (1, 3), "one call a repository: {queries:?}");
        assert_eq!(run.writes(), Vec::<String>::new());
    }
    let strict = run(&world, WithoutSource::Fail).await;
    assert_eq!(strict.row("app:1").outcome, Outcome::Deferred);
    assert!(!api_calls(&strict).iter().any(|call| call.contains("DescribeImages")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_the_source_refuses_or_lacks_is_not_kept() {
    let world = World::new().await.image(APP, ["linux/amd64"]);
    world.sync().await.assert_exit(0);
    for status in [401, 403, 404] {
        world.sandbox.faults().clear();
        world.fault(&format!("status={status}@upstream//quay.io/"));
        offline(&world).await.assert_exit(1).assert_all(Outcome::Failed);
    }
    world.sandbox.faults().clear();
    // the destination
    world.upstream().image(APP).platforms(["linux/amd64"]).seed(2).push();
    world.fault("status=503@ecr:POST/blobs/");
    offline(&world).await.assert_exit(1).assert_all(Outcome::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_kept_as_it_is_when_the_source_breaks_in_the_middle_of_a_copy() {
    let world = World::new().await.image(APP, ["linux/amd64", "linux/arm64"]);
    world.sync().await.assert_exit(0);
    let before = world.ecr().tag("team/app", "1").unwrap();
    world.upstream().image(APP).platforms(["linux/amd64", "linux/arm64"]).seed(2).push();
    for path in ["/blobs/", "/manifests/sha256:"] {
        world.sandbox.faults().clear();
        world.fault(&format!("status=503@upstream:GET{path}"));
        let run = offline(&world).await;
        run.assert_exit(0).assert_all(Outcome::Kept);
        let row = run.row("team/app");
        assert_eq!(row.digest.as_ref(), Some(&before), "{path}");
        assert_ne!(row.source_digest.as_ref(), Some(&before), "the source was seen: {path}");
        assert_eq!(world.ecr().tag("team/app", "1"), Some(before.clone()));
    }
    world.sandbox.faults().clear();
    offline(&world).await.assert_exit(0).assert_all(Outcome::Copied);
    assert_ne!(world.ecr().tag("team/app", "1"), Some(before));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_pull_left_is_kept() {
    let names = ["docker.io/team/a:1", "docker.io/team/b:1"];
    let push = |world: &World, seed: u64| {
        for (name, own) in names.into_iter().zip(0_u64..) {
            let image = world.upstream().image(name).platforms(["linux/amd64", "linux/arm64"]);
            image.seed(10 * seed + own).push();
        }
    };
    let world = World::new().await.select(names[0], "").select(names[1], "");
    push(&world, 1);
    world.sync().await.assert_exit(0);
    push(&world, 2);
    // each image needs three, and the first run has spent six
    world.fault("pull-limit=10");
    let run = offline(&world).await;
    run.assert_exit(0);
    let outcomes: Vec<Outcome> = run.report.images.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Copied, Outcome::Kept]);
    let warning = &run.row("team/b").warnings[0];
    assert!(warning.contains("the image needs 3 pulls; left in this window: "), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_image_of_an_unavailable_source_is_restored() {
    let world = World::new().await.select(APP, "archived = \"restore\"");
    world.upstream().image(APP).push();
    world.sync().await.assert_exit(0);
    let image = ImageIdentifier::builder().image_tag("1").build();
    let request = world.aws().update_image_storage_class().repository_name("team/app");
    let request = request.image_id(image).target_storage_class(TargetStorageClass::Archive);
    request.send().await.unwrap();
    world.fault("status=503@upstream//quay.io/");
    let run = offline(&world).await;
    run.assert_exit(0).assert_all(Outcome::Archived);
    let calls = api_calls(&run);
    assert_eq!(calls.iter().filter(|call| call.contains("UpdateImageStorageClass")).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_up_to_date_although_its_signatures_cannot_be_listed() {
    let world = World::new().await.select(APP, "signatures = \"all\"");
    world.upstream().image(APP).push();
    world.sync().await.assert_exit(0);
    world.fault("status=503@upstream:GET/referrers/");
    let run = offline(&world).await;
    run.assert_exit(0).assert_all(Outcome::UpToDate);
    assert!(run.row("team/app").warnings[0].contains("cannot list the referrers"));
}

/// The image that `world` selects, with the sources off.
async fn offline_with(world: &mut World, reference: &str, keys: &str, fault: &str) -> Run {
    world.reconfigure(entry(reference, keys));
    world.sandbox.faults().clear();
    world.fault(&format!("{fault}@upstream//quay.io/"));
    offline(world).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_image_is_kept_only_if_it_is_the_pinned_one_or_a_part_of_it() {
    let all = ["linux/amd64", "linux/arm64", "linux/s390x"];
    let keys = "platforms = [\"linux/amd64\", \"linux/arm64\"]\nattestations = \"drop\"";
    let mut world = World::new().await.select(APP, "");
    let push = |world: &World, seed| {
        world.upstream().image(APP).platforms(all).seed(seed).push();
        format!("{APP}@{}", world.source(APP).digest)
    };
    let old = push(&world, 1);
    world.sync().await.assert_exit(0);
    let new = push(&world, 2);
    for (fault, outcome) in [("status=503", Outcome::Failed), ("throttle=3600", Outcome::Deferred)]
    {
        for keys in ["", keys] {
            let run = offline_with(&mut world, &new, keys, fault).await;
            run.assert_all(outcome);
            let warning = &run.row("team/app").warnings[0];
            assert!(warning.contains("the tag has another image than the pinned one"), "{warning}");
        }
    }
    offline_with(&mut world, &old, "", "status=503").await.assert_all(Outcome::UpToDate);
    // a part of the pinned image, with other platforms than this filter
    world.sandbox.faults().clear();
    world.reconfigure(entry(&new, keys));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let one = "platforms = [\"linux/amd64\"]";
    offline_with(&mut world, &new, one, "status=503").await.assert_all(Outcome::Kept);
    offline_with(&mut world, &old, one, "status=503").await.assert_all(Outcome::Failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_an_index_is_kept_only_for_its_platform() {
    let mut world = World::new().await;
    world.upstream().image(APP).platforms(["linux/amd64", "linux/arm64"]).push();
    let keys = |platform: &str| format!("platforms = [\"{platform}\"]\nflatten = true");
    world.reconfigure(entry(APP, &keys("linux/amd64")));
    world.sync().await.assert_exit(0);
    let kept = offline_with(&mut world, APP, &keys("linux/amd64"), "status=503").await;
    kept.assert_exit(0).assert_all(Outcome::Kept);
    assert_eq!(kept.row("team/app").platforms, ["linux/amd64"]);
    let other = offline_with(&mut world, APP, &keys("linux/arm64"), "status=503").await;
    other.assert_exit(1).assert_all(Outcome::Failed);
    let warning = &other.row("team/app").warnings[0];
    assert!(warning.contains("no image for linux/arm64 (available: linux/amd64)"), "{warning}");
    let warn = keys("linux/arm64") + "\nmissing_platform = \"warn\"";
    offline_with(&mut world, APP, &warn, "status=503").await.assert_exit(1);
    // the destination does not serve the config
    world.sandbox.faults().clear();
    world.fault("status=403@ecr:GET/blobs/");
    world.fault("status=503@upstream//quay.io/");
    let unknown = offline(&world).await;
    unknown.assert_exit(0).assert_all(Outcome::Kept);
    let warning = &unknown.row("team/app").warnings[1];
    assert!(warning.starts_with("the platform of the image is not known: "), "{warning}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_the_wanted_platforms_is_not_kept() {
    let mut world = World::new().await;
    world.upstream().image(APP).platforms(["linux/amd64", "linux/arm64"]).push();
    world.reconfigure(entry(APP, "platforms = [\"linux/amd64\"]"));
    world.sync().await.assert_exit(0);
    let other = "platforms = [\"linux/arm64\"]";
    let run = offline_with(&mut world, APP, other, "status=503").await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let warning = &run.row("team/app").warnings[0];
    assert!(warning.contains("no image for linux/arm64 (available: linux/amd64)"), "{warning}");
    let warn = format!("{other}\nmissing_platform = \"warn\"");
    offline_with(&mut world, APP, &warn, "status=503").await.assert_exit(1);
    let both = "platforms = [\"linux/amd64\", \"linux/arm64\"]\nmissing_platform = \"warn\"";
    let run = offline_with(&mut world, APP, both, "status=503").await;
    run.assert_exit(0).assert_all(Outcome::Kept);
    let row = run.row("team/app");
    assert_eq!(row.platforms, ["linux/amd64"]);
    assert!(row.warnings[1].contains("no image for linux/arm64"), "{:?}", row.warnings);
    let same = "platforms = [\"linux/amd64\"]";
    offline_with(&mut world, APP, same, "status=503").await.assert_exit(0);
}
