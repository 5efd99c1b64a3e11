//! Tests images as real registries serve them: layers that other hosts serve, documents of lenient
//! encoders, attestations that are listed and not served, tag lists that are cut.

use ecr_mirror::{
    engine::Mode,
    model::{Digest, outcome::Outcome},
    sandbox::upstream::media,
};
use serde_json::{Value, json};

use super::{
    content::{HOST, assert_whole, config, descriptor, image, put},
    world::{World, entry},
};

const REFERENCE: &str = "quay.io/team/app:1";
const REPOSITORY: &str = "team/app";
const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
const LAYER: &[u8] = b"a base layer of windows";

/// A world that mirrors an image with an ordinary layer and this one.
async fn world_with_layer(keys: &str, layer: Value) -> World {
    let world = World::new().await.select(REFERENCE, keys);
    let upstream = world.upstream();
    upstream.put_blob(HOST, REPOSITORY, LAYER);
    let ordinary = upstream.put_blob(HOST, REPOSITORY, b"an ordinary layer");
    let ordinary = descriptor(media::OCI_LAYER, &ordinary, 17);
    let manifest = image(config(upstream, REPOSITORY), &[layer, ordinary]);
    put(upstream, REPOSITORY, media::OCI_MANIFEST, &manifest.to_string());
    world
}

fn foreign_layer() -> Value {
    let mut layer = descriptor(FOREIGN, &Digest::of(LAYER), LAYER.len());
    layer["urls"] = json!(["https://mcr.microsoft.com/v2/windows/blobs/x"]);
    layer
}

fn has_layer(world: &World) -> bool {
    world.ecr().blob_size(REPOSITORY, &Digest::of(LAYER)).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_layer_without_urls_is_copied_like_any_layer() {
    for media_type in [FOREIGN, NONDISTRIBUTABLE] {
        for urls in [None, Some(json!([])), Some(Value::Null)] {
            let mut layer = descriptor(media_type, &Digest::of(LAYER), LAYER.len());
            if let Some(urls) = &urls {
                layer["urls"] = urls.clone();
            }
            let world = world_with_layer("", layer).await;
            let run = world.sync().await;
            run.assert_exit(0).assert_all(Outcome::Copied);
            assert!(has_layer(&world), "{media_type} {urls:?}");
            assert_eq!(run.warnings, Vec::<String>::new());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_skipped_foreign_layer_is_named_once_in_report_and_output() {
    let world = world_with_layer("", foreign_layer()).await;
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert!(!has_layer(&world));
    let [warning] = &run.report.images[0].warnings[..] else { panic!("{:?}", run.report.images) };
    assert!(warning.starts_with("skipped 1 foreign layer (23 B)"), "{warning}");
    assert!(warning.contains("`foreign_layers = \"copy\"`"), "{warning}");
    assert_eq!(run.warnings, [format!("{REFERENCE}: {warning}")]);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_its_foreign_layers_is_not_up_to_date_if_they_are_copied() {
    let mut world = world_with_layer("", foreign_layer()).await;
    world.sync().await.assert_exit(0);
    world.reconfigure(format!("[defaults]\nforeign_layers = \"copy\"\n{}", entry(REFERENCE, "")));
    world.plan(Mode::Plan).await.assert_all(Outcome::Planned);
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert!(has_layer(&world));
    assert_eq!(run.uploads(), [Digest::of(LAYER)]);
    assert_eq!(run.report.images[0].warnings, Vec::<String>::new());
    world.sync().await.assert_no_op();
    // an entry may leave them where they are
    world.reconfigure(entry(REFERENCE, "foreign_layers = \"skip\""));
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_of_an_index_are_copied_for_images_that_are_there_already() {
    let mut world = world_with_layer("", foreign_layer()).await;
    let child = world.source(REFERENCE);
    world.sync().await.assert_exit(0);
    // the new index names an image that the repository has
    let mut listed = descriptor(media::OCI_MANIFEST, &child.digest, child.bytes.len());
    listed["platform"] = json!({ "os": "windows", "architecture": "amd64" });
    let index = json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed] });
    put(world.upstream(), REPOSITORY, media::OCI_INDEX, &index.to_string());
    world.reconfigure(entry(REFERENCE, "foreign_layers = \"copy\""));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert!(has_layer(&world));
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn null_lists_and_incomplete_platforms_are_mirrored_with_their_bytes() {
    let layout = tempfile::tempdir().unwrap();
    let destination = format!("[[destination]]\nregistry = \"oci:{}\"\n", layout.path().display());
    let world = World::new().await.configured(&destination).select(REFERENCE, "");
    let upstream = world.upstream();
    let config = config(upstream, REPOSITORY);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config,
        "layers": null, "annotations": null,
    });
    let bytes = manifest.to_string();
    let child =
        upstream.put_manifest(HOST, REPOSITORY, None, media::OCI_MANIFEST, bytes.as_bytes());
    let mut listed = descriptor(media::OCI_MANIFEST, &child, bytes.len());
    listed["platform"] = json!({ "architecture": "amd64" });
    listed["annotations"] = json!({ "a": null });
    listed["urls"] = Value::Null;
    let index = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed],
        "annotations": null,
    });
    put(upstream, REPOSITORY, media::OCI_INDEX, &index.to_string());
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    for (digest, bytes) in [(&child, bytes), (&world.source(REFERENCE).digest, index.to_string())] {
        let path = layout.path().join("blobs/sha256").join(digest.hex());
        assert_eq!(std::fs::read_to_string(path).unwrap(), bytes);
    }
    world.sync().await.assert_no_op();
}

