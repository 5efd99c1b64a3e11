//! Images through the API: list, read, push, delete, pull times.

use aws_sdk_ecr::types::{ImageIdentifier, ListImagesFilter, TagStatus};

use super::*;

fn tagged(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

fn digested(digest: &Digest) -> ImageIdentifier {
    ImageIdentifier::builder().image_digest(digest.as_str()).build()
}

#[tokio::test]
async fn images_are_listed_by_tag_status_in_pages() {
    let world = World::new().await;
    world.create("there").await;
    let (first, _) = world.push_image("there", "0", "layer").await;
    let text = String::from_utf8(world.get("/v2/there/manifests/0").await.body).unwrap();
    for n in 1..25 {
        world.put_manifest("there", &n.to_string(), IMAGE, &text).await;
    }
    let (untagged, _) = world.push_image("there", "moving", "other layer").await;
    world.put_manifest("there", "moving", IMAGE, &text).await;

    let list = |status: TagStatus| {
        let filter = ListImagesFilter::builder().tag_status(status).build();
        world.ecr.list_images().repository_name("there").filter(filter)
    };
    let mut pages = list(TagStatus::Tagged).max_results(10).into_paginator().send();
    let mut tags = Vec::new();
    let mut count = 0;
    while let Some(page) = pages.next().await {
        count += 1;
        for id in page.unwrap().image_ids() {
            assert_eq!(id.image_digest(), Some(first.as_str()));
            tags.push(id.image_tag().unwrap().to_owned());
        }
    }
    tags.sort();
    tags.dedup();
    assert_eq!((count, tags.len()), (3, 26));
    let rest = list(TagStatus::Untagged).send().await.unwrap();
    assert_eq!(rest.image_ids(), [digested(&untagged)]);
    let all = world.ecr.list_images().repository_name("there").max_results(1000).send().await;
    assert_eq!(all.unwrap().image_ids().len(), 27);
}

#[tokio::test]
async fn a_batch_returns_existing_images_and_reports_missing_ones() {
    let world = World::new().await;
    world.create("there").await;
    let (digest, _) = world.push_image("there", "1", "layer").await;
    let both =
        ImageIdentifier::builder().image_tag("1").image_digest(Digest::of(b"").as_str()).build();
    let wrong = ImageIdentifier::builder().image_digest("sha256:x").build();
    let got = world
        .ecr
        .batch_get_image()
        .repository_name("there")
        .set_image_ids(Some(vec![
            tagged("1"),
            digested(&digest),
            tagged("absent"),
            both,
            wrong,
            tagged("a+b"),
            ImageIdentifier::builder().build(),
        ]))
        .send()
        .await
        .unwrap();
    assert_eq!(got.images().len(), 2);
    let image = &got.images()[0];
    assert_eq!(Digest::of(image.image_manifest().unwrap().as_bytes()), digest);
    assert_eq!(image.image_manifest_media_type(), Some(IMAGE));
    let codes: Vec<_> =
        got.failures().iter().map(|failure| failure.failure_code().unwrap().as_str()).collect();
    assert_eq!(
        codes,
        [
            "ImageNotFound",
            "ImageTagDoesNotMatchDigest",
            "InvalidImageDigest",
            "InvalidImageTag",
            "MissingDigestAndTag"
        ]
    );
    assert_eq!(got.failures()[0].failure_reason(), Some("Requested image not found"));
    let described = world.ecr.describe_images().repository_name("there");
    let described = described.image_ids(tagged("1")).image_ids(tagged("absent")).send().await;
    assert_eq!(code(described), "ImageNotFoundException");
}

#[tokio::test]
async fn images_are_described_with_size_tags_and_types() {
    let world = World::new().await;
    world.create("there").await;
    let (digest, _) = world.push_image("there", "1", "layer").await;
    let images = world.ecr.describe_images().repository_name("there").send().await.unwrap();
    let image = &images.image_details()[0];
    assert_eq!(image.image_digest(), Some(digest.as_str()));
    assert_eq!(image.image_tags(), ["1"]);
    assert_eq!(image.image_size_in_bytes(), Some(10 + 5));
    assert_eq!(image.image_manifest_media_type(), Some(IMAGE));
    assert_eq!(image.artifact_media_type(), Some(CONFIG));
    assert!(image.image_pushed_at().is_some());
}

#[tokio::test]
async fn layers_are_checked_in_batches() {
    let world = World::new().await;
    world.create("there").await;
    let (_, layer) = world.push_image("there", "1", "layer").await;
    let fresh = world.push_blob("there", b"not referenced yet").await;
    let absent = Digest::of(b"absent");
    let asked = [layer.as_str(), fresh.as_str(), absent.as_str(), "sha256:x"];
    let checked = world
        .ecr
        .batch_check_layer_availability()
        .repository_name("there")
        .set_layer_digests(Some(asked.map(str::to_owned).to_vec()))
        .send()
        .await
        .unwrap();
    let states: Vec<_> = checked
        .layers()
        .iter()
        .map(|layer| (layer.layer_availability().unwrap().as_str(), layer.media_type()))
        .collect();
    assert_eq!(
        states,
        [
            ("AVAILABLE", Some(LAYER)),
            ("AVAILABLE", Some("application/octet-stream")),
            ("UNAVAILABLE", None)
        ]
    );
    let failure = &checked.failures()[0];
    assert_eq!(failure.failure_code().unwrap().as_str(), "InvalidLayerDigest");
    let url = |digest: &Digest| {
        let call = world.ecr.get_download_url_for_layer().repository_name("there");
        call.layer_digest(digest.as_str()).send()
    };
    assert_eq!(code(url(&fresh).await), "LayerInaccessibleException");
    assert_eq!(code(url(&absent).await), "LayersNotFoundException");
    let url = url(&layer).await.unwrap().download_url().unwrap().to_owned();
    assert!(url.contains("starport-layer-bucket.s3."), "{url}");
}

#[tokio::test]
async fn a_push_through_the_api_requires_all_content_and_reports_an_existing_image() {
    let world = World::new().await;
    world.create("there").await;
    let put = |manifest: &Value, tag: Option<&str>| {
        let call = world.ecr.put_image().repository_name("there");
        call.image_manifest(manifest.to_string()).set_image_tag(tag.map(str::to_owned)).send()
    };
    let (config, layer) = (Digest::of(b"config"), Digest::of(b"layer"));
    let manifest = image(&config, &layer, 5);
    assert_eq!(code(put(&manifest, Some("1")).await), "LayersNotFoundException");
    world.push_blob("there", b"config").await;
    world.push_blob("there", b"layer").await;
    put(&manifest, Some("1")).await.unwrap();
    let again = put(&manifest, Some("1")).await;
    assert!(format!("{again:?}").contains("and tag '1' already exists in the repository"));
    assert_eq!(code(again), "ImageAlreadyExistsException");
    put(&manifest, Some("2")).await.unwrap();
    let list = index(&[&Digest::of(b"absent")]);
    assert_eq!(code(put(&list, None).await), "ReferencedImagesNotFoundException");
    let wrong = world.ecr.put_image().repository_name("there").image_manifest(manifest.to_string());
    let wrong = wrong.image_digest(config.as_str()).send().await;
    assert_eq!(code(wrong), "ImageDigestDoesNotMatchException");
}

#[tokio::test]
async fn deleting_the_last_tag_deletes_the_image_unless_an_index_names_it() {
    let world = World::new().await;
    world.create("there").await;
    let (child, _) = world.push_image("there", "child", "layer").await;
    let (other, _) = world.push_image("there", "other", "other layer").await;
    let list = index(&[&child]).to_string();
    assert_eq!(world.put_manifest("there", "list", INDEX, &list).await.status, 201);
    let delete = |id: ImageIdentifier| {
        world.ecr.batch_delete_image().repository_name("there").image_ids(id).send()
    };
    delete(tagged("other")).await.unwrap();
    assert_eq!(world.head(&format!("/v2/there/manifests/{other}")).await.status, 404);
    delete(tagged("child")).await.unwrap();
    assert_eq!(world.head(&format!("/v2/there/manifests/{child}")).await.status, 200);
    let refused = delete(digested(&child)).await.unwrap();
    let failure = refused.failures()[0].failure_code().unwrap().as_str().to_owned();
    assert_eq!(failure, "ImageReferencedByManifestList");
    let path = format!("/v2/there/manifests/{child}");
    let refused = world.send(world.request(Method::DELETE, &path)).await;
    refused.assert_refused(405, "UNSUPPORTED", "Requested image referenced by manifest list: [");
    delete(tagged("list")).await.unwrap();
    assert_eq!(world.send(world.request(Method::DELETE, &path)).await.status, 202);
    let images = world.ecr.describe_images().repository_name("there").send().await.unwrap();
    assert_eq!(images.image_details(), []);
}

#[tokio::test]
async fn pulls_are_recorded_except_those_of_excluded_principals() {
    let world = World::new().await;
    world.create("there").await;
    for tag in ["listed", "batch", "get", "head", "excluded"] {
        world.push_image("there", tag, tag).await;
    }
    let batch = |tag: &str| {
        world.ecr.batch_get_image().repository_name("there").image_ids(tagged(tag)).send()
    };
    let arn = "arn:aws:iam::123456789012:user/sandbox";
    let exclude = world.ecr.register_pull_time_update_exclusion().principal_arn(arn);
    exclude.send().await.unwrap();
    batch("excluded").await.unwrap();
    assert_eq!(world.get("/v2/there/manifests/excluded").await.status, 200);
    let include = world.ecr.deregister_pull_time_update_exclusion().principal_arn(arn);
    include.send().await.unwrap();

    batch("batch").await.unwrap();
    assert_eq!(world.get("/v2/there/manifests/get").await.status, 200);
    assert_eq!(world.head("/v2/there/manifests/head").await.status, 200);
    world.ecr.list_images().repository_name("there").send().await.unwrap();
    let images = world.ecr.describe_images().repository_name("there").send().await.unwrap();
    let mut pulled: Vec<&str> = images
        .image_details()
        .iter()
        .filter(|image| image.last_recorded_pull_time().is_some())
        .map(|image| image.image_tags()[0].as_str())
        .collect();
    pulled.sort_unstable();
    assert_eq!(pulled, ["batch", "get", "head"]);
}

#[tokio::test]
async fn referrers_are_listed_on_both_planes() {
    let world = World::new().await;
    world.create("there").await;
    let (subject, _) = world.push_image("there", "1", "layer").await;
    let (config, layer) = (Digest::of(br#"{"layer":1}"#), Digest::of(b"layer"));
    let mut referrer = image(&config, &layer, 5);
    referrer["subject"] = json!({ "mediaType": IMAGE, "digest": subject, "size": 1 });
    referrer["artifactType"] = "application/vnd.example.signature".into();
    referrer["annotations"] = json!({ "a": "b" });
    let text = referrer.to_string();
    let digest = Digest::of(text.as_bytes());
    let answer = world.put_manifest("there", digest.as_str(), IMAGE, &text).await;
    assert_eq!(answer.header("oci-subject"), Some(subject.as_str()));
    let path = format!("/v2/there/referrers/{subject}");
    let answer = world.get(&path).await;
    assert_eq!(answer.header("content-type"), Some(INDEX));
    let listed = answer.json()["manifests"].clone();
    assert_eq!(listed[0]["digest"], digest.as_str());
    assert_eq!(listed[0]["artifactType"], "application/vnd.example.signature");
    assert_eq!(listed[0]["annotations"], json!({ "a": "b" }));
    let none = world.get(&format!("{path}?artifactType=other")).await;
    assert_eq!(none.json()["manifests"], json!([]));
    assert_eq!(none.header("oci-filters-applied"), Some("artifactType"));
    let input = json!({ "repositoryName": "there", "subjectId": { "imageDigest": subject } });
    let listed = world.call("ListImageReferrers", &input).await.json();
    assert_eq!(listed["referrers"][0]["digest"], digest.as_str());
}
