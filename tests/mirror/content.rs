//! Creates images by hand that no build tool would create, and checks the content of registries.

use std::collections::BTreeMap;

use ecr_mirror::{
    model::Digest,
    sandbox::{
        Store, Upstream,
        upstream::{Manifest, media},
    },
};
use serde_json::{Value, json};

/// The registry of all images made by hand.
pub(crate) const HOST: &str = "quay.io";

pub(crate) fn descriptor(media_type: &str, digest: &Digest, size: usize) -> Value {
    json!({ "mediaType": media_type, "digest": digest, "size": size })
}

/// An OCI image manifest.
pub(crate) fn image(config: Value, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "config": config, "layers": layers,
    })
}

/// Pushes a small image configuration and returns its descriptor.
pub(crate) fn config(upstream: &Upstream, repository: &str) -> Value {
    let bytes =
        br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    let digest = upstream.put_blob(HOST, repository, bytes);
    descriptor(media::OCI_CONFIG, &digest, bytes.len())
}

/// Pushes an image with one layer under tag `1`. The descriptor describes `layer`; the registry
/// serves `served`.
pub(crate) fn put_image(upstream: &Upstream, repository: &str, layer: &[u8], served: &[u8]) {
    let digest = Digest::of(layer);
    upstream.put_raw_blob(HOST, repository, &digest, served);
    let layer = descriptor(media::OCI_LAYER, &digest, layer.len());
    let manifest = image(config(upstream, repository), &[layer]);
    put(upstream, repository, media::OCI_MANIFEST, &manifest.to_string());
}

/// Pushes a manifest under tag `1`.
pub(crate) fn put(upstream: &Upstream, repository: &str, media_type: &str, text: &str) {
    upstream.put_manifest(HOST, repository, Some("1"), media_type, text.as_bytes());
}

/// Pushes a manifest under a wrong digest, and points `tag` to it.
pub(crate) fn put_forged(upstream: &Upstream, repository: &str, tag: Option<&str>) -> Digest {
    let digest = Digest::of(b"another manifest");
    let bytes = image(config(upstream, repository), &[]).to_string().into_bytes().into();
    let media_type = media::OCI_MANIFEST.to_owned();
    let manifest = Manifest { digest: digest.clone(), media_type, bytes };
    upstream.put_raw_manifest(HOST, repository, tag, manifest);
    digest
}

/// Tags with their digests, and manifests of a repository.
type RepositoryContent = (Vec<(String, Digest)>, Vec<Digest>);

/// The content of a registry, by repository.
pub(crate) fn state(store: &Store) -> BTreeMap<String, RepositoryContent> {
    let of = |name: String| (name.clone(), (store.tags(&name), store.manifests(&name)));
    store.repositories().into_iter().map(of).collect()
}

/// Asserts that every tag points to an image whose manifests and blobs all exist.
#[track_caller]
pub(crate) fn assert_whole(store: &Store) {
    for repository in store.repositories() {
        for (tag, digest) in store.tags(&repository) {
            assert_complete(store, &repository, &digest, &format!("{repository}:{tag}"));
        }
    }
}

#[track_caller]
fn assert_complete(store: &Store, repository: &str, digest: &Digest, label: &str) {
    let links = store.links(repository, digest);
    let links = links.unwrap_or_else(|| panic!("{label} lacks manifest {digest}"));
    for blob in &links.blobs {
        assert!(store.blob_size(repository, blob).is_some(), "{label} lacks blob {blob}");
    }
    for child in &links.children {
        assert_complete(store, repository, child, label);
    }
    // clients refuse content of another size
    let (_, bytes) = store.manifest(repository, digest).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let lists = [&document["layers"], &document["manifests"]].map(Value::as_array);
    let listed = lists.into_iter().flatten().flatten().chain(document.get("config"));
    for entry in listed {
        let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
        let manifest = store.manifest(repository, &digest).map(|(_, bytes)| bytes.len() as u64);
        let size = manifest.or_else(|| store.blob_size(repository, &digest));
        if size.is_some() {
            assert_eq!(entry["size"].as_u64(), size, "{label} lists {digest} with a wrong size");
        }
    }
}
