//! Tests of the filter.

use std::cell::Cell;

use super::*;
use crate::model::content::Manifest;

/// An index of `entries` (JSON), pretty-printed with odd fields, as sources have them.
fn index(entries: &[String]) -> (RawManifest, Index) {
    let text = format!(
        "{{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"{}\",\n  \"x-odd\": [1, 2.5],\n  \"manifests\": [{}]\n}}",
        MediaType::OciIndex,
        entries.join(",\n")
    );
    let raw = RawManifest::new(text.into(), None).unwrap();
    let Manifest::Index(index) = raw.read().unwrap() else { panic!("an index") };
    (raw, index)
}

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn image(n: u8, platform: &str) -> String {
    let parts: Vec<&str> = platform.split('/').collect();
    let variant = parts.get(2).map(|v| format!(r#","variant":"{v}""#)).unwrap_or_default();
    format!(
        r#"{{"mediaType":"{}","digest":"{}","size":{n},"x":true,"platform":{{"architecture":"{}","os":"{}"{variant}}}}}"#,
        MediaType::OciManifest,
        digest(n),
        parts[1],
        parts[0]
    )
}

/// An entry without a platform.
fn entry(media_type: MediaType, digest: &Digest, size: usize) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

fn nested(raw: &RawManifest) -> String {
    entry(MediaType::OciIndex, raw.digest(), raw.bytes().len())
}

fn attestation(n: u8, of: u8) -> String {
    format!(
        r#"{{"mediaType":"{}","digest":"{}","size":{n},"platform":{{"architecture":"unknown","os":"unknown"}},"annotations":{{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":"{}"}}}}"#,
        MediaType::OciManifest,
        digest(n),
        digest(of)
    )
}

fn filter_of(platforms: &[&str], attestations: Attestations) -> Filter {
    let platforms = Platforms::only(platforms.iter().map(|p| p.parse().unwrap()));
    Filter { platforms: platforms.unwrap_or_default(), attestations, ..Filter::default() }
}

fn multi() -> (RawManifest, Index) {
    index(&[
        image(1, "linux/amd64"),
        image(2, "linux/arm64/v8"),
        image(3, "linux/arm/v7"),
        attestation(11, 1),
        attestation(12, 2),
        attestation(13, 3),
    ])
}

fn kept(wanted: &Filter) -> Vec<Digest> {
    let (raw, index) = multi();
    let filtered = filter(&raw, &index, wanted, &HashMap::new()).unwrap();
    filtered.kept.into_iter().map(|entry| entry.digest).collect()
}

#[test]
fn attestations_stay_with_the_image_they_describe() {
    for (platforms, attestations, expected) in [
        (&["linux/amd64"][..], Attestations::Keep, &[1, 11][..]),
        (&["linux/arm64", "linux/arm"], Attestations::Keep, &[2, 3, 12, 13]),
        (&["linux/amd64"], Attestations::Drop, &[1]),
        (&[], Attestations::Drop, &[1, 2, 3]),
        (&[], Attestations::Keep, &[1, 2, 3, 11, 12, 13]),
        (&["linux/s390x"], Attestations::Keep, &[]),
    ] {
        let expected: Vec<Digest> = expected.iter().map(|&n| digest(n)).collect();
        assert_eq!(kept(&filter_of(platforms, attestations)), expected, "{platforms:?}");
    }
}

#[test]
fn an_index_without_removed_entries_keeps_its_bytes() {
    let (raw, index) = multi();
    let all = filter_of(&["linux/amd64", "linux/arm64", "linux/arm"], Attestations::Keep);
    let filtered = filter(&raw, &index, &all, &HashMap::new()).unwrap();
    let filtered = annotated(filtered, raw.digest(), &all).unwrap();
    assert_eq!(filtered.manifest, raw);
}

#[test]
fn a_filtered_index_keeps_its_order_and_unknown_fields() {
    let (raw, index) = multi();
    let one = filter_of(&["linux/amd64"], Attestations::Drop);
    let filtered = filter(&raw, &index, &one, &HashMap::new()).unwrap();
    let filtered = annotated(filtered, raw.digest(), &one).unwrap();
    let expected = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","x-odd":[1,2.5],"manifests":[{}],"annotations":{{"{SOURCE_DIGEST}":"{}","{FILTER}":"platforms=linux/amd64;attestations=drop"}}}}"#,
        MediaType::OciIndex,
        image(1, "linux/amd64"),
        raw.digest()
    );
    assert_eq!(String::from_utf8_lossy(filtered.manifest.bytes()), expected);
}

#[test]
fn annotations_identify_source_and_filter() {
    let (raw, index) = multi();
    let one = filter_of(&["linux/amd64"], Attestations::Keep);
    let made = annotated(filter(&raw, &index, &one, &HashMap::new()).unwrap(), raw.digest(), &one);
    let Manifest::Index(made) = made.unwrap().manifest.read().unwrap() else { panic!("an index") };
    assert!(is_made_from(&made, raw.digest(), &one));
    assert!(!is_made_from(&made, &digest(99), &one));
    assert!(!is_made_from(&made, raw.digest(), &filter_of(&["linux/arm64"], Attestations::Keep)));
    assert!(!is_made_from(&index, raw.digest(), &one));
    assert_eq!(recorded_source(&made), Some(raw.digest().as_str()));
    assert_eq!(recorded_source(&index), None);
}

#[test]
fn nested_indexes_are_filtered_and_dropped_if_empty() {
    let one = filter_of(&["linux/amd64"], Attestations::Keep);
    let (inner, inner_index) = index(&[image(1, "linux/amd64"), image(2, "linux/arm64")]);
    let (empty, empty_index) = index(&[image(3, "linux/arm64")]);
    let (outer, outer_index) = index(&[nested(&inner), nested(&empty)]);
    let known = [(&inner, &inner_index), (&empty, &empty_index)].map(|(raw, index)| {
        let filtered = filter(raw, index, &one, &HashMap::new()).unwrap();
        (raw.digest().clone(), EntryContent::Index(filtered))
    });
    let EntryContent::Index(inner_filtered) = known[0].1.clone() else { unreachable!() };
    let filtered = filter(&outer, &outer_index, &one, &known.into()).unwrap();
    assert_eq!(filtered.kept.len(), 1);
    assert_eq!(&filtered.kept[0].digest, inner_filtered.manifest.digest());
    assert_eq!(filtered.kept[0].size, inner_filtered.manifest.bytes().len() as u64);
    let Manifest::Index(read) = filtered.manifest.read().unwrap() else { panic!("an index") };
    assert_eq!(read.manifests, filtered.kept);
    let available: Vec<String> = filtered.available.iter().map(Platform::to_string).collect();
    assert_eq!(available, ["linux/amd64", "linux/arm64"]);
}

#[test]
fn a_missing_platform_fails_or_warns_and_lists_the_available_ones() {
    let have: Vec<Platform> = vec!["linux/amd64".parse().unwrap(), "linux/arm/v7".parse().unwrap()];
    let mut wanted = filter_of(&["linux/amd64", "linux/s390x"], Attestations::Keep);
    let error = check_platforms(&wanted, &have[..1], &have).unwrap_err();
    assert_eq!(error.kind(), Kind::PlatformMissing);
    assert_eq!(
        error.to_string(),
        "no image for linux/s390x (available: linux/amd64, linux/arm/v7)"
    );
    wanted.missing = MissingPlatform::Warn;
    assert!(check_platforms(&wanted, &have[..1], &have).unwrap().is_some());
    assert!(check_platforms(&wanted, &[], &have).is_err(), "nothing left is never a warning");
    assert!(
        check_platforms(&filter_of(&["linux/amd64"], Attestations::Keep), &have, &have)
            .unwrap()
            .is_none()
    );
}

#[test]
fn an_index_that_is_listed_a_thousand_times_is_expanded_once() {
    let platforms = ["linux/amd64", "linux/arm64"];
    let (inner, inner_index) = index(&[image(1, platforms[0]), image(2, platforms[1])]);
    let all = filter_of(&[], Attestations::Keep);
    let filtered = filter(&inner, &inner_index, &all, &HashMap::new()).unwrap();
    let entry = entry(MediaType::OciIndex, inner.digest(), 1);
    let (outer, outer_index) = index(&vec![entry; 1_000]);
    let known = HashMap::from([(inner.digest().clone(), EntryContent::Index(filtered))]);
    let filtered = filter(&outer, &outer_index, &all, &known).unwrap();
    let names: Vec<String> = filtered.platforms.iter().map(Platform::to_string).collect();
    assert_eq!(names, platforms);
    assert_eq!(filtered.available, filtered.platforms);

    let expanded = Cell::new(0);
    let found = platforms_of(outer_index.manifests.iter(), &known, |nested| {
        expanded.set(expanded.get() + 1);
        &nested.platforms
    });
    assert_eq!((found, expanded.get()), (filtered.platforms, 1));
}

#[test]
fn an_index_of_unchanged_indexes_keeps_its_bytes() {
    let one = filter_of(&["linux/amd64"], Attestations::Keep);
    let (inner, inner_index) = index(&[image(1, "linux/amd64")]);
    let (outer, outer_index) = index(&[nested(&inner)]);
    let filtered = filter(&inner, &inner_index, &one, &HashMap::new()).unwrap();
    let known = HashMap::from([(inner.digest().clone(), EntryContent::Index(filtered))]);
    let filtered = filter(&outer, &outer_index, &one, &known).unwrap();
    assert_eq!(filtered.manifest, outer);
    assert_eq!(filtered.kept, outer_index.manifests);
}

#[test]
fn an_entry_without_a_platform_has_that_of_its_configuration() {
    let bare = |n: u8| entry(MediaType::OciManifest, &digest(n), 1);
    let (raw, index) = index(&[bare(1), bare(2), bare(3)]);
    let platform = |n: u8, platform: &str| {
        (digest(n), EntryContent::Image(platform.parse::<Platform>().unwrap()))
    };
    let known = HashMap::from([platform(1, "linux/amd64"), platform(2, "linux/arm64")]);
    for (platforms, expected, kept_platforms) in [
        (&["linux/amd64"][..], &[1][..], &["linux/amd64"][..]),
        (&["linux/arm64", "linux/s390x"], &[2], &["linux/arm64"]),
        // the platform of the third one is unknown
        (&[], &[1, 2, 3], &["linux/amd64", "linux/arm64"]),
    ] {
        let wanted = filter_of(platforms, Attestations::Keep);
        let filtered = filter(&raw, &index, &wanted, &known).unwrap();
        let kept: Vec<Digest> = filtered.kept.into_iter().map(|entry| entry.digest).collect();
        assert_eq!(kept, expected.iter().map(|&n| digest(n)).collect::<Vec<_>>(), "{platforms:?}");
        let names = |platforms: &[Platform]| -> Vec<String> {
            platforms.iter().map(Platform::to_string).collect()
        };
        assert_eq!(names(&filtered.platforms), kept_platforms, "{platforms:?}");
        assert_eq!(names(&filtered.available), ["linux/amd64", "linux/arm64"], "{platforms:?}");
    }
}

#[test]
fn an_attestation_that_the_source_does_not_serve_is_removed_and_its_image_stays() {
    let (raw, index) = multi();
    let known = HashMap::from([(digest(12), EntryContent::Unserved)]);
    for (platforms, expected) in
        [(&[][..], &[1, 2, 3, 11, 13][..]), (&["linux/arm64"], &[2]), (&["linux/amd64"], &[1, 11])]
    {
        let wanted = filter_of(platforms, Attestations::Keep);
        let filtered = filter(&raw, &index, &wanted, &known).unwrap();
        let kept: Vec<Digest> = filtered.kept.into_iter().map(|entry| entry.digest).collect();
        assert_eq!(kept, expected.iter().map(|&n| digest(n)).collect::<Vec<_>>(), "{platforms:?}");
    }
}

/// A filtered index whose document has these annotations.
fn annotated_again(media_type: MediaType, annotations: &str) -> (Value, RawManifest) {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{},{}],"annotations":{annotations}}}"#,
        image(1, "linux/amd64"),
        image(2, "linux/arm64")
    );
    let raw = RawManifest::new(text.into(), None).unwrap();
    let Manifest::Index(index) = raw.read().unwrap() else { panic!("an index") };
    let one = filter_of(&["linux/amd64"], Attestations::Keep);
    let filtered = filter(&raw, &index, &one, &HashMap::new()).unwrap();
    let made = annotated(filtered, raw.digest(), &one).unwrap().manifest;
    (serde_json::from_slice(made.bytes()).unwrap(), raw)
}

