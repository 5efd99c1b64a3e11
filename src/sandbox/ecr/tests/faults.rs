//! Faults that only ECR has.

use super::*;

fn fault(world: &World, text: &str) {
    world.sandbox.faults().add(text.parse().unwrap());
}

#[tokio::test]
async fn expired_tokens_are_refused_until_the_client_logs_in_again() {
    let mut world = World::new().await;
    fault(&world, "expire-tokens");
    for _ in 0..2 {
        let text = "Your authorization token has expired. Reauthenticate and try again.";
        world.get("/v2/").await.assert_refused(403, "DENIED", text);
    }
    world.log_in().await;
    assert_eq!(world.get("/v2/").await.status, 200);
    assert_eq!(world.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn a_token_lives_as_long_as_the_fault_says_and_its_refusal_reads_the_body() {
    let world = World::with(&["token-life=0"], BlobMounting::Off).await;
    let data = world.ecr.get_authorization_token().send().await.unwrap();
    let expires = data.authorization_data()[0].expires_at().unwrap().secs();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
    assert!((now - 1..=now).contains(&expires), "{expires} {now}");
    let upload = world.request(Method::PUT, "/v2/there/blobs/uploads/x").body(vec![0; 8 << 20]);
    world.send(upload).await.assert_refused(403, "DENIED", "has expired");
}

#[tokio::test]
async fn a_denied_action_is_denied_on_both_planes() {
    let world = World::new().await;
    world.create("there").await;
    fault(&world, "deny=ListImages");
    fault(&world, "deny=BatchCheckLayerAvailability");
    let arn = format!("arn:aws:ecr:{REGION}:{ACCOUNT}:repository/there");
    let text = format!("is not authorized to perform: ecr:ListImages on resource: {arn} because");
    world.get("/v2/there/tags/list").await.assert_refused(403, "DENIED", &text);
    let head = world.head(&format!("/v2/there/blobs/{}", Digest::of(b""))).await;
    assert_eq!((head.status.as_u16(), head.text().as_str()), (403, ""));
    let api = world.call("ListImages", &json!({ "repositoryName": "there" })).await;
    assert_eq!(api.json()["__type"], "AccessDeniedException");
    assert!(api.json()["message"].as_str().unwrap().contains(&text));
    world.ecr.describe_repositories().send().await.unwrap();
}

#[tokio::test]
async fn quotas_throttle_each_action_on_its_own() {
    let world = World::new().await;
    world.create("there").await;
    fault(&world, "quotas");
    let text = index(&[]).to_string();
    let mut refusals = Vec::new();
    for n in 0..30 {
        let answer = world.put_manifest("there", &format!("t{n}"), INDEX, &text).await;
        if answer.status != 201 {
            refusals.push(answer.refusal());
        }
    }
    // 10 at once, and at most 10 a second during this loop
    assert!(!refusals.is_empty());
    let expected = (429, "TOOMANYREQUESTS".to_owned(), "Rate exceeded".to_owned());
    assert!(refusals.iter().all(|refusal| *refusal == expected), "{refusals:?}");
    let mut throttled = 0;
    for n in 0..30 {
        let put = world.ecr.put_image().repository_name("there").image_tag(format!("u{n}"));
        let put = put.image_manifest(&text).send().await;
        throttled += usize::from(put.is_err() && code(put) == "ThrottlingException");
    }
    assert!(throttled > 0);
    assert_eq!(world.get("/v2/there/tags/list").await.status, 200);
}

#[tokio::test]
async fn a_vanished_blob_must_be_uploaded_again_and_an_images_blob_does_not_vanish() {
    let world = World::new().await;
    world.create("there").await;
    let (_, layer) = world.push_image("there", "1", "layer").await;
    let config = world.push_blob("there", b"config").await;
    let other = world.push_blob("there", b"other").await;
    for blob in [&layer, &other] {
        assert_eq!(world.head(&format!("/v2/there/blobs/{blob}")).await.status, 200);
    }
    fault(&world, "vanish");
    let text = world.get("/v2/there/manifests/1").await.text();
    assert_eq!(world.put_manifest("there", "2", IMAGE, &text).await.status, 201);
    let text = image(&config, &other, 5).to_string();
    let answer = world.put_manifest("there", "3", IMAGE, &text).await;
    answer.assert_refused(404, "BLOB_UPLOAD_UNKNOWN", other.as_str());
    assert_eq!(world.head(&format!("/v2/there/blobs/{other}")).await.status, 404);
    world.push_blob("there", b"other").await;
    assert_eq!(world.put_manifest("there", "3", IMAGE, &text).await.status, 201);
}

#[tokio::test]
async fn a_late_blob_is_accepted_after_its_delay() {
    let late = std::time::Duration::from_secs(3600);
    let fault = format!("late-blobs={}", late.as_millis());
    let world = World::with(&[&fault], BlobMounting::Off).await;
    world.create("there").await;
    let config = world.push_blob("there", b"config").await;
    let layer = world.push_blob("there", b"layer").await;
    let text = image(&config, &layer, 5).to_string();
    let answer = world.put_manifest("there", "1", IMAGE, &text).await;
    answer.assert_refused(404, "BLOB_UPLOAD_UNKNOWN", "do not exist");
    tokio::time::pause();
    tokio::time::advance(late).await;
    tokio::time::resume();
    assert_eq!(world.put_manifest("there", "1", IMAGE, &text).await.status, 201);
}

#[tokio::test]
async fn swap_missing_status_changes_the_status_for_missing_content() {
    let world = World::with(&["swap-missing-status"], BlobMounting::Off).await;
    world.create("there").await;
    let text = index(&[&Digest::of(b"absent")]).to_string();
    let answer = world.put_manifest("there", "1", INDEX, &text).await;
    answer.assert_refused(400, "MANIFEST_BLOB_UNKNOWN", "do not exist");
    assert_eq!(world.get("/v2/there/manifests/absent").await.status, 404);
}

#[tokio::test]
async fn an_empty_blob_can_be_accepted_and_dropped() {
    let world = World::with(&["empty-blob=drop"], BlobMounting::Off).await;
    world.create("there").await;
    let empty = world.push_blob("there", b"").await;
    let config = world.push_blob("there", b"config").await;
    let text = image(&config, &empty, 0).to_string();
    let answer = world.put_manifest("there", "1", IMAGE, &text).await;
    answer.assert_refused(404, "BLOB_UPLOAD_UNKNOWN", empty.as_str());
}

#[tokio::test]
async fn translate_changes_the_type_by_tag_and_never_by_digest() {
    let world = World::with(&["translate"], BlobMounting::Off).await;
    world.create("there").await;
    let (digest, _) = world.push_image("there", "1", "layer").await;
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    let get = |at: &str, accept: &str| {
        let path = format!("/v2/there/manifests/{at}");
        world.send(world.request(Method::GET, &path).header("accept", accept))
    };
    let narrow = get("1", docker).await;
    assert_eq!(narrow.header("content-type"), Some(docker));
    let own = narrow.header("docker-content-digest").unwrap().to_owned();
    assert_eq!(own, Digest::of(&narrow.body).as_str());
    assert_ne!(own, digest.as_str());
    let wide = get("1", &format!("{docker}, {IMAGE}")).await;
    assert_eq!(wide.header("docker-content-digest"), Some(digest.as_str()));
    assert_eq!(get(digest.as_str(), docker).await.header("content-type"), Some(IMAGE));
}
