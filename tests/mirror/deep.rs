//! Tests `sync --deep`: destinations that lost content below a tag.

use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use ecr_mirror::{
    engine::Mode,
    model::{
        Digest,
        outcome::{Outcome, Reason},
    },
};
use http::Method;

use super::{
    content::assert_whole,
    process::run,
    world::{World, blobs},
};

const REPOSITORY: &str = "team/app";

/// An image with two platforms, mirrored, and its image manifests at the destination.
async fn mirrored() -> (World, Vec<Digest>) {
    let world = World::new().await.image("docker.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    world.sync().await.assert_exit(0);
    let root = world.ecr().tag(REPOSITORY, "1").unwrap();
    let images = world.ecr().links(REPOSITORY, &root).unwrap().children.clone();
    (world, images)
}

/// A layer of this image of the source.
fn layer(world: &World, image: &Digest) -> Digest {
    let manifest = world.source(&format!("docker.io/team/app@{image}"));
    blobs(&manifest).into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_run_repairs_lost_blobs_and_manifests_and_a_plan_only_reports_them() {
    let (world, images) = mirrored().await;
    let healthy = world.deep(Mode::Mirror).await;
    healthy.assert_no_op();
    assert_eq!(healthy.manifests(Method::GET), Vec::<String>::new(), "a check spends no pull");

    let lost = layer(&world, &images[0]);
    assert!(world.ecr().unlink_blob(REPOSITORY, &lost).unwrap());
    // the tag still points to the image
    world.sync().await.assert_no_op();
    let plan = world.deep(Mode::PlanWithoutPulls).await;
    plan.assert_exit(0).assert_all(Outcome::Planned);
    assert_eq!(plan.row("team/app").reason, Some(Reason::Repaired));
    let bytes = plan.row("team/app").bytes_pushed;
    assert!(bytes.is_some_and(|bytes| bytes > 0));
    assert_eq!(plan.report.bytes.from_source, bytes, "a repair reads what it pushes");
    assert_eq!(plan.writes(), Vec::<String>::new());
    let repaired = world.deep(Mode::Mirror).await;
    repaired.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(repaired.row("team/app").reason, Some(Reason::Repaired));
    assert_eq!(repaired.uploads(), [lost]);
    assert_eq!(repaired.manifests(Method::GET), Vec::<String>::new(), "a lost blob costs no pull");
    assert_whole(&world.ecr());

    assert!(world.ecr().delete_manifest(REPOSITORY, &images[1]).unwrap());
    let plan = world.deep(Mode::PlanWithoutPulls).await;
    plan.assert_exit(0).assert_all(Outcome::Planned);
    assert_eq!(plan.row("team/app").bytes_pushed, None, "only a pull could tell");
    assert_eq!(plan.report.bytes.from_source, None);
    assert_eq!(plan.report.blobs.pushed, None);
    assert_eq!(plan.manifests(Method::GET), Vec::<String>::new());
    let repaired = world.deep(Mode::Mirror).await;
    repaired.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(repaired.manifests(Method::GET).len(), 1);
    assert_whole(&world.ecr());
    world.deep(Mode::Mirror).await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_run_completes_a_broken_image_under_another_tag() {
    let (world, images) = mirrored().await;
    assert!(world.ecr().unlink_blob(REPOSITORY, &layer(&world, &images[0])).unwrap());
    let world = world.select("docker.io/team/app:1", "retag = \"other-{tag}\"");
    let run = world.deep(Mode::Mirror).await;
    run.assert_exit(0);
    assert_eq!(run.row(":other-1").outcome, Outcome::Copied);
    assert_eq!(run.uploads().len(), 1);
    assert_whole(&world.ecr());
    world.deep(Mode::Mirror).await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_run_leaves_an_archived_platform_image_and_repairs_the_others() {
    let (world, images) = mirrored().await;
    let image = ImageIdentifier::builder().image_digest(images[0].as_str()).build();
    let request = world.aws().update_image_storage_class().repository_name(REPOSITORY);
    let request = request.image_id(image).target_storage_class(TargetStorageClass::Archive);
    request.send().await.unwrap();
    let left = world.deep(Mode::Mirror).await;
    left.assert_exit(0).assert_all(Outcome::UpToDate);
    assert_eq!((left.writes(), left.manifests(Method::GET)), (Vec::new(), Vec::new()));
    let [warning] = &left.row("team/app").warnings[..] else { panic!("{:?}", left.report) };
    assert!(warning.contains(images[0].as_str()) && warning.contains("archived"), "{warning}");

    let blob_of_both = blobs(&world.source(&format!("docker.io/team/app@{}", images[0])));
    let lost = blobs(&world.source(&format!("docker.io/team/app@{}", images[1])));
    let lost = lost.into_iter().find(|blob| !blob_of_both.contains(blob)).unwrap();
    assert!(world.ecr().unlink_blob(REPOSITORY, &lost).unwrap());
    let repaired = world.deep(Mode::Mirror).await;
    repaired.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!((repaired.uploads(), repaired.row("team/app").warnings.len()), (vec![lost], 1));
    let still = world.deep(Mode::PlanWithoutPulls).await;
    still.assert_exit(0).assert_all(Outcome::UpToDate);
    assert_eq!(still.row("team/app").warnings.len(), 1, "it is archived as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deep_run_checks_every_image_of_a_wide_index() {
    let world = World::new().await.select("quay.io/team/app:1", "");
    let platforms: Vec<String> = (0..70).map(|number| format!("linux/arm/v{number}")).collect();
    let platforms = platforms.iter().map(String::as_str);
    world.upstream().image("quay.io/team/app:1").platforms(platforms).push();
    world.sync().await.assert_exit(0);
    let root = world.ecr().tag(REPOSITORY, "1").unwrap();
    let images = world.ecr().links(REPOSITORY, &root).unwrap().children.clone();
    assert_eq!(images.len(), 70);
    let lost: Vec<Digest> = [0, 35, 69].map(|at| images[at].clone()).into();
    for image in &lost {
        assert!(world.ecr().delete_manifest(REPOSITORY, image).unwrap());
    }
    let repaired = world.deep(Mode::Mirror).await;
    repaired.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(repaired.manifests(Method::GET).len(), lost.len());
    assert_whole(&world.ecr());
    world.deep(Mode::Mirror).await.assert_no_op();
}

#[test]
fn the_command_line_checks_deeply_and_reports_the_repair() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
        [[image]]\nsource = \"quay.io/team/app\"\ntags = [\"1\"]\n";
    std::fs::write(directory.path().join("mirror.toml"), file).unwrap();
    let sync = |arguments: &[&str]| {
        let all = [&["sync", "--sandbox", "--json", "-q"], arguments].concat();
        let ended = run(directory.path(), &all);
        assert_eq!(ended.status, Some(0), "{} {}", ended.out, ended.talk);
        let report: serde_json::Value = serde_json::from_str(&ended.out).unwrap();
        report["images"][0].clone()
    };
    assert_eq!(sync(&[])["outcome"], "copied");
    let healthy = sync(&["--deep"]);
    assert_eq!((&healthy["outcome"], &healthy["reason"]), (&"up_to_date".into(), &().into()));
    assert_eq!(sync(&["--deep", "--dry-run"])["outcome"], "up_to_date");
}
