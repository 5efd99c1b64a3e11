//! Warming against a fake source and a scripted API: the requests and the results.

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

/// A registry with one repository, and the requests to it.
#[derive(Default)]
struct FakeSource {
    manifests: HashMap<String, RawManifest>,
    blobs: HashMap<Digest, Bytes>,
    requests: Mutex<Vec<String>>,
}

impl Source for FakeSource {
    async fn digests(&self, _: &Repository, _: &[Tag]) -> HashMap<Tag, Digest> {
        HashMap::new()
    }

    async fn resolve(&self, _: &Repository, _: &Tag) -> Result<Digest> {
        unreachable!("a tag is pulled, not looked at")
    }

    async fn manifest(&self, _: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        self.requests.lock().push(at.as_str().to_owned());
        let found = self.manifests.get(at.as_str()).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, "404 MANIFEST_UNKNOWN"))
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    async fn blob(&self, _: &Repository, blob: &Descriptor, _: u64) -> Result<ByteStream> {
        self.requests.lock().push(format!("blob {}", blob.digest));
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

    fn requests(&self) -> Vec<String> {
        self.requests.lock().clone()
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

/// An index `1` with two platforms and one attestation; the digests of the three images.
fn two_platforms() -> (FakeSource, [String; 3]) {
    let mut source = FakeSource::default();
    let (amd, arm) = (source.image("linux/amd64"), source.image("linux/arm64"));
    let attestation = source.image("unknown/unknown");
    let mut third = entry_for(&attestation, "unknown/unknown");
    third["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": amd.digest().as_str(),
    });
    let entries = [entry_for(&amd, "linux/amd64"), entry_for(&arm, "linux/arm64"), third];
    let index = source.index(&entries);
    source.tag("1", index);
    (source, [amd, arm, attestation].map(|it| it.digest().to_string()))
}

fn only(platforms: &[&str]) -> Filter {
    let platforms = platforms.iter().map(|platform| platform.parse().unwrap());
    Filter { platforms: Platforms::only(platforms).unwrap_or_default(), ..Filter::default() }
}

fn cache(upstream: Upstream, prefix: &str) -> Cache {
    Cache { prefix: prefix.parse().unwrap(), ..Cache::of(upstream) }
}

/// An API that has these layers; `offered` answers the requests for others.
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
    source: FakeSource,
    at: &str,
    filter: &Filter,
    api: &FakeApi,
) -> (Result<Warmed>, Arc<FakeSource>) {
    let (session, _) = api.session().await;
    let images = Images::new(session.api, None);
    let source = Arc::new(source);
    let [first, longest, total] = [1, 4, 20].map(Duration::from_millis);
    let waits = WaitPolicy { first, longest, total };
    let warmer = Warmer { source: Arc::clone(&source), images: &images, waits };
    let at = match at.parse() {
        Ok(digest) => TagOrDigest::Digest(digest),
        Err(_) => TagOrDigest::Tag(at.parse().unwrap()),
    };
    let (cache, repository) = (cache(Upstream::Quay, "quay"), "quay/a/b".parse().unwrap());
    let pull = Pull { cache: &cache, repository: &repository, at: &at, filter };
    (warmer.warm(pull).await, source)
}

fn names(platforms: &[Platform]) -> Vec<String> {
    platforms.iter().map(Platform::to_string).collect()
}

#[tokio::test]
async fn the_tag_is_pulled_first_and_then_only_the_selected_manifests_by_digest() {
    let dropped = |filter: Filter| Filter { attestations: Attestations::Drop, ..filter };
    for (filter, children, platforms, blobs) in [
        (only(&[]), &[0, 1, 2][..], &["linux/amd64", "linux/arm64"][..], 7),
        (dropped(only(&[])), &[0, 1], &["linux/amd64", "linux/arm64"], 5),
        (only(&["linux/amd64"]), &[0, 2], &["linux/amd64"], 5),
        (dropped(only(&["linux/amd64"])), &[0], &["linux/amd64"], 3),
        (only(&["linux/arm64"]), &[1], &["linux/arm64"], 3),
    ] {
        let (source, images) = two_platforms();
        let root = source.manifests["1"].digest().clone();
        let api = api(|_| true, || panic!("every layer is there")).await;
        let (warmed, source) = warm(source, "1", &filter, &api).await;
        let warmed = warmed.unwrap();
        assert_eq!((&warmed.digest, warmed.warnings), (&root, vec![]), "{filter:?}");
        assert_eq!(names(&warmed.platforms), platforms, "{filter:?}");
        let requests = source.requests();
        assert_eq!(requests[0], "1", "{filter:?}");
        let expected: HashSet<&String> = children.iter().map(|&at| &images[at]).collect();
        assert_eq!(requests[1..].iter().collect::<HashSet<_>>(), expected, "{filter:?}");
        let stats = WarmStats { manifests: 1 + children.len(), blobs, fetched: 0 };
        assert_eq!((warmed.stats, requests.len()), (stats, stats.manifests), "{filter:?}");
        assert_eq!(api.actions(), ["BatchCheckLayerAvailability"], "in bulk: {filter:?}");
    }
}

