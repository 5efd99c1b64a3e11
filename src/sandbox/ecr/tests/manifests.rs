//! Manifests and lists through the data plane.

use super::*;

#[tokio::test]
async fn a_manifest_is_refused_while_content_that_it_names_is_missing() {
    let world = World::new().await;
    world.create("there").await;
    let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
    let manifest = image(&config, &layer, 5).to_string();
    world.push_blob("there", b"config").await;
    let answer = world.put_manifest("there", "1", IMAGE, &manifest).await;
    let text = format!(
        "Layers with digests '[{layer}]' required for pushing image into repository with name 'there' in the registry with id '{ACCOUNT}' do not exist"
    );
    answer.assert_refused(404, "BLOB_UPLOAD_UNKNOWN", &text);
    let child = Digest::of(manifest.as_bytes());
    let list = index(&[&child]).to_string();
    let answer = world.put_manifest("there", "list", INDEX, &list).await;
    let text = format!("Images with digests '[{child}]' required for pushing image");
    answer.assert_refused(404, "MANIFEST_BLOB_UNKNOWN", &text);

    world.push_blob("there", b"layer").await;
    let answer = world.put_manifest("there", child.as_str(), IMAGE, &manifest).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), None);
    assert_eq!(answer.header("docker-content-digest"), Some(child.as_str()));
    assert_eq!(world.put_manifest("there", "list", INDEX, &list).await.status, 201);
    let got = world.get("/v2/there/manifests/list").await;
    assert_eq!((got.text(), got.header("content-type")), (list, Some(INDEX)));
}

#[tokio::test]
async fn foreign_layers_may_be_missing() {
    let world = World::new().await;
    world.create("there").await;
    let config = world.push_blob("there", b"config").await;
    for kind in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        let mut manifest = image(&config, &Digest::of(b"elsewhere"), 9);
        manifest["layers"][0]["mediaType"] = kind.into();
        let answer = world.put_manifest("there", "1", IMAGE, &manifest.to_string()).await;
        assert_eq!(answer.status, 201, "{kind}");
    }
}

#[tokio::test]
async fn an_invalid_manifest_is_unsupported() {
    let world = World::new().await;
    world.create("there").await;
    let long = format!("{{\"schemaVersion\":2,\"x\":\"{}\"}}", "x".repeat(4 << 20));
    let both = {
        let mut both = index(&[]);
        both["config"] = json!({ "digest": Digest::of(b"") });
        both["layers"] = json!([]);
        both.to_string()
    };
    for (text, said) in [
        ("{", "Invalid JSON syntax"),
        ("[]", "Invalid JSON syntax"),
        ("{\"schemaVersion\":3}", "Invalid JSON syntax"),
        ("{\"schemaVersion\":2}", "Invalid JSON syntax"),
        (&both, "Invalid JSON syntax"),
        (&long, "less than or equal to 4194304"),
    ] {
        let answer = world.put_manifest("there", "1", IMAGE, text).await;
        let start: String = text.chars().take(20).collect();
        assert_eq!(answer.status, 405, "{start}");
        answer.assert_refused(405, "UNSUPPORTED", "Invalid parameter at 'ImageManifest'");
        answer.assert_refused(405, "UNSUPPORTED", said);
    }
    let empty = index(&[]).to_string();
    let answer = world.put_manifest("there", "1", IMAGE, &empty).await;
    answer.assert_refused(405, "UNSUPPORTED", "ImageManifest");
}

#[tokio::test]
async fn a_manifest_under_another_digest_is_invalid() {
    let world = World::new().await;
    world.create("there").await;
    let other = Digest::of(b"other");
    let answer = world.put_manifest("there", other.as_str(), INDEX, &index(&[]).to_string()).await;
    let text = "does not match the image digest that Amazon ECR has calculated.";
    answer.assert_refused(400, "MANIFEST_INVALID", text);
}

#[tokio::test]
async fn an_immutable_tag_is_never_written_twice_not_even_the_same() {
    let world = World::new().await;
    let input = json!({
        "repositoryName": "fixed",
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "latest*" }],
    });
    world.call("CreateRepository", &input).await;
    world.push_image("fixed", "1", "layer").await;
    let same = world.get("/v2/fixed/manifests/1").await.text();
    let text = "The image tag '1' already exists in the 'fixed' repository and cannot be overwritten because the tag is immutable.";
    let answer = world.put_manifest("fixed", "1", IMAGE, &same).await;
    answer.assert_refused(400, "TAG_INVALID", text);
    // pushes by digest, by another tag and by an excluded tag are accepted
    let digest = Digest::of(same.as_bytes());
    for at in [digest.as_str(), "2", "latest-1", "latest-1"] {
        assert_eq!(world.put_manifest("fixed", at, IMAGE, &same).await.status, 201, "{at}");
    }
    let answer = world.put_manifest("fixed", "2", INDEX, &index(&[]).to_string()).await;
    answer.assert_refused(400, "TAG_INVALID", "'2' already exists");
    // the API distinguishes the same digest from another
    for (text, expected) in [
        (same, "ImageAlreadyExistsException"),
        (index(&[]).to_string(), "ImageTagAlreadyExistsException"),
    ] {
        let put = world.ecr.put_image().repository_name("fixed").image_tag("1");
        assert_eq!(code(put.image_manifest(text).send().await), expected);
    }
}

