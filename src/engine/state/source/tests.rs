//! Tests of the reader of a source: its cache, its share of a pull limit, its errors.

use std::{sync::atomic::AtomicU64, time::Duration};

use serde_json::{Value, json};

use super::*;
use crate::{
    model::{Host, MediaType},
    remote::ByteStream,
};

/// A registry whose last answer named these remaining pulls, and the pulls that were spent.
struct Metered(AtomicU64, AtomicU64);

impl PullLimits for Metered {
    fn allowance(&self) -> Option<Allowance> {
        let remaining = self.0.load(Relaxed);
        Some(Allowance { limit: 100, remaining, window: Duration::from_secs(21_600) })
    }

    fn pulls_spent(&self) -> u64 {
        self.1.load(Relaxed)
    }
}

#[test]
fn shares_of_a_pull_limit_are_together_at_most_what_is_left() {
    let source = Arc::new(Metered(60.into(), 0.into()));
    let endpoint = SourceEndpoint {
        pull_shares: NonZeroU32::new(4).unwrap(),
        reserved_pulls: 10,
        source: Arc::clone(&source),
    };
    let location = Location::from("docker.io".parse::<Host>().unwrap());
    let registry = SourceRegistry::new(location, endpoint, Arc::default());
    // the pulls that the registry has left, those that this run spent, and those that it may spend
    for (left, spent, expected) in [
        (60, 0, 15),
        (60, 5, 10),
        // the others pull, too
        (40, 5, 10),
        (7, 5, 7),
        (0, 12, 0),
        // a new window
        (100, 15, 25),
        (100, 40, 0),
    ] {
        source.0.store(left, Relaxed);
        source.1.store(spent, Relaxed);
        let allowance = registry.allowance().unwrap();
        assert_eq!((allowance.limit, allowance.remaining), (25, expected), "{left} {spent}");
    }
    assert_eq!(registry.budget.window(registry.allowance().unwrap()), 22, "3 of 10 reserved");
}

#[test]
fn the_oldest_manifests_leave_a_full_cache() {
    let mut cache = ManifestCache::default();
    let [first, second, third, large] = [1, 2, 3, 4].map(|n| Digest::of(&[n]));
    let mut keep = |digest: &Digest, bytes| {
        cache.cell(digest);
        cache.keep(digest, bytes);
        [&first, &second, &third, &large].map(|it| cache.cells.contains_key(it))
    };
    let half = CACHE_BYTES / 2;
    assert_eq!(keep(&first, half), [true, false, false, false]);
    assert_eq!(keep(&second, half), [true, true, false, false], "just full");
    assert_eq!(keep(&third, 1), [false, true, true, false]);
    assert_eq!(keep(&large, CACHE_BYTES), [false, false, false, true]);
    assert_eq!(keep(&first, 1), [true, false, false, false]);
    assert_eq!((cache.bytes, cache.order.len()), (1, 1));
}

/// An unlimited registry that serves these manifests.
struct Unlimited(Vec<RawManifest>);

impl PullLimits for Unlimited {
    fn starts_slowly(&self) -> bool {
        true
    }
}

impl Source for Unlimited {
    async fn digests(&self, _: &Repository, _: &[Tag]) -> HashMap<Tag, Digest> {
        HashMap::new()
    }

    async fn resolve(&self, _: &Repository, _: &Tag) -> Result<Digest> {
        Err(Error::new(Kind::NotFound, "no tag"))
    }

    async fn manifest(&self, _: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        let found = self.0.iter().find(|it| *at == TagOrDigest::Digest(it.digest().clone()));
        found.cloned().ok_or_else(|| Error::new(Kind::NotFound, "no manifest"))
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    async fn blob(&self, _: &Repository, _: &Descriptor, _: u64) -> Result<ByteStream> {
        Err(Error::new(Kind::NotFound, "no blob"))
    }
}

fn reader(manifests: Vec<RawManifest>) -> Reader<Unlimited> {
    let endpoint = SourceEndpoint {
        pull_shares: NonZeroU32::MIN,
        reserved_pulls: 0,
        source: Arc::new(Unlimited(manifests)),
    };
    let location = Location::from("quay.io".parse::<Host>().unwrap());
    let registry = Arc::new(SourceRegistry::new(location, endpoint, Arc::default()));
    let queue = Arc::new(registry.budget.queue(0));
    Reader::new(registry, "team/app".parse().unwrap(), queue)
}

fn manifest(media_type: MediaType, members: Value) -> RawManifest {
    let mut document = members;
    document["schemaVersion"] = json!(2);
    document["mediaType"] = json!(media_type.as_str());
    RawManifest::new(document.to_string().into(), None).unwrap()
}

fn empty_index() -> RawManifest {
    manifest(MediaType::OciIndex, json!({ "manifests": [] }))
}

#[tokio::test]
async fn a_manifest_that_was_read_is_cached_with_its_bytes_and_an_index_needs_more_pulls() {
    let config = json!({ "mediaType": "x/y", "size": 2, "digest": Digest::of(b"{}").as_str() });
    let image = manifest(MediaType::OciManifest, json!({ "config": config, "layers": [] }));
    let index = empty_index();
    let reader = reader(vec![index.clone()]);
    let is_cached =
        |it: &RawManifest| (reader.is_cached(it.digest()), reader.has_cached_image(it.digest()));
    assert_eq!([&image, &index].map(is_cached), [(false, false); 2]);
    reader.remember(&image);
    let read = reader.manifest(index.digest()).await.unwrap();
    assert_eq!(read.bytes(), index.bytes());
    assert_eq!([&image, &index].map(is_cached), [(true, true), (true, false)]);
    // from the cache, and counted once
    reader.manifest(image.digest()).await.unwrap();
    reader.manifest(index.digest()).await.unwrap();
    reader.remember(&index);
    let expected = 2 * ENTRY_BYTES + image.bytes().len() + index.bytes().len();
    assert_eq!(reader.registry.manifests.lock().bytes, expected);
}

#[tokio::test]
async fn the_manifest_of_a_tag_is_known_to_its_image_after_the_cache_forgets_it() {
    let index = empty_index();
    let reader = reader(Vec::new());
    reader.tagged.set(index.clone()).unwrap();
    assert!(reader.is_cached(index.digest()));
    assert!(!reader.is_cached(&Digest::of(b"another")));
}

#[test]
fn one_image_starts_a_registry() {
    let reader = reader(Vec::new());
    assert_eq!([(); 3].map(|()| reader.starts_registry()), [true, false, false]);
}

#[test]
fn the_error_of_a_corrupt_manifest_names_its_repository_once() {
    let reader = reader(Vec::new());
    let named = |kind, problem: &str| reader.named(Error::new(kind, problem)).to_string();
    let corrupt = named(Kind::Corrupt, "it is empty");
    assert!(corrupt.contains("cannot use a manifest of quay.io/team/app"), "{corrupt}");
    for (kind, problem) in [
        (Kind::Corrupt, "GET quay.io/v2/team/app/manifests/1: it is empty"),
        (Kind::Unavailable, "503"),
    ] {
        let error = named(kind, problem);
        assert!(!error.contains("cannot use a manifest"), "{error}");
    }
}
