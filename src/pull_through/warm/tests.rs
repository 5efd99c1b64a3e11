//! Warming against a hand-made data plane and a scripted API: what is asked, and what is said.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    ecr::fake::{Answer, FakeApi, refusal},
    model::{Attestations, MediaType, MissingPlatform, Platforms, Tag},
    remote::{ByteStream, PullLimits},
};

mod remedies;

/// The data plane of a registry: one repository, and what was asked of it.
#[derive(Default)]
struct FakeSource {
    manifests: HashMap<String, RawManifest>,
    blobs: HashMap<Digest, Bytes>,
    asked: Mutex<Vec<String>>,
}

impl Source for FakeSource {
    async fn digests(&self, _: &Repository, _: &[Tag]) -> HashMap<Tag, Digest> {
        HashMap::new()
    }

    async fn resolve(&self, _: &Repository, _: &Tag) -> Result<Digest> {
        unreachable!("a tag is pulled, not looked at")
    }

    async fn manifest(&self, _: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        self.asked.lock().push(at.as_str().to_owned());
        let found = self.manifests.get(at.as_str()).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, "404 MANIFEST_UNKNOWN"))
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    async fn blob(&self, _: &Repository, blob: &Descriptor, _: u64) -> Result<ByteStream> {
        self.asked.lock().push(format!("blob {}", blob.digest));
        Ok(stream::iter([Ok(self.blobs[&blob.digest].clone())]).boxed())
    }
}

impl PullLimits for FakeSource {}

impl FakeSource {
    fn put(&mut self, document: &Value) -> RawManifest {
        let manifest = RawManifest::new(document.to_string().into(), None).unwrap();
        self.manifests.insert(manifest.digest().to_string(), manifest.clone());
        manifest
    }

    fn tag(&mut self, tag: &str, manifest: RawManifest) {
        self.manifests.insert(tag.to_owned(), manifest);
    }

    /// An image for this platform, with a layer of its own and one that all share.
    fn image(&mut self, platform: &str) -> RawManifest {
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = json!({ "os": os, "architecture": architecture }).to_string();
        let digest = Digest::of(config.as_bytes());
        let size = config.len();
        self.blobs.insert(digest.clone(), config.into());
        let layer = |of: &str| json!({ "mediaType": "l", "digest": layer(of), "size": 1 });
        self.put(&json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OciManifest.as_str(),
            "config": {
                "mediaType": oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE,
                "digest": digest.as_str(),
                "size": size,
            },
            "layers": [layer(platform), layer("shared")],
        }))
    }

    fn index(&mut self, entries: &[Value]) -> RawManifest {
        self.put(&json!({ "mediaType": MediaType::OciIndex.as_str(), "manifests": entries }))
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

fn layer(of: &str) -> String {
    Digest::of(of.as_bytes()).to_string()
}

fn entry(manifest: &RawManifest) -> Value {
    json!({
        "mediaType": manifest.media_type().as_str(),
        "digest": manifest.digest().as_str(),
        "size": manifest.bytes().len(),
    })
}

fn entry_for(manifest: &RawManifest, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    let mut entry = entry(manifest);
    entry["platform"] = json!({ "os": os, "architecture": architecture });
    entry
}

/// An index `1` of two platforms, one of them with an attestation; the three images.
fn shelf() -> (FakeSource, [String; 3]) {
    let mut shelf = FakeSource::default();
    let (amd, arm) = (shelf.image("linux/amd64"), shelf.image("linux/arm64"));
    let attestation = shelf.image("unknown/unknown");
    let mut third = entry_for(&attestation, "unknown/unknown");
    third["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": amd.digest().as_str(),
    });
    let entries = [entry_for(&amd, "linux/amd64"), entry_for(&arm, "linux/arm64"), third];
    let index = shelf.index(&entries);
    shelf.tag("1", index);
    (shelf, [amd, arm, attestation].map(|it| it.digest().to_string()))
}

