//! One conformance suite of the seam's traits. The tests of every implementation run it alike.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Body, Destination, Mount, Mounting, Mutability, Source, body};
use crate::model::{
    Descriptor, Digest, Error, Kind, RawManifest, Repository, Result, Tag, TagOrDigest,
};

/// The check of a blob's digest at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DigestCheck {
    /// The destination hashes the bytes that it stores.
    ByDestination,
    /// The destination relies on the body, which fails before its last chunk.
    ByBody,
}

const CONFIG: &[u8] = b"{}";
const LAYER: &[u8] = b"a layer";
const OTHER_LAYER: &[u8] = b"another layer";
const CONFIG_TYPE: &str = oci_client::manifest::IMAGE_CONFIG_MEDIA_TYPE;
const LAYER_TYPE: &str = oci_client::manifest::IMAGE_LAYER_MEDIA_TYPE;
const SIGNATURE_TYPE: &str = "application/vnd.example.signature";

fn repository() -> Repository {
    "conformance/app".parse().unwrap()
}

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

fn descriptor_json(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(content), "size": content.len() })
}

fn descriptor(media_type: &str, content: &[u8]) -> Descriptor {
    serde_json::from_value(descriptor_json(media_type, content)).unwrap()
}

fn image(layer: &[u8]) -> RawManifest {
    manifest(&json!({ "layers": [descriptor_json(LAYER_TYPE, layer)] }))
}

/// A manifest that refers to the image, like a signature.
fn referrer(subject: &RawManifest) -> RawManifest {
    manifest(&json!({
        "artifactType": SIGNATURE_TYPE,
        "layers": [descriptor_json(LAYER_TYPE, LAYER)],
        "subject": descriptor_json(subject.media_type().as_str(), subject.bytes()),
    }))
}

fn manifest(fields: &Value) -> RawManifest {
    let mut document = json!({
        "schemaVersion": 2,
        "mediaType": oci_client::manifest::OCI_IMAGE_MEDIA_TYPE,
        "config": descriptor_json(CONFIG_TYPE, CONFIG),
    });
    document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    RawManifest::new(document.to_string().into(), None).unwrap()
}

/// Uploads `chunks` as the blob.
async fn push_chunks<D: Destination>(
    destination: &D,
    repository: &Repository,
    blob: &Descriptor,
    chunks: Vec<Result<Bytes>>,
) -> Result<()> {
    let session = destination.open_upload(repository, blob).await?;
    let body = Body::new(blob.size, stream::iter(chunks));
    destination.push_blob(repository, blob, session, body).await
}

async fn push<D: Destination>(destination: &D, content: &'static [u8]) {
    let blob = descriptor(LAYER_TYPE, content);
    let chunks = vec![Ok(Bytes::from_static(content))];
    push_chunks(destination, &repository(), &blob, chunks).await.unwrap();
}

/// Checks a destination that is empty and accepts every push.
pub(crate) async fn check_destination<D: Destination>(destination: &D, check: DigestCheck) {
    check_repository(destination).await;
    check_blobs(destination, check).await;
    check_manifests(destination).await;
    check_mount(destination).await;
    check_referrers(destination).await;
}

async fn check_repository<D: Destination>(destination: &D) {
    let tags = [tag("1")];
    assert_eq!(destination.current_tags(&repository(), &tags).await.unwrap(), None);
    destination.check_writable(&repository()).await.unwrap();
    destination.ensure(&repository()).await.unwrap();
    destination.ensure(&repository()).await.expect("an existing repository is no error");
    // a plain registry creates the repository with the first push
    let current = destination.current_tags(&repository(), &tags).await.unwrap();
    assert_eq!(current.unwrap_or_default(), HashMap::new());
}

async fn check_blobs<D: Destination>(destination: &D, check: DigestCheck) {
    let digests = [CONFIG, LAYER, OTHER_LAYER].map(Digest::of);
    let all = HashSet::from(digests.clone());
    let blobs = [CONFIG, LAYER, OTHER_LAYER].map(|content| descriptor(LAYER_TYPE, content));
    let missing = async || destination.missing_blobs(&repository(), &blobs).await.unwrap();
    assert_eq!(missing().await, all);

    let blob = descriptor(LAYER_TYPE, LAYER);
    let (first, last) = LAYER.split_at(3);
    let broken = Error::new(Kind::Corrupt, "the source sent other bytes");
    let chunks = vec![Ok(Bytes::from_static(first)), Err(broken)];
    let refused = push_chunks(destination, &repository(), &blob, chunks).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Corrupt, "the error is the source's: {refused:?}");
    assert_eq!(missing().await, all, "a body that breaks is not committed");

    let short = vec![Ok(Bytes::from_static(first))];
    push_chunks(destination, &repository(), &blob, short).await.unwrap_err();
    assert_eq!(missing().await, all, "a body that is too short is not committed");

    if check == DigestCheck::ByDestination {
        let wrong = vec![Ok(Bytes::from_static(first)), Ok(Bytes::from(vec![b'x'; last.len()]))];
        push_chunks(destination, &repository(), &blob, wrong).await.unwrap_err();
        assert_eq!(missing().await, all, "a body with another digest is not committed");
    }

    push(destination, LAYER).await;
    assert_eq!(missing().await, HashSet::from([CONFIG, OTHER_LAYER].map(Digest::of)));
}

