//! Fuzzes manifests and the filter of indexes. A filtered index is JSON with the keys and entries
//! of the original in their order. A second filtering changes nothing.

use std::collections::HashMap;

use bytes::Bytes;
use ecr_mirror::model::{
    Attestations, Digest, Filter, Manifest, Platform, Platforms, RawManifest,
    content::Index,
    filter::{self, EntryContent, Filtered, check_platforms},
    text::is_unsafe_for_terminal,
};
use serde_json::Value;

use super::engine::Target;

/// Content of the entries without a platform: every second one is an image for `linux/amd64`.
fn known_content(index: &Index) -> HashMap<Digest, EntryContent> {
    let without_platform = index.manifests.iter().filter(|entry| entry.platform.is_none());
    let known_content = without_platform.filter(|entry| entry.digest.hex().as_bytes()[0] % 2 == 0);
    let platform: Platform = "linux/amd64".parse().unwrap();
    known_content
        .map(|entry| (entry.digest.clone(), EntryContent::Image(platform.clone())))
        .collect()
}

fn filtered(raw: &RawManifest, filter: &Filter) -> Option<(Filtered, Index)> {
    let Ok(Manifest::Index(index)) = raw.read() else { return None };
    let filtered = filter::filter(raw, &index, filter, &known_content(&index)).ok()?;
    Some((filtered, index))
}

/// Keys of a document, and the digests in its list.
fn outline(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let document: Value = serde_json::from_slice(bytes).expect("it is JSON");
    let keys = document.as_object().expect("it is an object").keys().cloned().collect();
    let entries = document["manifests"].as_array().expect("it lists").iter();
    let digests = entries.map(|entry| entry["digest"].as_str().unwrap().to_owned());
    (keys, digests.collect())
}

fn is_part_of<T: PartialEq>(part: &[T], whole: &[T]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|one| rest.any(|other| other == one))
}

fn check(raw: &RawManifest, filter: &Filter) -> Option<(usize, usize, bool)> {
    let (once, index) = filtered(raw, filter)?;
    let all = index.manifests.len();
    let kept: Vec<&str> = once.kept.iter().map(|entry| entry.digest.as_str()).collect();
    if once.kept.len() == all {
        assert_eq!(once.manifest.bytes(), raw.bytes(), "nothing is removed, nothing changes");
    } else {
        let ((keys, before), (left, after)) =
            (outline(raw.bytes()), outline(once.manifest.bytes()));
        assert_eq!(left, keys);
        assert_eq!(after, kept);
        assert!(is_part_of(&after, &before), "{after:?} of {before:?}");
    }
    assert_eq!(once.manifest.media_type(), raw.media_type());
    let (again, _) = filtered(&once.manifest, filter).expect("it is an index still");
    assert_eq!(again.manifest.bytes(), once.manifest.bytes(), "filtering twice is filtering once");
    if let Err(error) = check_platforms(filter, &once.platforms, &once.available) {
        let text = error.to_string();
        assert!(!text.contains(is_unsafe_for_terminal) && text.len() < 16 << 10, "{text:?}");
    }
    let ours = filter::annotated(once.clone(), raw.digest(), filter).ok()?;
    let Ok(Manifest::Index(annotated)) = ours.manifest.read() else {
        panic!("it is an index still")
    };
    let is_annotated = ours.manifest.digest() != once.manifest.digest();
    assert!(!is_annotated || filter::is_made_from(&annotated, raw.digest(), filter));
    assert_eq!(annotated.manifests, ours.kept);
    Some((all.min(9), kept.len().min(9), is_annotated))
}

fn filters() -> [Filter; 4] {
    let two = ["linux/amd64", "linux/arm64"].map(|name| name.parse().unwrap());
    let some = Filter { platforms: Platforms::only(two).unwrap(), ..Filter::default() };
    let bare = Filter { attestations: Attestations::Drop, ..some.clone() };
    let all = Filter { attestations: Attestations::Drop, ..Filter::default() };
    [Filter::default(), some, bare, all]
}

#[test]
fn manifests() {
    let target = Target {
        name: "manifests",
        seeds: &[
            include_str!("index.json"),
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":5,"urls":["x"]}],"subject":{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1},"artifactType":"x/y"}"#,
            r#"{"manifests":[]}"#,
            r#"{"schemaVersion":1,"fsLayers":[]}"#,
            "<html>",
        ],
        tokens: &[
            "\"manifests\":",
            "\"layers\":",
            "\"config\":",
            "\"mediaType\":",
            "\"platform\":",
            "\"digest\":",
            "\"annotations\":",
            "null",
            "[",
            "]",
            "{",
            "}",
            ",",
            "\"linux\"",
            "\"amd64\"",
            "\"vnd.docker.reference.type\":\"attestation-manifest\"",
            "\"application/vnd.docker.distribution.manifest.list.v2+json\"",
            "\"os\":\"\\u001b\"",
            "\"variant\":\"v8\"",
            "\"size\":18446744073709551615",
            "\"x\":[[[[[[[[",
            "1.0",
            "\\u0000",
        ],
    };
    let filters = filters();
    target.run(|input| {
        let bytes = Bytes::copy_from_slice(input);
        let raw = match RawManifest::new(bytes.clone(), Some("application/json")) {
            Ok(raw) => raw,
            Err(error) => return Err((error.kind(), error.to_string().len() / 4)),
        };
        assert_eq!((raw.bytes(), raw.digest()), (&bytes, &Digest::of(input)));
        let reference = raw.reference().map(|(_, artifact_type)| artifact_type.is_some());
        let read = match raw.read() {
            Ok(Manifest::Image(image)) => {
                assert!(image.blobs().len() <= image.layers.len() + 1);
                Ok(image.blobs().len())
            }
            Ok(Manifest::Index(index)) => Ok(index.manifests.len()),
            Err(error) => Err(error.chain().pop().unwrap_or_default().len()),
        };
        Ok((
            raw.media_type(),
            reference,
            read,
            filters.each_ref().map(|filter| check(&raw, filter)),
        ))
    });
}
