//! Tests images that ECR has archived: they exist, and cannot be pulled.

use std::time::Duration;

use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use ecr_mirror::{engine::Mode, model::outcome::Outcome};
use http::Method;

use super::world::{ECR, Run, World, is_ecr};

const APP: &str = "docker.io/team/app:1";

async fn archive(world: &World, tag: &str) {
    let image = ImageIdentifier::builder().image_tag(tag).build();
    let request = world.aws().update_image_storage_class().repository_name("team/app");
    let request = request.image_id(image).target_storage_class(TargetStorageClass::Archive);
    request.send().await.unwrap();
}

/// The requests of the run to ECR's API, without the login.
fn api_calls(run: &Run) -> Vec<&str> {
    let calls = run.journal.iter().filter_map(|entry| entry.operation.as_deref());
    calls.filter(|call| !call.contains("GetAuthorizationToken")).collect()
}

fn restorations(run: &Run) -> usize {
    api_calls(run).iter().filter(|call| call.contains("UpdateImageStorageClass")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_image_is_neither_pulled_nor_pushed_again() {
    for keys in ["", "platforms = [\"linux/amd64\"]"] {
        let world = World::new().await.select(APP, keys);
        world.upstream().image(APP).push();
        world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
        archive(&world, "1").await;
        for mode in [Mode::Mirror, Mode::Plan] {
            let run = world.plan(mode).await;
            run.assert_exit(0).assert_all(Outcome::Archived);
            assert_eq!(run.report.totals.archived, 1);
            assert_eq!(run.manifests(Method::GET), Vec::<String>::new(), "{keys}: no pull");
            assert_eq!(run.report.bytes.to_destination, Some(0), "{keys}");
            assert_eq!(run.manifest_pushes() + restorations(&run), 0, "{keys}");
            let row = run.row("team/app");
            assert!(row.error.is_none() && row.digest.is_some(), "{row:?}");
            let hint = row.hint.as_deref().unwrap();
            assert!(hint.contains("archived = \"restore\""), "{hint}");
            assert!(hint.contains("aws ecr update-image-storage-class"), "{hint}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_since_its_image_was_archived_is_copied() {
    let world = World::new().await.select(APP, "");
    world.upstream().image(APP).push();
    world.sync().await.assert_exit(0);
    archive(&world, "1").await;
    world.upstream().image(APP).seed(2).push();
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_image_is_restored_once_if_the_configuration_wants_that() {
    let world = World::new().await.configured("[defaults]\narchived = \"restore\"");
    // two tags of one image
    let also = "docker.io/team/app:also-1";
    let world = world.select(APP, "").select(also, "");
    for reference in [APP, also] {
        world.upstream().image(reference).seed(1).push();
    }
    world.sync().await.assert_exit(0);
    assert_eq!(world.ecr().tag("team/app", "1"), world.ecr().tag("team/app", "also-1"));
    archive(&world, "1").await;

    let plan = world.plan(Mode::Plan).await;
    plan.assert_exit(0).assert_all(Outcome::Archived);
    assert_eq!(restorations(&plan), 0, "a plan writes nothing");

    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Archived);
    assert_eq!((restorations(&run), run.manifest_pushes()), (1, 0));
    assert!(run.row("also-1").hint.as_deref().unwrap().contains("20 minutes"));

    let waiting = world.sync().await;
    waiting.assert_exit(0).assert_all(Outcome::Archived);
    assert_eq!(restorations(&waiting), 0, "the restoration has begun");

    world.sandbox.pass_time(Duration::from_secs(21 * 60));
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_restored_fails_with_the_missing_permission() {
    let world = World::new().await.select(APP, "archived = \"restore\"");
    world.upstream().image(APP).push();
    world.sync().await.assert_exit(0);
    archive(&world, "1").await;
    world.fault("deny=UpdateImageStorageClass");
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let hint = run.row("team/app").hint.as_deref().unwrap();
    assert!(hint.contains("ecr:UpdateImageStorageClass"), "{hint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifecycle_archives_images_without_a_pull() {
    let world = World::new().await.configured(&format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[destination.repositories]\n\
         lifecycle = {{ archive_unpulled_after_days = 90 }}"
    ));
    let world = world.select(APP, "platforms = [\"linux/amd64\", \"linux/arm64\"]");
    world.upstream().image(APP).platforms(["linux/amd64", "linux/arm64"]).push();
    world.sync().await.assert_exit(0);
    world.sandbox.pass_time(Duration::from_secs(91 * 86_400));
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Archived);
    assert_eq!(run.manifests(Method::GET), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn active_images_cost_one_listing_per_repository() {
    let world = World::new().await.select(APP, "").select("docker.io/team/app:2", "");
    for tag in ["1", "2"] {
        world.upstream().image(&format!("docker.io/team/app:{tag}")).push();
    }
    world.sync().await.assert_exit(0);
    let run = world.sync().await;
    run.assert_no_op();
    let calls = api_calls(&run);
    assert!(calls.len() == 1 && calls[0].contains("ListImages"), "{calls:?}");
    assert_eq!(run.journal.iter().filter(|entry| is_ecr(entry)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_at_its_quota_of_images_is_named_with_its_count() {
    let world = World::new().await.select(APP, "");
    world.upstream().image(APP).single().push();
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let world = world.select("docker.io/team/app:2", "");
    let images = world.ecr().manifests("team/app").len();
    world.upstream().image("docker.io/team/app:2").single().push();
    world.fault(&format!("image-quota={images}"));
    let run = world.sync().await;
    run.assert_exit(1);
    let row = run.row("app:2");
    assert_eq!(row.outcome, Outcome::Failed);
    let hint = row.hint.as_deref().unwrap();
    for part in [&*format!("holds {images} images"), "L-03A36CE1"] {
        assert!(hint.contains(part), "{hint}");
    }
    assert!(!hint.contains("grant"), "{hint}");
    // one manifest was refused, and not again
    let refused = run
        .journal
        .iter()
        .filter(|entry| entry.method == Method::PUT && entry.path.contains("/manifests/"));
    assert_eq!(refused.count(), 1);
    assert_eq!(run.report.requests.retries, 0);
}