#[tokio::test]
async fn one_of_many_concurrent_pushes_to_an_immutable_tag_is_accepted() {
    let world = World::new().await;
    let input = json!({ "repositoryName": "fixed", "imageTagMutability": "IMMUTABLE" });
    world.call("CreateRepository", &input).await;
    let pushes = (0..20).map(|n| {
        let mut manifest = index(&[]);
        manifest["annotations"] = json!({ "n": n.to_string() });
        let (world, text) = (&world, manifest.to_string());
        async move { world.put_manifest("fixed", "1", INDEX, &text).await.status.as_u16() }
    });
    let statuses = futures::future::join_all(pushes).await;
    assert_eq!(statuses.iter().filter(|&&status| status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 400).count(), 19, "{statuses:?}");
}

#[tokio::test]
async fn a_mutable_tag_moves() {
    let world = World::new().await;
    world.create("there").await;
    let (first, _) = world.push_image("there", "1", "layer").await;
    let (second, _) = world.push_image("there", "1", "other layer").await;
    let head = world.head("/v2/there/manifests/1").await;
    assert_eq!(head.header("docker-content-digest"), Some(second.as_str()));
    assert_eq!(world.get(&format!("/v2/there/manifests/{first}")).await.status, 200);
}

#[tokio::test]
async fn missing_content_is_unknown_and_a_head_has_no_body() {
    let world = World::new().await;
    world.create("there").await;
    let answer = world.get("/v2/there/manifests/absent").await;
    answer.assert_refused(404, "MANIFEST_UNKNOWN", "Requested image not found");
    let head = world.head("/v2/there/manifests/absent").await;
    assert_eq!((head.status.as_u16(), head.text().as_str()), (404, ""));
    assert_eq!(world.head("/v2/there/manifests/a+b").await.status, 400);
    assert_eq!(world.get("/v2/There/tags/list").await.refusal().1, "NAME_INVALID");
}

#[tokio::test]
async fn tags_are_listed_unsorted_in_pages_with_opaque_links() {
    let world = World::new().await;
    world.create("there").await;
    world.push_image("there", "t000", "layer").await;
    let text = world.get("/v2/there/manifests/t000").await.text();
    for n in 1..250 {
        let answer = world.put_manifest("there", &format!("t{n:03}"), IMAGE, &text).await;
        assert_eq!(answer.status, 201);
    }
    let (mut path, mut all, mut pages) = ("/v2/there/tags/list".to_owned(), Vec::new(), 0);
    loop {
        let answer = world.get(&path).await;
        let tags = answer.json()["tags"].as_array().unwrap().clone();
        all.extend(tags.iter().map(|tag| tag.as_str().unwrap().to_owned()));
        pages += 1;
        let Some(link) = answer.header("link") else { break };
        let url = link.strip_prefix('<').unwrap().split('>').next().unwrap();
        assert!(url.starts_with(&format!("http://{HOST}/v2/there/tags/list?last=")), "{url}");
        assert!(link.ends_with("; rel=\"next\""));
        let last = url.split("last=").nth(1).unwrap();
        assert!(!all.iter().any(|tag| last.contains(tag.as_str())), "{last}");
        path = local(url);
    }
    assert_eq!((pages, all.len()), (3, 250));
    assert!(!all.is_sorted());
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 250);
    assert_eq!(
        world.get("/v2/there/tags/list?n=1000").await.json()["tags"].as_array().unwrap().len(),
        250
    );
    let text = "Invalid parameter at 'maxResults' failed to satisfy constraint: 'Member must have value less than or equal to 1000'";
    world.get("/v2/there/tags/list?n=1001").await.assert_refused(405, "UNSUPPORTED", text);
    world.get("/v2/there/tags/list?last=t100").await.assert_refused(
        405,
        "UNSUPPORTED",
        "nextToken",
    );
}

#[tokio::test]
async fn the_catalogue_lists_repositories() {
    let world = World::new().await;
    for repository in ["a/b", "cc"] {
        world.create(repository).await;
    }
    let listed = world.get("/v2/_catalog").await.json();
    assert_eq!(listed, json!({ "repositories": ["a/b", "cc"] }));
}