async fn check_manifests<D: Destination>(destination: &D) {
    let (one, other) = (image(LAYER), image(OTHER_LAYER));
    let digests = [one.digest().clone(), other.digest().clone()];
    let tags = [tag("1"), tag("2")];
    let current = async || destination.current_tags(&repository(), &tags).await.unwrap();
    let push_tag =
        async |manifest| destination.push_manifest(&repository(), manifest, Some(&tags[0])).await;

    let refused = push_tag(&one).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::ContentMissing, "its configuration is missing: {refused:?}");
    assert_eq!(current().await.unwrap_or_default(), HashMap::new());

    push(destination, CONFIG).await;
    push_tag(&one).await.unwrap();
    let expected = HashMap::from([(tags[0].clone(), digests[0].clone())]);
    assert_eq!(current().await, Some(expected.clone()), "a missing tag is omitted");
    push_tag(&one).await.expect("the tag has this manifest already");
    assert_eq!(current().await, Some(expected));
    let mutability = destination.mutability(&repository(), &tags[0]).await.unwrap();
    assert_eq!(mutability, Mutability::Mutable);

    let missing = destination.missing_manifests(&repository(), &digests).await.unwrap();
    assert_eq!(missing, HashSet::from([digests[1].clone()]));
    let read = destination.manifests(&repository(), &digests).await.unwrap();
    assert_eq!(read, HashMap::from([(digests[0].clone(), one.clone())]), "bytes are unchanged");

    push(destination, OTHER_LAYER).await;
    destination.push_manifest(&repository(), &other, None).await.unwrap();
    let missing = destination.missing_manifests(&repository(), &digests).await.unwrap();
    assert_eq!(missing, HashSet::new(), "a manifest can be pushed by its digest only");
    push_tag(&other).await.unwrap();
    assert_eq!(current().await.unwrap()[&tags[0]], digests[1], "a mutable tag moves");
    push_tag(&one).await.unwrap();
}

async fn check_mount<D: Destination>(destination: &D) {
    let mounting = destination.mounting().await;
    if mounting == Mounting::Never {
        return;
    }
    let other: Repository = "conformance/other".parse().unwrap();
    destination.ensure(&other).await.unwrap();
    let blob = descriptor(LAYER_TYPE, LAYER);
    match destination.mount(&other, &blob, &repository()).await.unwrap() {
        Mount::Mounted => {}
        Mount::Session(session) => {
            let chunks = stream::iter([Ok(Bytes::from_static(LAYER))]);
            let body = Body::new(blob.size, chunks);
            destination.push_blob(&other, &blob, session, body).await.unwrap();
        }
    }
    let missing = destination.missing_blobs(&other, &[blob]).await.unwrap();
    assert_eq!(missing, HashSet::new(), "mounted or uploaded");

    let absent = descriptor(LAYER_TYPE, b"a layer that no repository has");
    let mount = destination.mount(&other, &absent, &repository()).await.unwrap();
    assert!(matches!(mount, Mount::Session(_)), "a missing blob is uploaded, not mounted");
}

async fn check_referrers<D: Destination>(destination: &D) {
    let subject = image(LAYER);
    let referrer = referrer(&subject);
    let digest = referrer.digest().clone();
    let referrers = HashMap::from([(subject.digest().clone(), vec![digest.clone()])]);
    let missing = destination.missing_referrers(&repository(), &referrers).await.unwrap();
    assert_eq!(missing, HashSet::from([digest]));
    destination.push_manifest(&repository(), &referrer, None).await.unwrap();
    let missing = destination.missing_referrers(&repository(), &referrers).await.unwrap();
    assert_eq!(missing, HashSet::new());
}

/// Checks that a source reads back the content that [`check_destination`] pushed.
pub(crate) async fn check_source<S: Source>(source: Arc<S>) {
    let (image, tags) = (image(LAYER), [tag("1"), tag("2")]);
    assert_eq!(source.resolve(&repository(), &tags[0]).await.unwrap(), *image.digest());
    let absent = source.resolve(&repository(), &tags[1]).await.unwrap_err();
    assert_eq!(absent.kind(), Kind::NotFound, "{absent:?}");
    let hints = source.digests(&repository(), &tags).await;
    assert!(hints.iter().all(|(tag, digest)| *tag == tags[0] && digest == image.digest()));

    for at in [TagOrDigest::Tag(tags[0].clone()), TagOrDigest::Digest(image.digest().clone())] {
        let manifest = source.manifest(&repository(), &at).await.unwrap();
        assert_eq!(manifest, image, "bytes are unchanged");
    }

    let blob = descriptor(LAYER_TYPE, LAYER);
    let context = Arc::default();
    let body = body::verified(Arc::clone(&source), repository(), blob.clone(), context);
    assert_eq!(body.read().await.unwrap(), LAYER);
    let mut rest = source.blob(&repository(), &blob, 3).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(chunk) = rest.next().await {
        bytes.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(bytes, LAYER[3..], "a download resumes at an offset");

    let referrers = source.referrers(&repository(), image.digest()).await.unwrap();
    let [found] = &referrers[..] else { panic!("one referrer, not {referrers:?}") };
    assert_eq!(found.digest, *referrer(&image).digest());
    assert_eq!(found.artifact_type.as_deref(), Some(SIGNATURE_TYPE));
    let none = source.referrers(&repository(), referrer(&image).digest()).await.unwrap();
    assert_eq!(none, []);
}
