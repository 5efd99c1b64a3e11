//! Referrers in a layout: by their field `subject`, and by the tags that `regctl` reads and writes.

use serde_json::json;

use super::*;
use crate::{model::Signatures, sandbox::upstream::media};

const SOURCE: &str = "r.example/team/app:1";

/// Pushes an image and its SBOM to the upstream; returns their digests.
fn push_with_sbom(fixture: &LayoutFixture) -> (Digest, Digest) {
    let (host, repository) = ("r.example", "team/app");
    let upstream = fixture.upstream.upstream();
    upstream.image(SOURCE).single().push();
    let tag = TagOrDigest::Tag("1".parse().unwrap());
    let image = upstream.content().manifest(host, repository, &tag).unwrap();
    let config = upstream.put_blob(host, repository, b"{}");
    let sbom = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "artifactType": "application/spdx+json",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
        "layers": [],
        "subject": {
            "mediaType": image.media_type, "digest": image.digest, "size": image.bytes.len(),
        },
    });
    let sbom = sbom.to_string().into_bytes();
    let sbom = upstream.put_manifest(host, repository, None, media::OCI_MANIFEST, &sbom);
    (image.digest, sbom)
}

fn with_signatures() -> Filter {
    Filter { signatures: Signatures::All, ..Filter::default() }
}

#[tokio::test]
async fn a_referrer_is_written_for_both_schemes() {
    let fixture = LayoutFixture::new().await;
    let (image, sbom) = push_with_sbom(&fixture);
    let filter = with_signatures();
    for (naming, name) in [(Naming::Tag, ""), (Naming::RepositoryAndTag, "copy:")] {
        let copy = || fixture.copy(reference(SOURCE), (fixture.layout(naming), "copy:1"), &filter);
        assert_eq!(copy().await.outcome(), "Copied");
        let directory = fixture.directory();
        let index = LayoutIndex::of_layout(&directory).unwrap();
        assert!(index.media_type(&sbom).is_some(), "{index:?}");
        let store = BlobStore::new(directory.clone());
        let listing = index.named(&format!("{name}sha256-{}", image.hex())).unwrap().unwrap();
        let Manifest::Index(listing) = store.listing(&listing).unwrap().read().unwrap() else {
            panic!("{listing:?}");
        };
        let listed: Vec<_> =
            listing.manifests.iter().map(|it| (&it.digest, it.artifact_type.as_deref())).collect();
        assert_eq!(listed, [(&sbom, Some("application/spdx+json"))]);
        assert_valid(&directory);
        // the list is no image
        assert_eq!(
            only_image(&directory).await.unwrap(),
            (image.clone(), Some(format!("{name}1")))
        );
        let before = document(&directory);
        assert_eq!(copy().await.outcome(), "UpToDate");
        assert_eq!(document(&directory), before);
        std::fs::remove_dir_all(directory).unwrap();
    }
}

#[tokio::test]
async fn referrers_that_only_a_tag_lists_are_read() {
    let fixture = LayoutFixture::new().await;
    let (_, sbom) = push_with_sbom(&fixture);
    let layout = || fixture.layout(Naming::Tag);
    let filter = with_signatures();
    fixture.copy(reference(SOURCE), (layout(), "copy:1"), &filter).await;
    // `regctl` lists a referrer in the index of its tag only
    let mut index = document(&fixture.directory());
    let entries = index["manifests"].as_array_mut().unwrap();
    entries.retain(|entry| entry["annotations"].is_object());
    assert_eq!(entries.len(), 2);
    std::fs::write(fixture.directory().join("index.json"), index.to_string()).unwrap();

    let pushed = fixture.copy(origin(layout(), "x:1"), (fixture.plain(), "back/app:1"), &filter);
    assert_eq!(pushed.await.outcome(), "Copied");
    assert!(fixture.plain.plain().store().manifest("back/app", &sbom).is_some());
}

#[tokio::test]
async fn a_foreign_layer_without_urls_is_in_the_layout() {
    let fixture = LayoutFixture::new().await;
    let (host, repository) = ("r.example", "windows/app");
    let upstream = fixture.upstream.upstream();
    let config = upstream.put_blob(host, repository, b"{}");
    let layer = upstream.put_blob(host, repository, b"base");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
        "config": {"mediaType": "application/x", "digest": config, "size": 2},
        "layers": [{"mediaType": foreign, "digest": layer, "size": 4}],
    });
    let bytes = manifest.to_string().into_bytes();
    upstream.put_manifest(host, repository, Some("1"), media::OCI_MANIFEST, &bytes);
    let source = reference("r.example/windows/app:1");
    let (layout, all) = (fixture.layout(Naming::Tag), Filter::default());
    assert_eq!(fixture.copy(source, (layout, "x:1"), &all).await.outcome(), "Copied");
    assert!(BlobStore::new(fixture.directory()).path(&layer).exists());
}
