//! Tests content that is copied with an image: referrers and cosign's tags.

use ecr_mirror::{
    engine::Mode,
    model::{Digest, outcome::Outcome},
    sandbox::upstream::media,
};
use serde_json::{Value, json};

use super::world::{World, entry};

const SOURCE: &str = "registry.example/team/app:1.0";
const HOST: &str = "registry.example";
const REPOSITORY: &str = "team/app";

/// A small artifact that refers to `subject`, as cosign and oras create it.
fn artifact(world: &World, subject: Option<&Digest>, artifact_type: &str) -> Vec<u8> {
    let upstream = world.upstream();
    let config = upstream.put_blob(HOST, REPOSITORY, b"{}");
    let content = format!("{artifact_type} of {subject:?}");
    let layer = upstream.put_blob(HOST, REPOSITORY, content.as_bytes());
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [{"mediaType": artifact_type, "digest": layer, "size": content.len()}],
    });
    if let Some(subject) = subject {
        manifest["subject"] = json!({"mediaType": media::OCI_INDEX, "digest": subject, "size": 1});
    }
    manifest.to_string().into_bytes()
}

/// Pushes a referrer of this digest to the source.
fn push_referrer(world: &World, subject: &Digest, artifact_type: &str) -> Digest {
    let manifest = artifact(world, Some(subject), artifact_type);
    world.upstream().put_manifest(HOST, REPOSITORY, None, media::OCI_MANIFEST, &manifest)
}

/// Pushes a signature of this digest to the source, as cosign does without referrers.
fn push_signature(world: &World, subject: &Digest) -> (String, Digest) {
    let tag = format!("sha256-{}.sig", subject.hex());
    let manifest = artifact(world, None, "application/vnd.dev.cosign.simplesigning.v1+json");
    let upstream = world.upstream();
    let digest =
        upstream.put_manifest(HOST, REPOSITORY, Some(&tag), media::OCI_MANIFEST, &manifest);
    (tag, digest)
}

async fn signed_world(keys: &str) -> (World, Digest) {
    let mut world = World::new().await.image(SOURCE, ["linux/amd64", "linux/arm64"]);
    let root = world.source(SOURCE).digest;
    world.reconfigure(entry(SOURCE, keys));
    (world, root)
}

/// Digests of the images in the index.
fn children(world: &World) -> Vec<Digest> {
    let index: Value = serde_json::from_slice(&world.source(SOURCE).bytes).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    entries.iter().map(|entry| entry["digest"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn referrers_and_cosign_tags_are_copied_with_the_image() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    let sbom = push_referrer(&world, &root, "application/spdx+json");
    let child_referrer =
        push_referrer(&world, &children(&world)[0], "application/vnd.dev.sigstore.bundle");
    let (tag, signature) = push_signature(&world, &root);

    world.sync().await.assert_exit(0);

    let ecr = world.ecr();
    assert_eq!(ecr.tag(REPOSITORY, &tag), Some(signature));
    for referrer in [&sbom, &child_referrer] {
        assert!(ecr.manifest(REPOSITORY, referrer).is_some(), "{referrer}");
    }
    world.sync().await.assert_no_op();
}

#[tokio::test]
async fn a_later_signature_is_copied_to_an_up_to_date_image() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    world.sync().await.assert_exit(0);
    let (tag, signature) = push_signature(&world, &root);

    let plan = world.plan(Mode::Plan).await;
    plan.assert_all(Outcome::Planned);
    assert_eq!(plan.writes(), Vec::<String>::new());

    let run = world.sync().await;
    run.assert_all(Outcome::Copied);
    assert_eq!(world.ecr().tag(REPOSITORY, &tag), Some(signature));
}

#[tokio::test]
async fn the_signature_of_an_sbom_is_copied_with_the_sbom() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    let sbom = push_referrer(&world, &root, "application/spdx+json");
    let signature = push_referrer(&world, &sbom, "application/vnd.dev.sigstore.bundle");
    let timestamp = push_referrer(&world, &signature, "application/x-timestamp");
    let (tag, tagged) = push_signature(&world, &sbom);

    world.sync().await.assert_exit(0);

    let ecr = world.ecr();
    for referrer in [&sbom, &signature, &timestamp] {
        assert!(ecr.manifest(REPOSITORY, referrer).is_some(), "{referrer}");
    }
    assert_eq!(ecr.tag(REPOSITORY, &tag), Some(tagged));
    world.sync().await.assert_no_op();
}

