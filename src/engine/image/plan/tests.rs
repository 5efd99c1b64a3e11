//! Tests of the pure functions that decide what a target needs.

use serde_json::{Value, json};

use super::*;

fn digest(n: u8) -> Digest {
    Digest::of(&[n])
}

fn platform(text: &str) -> Platform {
    text.parse().unwrap()
}

fn listed(entries: &[(u8, &str)]) -> Vec<ListedImage> {
    let entries = entries.iter().map(|(n, text)| (platform(text), digest(*n)));
    entries.map(|(platform, digest)| ListedImage { platform, digest }).collect()
}

fn filter_of(platforms: &[&str], attestations: Attestations) -> Filter {
    let platforms = Platforms::only(platforms.iter().map(|text| platform(text)));
    Filter { platforms: platforms.unwrap_or_default(), attestations, ..Filter::default() }
}

fn image(n: u8, text: &str) -> Value {
    let Platform { os, architecture, variant, .. } = platform(text);
    json!({ "mediaType": MediaType::OciManifest.as_str(), "digest": digest(n).as_str(), "size": n,
        "platform": { "os": os, "architecture": architecture, "variant": variant } })
}

fn attestation(n: u8, of: u8) -> Value {
    let mut entry = image(n, "unknown/unknown");
    entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": digest(of).as_str() });
    entry
}

fn index(entries: &[Value]) -> (RawManifest, Index) {
    let document = json!({ "schemaVersion": 2, "mediaType": MediaType::OciIndex.as_str(),
        "manifests": entries });
    let raw = RawManifest::new(document.to_string().into(), None).unwrap();
    let Manifest::Index(index) = raw.read().unwrap() else { panic!("an index") };
    (raw, index)
}

const AMD64: (u8, &str) = (1, "linux/amd64");
const ARM64: (u8, &str) = (2, "linux/arm64");
const OF_AMD64: (u8, &str) = (11, "unknown/unknown");
const OF_ARM64: (u8, &str) = (12, "unknown/unknown");

#[test]
fn an_index_is_up_to_date_if_it_has_the_listed_entries_that_the_filter_keeps() {
    use Attestations::{Drop, Keep};
    let [amd64, arm64] = [AMD64, ARM64].map(|(n, platform)| image(n, platform));
    let [of_amd64, of_arm64] = [attestation(11, 1), attestation(12, 2)];
    let bare = listed(&[AMD64, ARM64]);
    let attested = listed(&[AMD64, ARM64, OF_AMD64, OF_ARM64]);
    let one = &["linux/amd64"][..];
    for (case, entries, listed, platforms, attestations, expected) in [
        ("one image", vec![&amd64], &bare, one, Keep, true),
        ("an image too many", vec![&amd64, &arm64], &bare, one, Keep, false),
        ("the other image", vec![&arm64], &bare, one, Keep, false),
        ("every image", vec![&amd64, &arm64], &bare, &[], Keep, true),
        ("an image too few", vec![&amd64], &bare, &[], Keep, false),
        ("no image", vec![], &bare, &["linux/s390x"], Keep, false),
        ("without attestations", vec![&amd64], &attested, one, Drop, true),
        ("attestations to drop", vec![&amd64, &of_amd64], &attested, one, Drop, false),
        ("its attestation", vec![&amd64, &of_amd64], &attested, one, Keep, true),
        ("no attestation", vec![&amd64], &attested, one, Keep, false),
        ("of another image", vec![&amd64, &of_arm64], &attested, one, Keep, false),
        ("unlisted", vec![&amd64, &of_amd64], &bare, one, Keep, false),
        ("one of two", vec![&amd64, &arm64, &of_amd64], &attested, &[], Keep, false),
        (
            "both attestations",
            vec![&amd64, &arm64, &of_amd64, &of_arm64],
            &attested,
            &[],
            Keep,
            true,
        ),
    ] {
        let entries: Vec<Value> = entries.into_iter().cloned().collect();
        let (_, index) = index(&entries);
        let filter = filter_of(platforms, attestations);
        let made = is_made_from_listed(&digest(99), Some(&index), listed, &filter);
        assert_eq!(made.is_some(), expected, "{case}");
        if let Some(platforms) = made {
            assert!(platforms.contains(&platform("linux/amd64")), "{case}: {platforms:?}");
        }
    }
    // the attestation of the source is another one
    let (_, rebuilt) = index(&[amd64, attestation(13, 1)]);
    let filter = filter_of(one, Keep);
    assert_eq!(is_made_from_listed(&digest(99), Some(&rebuilt), &attested, &filter), None);
}

