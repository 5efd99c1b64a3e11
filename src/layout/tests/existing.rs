//! Existing directories: written by other tools, damaged, or not a layout.

use std::{collections::HashMap, fs};

use serde_json::json;

use super::*;
use crate::model::RawManifest;

pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const IMAGE_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes content into a layout as any tool does.
pub(super) fn put_blob(directory: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    fs::write(directory.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    digest
}

/// Writes an image with one layer; returns its manifest's digest and size.
pub(super) fn put_image(directory: &Path, layer: &[u8]) -> (Digest, usize) {
    let config = br#"{"architecture":"amd64","os":"linux"}"#;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": IMAGE_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": put_blob(directory, config),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": put_blob(directory, layer),
            "size": layer.len(),
        }],
    });
    let bytes = manifest.to_string();
    (put_blob(directory, bytes.as_bytes()), bytes.len())
}

/// Writes a layout as `skopeo` does, with one image for each name.
pub(super) fn write_layout(directory: &Path, names: &[Option<&str>]) -> Vec<Digest> {
    fs::create_dir_all(directory).unwrap();
    let mut entries = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let (digest, size) = put_image(directory, format!("layer {number}").as_bytes());
        let mut entry = json!({"mediaType": IMAGE_TYPE, "digest": digest, "size": size});
        if let Some(name) = name {
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        entries.push(entry);
    }
    let digests = entries.iter().map(|entry| entry["digest"].as_str().unwrap().parse().unwrap());
    let digests = digests.collect();
    let index =
        json!({"schemaVersion": 2, "manifests": entries, "org.example.kept": {"b": 1, "a": 2}});
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    digests
}

fn layout(directory: &Path, naming: Naming) -> Layout {
    Layout::new(directory, naming, Arc::default())
}

fn name(text: &str) -> (Repository, Tag) {
    let (repository, tag) = text.rsplit_once(':').unwrap();
    (repository.parse().unwrap(), tag.parse().unwrap())
}

#[tokio::test]
async fn a_layout_of_another_tool_is_read_and_its_other_entries_are_kept() {
    let fixture = LayoutFixture::new().await;
    let directory = fixture.directory();
    let digests = write_layout(&directory, &[None, Some("1.0+build"), Some("2.0"), Some("a/b:1")]);
    let (repository, tag) = name("x:2.0");
    let here = layout(&directory, Naming::Tag);
    assert_eq!(here.resolve(&repository, &tag).await.unwrap(), digests[2]);
    let there = layout(&directory, Naming::RepositoryAndTag);
    let (repository, tag) = name("a/b:1");
    assert_eq!(there.resolve(&repository, &tag).await.unwrap(), digests[3]);

    let all = Filter::default();
    let from = origin(fixture.layout(Naming::Tag), "x:2.0");
    let copied = fixture.copy(from, (fixture.plain(), "x:2.0"), &all).await;
    assert_eq!((copied.outcome().as_str(), copied.digest()), ("Copied", &digests[2]));

    let before = document(&directory);
    fixture.upstream.upstream().image("r.example/x:2.0").push();
    let added =
        fixture.copy(reference("r.example/x:2.0"), (fixture.layout(Naming::Tag), "x:2.0"), &all);
    assert_eq!(added.await.outcome(), "Copied");
    let after = document(&directory);
    let keys: Vec<&String> = after.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["schemaVersion", "manifests", "org.example.kept"]);
    assert_eq!(after["org.example.kept"].to_string(), r#"{"b":1,"a":2}"#);
    for kept in [0, 1, 3] {
        assert_eq!(after["manifests"][kept], before["manifests"][kept]);
    }
    assert_eq!(after["manifests"][2]["mediaType"], INDEX_TYPE);
    assert_eq!(after["manifests"].as_array().unwrap().len(), 4);
    assert_valid(&directory);
}

