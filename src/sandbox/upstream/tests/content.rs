//! The content: complete, with right digests, the same on every machine.

use super::*;

/// Follows all references of a manifest, and returns their digests.
fn closure(content: &Content, host: &str, repository: &str, root: &Manifest) -> HashSet<Digest> {
    let mut seen = HashSet::new();
    let mut open = vec![root.clone()];
    while let Some(manifest) = open.pop() {
        assert_eq!(Digest::of(&manifest.bytes), manifest.digest);
        seen.insert(manifest.digest);
        let parsed: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        let named = |name: &str| parsed[name].as_array().cloned().unwrap_or_default();
        for child in named("manifests") {
            let digest: Digest = child["digest"].as_str().unwrap().parse().unwrap();
            let child_manifest =
                content.manifest(host, repository, &TagOrDigest::Digest(digest)).unwrap();
            assert_eq!(child["size"], child_manifest.bytes.len());
            assert_eq!(child["mediaType"], child_manifest.media_type.as_str());
            open.push(child_manifest);
        }
        let config = parsed.get("config").cloned();
        for blob in named("layers").into_iter().chain(config) {
            let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
            if !seen.insert(digest.clone()) {
                continue;
            }
            let found = content.blob(host, repository, &digest).unwrap();
            let bytes = content.bytes(&found);
            assert_eq!(Digest::of(&bytes), digest);
            assert_eq!(blob["size"], bytes.len());
            assert_eq!(content.size(&found), bytes.len());
        }
    }
    seen
}

#[test]
fn all_listed_content_exists_with_the_right_digest() {
    let content = Content::default();
    for (host, repository) in catalogue::repositories() {
        let tags = content.tags(host, repository);
        assert!(!tags.is_empty(), "{host}/{repository}");
        let roots: HashSet<Digest> =
            tags.iter().map(|tagged| tagged.manifest.digest.clone()).collect();
        let images = catalogue::listed(host, repository).len();
        assert_eq!(roots.len(), images, "{host}/{repository}: every image is another");
        // the first tag of each repository represents the others, which use the same code
        closure(&content, host, repository, &tags[0].manifest);
    }
}

#[test]
fn forgotten_images_are_made_again_with_the_same_bytes() {
    let content = Content::default();
    for (host, repository, tag) in
        [("registry.example.com", "team/app", "2024-w7"), ("docker.io", "library/nginx", "1.27")]
    {
        let at = TagOrDigest::Tag(tag.parse().unwrap());
        let root = content.manifest(host, repository, &at).unwrap();
        let all = closure(&content, host, repository, &root);
        content.forget_all();
        // a client that has read the root before
        assert_eq!(closure(&content, host, repository, &root), all);
        content.forget_all();
        assert_eq!(content.manifest(host, repository, &at), Some(root));
    }
}

#[test]
fn a_generated_repository_is_complete() {
    let content = Content::default();
    for name in ["team/app", "team/web", "a", "b", "c", "d", "e", "f"] {
        let at = TagOrDigest::Tag("2024-w7".parse().unwrap());
        let root = content.manifest("registry.example.com", name, &at).unwrap();
        assert!(closure(&content, "registry.example.com", name, &root).len() > 3);
    }
}

#[test]
fn the_same_bytes_are_made_on_every_machine() {
    let content = Content::default();
    for (host, repository, tag, expected) in [
        ("docker.io", "library/nginx", "1.27", "a7fc95892719c84c"),
        ("docker.io", "library/alpine", "3.20", "581bd1e04c5cee01"),
        ("docker.io", "sandbox/flat", "1.0.0", "940a2506fd1c61ce"),
        ("quay.io", "prometheus/prometheus", "v3.1.0", "e0a385bd883fe690"),
        ("ghcr.io", "sandbox/nested", "1.0.0", "d9f9cb1e6a7b559f"),
        ("ghcr.io", "prometheus-community/charts/prometheus", "26.0.0", "f49ef2c6f1b66171"),
        ("mcr.microsoft.com", "dotnet/runtime", "9.0", "5b2a908fe9381e35"),
        ("registry.example.com", "team/app", "latest", "f039e39ea4d73b98"),
    ] {
        let root = content.manifest(host, repository, &TagOrDigest::Tag(tag.parse().unwrap()));
        let digest = root.unwrap().digest;
        assert!(digest.hex().starts_with(expected), "{host}/{repository}:{tag} is {digest}");
    }
}

