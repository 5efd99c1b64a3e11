//! Which manifests the walk reads, and what it keeps.

use oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::model::{Attestations, Error, Kind, MediaType, MissingPlatform, nesting::DEPTH};

/// Manifests in memory. Records the ones that are read.
#[derive(Default)]
struct FakeReader {
    manifests: HashMap<Digest, RawManifest>,
    /// By the digest of the configuration.
    platforms: HashMap<Digest, Platform>,
    reads: Mutex<Vec<Digest>>,
    /// The kind of the error for other manifests; `None` for [`Kind::NotFound`].
    error: Option<Kind>,
}

impl ImageReader for FakeReader {
    async fn manifest(&self, digest: &Digest) -> Result<RawManifest> {
        self.reads.lock().push(digest.clone());
        let found = self.manifests.get(digest).cloned();
        let kind = self.error.unwrap_or(Kind::NotFound);
        found.ok_or_else(|| Error::new(kind, "no such manifest"))
    }

    async fn platform(&self, config: &Descriptor) -> Result<Option<Platform>> {
        Ok(self.platforms.get(&config.digest).cloned())
    }
}

impl FakeReader {
    fn add(&mut self, document: &Value) -> RawManifest {
        let raw = RawManifest::new(document.to_string().into(), None).unwrap();
        self.manifests.insert(raw.digest().clone(), raw.clone());
        raw
    }

    /// An image whose configuration names this platform.
    fn image(&mut self, n: u8, config_type: &str, platform: Option<&str>) -> RawManifest {
        let config = Digest::of(&[n]);
        let named = platform.map(|it| (config.clone(), it.parse().unwrap()));
        self.platforms.extend(named);
        self.add(&json!({ "schemaVersion": 2, "mediaType": MediaType::OciManifest.as_str(),
            "config": { "mediaType": config_type, "digest": config.as_str(), "size": 1 } }))
    }

    fn index(&mut self, entries: &[Value]) -> RawManifest {
        self.add(&json!({ "schemaVersion": 2, "mediaType": MediaType::OciIndex.as_str(),
            "manifests": entries }))
    }

    async fn filter(&self, root: &RawManifest, filter: &Filter) -> Result<Tree> {
        filter_image(self, root.clone(), filter, &BTreeSet::new()).await
    }

    fn take_reads(&self) -> Vec<Digest> {
        std::mem::take(&mut self.reads.lock())
    }
}

/// An index entry without a platform.
fn bare(raw: &RawManifest) -> Value {
    json!({ "mediaType": raw.media_type().as_str(), "digest": raw.digest().as_str(),
        "size": raw.bytes().len() })
}

fn with_platform(raw: &RawManifest, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    let mut entry = bare(raw);
    entry["platform"] = json!({ "os": os, "architecture": architecture });
    entry
}

/// The entry of an attestation without a platform.
fn attestation(raw: &RawManifest, of: &RawManifest) -> Value {
    let mut entry = bare(raw);
    entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": of.digest().as_str() });
    entry
}

fn filter_of(platforms: &[&str]) -> Filter {
    let platforms = Platforms::only(platforms.iter().map(|it| it.parse().unwrap()));
    Filter { platforms: platforms.unwrap_or_default(), ..Filter::default() }
}

fn digests(images: &[Descriptor]) -> Vec<&Digest> {
    images.iter().map(|image| &image.digest).collect()
}

