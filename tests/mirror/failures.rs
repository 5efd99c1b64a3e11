//! Tests images that fail while the others are copied: a failed row with a hint, exit status 1, and
//! no incomplete tag at the destination.

use ecr_mirror::{
    model::{Digest, outcome::Outcome},
    sandbox::upstream::media,
};

use super::{
    content::{HOST, assert_whole, config, descriptor, image, put, put_forged, put_image},
    world::{ECR, World},
};

/// Creates a broken image and returns a part of the expected error.
fn create_broken_image(world: &World, name: &str) -> &'static str {
    let (upstream, repository) = (world.upstream(), &format!("broken/{name}"));
    let layer = b"the content of a layer";
    match name {
        "gone" => {
            put_image(upstream, repository, layer, layer);
            upstream.remove_tag(HOST, repository, "1");
            "404"
        }
        "private" => {
            put_image(upstream, repository, layer, layer);
            "401"
        }
        "too-large" => {
            let long = "x".repeat(4 << 20);
            put(
                upstream,
                repository,
                media::OCI_INDEX,
                &format!("{{\"manifests\":[],\"x\":\"{long}\"}}"),
            );
            "4194304 B"
        }
        "schema-1" => {
            put(
                upstream,
                repository,
                media::DOCKER_SCHEMA1,
                r#"{"schemaVersion":1,"fsLayers":[]}"#,
            );
            "schema 1"
        }
        "unknown-type" => {
            let text = r#"{"schemaVersion":2,"mediaType":"application/vnd.example.thing+json"}"#;
            put(upstream, repository, "application/vnd.example.thing+json", text);
            "application/vnd.example.thing+json"
        }
        "forged-root" => {
            put_forged(upstream, repository, Some("1"));
            "has digest sha256:"
        }
        "forged-child" => {
            let child = put_forged(upstream, repository, None);
            let mut entry = descriptor(media::OCI_MANIFEST, &child, 300);
            entry["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry],
            });
            put(upstream, repository, media::OCI_INDEX, &index.to_string());
            "has digest sha256:"
        }
        "forged-layer" => {
            put_image(upstream, repository, layer, b"THE CONTENT OF A LAYER");
            "has digest sha256:"
        }
        "short-layer" => {
            put_image(upstream, repository, layer, &layer[1..]);
            "21 B at the registry and 22 B"
        }
        "long-layer" => {
            put_image(upstream, repository, layer, b"the content of a layer, and more");
            "32 B at the registry and 22 B"
        }
        "absent-layer" => {
            let digest = ecr_mirror::model::Digest::of(layer);
            let layer = descriptor(media::OCI_LAYER, &digest, layer.len());
            let manifest = image(config(upstream, repository), &[layer]);
            put(upstream, repository, media::OCI_MANIFEST, &manifest.to_string());
            "404"
        }
        "empty-layer" => {
            put_image(upstream, repository, b"", b"");
            "is empty"
        }
        "wrong-child-size" => {
            let manifest = image(config(upstream, repository), &[]).to_string();
            let media_type = media::OCI_MANIFEST;
            upstream.put_manifest(HOST, repository, None, media_type, manifest.as_bytes());
            let digest = Digest::of(manifest.as_bytes());
            let mut entry = descriptor(media_type, &digest, manifest.len() + 1);
            entry["platform"] = serde_json::json!({ "os": "linux", "architecture": "amd64" });
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [entry],
            });
            put(upstream, repository, media::OCI_INDEX, &index.to_string());
            "and its descriptor says"
        }
        "two-sizes" => {
            let digest = upstream.put_blob(HOST, repository, layer);
            let sizes = [layer.len(), layer.len() + 1];
            let layers = sizes.map(|size| descriptor(media::OCI_LAYER, &digest, size));
            let manifest = image(config(upstream, repository), &layers);
            put(upstream, repository, media::OCI_MANIFEST, &manifest.to_string());
            "with 22 B and with 23 B"
        }
        "html" => {
            put(upstream, repository, "text/html", "<!doctype html><p>Sign in");
            "not a manifest"
        }
        _ => panic!("{name} is not made here"),
    }
}

const BROKEN: [&str; 15] = [
    "gone",
    "private",
    "too-large",
    "schema-1",
    "unknown-type",
    "forged-root",
    "forged-child",
    "forged-layer",
    "short-layer",
    "long-layer",
    "absent-layer",
    "empty-layer",
    "wrong-child-size",
    "two-sizes",
    "html",
];

