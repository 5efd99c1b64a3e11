//! What networks and registries do to a run, and what it makes of it.

use std::time::Duration;

use ecr_mirror::{
    model::outcome::Outcome,
    sandbox::{BlobMounting, Options},
};
use futures::future::join_all;
use tokio::time::timeout;

use super::{
    content::assert_whole,
    world::{ECR, World},
};

/// Faults that a run gets over by itself.
const SURVIVED: &[&[&str]] = &[
    &["cut=1000@upstream*4"],
    &["cut-last@upstream*3"],
    &["cut=1000@upstream*3", "ignore-range@upstream"],
    &["reset@upstream*2"],
    &["reset@ecr*2"],
    &["reset@ecr:PUT*2"],
    &["status=500@ecr:PUT/manifests/*2"],
    &["status=503@ecr:PUT/blobs/*2"],
    &["status=502@upstream/auth*1"],
    &["status=500@ecr:POST*2"],
    &["throttle@upstream*2"],
    &["throttle=1@ecr*2"],
    &["omit-digest@upstream"],
    &["relative-location@ecr"],
    &["swap-missing-status@ecr", "vanish@ecr*1"],
    &["late-blobs=400@ecr"],
    &["translate"],
    &["token-life=1@upstream"],
    &["quotas@ecr"],
    &["slow=400000@upstream"],
    &["html@upstream/manifests/*1"],
];

async fn small() -> World {
    let world = World::new().await;
    world.upstream().image("quay.io/team/app:1").layer_size(8 << 10).attestations().push();
    world
        .select("quay.io/team/app:1", "")
        .select("quay.io/team/app:1", "repository = \"part\"\nplatforms = [\"linux/arm64\"]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gets_over_what_passes() {
    let whole = small().await;
    whole.sync().await.assert_exit(0);
    let runs = SURVIVED.iter().map(|faults| async move {
        let world = small().await;
        faults.iter().for_each(|fault| world.fault(fault));
        (faults, world.sync().await, world)
    });
    for (faults, run, world) in join_all(runs).await {
        let wrong: Vec<_> = run.report.images.iter().filter(|row| row.error.is_some()).collect();
        assert_eq!(run.report.exit, 0, "{faults:?}: {wrong:#?}");
        assert_whole(&world.ecr());
        for repository in ["team/app", "part"] {
            assert_eq!(world.ecr().tags(repository), whole.ecr().tags(repository), "{faults:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_pass_fails_with_a_hint_or_a_cause_and_leaves_nothing_half_done() {
    let refused = [
        "deny=InitiateLayerUpload",
        "deny=UploadLayerPart",
        "deny=CompleteLayerUpload",
        "deny=PutImage",
        "deny=GetAuthorizationToken",
        "no-location@ecr",
    ];
    join_all(refused.map(fails_until_it_is_over)).await;
}

async fn fails_until_it_is_over(fault: &str) {
    let world = small().await;
    world.fault(fault);
    let run = world.sync().await;
    assert_eq!(run.report.exit, 1, "{fault}");
    run.assert_all(Outcome::Failed);
    if let Some((_, action)) = fault.split_once('=') {
        for row in &run.report.images {
            let hint = row.hint.as_deref().unwrap_or_else(|| panic!("{fault}: {:?}", row.error));
            assert!(hint.contains(action), "{fault}: {hint}");
        }
    }
    assert_whole(&world.ecr());
    assert_eq!(world.ecr().tags("team/app"), [], "{fault}");
    world.sandbox.faults().clear();
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
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