#[tokio::test]
async fn only_an_entry_whose_descriptor_does_not_suffice_is_read() {
    let mut reader = FakeReader::default();
    let amd64 = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, Some("linux/amd64"));
    let arm64 = reader.image(2, IMAGE_CONFIG_MEDIA_TYPE, Some("linux/arm64"));
    let attesting = reader.image(3, IMAGE_CONFIG_MEDIA_TYPE, None);
    let named = with_platform(&amd64, "linux/amd64");
    let root =
        reader.index(&[named.clone(), bare(&arm64), bare(&arm64), attestation(&attesting, &amd64)]);
    let everything = reader.filter(&root, &filter_of(&[])).await.unwrap();
    assert_eq!(everything.root.manifest, root);
    assert_eq!(reader.take_reads(), []);

    let one = reader.filter(&root, &filter_of(&["linux/amd64"])).await.unwrap();
    assert_eq!(digests(&one.images), [amd64.digest(), attesting.digest()]);
    assert_eq!(reader.take_reads(), [arm64.digest().clone()], "once");

    let inner = reader.index(&[named]);
    let outer = reader.index(&[bare(&inner), bare(&arm64), bare(&inner)]);
    let everything = reader.filter(&outer, &filter_of(&[])).await.unwrap();
    assert_eq!(reader.take_reads(), [inner.digest().clone()]);
    assert_eq!(everything.nested, [inner]);
    assert_eq!(digests(&everything.images), [amd64.digest(), arm64.digest()]);
}

#[tokio::test]
async fn a_nested_index_that_the_filter_changes_is_pushed_before_the_outer_one() {
    let mut reader = FakeReader::default();
    let amd64 = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, Some("linux/amd64"));
    let arm64 = reader.image(2, IMAGE_CONFIG_MEDIA_TYPE, Some("linux/arm64"));
    let inner = reader.index(&[bare(&amd64), bare(&arm64)]);
    let outer = reader.index(&[bare(&inner)]);
    let root = reader.index(&[bare(&outer), bare(&amd64)]);
    let tree = reader.filter(&root, &filter_of(&["linux/amd64"])).await.unwrap();
    let [first, second] = &tree.nested[..] else { panic!("{:?}", tree.nested) };
    for (index, entries) in [(first, vec![amd64.digest()]), (second, vec![first.digest()])] {
        let Manifest::Index(index) = index.read().unwrap() else { panic!("an index") };
        assert_eq!(digests(&index.manifests), entries);
    }
    assert_eq!(digests(&tree.root.kept), [second.digest(), amd64.digest()]);
    assert_eq!(digests(&tree.images), [amd64.digest(), amd64.digest()]);
}

#[tokio::test]
async fn indexes_are_nested_up_to_the_limit() {
    for (levels, expected) in [(DEPTH, Ok(())), (DEPTH + 1, Err(Kind::Unsupported))] {
        let mut reader = FakeReader::default();
        let image = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, None);
        let mut root = reader.index(&[bare(&image)]);
        for _ in 0..levels {
            root = reader.index(&[bare(&root)]);
        }
        let tree = reader.filter(&root, &filter_of(&[])).await;
        assert_eq!(tree.map(drop).map_err(|error| error.kind()), expected, "{levels}");
    }
}

#[tokio::test]
async fn a_single_image_is_checked_against_the_filter_and_an_artifact_is_not() {
    let mut reader = FakeReader::default();
    let amd64 = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, Some("linux/amd64"));
    let unknown = reader.image(2, IMAGE_CONFIG_MEDIA_TYPE, None);
    let chart = reader.image(3, "application/vnd.cncf.helm.config.v1+json", None);
    for (root, platforms, missing, expected) in [
        (&amd64, &["linux/amd64"][..], MissingPlatform::Fail, Ok(0)),
        (&amd64, &["linux/arm64"], MissingPlatform::Fail, Err(Kind::PlatformMissing)),
        (&amd64, &["linux/arm64"], MissingPlatform::Warn, Err(Kind::PlatformMissing)),
        (&amd64, &["linux/amd64", "linux/arm64"], MissingPlatform::Warn, Ok(1)),
        (&unknown, &["linux/amd64"], MissingPlatform::Fail, Err(Kind::PlatformMissing)),
        (&unknown, &["linux/amd64"], MissingPlatform::Warn, Ok(1)),
        (&unknown, &[], MissingPlatform::Fail, Ok(0)),
        (&chart, &["linux/amd64"], MissingPlatform::Fail, Ok(0)),
    ] {
        let filter = Filter { missing, ..filter_of(platforms) };
        let tree = reader.filter(root, &filter).await;
        let tree = tree.map(|tree| {
            assert_eq!(&tree.root.manifest, root);
            tree.warnings.len()
        });
        assert_eq!(tree.map_err(|error| error.kind()), expected, "{platforms:?}");
    }
}