#[tokio::test(flavor = "multi_thread")]
async fn each_broken_image_fails_with_a_hint_and_the_others_are_copied() {
    let mut world = World::new().await.image("quay.io/team/fine:1", ["linux/amd64"]);
    let mut expected = Vec::new();
    for name in BROKEN {
        expected.push(create_broken_image(&world, name));
        world = world.select(&format!("quay.io/broken/{name}:1"), "");
    }
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("team/fine").outcome, Outcome::Copied);
    assert_eq!(run.report.totals.failed, BROKEN.len() as u64);
    for (name, says) in BROKEN.into_iter().zip(expected) {
        let row = run.row(&format!("quay.io/broken/{name}:"));
        assert_eq!(row.outcome, Outcome::Failed, "{name}");
        let error = row.error.as_deref().unwrap();
        assert!(error.contains(says), "{name}: {error}");
        assert!(error.contains(&format!("broken/{name}")), "{name} is not named: {error}");
        let is_read = !error.contains("cannot resolve the tag");
        assert!(is_read || says == "401", "{name}: the tag was read: {error}");
        assert!(row.hint.is_some(), "{name} has no hint: {error}");
        assert_eq!(row.digest, None, "{name}");
        assert_eq!(world.ecr().tag(&format!("broken/{name}"), "1"), None, "{name}");
    }
    assert_whole(&world.ecr());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_repository_fails_only_its_images_when_create_is_off() {
    let world = World::new().await.configured(&format!(
        "[[destination]]\nregistry = \"{ECR}\"\nname = \"open\"\nprefix = \"open\"\n\
         [[destination]]\nregistry = \"{ECR}\"\nname = \"closed\"\nprefix = \"closed\"\n\
         [destination.repositories]\ncreate = false\n"
    ));
    let world = world.image("quay.io/team/app:1", ["linux/amd64"]);
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("/open/").outcome, Outcome::Copied);
    let row = run.row("/closed/");
    assert_eq!(row.outcome, Outcome::Failed);
    assert!(row.error.as_deref().unwrap().contains("`create` is off"), "{row:?}");
    assert!(row.hint.as_deref().unwrap().contains("aws ecr create-repository"), "{row:?}");
    assert_eq!(run.report.bytes.from_source, run.report.bytes.to_destination);
    assert!(!world.ecr().has_repository("closed/team/app"));
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_repositories_are_pushed_to_without_permission_to_create_new_ones() {
    let mut world = World::new().await.image("quay.io/team/there:1", ["linux/amd64"]);
    world.aws().create_repository().repository_name("team/there").send().await.unwrap();
    world.upstream().image("quay.io/team/new:1").push();
    world.fault("deny=CreateRepository");
    world = world.select("quay.io/team/new:1", "");
    let run = world.sync().await;
    run.assert_exit(1);
    assert_eq!(run.row("team/there").outcome, Outcome::Copied);
    let row = run.row("team/new");
    assert_eq!(row.outcome, Outcome::Failed);
    assert!(row.hint.as_deref().unwrap().contains("ecr:CreateRepository"), "{row:?}");
    assert_eq!(run.uploads().len(), 3, "no blob is uploaded without need");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_not_committed_and_the_next_run_copies_it() {
    let world = World::new().await.image("quay.io/team/app:1", ["linux/amd64"]);
    for damage in ["corrupt@upstream", "short@upstream", "long@upstream"] {
        world.fault(damage);
        let run = world.sync().await;
        run.assert_exit(1).assert_all(Outcome::Failed);
        assert!(run.row("team/app").hint.is_some(), "{damage}");
        assert_eq!(world.ecr().tag("team/app", "1"), None, "{damage}");
        world.sandbox.faults().clear();
    }
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert_whole(&world.ecr());
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_faults_are_retried_and_no_image_fails() {
    let world = World::new().await.image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    for fault in [
        "status=503@upstream*2",
        "cut@upstream*1",
        "reset@ecr:PUT*1",
        "throttle=1@ecr:POST*1",
        "late-blobs=300",
        "vanish*1",
    ] {
        world.fault(fault);
    }
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert!(run.report.requests.retries > 0);
    assert!(run.report.requests.throttled > 0);
    assert_whole(&world.ecr());
    world.sandbox.faults().clear();
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_lost_a_blob_and_its_tag_is_copied_completely() {
    let world = World::new().await;
    let image = br"a layer";
    put_image(world.upstream(), "team/one", image, image);
    let world = world.select("quay.io/team/one:1", "");
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let ecr = world.ecr();
    assert!(ecr.unlink_blob("team/one", &Digest::of(image)).unwrap());
    assert!(ecr.delete_tag("team/one", "1").unwrap());
    let run = world.sync().await;
    run.assert_exit(0);
    assert_eq!(run.row("team/one").outcome, Outcome::Copied);
    assert_whole(&ecr);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_during_a_run_are_replaced() {
    let world = World::new().await.image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"]);
    world.fault("expire-tokens=2@upstream");
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let tokens = run.source_requests().iter().filter(|asked| asked.contains("/auth?")).count();
    assert_eq!(tokens, 2, "{:#?}", run.source_requests());
}