#[test]
fn an_index_keeps_its_own_annotations_beside_ours() {
    for (annotations, kept) in [(r#"{"org.example":"x"}"#, Some("x")), ("null", None)] {
        let (made, source) = annotated_again(MediaType::OciIndex, annotations);
        let annotations = &made["annotations"];
        assert_eq!(annotations["org.example"].as_str(), kept);
        assert_eq!(annotations[SOURCE_DIGEST], source.digest().as_str());
        assert_eq!(annotations[FILTER], "platforms=linux/amd64;attestations=keep");
    }
}

#[test]
fn a_docker_manifest_list_gets_no_annotations() {
    let (made, _) = annotated_again(MediaType::DockerList, "{}");
    assert_eq!(made["annotations"], serde_json::json!({}));
    assert_eq!(made["manifests"].as_array().unwrap().len(), 1);
}

#[test]
fn an_image_that_does_not_name_its_platform_fails_or_warns() {
    let mut wanted = filter_of(&["linux/amd64"], Attestations::Keep);
    let problem = "the image does not name its platform (linux/amd64 wanted)";
    let error = check_unknown_platform(&wanted).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Kind::PlatformMissing, problem));
    wanted.missing = MissingPlatform::Warn;
    assert_eq!(check_unknown_platform(&wanted).unwrap(), problem);
}

#[test]
fn an_error_lists_at_most_32_platforms() {
    let wanted = filter_of(&["linux/s390x"], Attestations::Keep);
    let message =
        |available: &[Platform]| check_platforms(&wanted, &[], available).unwrap_err().to_string();
    assert_eq!(message(&[]), "no image for linux/s390x (available: none)");
    let available = |count: usize| -> Vec<Platform> {
        (0..count).map(|n| format!("linux/p{n}").parse().unwrap()).collect()
    };
    assert!(message(&available(32)).ends_with("linux/p30, linux/p31)"));
    assert!(message(&available(35)).ends_with("linux/p30, linux/p31 and 3 more)"));
}