fn want(platforms: &[&str]) -> Filter {
    let platforms = platforms.iter().map(|platform| platform.parse().unwrap());
    Filter { platforms: Platforms::only(platforms).unwrap_or_default(), ..Filter::default() }
}

fn cache(upstream: Upstream, prefix: &str) -> Cache {
    Cache { prefix: prefix.parse().unwrap(), ..Cache::of(upstream) }
}

/// An API that has these layers; the others it hands out, or not.
async fn api(has: fn(&str) -> bool, offered: fn() -> Answer) -> FakeApi {
    FakeApi::start(move |action, body| match action {
        "BatchCheckLayerAvailability" => {
            let layers: Vec<Value> = (body["layerDigests"].as_array().unwrap().iter())
                .map(|digest| {
                    let is_there = has(digest.as_str().unwrap());
                    let state = if is_there { "AVAILABLE" } else { "UNAVAILABLE" };
                    json!({ "layerDigest": digest, "layerAvailability": state })
                })
                .collect();
            (200, json!({ "layers": layers, "failures": [] }))
        }
        _ => offered(),
    })
    .await
}

fn url() -> Answer {
    (200, json!({ "downloadUrl": "https://s3.example/?X-Amz-Signature=x" }))
}

async fn warm(
    shelf: FakeSource,
    at: &str,
    want: &Filter,
    api: &FakeApi,
) -> (Result<Warmed>, Arc<FakeSource>) {
    let (session, _) = api.session().await;
    let look = Images::new(session.api, None);
    let source = Arc::new(shelf);
    let [first, longest, total] = [1, 4, 20].map(Duration::from_millis);
    let waits = WaitPolicy { first, longest, total };
    let warmer = Warmer { source: Arc::clone(&source), images: &look, waits };
    let at = match at.parse() {
        Ok(digest) => TagOrDigest::Digest(digest),
        Err(_) => TagOrDigest::Tag(at.parse().unwrap()),
    };
    let (cache, repository) = (cache(Upstream::Quay, "quay"), "quay/a/b".parse().unwrap());
    let pull = Pull { cache: &cache, repository: &repository, at: &at, filter: want };
    (warmer.warm(pull).await, source)
}

fn names(platforms: &[Platform]) -> Vec<String> {
    platforms.iter().map(Platform::to_string).collect()
}

#[tokio::test]
async fn what_is_wanted_is_pulled_by_tag_first_and_then_by_digest_and_nothing_else_is() {
    let dropped = |want: Filter| Filter { attestations: Attestations::Drop, ..want };
    for (want, children, platforms, blobs) in [
        (want(&[]), &[0, 1, 2][..], &["linux/amd64", "linux/arm64"][..], 7),
        (dropped(want(&[])), &[0, 1], &["linux/amd64", "linux/arm64"], 5),
        (want(&["linux/amd64"]), &[0, 2], &["linux/amd64"], 5),
        (dropped(want(&["linux/amd64"])), &[0], &["linux/amd64"], 3),
        (want(&["linux/arm64"]), &[1], &["linux/arm64"], 3),
    ] {
        let (shelf, images) = shelf();
        let root = shelf.manifests["1"].digest().clone();
        let api = api(|_| true, || panic!("every layer is there")).await;
        let (warmed, shelf) = warm(shelf, "1", &want, &api).await;
        let warmed = warmed.unwrap();
        assert_eq!((&warmed.digest, warmed.warning), (&root, None), "{want:?}");
        assert_eq!(names(&warmed.platforms), platforms, "{want:?}");
        let asked = shelf.asked();
        assert_eq!(asked[0], "1", "{want:?}");
        let expected: HashSet<&String> = children.iter().map(|&at| &images[at]).collect();
        assert_eq!(asked[1..].iter().collect::<HashSet<_>>(), expected, "{want:?}");
        let effort = WarmStats { manifests: 1 + children.len(), blobs, fetched: 0 };
        assert_eq!((warmed.stats, asked.len()), (effort, effort.manifests), "{want:?}");
        assert_eq!(api.actions(), ["BatchCheckLayerAvailability"], "in bulk: {want:?}");
    }
}