#[test]
fn content_is_found_by_digest_before_its_tag_is_requested() {
    let at = |pointer| Content::default().manifest("docker.io", "library/alpine", &pointer);
    let root = at(TagOrDigest::Tag("3.20".parse().unwrap())).unwrap();
    assert_eq!(at(TagOrDigest::Digest(root.digest.clone())), Some(root));
    assert_eq!(at(TagOrDigest::Digest(Digest::of(b"nothing"))), None);
}

#[test]
fn attested_images_name_the_image_they_attest() {
    let content = Content::default();
    let at = TagOrDigest::Tag("1.27".parse().unwrap());
    let root = content.manifest("docker.io", "library/nginx", &at).unwrap();
    let index: Value = serde_json::from_slice(&root.bytes).unwrap();
    let children = index["manifests"].as_array().unwrap();
    assert_eq!(children.len(), 12);
    for pair in children.chunks(2) {
        assert_eq!(pair[1]["platform"]["os"], "unknown");
        assert_eq!(pair[1]["annotations"]["vnd.docker.reference.digest"], pair[0]["digest"]);
    }
}

#[test]
fn content_that_tests_add_overlays_the_catalogue() {
    let World { upstream, .. } = World::new();
    let tag = |host: &str, name: &str, tag: &str| {
        let at = TagOrDigest::Tag(tag.parse().unwrap());
        upstream.content.manifest(host, name, &at).map(|manifest| manifest.digest)
    };
    let usual = tag("docker.io", "library/nginx", "1.26");
    let own = upstream.image("nginx:1.27").docker().platforms(["linux/arm/v7"]).push();
    assert_eq!(tag("docker.io", "library/nginx", "1.27"), Some(own));
    assert_eq!(tag("docker.io", "library/nginx", "1.26"), usual);
    assert_eq!(tag("docker.io", "library/nginx", "9.99"), None);
    let single = upstream.image("ghcr.io/acme/app:1").single().push();
    assert_eq!(upstream.content.tag_names("ghcr.io", "acme/app"), ["1"]);
    assert_eq!(tag("ghcr.io", "acme/app", "latest"), None);
    upstream.remove_tag("ghcr.io", "acme/app", "1");
    assert_eq!(tag("ghcr.io", "acme/app", "1"), None);
    let by_digest = TagOrDigest::Digest(single);
    assert!(upstream.content.manifest("ghcr.io", "acme/app", &by_digest).is_some());
}

#[test]
fn a_rebuilt_tag_points_to_new_content_and_the_old_content_remains() {
    let World { upstream, .. } = World::new();
    let read = || {
        let at = TagOrDigest::Tag("3.20".parse().unwrap());
        upstream.content.manifest("docker.io", "library/alpine", &at).unwrap().digest
    };
    let before = read();
    upstream.rebuild_tag("docker.io", "library/alpine", "3.20");
    let after = read();
    assert_ne!(before, after);
    assert_eq!(read(), after);
    let old = TagOrDigest::Digest(before);
    assert!(upstream.content.manifest("docker.io", "library/alpine", &old).is_some());
}

#[test]
fn images_of_one_seed_or_base_share_layers() {
    let World { upstream, .. } = World::new();
    let layers = |digest: Digest, name: &str| -> Vec<Value> {
        let at = TagOrDigest::Digest(digest);
        let manifest = upstream.content.manifest("ghcr.io", name, &at).unwrap();
        let parsed: Value = serde_json::from_slice(&manifest.bytes).unwrap();
        parsed["layers"].as_array().unwrap().iter().map(|l| l["digest"].clone()).collect()
    };
    let one = layers(upstream.image("ghcr.io/a/one:1").single().seed(7).push(), "a/one");
    let two = layers(upstream.image("ghcr.io/a/two:1").single().docker().seed(7).push(), "a/two");
    assert_eq!(one, two);
    let three = layers(upstream.image("ghcr.io/a/three:1").single().base("b").push(), "a/three");
    let four = layers(upstream.image("ghcr.io/a/four:1").single().base("b").push(), "a/four");
    assert_eq!(three[0], four[0]);
    assert_ne!(three[1], four[1]);
}

#[test]
fn a_nested_index_is_followed() {
    let World { upstream, .. } = World::new();
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x"];
    let root = upstream.image("ghcr.io/a/nested:1").nested().platforms(platforms).push();
    let content = &upstream.content;
    let root = content.manifest("ghcr.io", "a/nested", &TagOrDigest::Digest(root)).unwrap();
    // two indexes, and for each platform a manifest, a configuration and two layers
    assert_eq!(closure(content, "ghcr.io", "a/nested", &root).len(), 2 + 3 * 4);
}