#[test]
fn a_flattened_image_is_up_to_date_if_it_is_the_only_listed_image_that_the_filter_keeps() {
    let listed = listed(&[AMD64, ARM64, OF_AMD64]);
    for (n, platforms, expected) in [
        (1, &["linux/amd64"][..], true),
        (2, &["linux/amd64"], false),
        (1, &["linux/amd64", "linux/arm64"], false),
        (1, &["linux/s390x"], false),
    ] {
        let filter = filter_of(platforms, Attestations::Keep);
        let made = is_made_from_listed(&digest(n), None, &listed, &filter);
        let expected = expected.then(|| vec![platform("linux/amd64")]);
        assert_eq!(made, expected, "{n} {platforms:?}");
    }
}

#[test]
fn the_sources_own_index_is_up_to_date_only_if_the_filter_keeps_all_of_it() {
    use Attestations::{Drop, Keep};
    let (amd64, arm64) = (image(1, "linux/amd64"), image(2, "linux/arm64"));
    let mut bare = amd64.clone();
    bare["platform"] = Value::Null;
    let mut nested = bare.clone();
    nested["mediaType"] = MediaType::OciIndex.as_str().into();
    let mut nested_platform = amd64.clone();
    nested_platform["mediaType"] = MediaType::OciIndex.as_str().into();
    for (case, entries, platforms, attestations, expected) in [
        ("all", vec![&amd64, &arm64], &["linux/amd64", "linux/arm64"][..], Keep, true),
        ("one", vec![&amd64, &arm64], &["linux/amd64"], Keep, false),
        ("attestations", vec![&amd64, &arm64], &[], Drop, true),
        ("an unknown platform", vec![&bare], &["linux/amd64"], Keep, false),
        ("no platforms needed", vec![&bare], &[], Drop, true),
        ("a nested index, whole", vec![&nested], &[], Keep, true),
        ("a nested index", vec![&nested], &[], Drop, false),
        ("a nested index of a platform", vec![&nested_platform], &["linux/amd64"], Keep, false),
    ] {
        let entries: Vec<Value> = entries.into_iter().cloned().collect();
        let (raw, index) = index(&entries);
        let filter = filter_of(platforms, attestations);
        let is_made = |source: &Digest, filter: &Filter| {
            is_made_from_source(&raw, &index, source, filter).unwrap()
        };
        assert_eq!(is_made(raw.digest(), &filter), expected, "{case}");
        assert!(!is_made(&digest(99), &filter), "{case}");
        let flat = Filter { shape: Shape::Flat, ..filter };
        assert!(!is_made(raw.digest(), &flat), "{case}: a flattened image is no index");
    }
}

#[test]
fn the_pulls_of_an_image_are_its_index_and_what_the_filter_keeps() {
    use Attestations::{Drop, Keep};
    let all = [AMD64, ARM64, OF_AMD64, OF_ARM64];
    let shared = [AMD64, ARM64, OF_AMD64];
    let one = &["linux/amd64"][..];
    let both = &["linux/amd64", "linux/arm64"][..];
    for (case, entries, platforms, attestations, expected) in [
        ("everything", &all[..], &[][..], Keep, 5),
        ("without attestations", &all, &[], Drop, 3),
        ("one platform", &all, one, Keep, 3),
        ("one platform without attestations", &all, one, Drop, 2),
        ("two platforms", &all, both, Keep, 5),
        ("fewer attestations than images", &shared, both, Keep, 4),
        ("no platform", &all, &["linux/s390x"], Keep, 1),
        ("not an index", &[(99, "linux/amd64")], one, Keep, 1),
    ] {
        let filter = filter_of(platforms, attestations);
        let expected_pulls = ExpectedPulls::of(&digest(99), &listed(entries), &filter);
        assert_eq!(expected_pulls.count(|_| false), expected, "{case}");
        assert_eq!(expected_pulls.count(|_| true), 0, "{case}");
        let without_index = expected_pulls.count(|it| *it == digest(99));
        assert_eq!(without_index, expected - 1, "{case}");
    }
    let filter = filter_of(&[], Keep);
    let expected_pulls = ExpectedPulls::of(&digest(99), &listed(&all), &filter);
    assert_eq!(expected_pulls.count(|it| *it == digest(11)), 4, "an attestation is cached");
    let flat = Filter { shape: Shape::Flat, ..filter_of(one, Keep) };
    assert_eq!(ExpectedPulls::of(&digest(99), &listed(&all), &flat).count(|_| false), 2);
}