#[tokio::test]
async fn an_attestation_that_is_not_served_is_omitted_if_the_image_is_filtered() {
    for (filter, is_warmed) in [(only(&["linux/amd64"]), true), (only(&[]), false)] {
        let (mut source, [.., attestation]) = two_platforms();
        source.manifests.remove(&attestation);
        let api = api(|_| true, || panic!("every layer is there")).await;
        match warm(source, "1", &filter, &api).await.0 {
            Ok(warmed) => {
                assert!(is_warmed);
                assert_eq!(names(&warmed.platforms), ["linux/amd64"]);
                let [warning] = &warmed.warnings[..] else { panic!("{warmed:?}") };
                assert!(warning.contains(&attestation), "{warning}");
                assert_eq!(warmed.stats.blobs, 3);
            }
            Err(error) => {
                assert!(!is_warmed && error.chain()[0].contains(&attestation), "{error:?}");
                assert!(error.remedy().unwrap().contains("`attestations = \"drop\"`"));
            }
        }
    }
    // an image that is not served is an error in any case
    let (mut source, [amd, ..]) = two_platforms();
    source.manifests.remove(&amd);
    let api = api(|_| true, || panic!("every layer is there")).await;
    let (warmed, _) = warm(source, "1", &only(&["linux/amd64"]), &api).await;
    assert_eq!(warmed.unwrap_err().kind(), Kind::NotFound);
}

#[tokio::test]
async fn ecr_fetches_missing_layers_and_no_layer_is_downloaded() {
    let (source, _) = two_platforms();
    let api = api(|digest| digest == layer("shared"), url).await;
    let (warmed, source) = warm(source, "1", &only(&["linux/arm64"]), &api).await;
    let expected = WarmStats { manifests: 2, blobs: 3, fetched: 2 };
    assert_eq!(warmed.unwrap().stats, expected);
    assert_eq!(source.requests().len(), 2, "manifests only");
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
        let (source, _) = two_platforms();
        let (warmed, _) = warm(source, "1", &only(&["linux/arm64"]), &api).await;
        assert_eq!(warmed.unwrap().stats.fetched, 3, "{late}");
        assert_eq!(api.bodies("GetDownloadUrlForLayer").len(), 3, "{late}");
    }
}

#[tokio::test]
async fn a_layer_that_is_never_imported_is_named_after_the_last_wait() {
    let (source, _) = two_platforms();
    let api = api(
        |digest| digest != layer("linux/arm64"),
        || refusal("LayersNotFoundException", "not yet"),
    )
    .await;
    let (warmed, _) = warm(source, "1", &only(&["linux/arm64"]), &api).await;
    let error = warmed.unwrap_err();
    assert_eq!(error.kind(), Kind::Stalled);
    assert!(error.to_string().contains(&layer("linux/arm64")), "{error}");
    assert!(error.to_string().starts_with("ECR has not imported 1 of 1 blobs after"), "{error}");
    // after 1, 2, 4, 4, 4 and 4 ms
    assert_eq!(api.bodies("GetDownloadUrlForLayer").len(), 7);
}

#[tokio::test]
async fn an_upstream_that_refuses_a_layer_is_not_waited_for() {
    let (source, _) = two_platforms();
    let api = api(|_| false, || refusal("UnableToGetUpstreamLayerException", "an issue")).await;
    let (warmed, _) = warm(source, "1", &only(&["linux/arm64"]), &api).await;
    let error = warmed.unwrap_err();
    assert!(error.remedy().unwrap().contains("pull-through validate"), "{error:?}");
    assert_eq!(api.bodies("BatchCheckLayerAvailability").len(), 1);
}