#[tokio::test]
async fn attestations_that_the_source_does_not_serve_are_counted_in_the_warning() {
    let mut reader = FakeReader::default();
    let image = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, None);
    let attesting: Vec<RawManifest> =
        (2..5).map(|n| reader.image(n, IMAGE_CONFIG_MEDIA_TYPE, None)).collect();
    let mut entries = vec![with_platform(&image, "linux/amd64")];
    entries.extend(attesting.iter().map(|raw| attestation(raw, &image)));
    let root = reader.index(&entries);
    for (unserved, others) in [(1, ""), (3, " and 2 more")] {
        let unserved: BTreeSet<Digest> =
            attesting[..unserved].iter().map(|raw| raw.digest().clone()).collect();
        let filter = Filter { attestations: Attestations::Keep, ..filter_of(&[]) };
        let tree = filter_image(&reader, root.clone(), &filter, &unserved).await.unwrap();
        let first = unserved.first().unwrap();
        let warning =
            format!("omitted attestation {first}{others}, which the source does not serve");
        assert_eq!(tree.warnings, [warning]);
        assert_eq!(tree.images.len(), 4 - unserved.len());
    }
    assert_eq!(reader.take_reads(), []);
}

#[tokio::test]
async fn only_an_attestation_may_be_missing_at_the_source() {
    for (attests, kind, expected) in [
        (true, Kind::NotFound, Ok(1)),
        (true, Kind::Denied, Err(Kind::Denied)),
        (false, Kind::NotFound, Err(Kind::NotFound)),
    ] {
        let mut reader = FakeReader { error: Some(kind), ..FakeReader::default() };
        let image = reader.image(1, IMAGE_CONFIG_MEDIA_TYPE, None);
        let missing = reader.image(2, IMAGE_CONFIG_MEDIA_TYPE, None);
        reader.manifests.remove(missing.digest());
        let entry = if attests { attestation(&missing, &image) } else { bare(&missing) };
        let entries: [Descriptor; 2] =
            [bare(&image), entry].map(|it| serde_json::from_value(it).unwrap());
        let read = read_images(&reader, &Vec::from_iter(&entries), 2).await;
        let read = read.map(|read| {
            let attestations = read.unwrap_err().attestations;
            assert_eq!(attestations, [missing.digest().clone()]);
            attestations.len()
        });
        assert_eq!(read.map_err(|error| error.kind()), expected, "{attests} {kind:?}");
    }
}

#[tokio::test]
async fn the_manifests_of_an_image_have_at_most_32_mib_in_total() {
    let mut reader = FakeReader::default();
    let empty = r#"{"config":{},"x":""}"#;
    let padding = "a".repeat(MANIFEST_BYTES / 8 - empty.len());
    let large = empty.replace(r#""""#, &format!(r#""{padding}""#));
    let large = RawManifest::new(large.into(), None).unwrap();
    let mut entries: Vec<Descriptor> = Vec::new();
    for n in 0..9 {
        let digest = Digest::of(&[n]);
        let entry = json!({ "digest": digest.as_str(), "size": large.bytes().len() });
        entries.push(serde_json::from_value(entry).unwrap());
        reader.manifests.insert(digest, large.clone());
    }
    for (count, expected) in [(8, Ok(8)), (9, Err(Kind::Unsupported))] {
        let read = read_images(&reader, &Vec::from_iter(&entries[..count]), 2).await;
        let read = read.map(|read| read.unwrap().len()).map_err(|error| error.kind());
        assert_eq!(read, expected);
    }
}