/// A world with an image whose configuration does not name its platform: alone, or in an index.
async fn world_without_platform(keys: &str, listed_platforms: &[Option<Value>]) -> World {
    let world = World::new().await.select(REFERENCE, keys);
    let upstream = world.upstream();
    let mut entries = Vec::new();
    for (number, platform) in listed_platforms.iter().enumerate() {
        let bytes = format!("{{\"created\":\"{number}\",\"os\":\"\"}}");
        let digest = upstream.put_blob(HOST, REPOSITORY, bytes.as_bytes());
        let manifest = image(descriptor(media::OCI_CONFIG, &digest, bytes.len()), &[]).to_string();
        put(upstream, REPOSITORY, media::OCI_MANIFEST, &manifest);
        let digest = Digest::of(manifest.as_bytes());
        let mut entry = descriptor(media::OCI_MANIFEST, &digest, manifest.len());
        entry["platform"] = platform.clone().unwrap_or_default();
        entries.push(entry);
    }
    if entries.len() > 1 {
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries,
        });
        put(upstream, REPOSITORY, media::OCI_INDEX, &index.to_string());
    }
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platform_of_an_index_entry_decides_if_the_configuration_has_none() {
    let amd64 = json!({ "os": "linux", "architecture": "amd64" });
    let keys = "platforms = [\"linux/amd64\"]";
    let world = world_without_platform(keys, &[Some(amd64), None]).await;
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.images[0].platforms, ["linux/amd64"]);
    assert_whole(&world.ecr());
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_image_of_an_unknown_platform_follows_missing_platform() {
    let keys = "platforms = [\"linux/amd64\"]";
    let run = world_without_platform(keys, &[None]).await.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let row = &run.report.images[0];
    assert!(row.error.as_deref().unwrap().contains("does not name its platform"), "{row:?}");
    assert!(row.hint.as_deref().unwrap().contains("missing_platform"), "{row:?}");

    let keys = format!("{keys}\nmissing_platform = \"warn\"");
    let world = world_without_platform(&keys, &[None]).await;
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!((run.report.images[0].warnings.len(), run.warnings.len()), (1, 1));
    assert_eq!(run.report.images[0].digest, run.report.images[0].source_digest);
    world.sync().await.assert_exit(0).assert_all(Outcome::UpToDate);
}

/// A world whose index lists an attestation that the source does not serve.
async fn world_without_attestation(keys: &str) -> (World, Digest) {
    let world = World::new().await.select(REFERENCE, keys);
    let upstream = world.upstream();
    let manifest = image(config(upstream, REPOSITORY), &[]).to_string();
    let digest =
        upstream.put_manifest(HOST, REPOSITORY, None, media::OCI_MANIFEST, manifest.as_bytes());
    let mut listed = descriptor(media::OCI_MANIFEST, &digest, manifest.len());
    listed["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    let gone = Digest::of(b"gone");
    let mut attestation = descriptor(media::OCI_MANIFEST, &gone, 500);
    attestation["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": digest,
    });
    let index = json!({
        "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed, attestation],
    });
    put(upstream, REPOSITORY, media::OCI_INDEX, &index.to_string());
    (world, gone)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attestation_that_is_not_served_is_left_out_of_a_filtered_index() {
    let (world, gone) = world_without_attestation("platforms = [\"linux/amd64\"]").await;
    world.plan(Mode::Plan).await.assert_exit(0).assert_all(Outcome::Planned);
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let row = &run.report.images[0];
    let [warning] = &row.warnings[..] else { panic!("{row:?}") };
    assert!(warning.contains(gone.as_str()), "{warning}");
    assert_eq!(run.warnings.len(), 1, "{:?}", run.warnings);
    let digest = row.digest.clone().unwrap();
    assert_eq!(world.ecr().tag(REPOSITORY, "1"), Some(digest.clone()));
    let (_, bytes) = world.ecr().manifest(REPOSITORY, &digest).unwrap();
    let index: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    assert_whole(&world.ecr());
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfiltered_index_without_its_attestation_fails_and_names_the_key() {
    let (world, gone) = world_without_attestation("").await;
    let run = world.sync().await;
    run.assert_exit(1).assert_all(Outcome::Failed);
    let row = &run.report.images[0];
    assert!(row.error.as_deref().unwrap().contains(gone.as_str()), "{row:?}");
    assert!(row.hint.as_deref().unwrap().contains("`attestations = \"drop\"`"), "{row:?}");
    assert_eq!(world.ecr().tag(REPOSITORY, "1"), None);

    let (world, _) = world_without_attestation("attestations = \"drop\"").await;
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.images[0].warnings, Vec::<String>::new());
}