#[tokio::test]
async fn the_only_image_needs_no_name() {
    let place = tempfile::tempdir().unwrap();
    for (names, expected) in [
        (&[None][..], Ok(None)),
        (&[Some("1.27")], Ok(Some("1.27"))),
        (&[Some("1.27"), None, None], Ok(Some("1.27"))),
        (&[], Err("contains no image: no image has a name")),
        (&[None, None], Err("contains several images: no image has a name")),
        (&[Some("b"), Some("a")], Err("contains several images: the layout has `a`, `b`")),
    ] {
        let directory = place.path().join(format!("{names:?}").replace(['"', '/'], ""));
        fs::create_dir_all(&directory).unwrap();
        let digests = write_layout(&directory, names);
        match (only_image(&directory).await, expected) {
            (Ok((digest, name)), Ok(expected)) => {
                assert_eq!((&digest, name.as_deref()), (&digests[0], expected));
            }
            (Err(error), Err(expected)) => {
                assert_eq!(error.kind(), Kind::Configuration);
                let (problem, listed) = expected.split_once(": ").unwrap();
                assert!(error.to_string().ends_with(problem), "{error}");
                assert!(error.remedy().unwrap().ends_with(listed), "{error:?}");
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_missing_or_invalid_layout_is_an_error_with_a_hint() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    fs::create_dir_all(at("photos")).unwrap();
    fs::write(at("photos").join("cat.jpg"), "").unwrap();
    fs::write(at("file"), "").unwrap();
    for (directory, content) in [("newer", r#"{"imageLayoutVersion":"2.0.0"}"#), ("bad", "x")] {
        fs::create_dir_all(at(directory)).unwrap();
        fs::write(at(directory).join("oci-layout"), content).unwrap();
    }
    write_layout(&at("named"), &[Some("1.26"), Some("1.27"), None]);
    write_layout(&at("twice"), &[Some("1"), Some("1")]);
    write_layout(&at("list"), &[]);
    fs::write(at("list").join("index.json"), "[]").unwrap();
    write_layout(&at("outside"), &[]);
    let entry = json!({
        "digest": "sha256:../../../named/index.json",
        "size": 1,
        "annotations": {"org.opencontainers.image.ref.name": "1"},
    });
    fs::write(at("outside").join("index.json"), json!({"manifests": [entry]}).to_string()).unwrap();
    let (repository, tag) = name("x:1");
    for (directory, kind, problem, hint) in [
        ("outside", Kind::Corrupt, "has a bad entry", ""),
        ("nowhere", Kind::Configuration, "there is no OCI image layout in", "`oci-layout` in it"),
        ("photos", Kind::Configuration, "contains `cat.jpg`", "a directory that is empty"),
        ("file", Kind::Configuration, "cannot read", ""),
        ("newer", Kind::Unsupported, "has version `2.0.0`", ""),
        ("bad", Kind::Corrupt, "is not the marker", ""),
        ("named", Kind::NotFound, "no image is named `1` in", "the layout has `1.26`, `1.27`"),
        ("twice", Kind::Unsupported, "several images are named `1`", "its own name"),
        ("list", Kind::Corrupt, "is not an index of images", ""),
    ] {
        let error = layout(&at(directory), Naming::Tag).resolve(&repository, &tag).await;
        let error = error.expect_err(directory);
        assert_eq!(error.kind(), kind, "{directory}: {error:?}");
        assert!(error.to_string().contains(problem), "{directory}: {error:?}");
        assert!(error.remedy().unwrap_or_default().contains(hint), "{directory}: {error:?}");
        assert!(!error.is_transient());
    }
    // and nothing is written there
    let written = layout(&at("photos"), Naming::Tag).ensure(&repository).await.unwrap_err();
    assert_eq!(written.kind(), Kind::Configuration);
    assert_eq!(fs::read_dir(at("photos")).unwrap().count(), 1);
}

#[tokio::test]
async fn the_next_run_repairs_damaged_files_also_those_of_the_right_length() {
    let fixture = LayoutFixture::new().await;
    fixture.upstream.upstream().image("r.example/x:1").attestations().push();
    let all = Filter::default();
    let store = fixture.directory().join("blobs/sha256");
    let copy =
        || fixture.copy(reference("r.example/x:1"), (fixture.layout(Naming::Tag), "x:1"), &all);
    assert_eq!(copy().await.outcome(), "Copied");
    let expected = LayoutFixture::tree(layout(&fixture.directory(), Naming::Tag), "x:1").await;
    for (digest, bytes) in &expected {
        let file = store.join(digest.hex());
        let is_manifest = String::from_utf8_lossy(bytes).contains("schemaVersion");
        let mut other = bytes.clone();
        *other.last_mut().unwrap() ^= 1;
        for damage in [None, Some(&bytes[..bytes.len() / 2]), Some(&other[..])] {
            match damage {
                None => fs::remove_file(&file).unwrap(),
                Some(content) => fs::write(&file, content).unwrap(),
            }
            let repaired = copy().await;
            let length = damage.map(<[u8]>::len);
            assert_eq!(repaired.outcome(), "Copied", "{digest}, {length:?}");
            let moved = repaired.contexts.destination.stats.bytes.value();
            assert_eq!(moved, if is_manifest { 0 } else { bytes.len() as u64 });
            assert_eq!(fs::read(&file).unwrap(), *bytes);
        }
    }
    assert_eq!(copy().await.outcome(), "UpToDate");
}

#[tokio::test]
async fn a_damaged_layout_as_source_fails_and_names_the_file() {
    let fixture = LayoutFixture::new().await;
    let directory = fixture.directory();
    write_layout(&directory, &[Some("1")]);
    let all = Filter::default();
    let layer = directory.join("blobs/sha256").join(Digest::of(b"layer 0").hex());
    for (content, expected) in [
        (Some("layer 1"), "has digest"),
        (Some("layer"), "has 5 B, the manifest says 7 B"),
        (None, "the layout is incomplete"),
    ] {
        match content {
            Some(content) => fs::write(&layer, content).unwrap(),
            None => fs::remove_file(&layer).unwrap(),
        }
        let from = origin(fixture.layout(Naming::Tag), "x:1");
        let outcome = fixture.copy(from, (fixture.plain(), "x:1"), &all).await.outcome();
        assert!(outcome.starts_with("Failed"), "{outcome}");
        assert!(outcome.contains(expected), "{outcome}");
        assert!(outcome.contains(Digest::of(b"layer 0").hex()), "{outcome}");
    }
    assert!(fixture.plain.plain().store().tag("x", "1").is_none());
}

#[tokio::test]
async fn an_existing_referrer_that_is_not_listed_counts_as_missing() {
    let place = tempfile::tempdir().unwrap();
    let images = write_layout(place.path(), &[Some("1")]);
    let refer = |artifact_type: &str| {
        let referrer = json!({
            "schemaVersion": 2,
            "mediaType": IMAGE_TYPE,
            "artifactType": artifact_type,
            "config": {"mediaType": "application/x", "digest": put_blob(place.path(), b"{}"), "size": 2},
            "layers": [],
            "subject": {"mediaType": IMAGE_TYPE, "digest": images[0], "size": 1},
        });
        RawManifest::new(referrer.to_string().into(), None).unwrap()
    };
    let (listed, unlisted) = (refer("application/a"), refer("application/b"));
    let layout = Layout::new(place.path(), Naming::Tag, Arc::default());
    let repository = "x".parse().unwrap();
    layout.push_manifest(&repository, &listed, None).await.unwrap();
    put_blob(place.path(), unlisted.bytes());
    let requested = vec![listed.digest().clone(), unlisted.digest().clone()];
    let requested = HashMap::from([(images[0].clone(), requested)]);
    let missing = layout.missing_referrers(&repository, &requested).await.unwrap();
    assert_eq!(missing, [unlisted.digest().clone()].into());
    layout.push_manifest(&repository, &unlisted, None).await.unwrap();
    let missing = layout.missing_referrers(&repository, &requested).await.unwrap();
    assert!(missing.is_empty(), "{missing:?}");
}