#[tokio::test]
async fn referrers_that_refer_to_themselves_or_are_too_deep_are_refused() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    let (_, signature) = push_signature(&world, &root);
    let (media_type, own) = (media::OCI_MANIFEST, format!("sha256-{}.sig", signature.hex()));
    let manifest = artifact(&world, None, "application/vnd.dev.cosign.simplesigning.v1+json");
    world.upstream().put_manifest(HOST, REPOSITORY, Some(&own), media_type, &manifest);
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let error = run.report.images[0].error.as_deref().unwrap();
    assert!(error.contains("is among its own referrers"), "{error}");

    let (world, root) = signed_world("signatures = \"all\"").await;
    let mut subject = root;
    for depth in 0..5 {
        subject = push_referrer(&world, &subject, &format!("application/x-{depth}"));
    }
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let error = run.report.images[0].error.as_deref().unwrap();
    assert!(error.contains("more referrers than 4 levels"), "{error}");
}

#[tokio::test]
async fn a_refused_referrers_api_is_replaced_by_the_fallback_tag() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    let sbom = push_referrer(&world, &root, "application/spdx+json");
    let size = artifact(&world, Some(&root), "application/spdx+json").len();
    let listed = json!({
        "mediaType": media::OCI_MANIFEST, "digest": sbom, "size": size,
        "artifactType": "application/spdx+json",
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed],
    });
    let tag = format!("sha256-{}", root.hex());
    let bytes = index.to_string().into_bytes();
    world.upstream().put_manifest(HOST, REPOSITORY, Some(&tag), media::OCI_INDEX, &bytes);
    world.fault("status=403@upstream:GET/referrers/");
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert!(world.ecr().manifest(REPOSITORY, &sbom).is_some());
    assert_eq!(run.warnings, Vec::<String>::new());
    world.sync().await.assert_no_op();
}

#[tokio::test]
async fn an_image_whose_referrers_may_not_be_listed_is_copied_with_a_warning() {
    let (world, _) = signed_world("signatures = \"all\"").await;
    world.fault("status=403@upstream:GET/referrers/");
    world.fault("status=403@upstream/manifests/sha256-");
    for outcome in [Outcome::Copied, Outcome::UpToDate] {
        let run = world.sync().await;
        run.assert_exit(0).assert_all(outcome);
        let [warning] = &run.report.images[0].warnings[..] else { panic!("{:?}", run.report) };
        assert!(warning.starts_with("cannot list the referrers of the image: "), "{warning}");
        assert!(warning.contains("403"), "{warning}");
        assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
    }
}

#[tokio::test]
async fn only_configured_signature_types_are_copied() {
    for (keys, expected) in [
        ("", [false, false]),
        ("signatures = \"none\"", [false, false]),
        ("signatures = [\"application/spdx+json\"]", [true, false]),
    ] {
        let (world, root) = signed_world(keys).await;
        let sbom = push_referrer(&world, &root, "application/spdx+json");
        let other = push_referrer(&world, &root, "application/vnd.cyclonedx+json");
        world.sync().await.assert_exit(0);
        let copied = [&sbom, &other].map(|it| world.ecr().manifest(REPOSITORY, it).is_some());
        assert_eq!(copied, expected, "{keys}");
    }
}

#[tokio::test]
async fn a_filtered_index_keeps_referrers_of_its_images_and_drops_its_own() {
    let (world, root) = signed_world("platforms = [\"linux/amd64\"]\nsignatures = \"all\"").await;
    let [amd64, arm64] = <[Digest; 2]>::try_from(children(&world)).unwrap();
    let of_root = push_referrer(&world, &root, "application/spdx+json");
    let of_amd64 = push_referrer(&world, &amd64, "application/spdx+json");
    let of_arm64 = push_referrer(&world, &arm64, "application/spdx+json");

    let run = world.sync().await;
    run.assert_exit(0);

    let copied =
        [&of_root, &of_amd64, &of_arm64].map(|it| world.ecr().manifest(REPOSITORY, it).is_some());
    assert_eq!(copied, [false, true, false]);
    let [warning] = &run.warnings[..] else { panic!("{:?}", run.warnings) };
    assert!(warning.contains("the source's index is signed"), "{warning}");
}

#[tokio::test]
async fn a_referrer_that_ecr_refuses_is_a_warning_and_not_a_failure() {
    let (world, root) = signed_world("signatures = \"all\"").await;
    let manifest = artifact(&world, Some(&root), "application/spdx+json");
    let mut unknown: Value = serde_json::from_slice(&manifest).unwrap();
    unknown["schemaVersion"] = 3.into();
    let unknown = unknown.to_string();
    let upstream = world.upstream();
    upstream.put_manifest(HOST, REPOSITORY, None, media::OCI_MANIFEST, unknown.as_bytes());

    let run = world.sync().await;

    run.assert_exit(0).assert_all(Outcome::Copied);
    let [warning] = &run.warnings[..] else { panic!("{:?}", run.warnings) };
    assert!(warning.contains("skipped a referrer") && warning.contains("405"), "{warning}");
}
