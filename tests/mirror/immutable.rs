//! Tests immutable tags: equal content is up to date, different content is drift.

use aws_sdk_ecr::types::{
    ImageTagMutability as Setting, ImageTagMutabilityExclusionFilter as Filter,
    ImageTagMutabilityExclusionFilterType as FilterType,
};
use ecr_mirror::{model::outcome::Outcome, sandbox::upstream::media};
use serde_json::json;

use super::{
    content::{HOST, config, descriptor, image, put},
    world::{World, entry},
};

const APP: &str = "quay.io/team/app:1";

async fn immutable(world: &World, repository: &str) {
    let made = world.aws().create_repository().repository_name(repository);
    made.image_tag_mutability(Setting::Immutable).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immutable_tag_is_up_to_date_or_drifted_and_never_moves() {
    let world = World::new().await.image(APP, ["linux/amd64"]);
    immutable(&world, "team/app").await;
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    world.sync().await.assert_no_op();

    let before = world.ecr().tag("team/app", "1");
    world.upstream().image(APP).platforms(["linux/amd64"]).seed(2).push();
    let world = world.image("quay.io/team/other:1", ["linux/amd64"]);
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("team/other").outcome, Outcome::Copied);
    let row = run.row("team/app");
    assert_eq!(row.outcome, Outcome::Drifted);
    assert!(row.error.as_deref().unwrap().contains("immutable"), "{row:?}");
    assert!(row.hint.as_deref().unwrap().contains("retag"), "{row:?}");
    assert!(!run.writes().iter().any(|write| write.contains("team/app")), "no byte was moved");
    assert_eq!(world.ecr().tag("team/app", "1"), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drifted_tag_is_not_read_to_copy_its_foreign_layers() {
    let world = World::new().await.select(APP, "");
    let upstream = world.upstream();
    let foreign = upstream.put_blob(HOST, "team/app", b"windows");
    let foreign_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let mut layer = descriptor(foreign_type, &foreign, 7);
    layer["urls"] = json!(["https://mcr.microsoft.com/v2/windows/blobs/x"]);
    let manifest = image(config(upstream, "team/app"), &[layer]);
    put(upstream, "team/app", media::OCI_MANIFEST, &manifest.to_string());
    immutable(&world, "team/app").await;
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);

    world.upstream().image(APP).platforms(["linux/amd64"]).seed(2).push();
    let mut world = world;
    world.reconfigure(entry(APP, "foreign_layers = \"copy\""));
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Drifted);
    assert_eq!(run.manifests(http::Method::GET), Vec::<String>::new());
    assert_eq!(run.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_filter_that_keeps_the_same_images_is_not_drift() {
    let filtered = |platforms: &str| {
        entry(APP, &format!("missing_platform = \"warn\"\nplatforms = [{platforms}]"))
    };
    let mut world = World::new().await.configured(&filtered("\"linux/amd64\""));
    world.upstream().image(APP).push();
    immutable(&world, "team/app").await;
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    // the image has no such platform: the annotation differs, the images do not
    world.reconfigure(filtered("\"linux/amd64\", \"linux/s390x\""));
    world.sync().await.assert_no_op();
    world.reconfigure(filtered("\"linux/amd64\", \"linux/arm64\""));
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Drifted);
    assert_eq!(run.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_excluded_from_immutability_moves() {
    let world = World::new()
        .await
        .configured("[[image]]\nsource = \"quay.io/team/app\"\ntags = [\"1\", \"latest\"]");
    let put = |seed| {
        let put =
            |tag| world.upstream().image(&format!("quay.io/team/app:{tag}")).seed(seed).push();
        (put("1"), put("latest"))
    };
    put(1);
    let filter = Filter::builder().filter("latest*").filter_type(FilterType::Wildcard);
    let made = world.aws().create_repository().repository_name("team/app");
    made.image_tag_mutability(Setting::ImmutableWithExclusion)
        .image_tag_mutability_exclusion_filters(filter.build().unwrap())
        .send()
        .await
        .unwrap();
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let (_, moved) = put(2);
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("team/app:latest").outcome, Outcome::Copied);
    assert_eq!(run.row("amazonaws.com/team/app:1").outcome, Outcome::Drifted);
    assert_eq!(world.ecr().tag("team/app", "latest"), Some(moved));
}