#[tokio::test]
async fn ecr_fetches_the_layers_that_it_lacks_and_they_are_not_downloaded() {
    let (shelf, _) = shelf();
    let api = api(|digest| digest == layer("shared"), url).await;
    let (warmed, shelf) = warm(shelf, "1", &want(&["linux/arm64"]), &api).await;
    let expected = WarmStats { manifests: 2, blobs: 3, fetched: 2 };
    assert_eq!(warmed.unwrap().stats, expected);
    assert_eq!(shelf.asked().len(), 2, "manifests only");
    let offered = api.bodies("GetDownloadUrlForLayer");
    let offered: HashSet<&str> =
        offered.iter().map(|body| body["layerDigest"].as_str().unwrap()).collect();
    assert_eq!(offered.len(), 2);
    assert!(offered.contains(&*layer("linux/arm64")) && !offered.contains(&*layer("shared")));
}

#[tokio::test]
async fn a_layer_that_is_still_being_imported_is_waited_for() {
    for late in ["LayersNotFoundException", "LayerInaccessibleException"] {
        let asked = AtomicUsize::new(0);
        let api = FakeApi::start(move |action, body| {
            let state = match asked.load(SeqCst) {
                0..3 => "UNAVAILABLE",
                _ => "AVAILABLE",
            };
            if action == "GetDownloadUrlForLayer" {
                asked.fetch_add(1, SeqCst);
                return refusal(late, "not yet");
            }
            let layer = |digest| json!({ "layerDigest": digest, "layerAvailability": state });
            let layers: Vec<Value> =
                body["layerDigests"].as_array().unwrap().iter().map(layer).collect();
            (200, json!({ "layers": layers }))
        })
        .await;
        let (shelf, _) = shelf();
        let (warmed, _) = warm(shelf, "1", &want(&["linux/arm64"]), &api).await;
        assert_eq!(warmed.unwrap().stats.fetched, 3, "{late}");
        assert_eq!(api.bodies("GetDownloadUrlForLayer").len(), 3, "{late}");
    }
}

#[tokio::test]
async fn a_layer_that_never_comes_is_named_and_not_waited_for_without_end() {
    let (shelf, _) = shelf();
    let api = api(
        |digest| digest != layer("linux/arm64"),
        || refusal("LayersNotFoundException", "not yet"),
    )
    .await;
    let (warmed, _) = warm(shelf, "1", &want(&["linux/arm64"]), &api).await;
    let error = warmed.unwrap_err();
    assert_eq!(error.kind(), Kind::Stalled);
    assert!(error.to_string().contains(&layer("linux/arm64")), "{error}");
    assert!(error.to_string().starts_with("ECR has not imported 1 of 1 blobs after"), "{error}");
    // after 1, 2, 4, 4, 4 and 4 ms
    assert_eq!(api.bodies("GetDownloadUrlForLayer").len(), 7);
}

#[tokio::test]
async fn an_upstream_that_refuses_a_layer_is_not_waited_for() {
    let (shelf, _) = shelf();
    let api = api(|_| false, || refusal("UnableToGetUpstreamLayerException", "an issue")).await;
    let (warmed, _) = warm(shelf, "1", &want(&["linux/arm64"]), &api).await;
    let error = warmed.unwrap_err();
    assert!(error.remedy().unwrap().contains("pull-through validate"), "{error:?}");
    assert_eq!(api.bodies("BatchCheckLayerAvailability").len(), 1);
}

