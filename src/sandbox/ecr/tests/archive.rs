//! The archive: storage classes, restoration, lifecycle rules; and the quota of images.

use std::time::Duration;

use super::*;

/// Calls the storage class operation for this tag; returns the status or the error's name.
async fn transition(world: &World, tag: &str, class: &str) -> String {
    let input = json!({
        "repositoryName": "there", "imageId": { "imageTag": tag }, "targetStorageClass": class,
    });
    let answer = world.call("UpdateImageStorageClass", &input).await.json();
    answer["imageStatus"].as_str().or(answer["__type"].as_str()).unwrap().to_owned()
}

/// The number of images that a listing with this status has.
async fn listed(world: &World, status: Option<&str>) -> usize {
    let filter = status.map(|status| json!({ "imageStatus": status }));
    let input = json!({ "repositoryName": "there", "filter": filter });
    let ids = world.call("ListImages", &input).await.json()["imageIds"].as_array().unwrap().len();
    let details = world.call("DescribeImages", &input).await.json()["imageDetails"].clone();
    assert_eq!(details.as_array().unwrap().len(), ids, "{status:?}");
    ids
}

#[tokio::test]
async fn an_archived_image_is_listed_on_request_and_cannot_be_pulled() {
    let world = World::new().await;
    world.create("there").await;
    let (_, layer) = world.push_image("there", "1", "layer").await;
    let text = world.get("/v2/there/manifests/1").await.text();
    assert_eq!(
        transition(&world, "1", "STANDARD").await,
        "ImageStorageClassUpdateNotSupportedException"
    );
    assert_eq!(transition(&world, "none", "ARCHIVE").await, "ImageNotFoundException");
    assert_eq!(transition(&world, "1", "ARCHIVE").await, "ARCHIVED");
    let lists = async || {
        let mut counts = Vec::new();
        for status in [None, Some("ACTIVE"), Some("ARCHIVED"), Some("ACTIVATING"), Some("ANY")] {
            counts.push(listed(&world, status).await);
        }
        counts
    };
    let layers = async || {
        let input = json!({ "repositoryName": "there", "layerDigests": [layer] });
        let answer = world.call("BatchCheckLayerAvailability", &input).await.json();
        answer["layers"][0]["layerAvailability"].clone()
    };
    assert_eq!(lists().await, [0, 0, 1, 0, 1]);
    assert_eq!(layers().await, "ARCHIVED");
    world.get("/v2/there/manifests/1").await.assert_refused(404, "MANIFEST_UNKNOWN", "not found");
    let batch = json!({ "repositoryName": "there", "imageIds": [{ "imageTag": "1" }] });
    let failures = world.call("BatchGetImage", &batch).await.json()["failures"].clone();
    assert_eq!(failures[0]["failureCode"], "ImageNotFound");

    assert_eq!(transition(&world, "1", "STANDARD").await, "ACTIVATING");
    assert_eq!(lists().await, [0, 0, 0, 1, 1]);
    assert_eq!(world.get("/v2/there/manifests/1").await.status, 404);
    world.sandbox.pass_time(Duration::from_secs(20 * 60));
    assert_eq!((lists().await, layers().await), (vec![1, 1, 0, 0, 1], json!("AVAILABLE")));
    assert_eq!(world.get("/v2/there/manifests/1").await.status, 200);

    // a push restores at once
    assert_eq!(transition(&world, "1", "ARCHIVE").await, "ARCHIVED");
    assert_eq!(world.put_manifest("there", "1", IMAGE, &text).await.status, 201);
    assert_eq!(lists().await, [1, 1, 0, 0, 1]);
}

#[tokio::test]
async fn a_lifecycle_archives_by_pull_time_and_keeps_the_images_of_an_active_index() {
    let world = World::new().await;
    world.create("there").await;
    let (child, _) = world.push_image("there", "child", "layer").await;
    let index = index(&[&child]).to_string();
    world.put_manifest("there", "index", INDEX, &index).await;
    world.push_image("there", "other", "another").await;
    let rule = json!({ "rules": [{
        "rulePriority": 1,
        "selection": {
            "tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days",
            "countNumber": 90,
        },
        "action": { "type": "transition", "targetStorageClass": "archive" },
    }] });
    let put = json!({ "repositoryName": "there", "lifecyclePolicyText": rule.to_string() });
    assert_eq!(world.call("PutLifecyclePolicy", &put).await.status, 200);
    let days = |days: u64| world.sandbox.pass_time(Duration::from_secs(days * 86_400));
    days(60);
    assert_eq!(world.get("/v2/there/manifests/index").await.status, 200);
    days(40);
    // the index was pulled, and keeps its image
    assert_eq!((listed(&world, None).await, listed(&world, Some("ARCHIVED")).await), (2, 1));
    days(60);
    assert_eq!((listed(&world, None).await, listed(&world, Some("ARCHIVED")).await), (0, 3));
    assert_eq!(transition(&world, "index", "STANDARD").await, "ACTIVATING");
    days(1);
    assert_eq!(world.get("/v2/there/manifests/index").await.status, 200);
}

#[tokio::test]
async fn a_repository_at_its_quota_refuses_new_images_and_moves_tags() {
    let world = World::with(&["image-quota=1"], BlobMounting::Off).await;
    world.create("there").await;
    world.push_image("there", "1", "layer").await;
    let text = world.get("/v2/there/manifests/1").await.text();
    assert_eq!(world.put_manifest("there", "2", IMAGE, &text).await.status, 201);
    let config = world.push_blob("there", b"{}").await;
    let layer = world.push_blob("there", b"other").await;
    let other = image(&config, &layer, 5).to_string();
    let refused = world.put_manifest("there", "3", IMAGE, &other).await;
    refused.assert_refused(403, "DENIED", "maximum allowed number of images which is '1'");
    let put = json!({ "repositoryName": "there", "imageManifest": other });
    let refused = world.call("PutImage", &put).await.json();
    assert_eq!(refused["__type"], "LimitExceededException");
}