#[tokio::test]
async fn nested_indexes_and_images_without_a_platform_are_read_once() {
    let mut source = FakeSource::default();
    let (amd, arm) = (source.image("linux/amd64"), source.image("linux/arm64"));
    let inner = source.index(&[entry_for(&amd, "linux/amd64"), entry(&arm)]);
    let root = source.index(&[entry(&inner), entry_for(&amd, "linux/amd64")]);
    source.tag("1", root);
    let config = arm.read().map(|manifest| match manifest {
        Manifest::Image(image) => image.config.digest,
        Manifest::Index(_) => panic!("an image"),
    });
    let api = api(|_| true, url).await;
    let (warmed, source) = warm(source, "1", &only(&["linux/arm64"]), &api).await;
    let warmed = warmed.unwrap();
    assert_eq!(names(&warmed.platforms), ["linux/arm64"]);
    let expected = [
        "1".to_owned(),
        inner.digest().to_string(),
        arm.digest().to_string(),
        format!("blob {}", config.unwrap()),
    ];
    assert_eq!(source.requests(), expected);
    assert_eq!(warmed.stats, WarmStats { manifests: 3, blobs: 3, fetched: 0 });
}

#[tokio::test]
async fn repeated_entries_are_pulled_once_and_too_many_are_refused() {
    let mut source = FakeSource::default();
    let amd = source.image("linux/amd64");
    let inner = source.index(&vec![entry_for(&amd, "linux/amd64"); 1_300]);
    let middle = source.index(&vec![entry(&inner); 1_300]);
    let root = source.index(&vec![entry(&middle); 1_300]);
    source.tag("1", root);
    let more = source.index(&vec![entry(&middle); 1_500]);
    source.tag("2", more);
    let digests = [&middle, &inner, &amd].map(|it| it.digest().to_string());
    let api = api(|_| true, url).await;
    let begun = std::time::Instant::now();
    let (warmed, source) = warm(source, "1", &only(&[]), &api).await;
    assert_eq!(warmed.unwrap().stats.manifests, 4);
    let requests = source.requests();
    assert_eq!(requests[1..], digests, "each of them once");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    let source = Arc::into_inner(source).unwrap();
    let error = warm(source, "2", &only(&[]), &api).await.0.unwrap_err();
    assert!(error.to_string().contains("more than 4096 entries"), "{error}");
}

#[tokio::test]
async fn a_missing_platform_is_an_error_or_a_warning() {
    let lenient = |filter: Filter| Filter { missing: MissingPlatform::Warn, ..filter };
    for (tag, filter, expected) in [
        ("1", only(&["linux/s390x", "linux/arm64"]), Err(Kind::PlatformMissing)),
        ("1", lenient(only(&["linux/s390x", "linux/arm64"])), Ok((1, true))),
        ("single", only(&["linux/amd64"]), Ok((1, false))),
        ("single", only(&["linux/arm64"]), Err(Kind::PlatformMissing)),
        ("single", only(&[]), Ok((0, false))),
    ] {
        let (mut source, _) = two_platforms();
        let single = source.image("linux/amd64");
        source.tag("single", single);
        let api = api(|_| true, url).await;
        let (warmed, _) = warm(source, tag, &filter, &api).await;
        let told = warmed.map(|it| (it.platforms.len(), !it.warnings.is_empty()));
        assert_eq!(told.map_err(|error| error.kind()), expected, "{tag} {filter:?}");
    }
}

#[tokio::test]
async fn a_digest_is_pulled_only_if_ecr_has_cached_it() {
    let (source, images) = two_platforms();
    let api = api(|_| true, url).await;
    let (warmed, source) = warm(source, &images[0], &only(&[]), &api).await;
    assert_eq!(warmed.unwrap().digest.as_str(), images[0]);
    assert_eq!(source.requests(), [images[0].clone()]);
    let (warmed, _) = warm(FakeSource::default(), &images[0], &only(&[]), &api).await;
    assert!(warmed.unwrap_err().remedy().unwrap().contains("pull a tag of this content once"));
}