#[tokio::test]
async fn nested_indexes_and_images_without_a_platform_are_looked_into_once() {
    let mut shelf = FakeSource::default();
    let (amd, arm) = (shelf.image("linux/amd64"), shelf.image("linux/arm64"));
    let inner = shelf.index(&[entry_for(&amd, "linux/amd64"), entry(&arm)]);
    let root = shelf.index(&[entry(&inner), entry_for(&amd, "linux/amd64")]);
    shelf.tag("1", root);
    let config = arm.read().map(|manifest| match manifest {
        Manifest::Image(image) => image.config.digest,
        Manifest::Index(_) => panic!("an image"),
    });
    let api = api(|_| true, url).await;
    let (warmed, shelf) = warm(shelf, "1", &want(&["linux/arm64"]), &api).await;
    let warmed = warmed.unwrap();
    assert_eq!(names(&warmed.platforms), ["linux/arm64"]);
    let expected = [
        "1".to_owned(),
        inner.digest().to_string(),
        arm.digest().to_string(),
        format!("blob {}", config.unwrap()),
    ];
    assert_eq!(shelf.asked(), expected);
    assert_eq!(warmed.stats, WarmStats { manifests: 3, blobs: 3, fetched: 0 });
}

#[tokio::test]
async fn indexes_that_list_the_same_again_and_again_are_pulled_once_and_too_much_is_refused() {
    let mut shelf = FakeSource::default();
    let amd = shelf.image("linux/amd64");
    let inner = shelf.index(&vec![entry_for(&amd, "linux/amd64"); 1_300]);
    let middle = shelf.index(&vec![entry(&inner); 1_300]);
    let root = shelf.index(&vec![entry(&middle); 1_300]);
    shelf.tag("1", root);
    let more = shelf.index(&vec![entry(&middle); 1_500]);
    shelf.tag("2", more);
    let digests = [&middle, &inner, &amd].map(|it| it.digest().to_string());
    let api = api(|_| true, url).await;
    let begun = std::time::Instant::now();
    let (warmed, shelf) = warm(shelf, "1", &want(&[]), &api).await;
    // two billion entries where each listing is looked into
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    assert_eq!(warmed.unwrap().stats.manifests, 4);
    let asked = shelf.asked();
    assert_eq!(asked[1..], digests, "each of them once");
    let shelf = Arc::into_inner(shelf).unwrap();
    let error = warm(shelf, "2", &want(&[]), &api).await.0.unwrap_err();
    assert!(error.to_string().contains("more than 4096 entries"), "{error}");
}

#[tokio::test]
async fn a_platform_that_is_missing_fails_or_is_told_and_one_image_tells_its_own() {
    let lenient = |want: Filter| Filter { missing: MissingPlatform::Warn, ..want };
    for (tag, want, expected) in [
        ("1", want(&["linux/s390x", "linux/arm64"]), Err(Kind::PlatformMissing)),
        ("1", lenient(want(&["linux/s390x", "linux/arm64"])), Ok((1, true))),
        ("single", want(&["linux/amd64"]), Ok((1, false))),
        ("single", want(&["linux/arm64"]), Err(Kind::PlatformMissing)),
        ("single", want(&[]), Ok((0, false))),
    ] {
        let (mut shelf, _) = shelf();
        let single = shelf.image("linux/amd64");
        shelf.tag("single", single);
        let api = api(|_| true, url).await;
        let (warmed, _) = warm(shelf, tag, &want, &api).await;
        let told = warmed.map(|it| (it.platforms.len(), it.warning.is_some()));
        assert_eq!(told.map_err(|error| error.kind()), expected, "{tag} {want:?}");
    }
}

#[tokio::test]
async fn a_digest_that_is_cached_is_enough_and_one_that_is_not_needs_a_tag() {
    let (shelf, images) = shelf();
    let api = api(|_| true, url).await;
    let (warmed, shelf) = warm(shelf, &images[0], &want(&[]), &api).await;
    assert_eq!(warmed.unwrap().digest.as_str(), images[0]);
    assert_eq!(shelf.asked(), [images[0].clone()]);
    let (warmed, _) = warm(FakeSource::default(), &images[0], &want(&[]), &api).await;
    assert!(warmed.unwrap_err().remedy().unwrap().contains("pull a tag of this content once"));
}
