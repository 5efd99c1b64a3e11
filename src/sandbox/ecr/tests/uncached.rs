//! Pulls through the cache that import nothing: the puller's error, and the state after it.

use std::time::Duration;

use super::{
    caching::{rule, rule_for_hub, with_quay},
    pull_through::name,
    *,
};

#[tokio::test]
async fn a_puller_without_a_right_gets_a_not_found_error() {
    let tagged = json!({
        "prefix": "quay", "appliedFor": ["PULL_THROUGH_CACHE"],
        "resourceTags": [{ "Key": "a", "Value": "b" }],
        "customRoleArn": "arn:aws:iam::123456789012:role/template",
    });
    for (denied, template, code, api) in [
        ("BatchImportUpstreamImage", None, "MANIFEST_UNKNOWN", "ImageNotFound"),
        ("CreateRepository", None, "NAME_UNKNOWN", "RepositoryNotFoundException"),
        ("TagResource", Some(tagged), "NAME_UNKNOWN", "RepositoryNotFoundException"),
    ] {
        let world = with_quay().await;
        world.upstream_image("quay.io/team/app:1.0");
        if let Some(template) = template {
            name(&world, "CreateRepositoryCreationTemplate", template).await;
        }
        world.sandbox.faults().add(format!("deny={denied}").parse().unwrap());
        world.pull("quay/team/app", "1.0").await.assert_refused(404, code, "");
        assert_eq!(world.batch_get("quay/team/app", json!({ "imageTag": "1.0" })).await, api);
        assert_eq!(world.repositories().await, [""; 0], "{denied}");
    }
    let world = with_quay().await;
    world.upstream_image("quay.io/team/app:1.0");
    world.create("quay/team/app").await;
    world.sandbox.faults().add("deny=CreateRepository".parse().unwrap());
    world.digest("quay/team/app", "1.0").await;
}

#[tokio::test]
async fn upstream_errors_are_distinguished_and_create_no_repository() {
    let world = with_quay().await;
    rule_for_hub(&world).await;
    let gitlab = secrets::create(
        &world,
        "ecr-pullthroughcache/lab",
        r#"{"username":"u","accessToken":"wrong"}"#,
    );
    let gitlab = json!({
        "ecrRepositoryPrefix": "gitlab", "upstreamRegistryUrl": "registry.gitlab.com",
        "credentialArn": gitlab.await,
    });
    rule(&world, gitlab).await;
    for (repository, tag, status, code, api) in [
        ("hub/nginx", "1.27", 403, "DENIED", "UpstreamAccessDenied"),
        ("hub/library/missing", "1", 403, "DENIED", "UpstreamAccessDenied"),
        ("hub/library/nginx", "missing", 404, "MANIFEST_UNKNOWN", "ImageNotFound"),
        ("quay/team/missing", "1", 404, "MANIFEST_UNKNOWN", "ImageNotFound"),
        ("quay/team/private", "1", 403, "DENIED", "UpstreamAccessDenied"),
        ("gitlab/team/app", "1", 403, "DENIED", "UpstreamAccessDenied"),
        ("other/app", "1", 404, "NAME_UNKNOWN", "RepositoryNotFoundException"),
    ] {
        world.pull(repository, tag).await.assert_refused(status, code, "");
        assert_eq!(
            world.batch_get(repository, json!({ "imageTag": tag })).await,
            api,
            "{repository}"
        );
    }
    for (fault, status, code, api) in [
        ("reset@upstream", 503, "UNAVAILABLE", "UpstreamUnavailable"),
        ("status=503@upstream", 503, "UNAVAILABLE", "UpstreamUnavailable"),
        ("throttle@upstream", 429, "TOOMANYREQUESTS", "UpstreamTooManyRequests"),
    ] {
        world.sandbox.faults().add(fault.parse().unwrap());
        world.pull("quay/team/app", "1").await.assert_refused(status, code, "");
        assert_eq!(world.batch_get("quay/team/app", json!({ "imageTag": "1" })).await, api);
        world.sandbox.faults().clear();
    }
    assert_eq!(world.repositories().await, [""; 0]);
    world.digest("hub/library/private-app", "1").await;
}

#[tokio::test]
async fn a_rule_with_an_unusable_secret_imports_nothing_and_serves_the_cache() {
    let put = json!({ "SecretString": "{}" });
    for (operation, input) in [
        ("DeleteSecret", json!({ "ForceDeleteWithoutRecovery": true })),
        ("DeleteSecret", json!({})),
        ("PutSecretValue", put),
    ] {
        let world = World::new().await;
        let arn = rule_for_hub(&world).await;
        let cached = world.sandbox.upstream().image("acme/app:1").layer_size(9).push();
        world.digest("hub/acme/app", "1").await;
        let mut input = input;
        input["SecretId"] = arn.into();
        assert_eq!(secrets::call(&world, operation, &input).await.status, 200);
        world.pull("hub/acme/app", "2").await.assert_refused(403, "DENIED", "secret");
        let outcome = world.batch_get("hub/acme/app", json!({ "imageTag": "2" })).await;
        assert_eq!(outcome, "UnableToGetUpstreamImageException", "{input}");
        let rule = json!({ "ecrRepositoryPrefix": "hub" });
        let validated = world.call("ValidatePullThroughCacheRule", &rule).await.json();
        assert_eq!(validated["isValid"], false);
        assert!(validated["failure"].as_str().unwrap().contains("secret"), "{validated}");
        world.sandbox.pass_time(Duration::from_secs(25 * 3600));
        assert_eq!(world.digest("hub/acme/app", "1").await, cached.as_str());
    }
}

#[tokio::test]
async fn an_image_that_its_upstream_has_only_in_part_is_not_cached() {
    let world = with_quay().await;
    let absent = Digest::of(b"absent");
    let upstream = world.sandbox.upstream();
    let config = upstream.put_blob("quay.io", "team/app", b"{}");
    let whole = image(&config, &config, 2).to_string();
    let whole = upstream.put_manifest("quay.io", "team/app", None, IMAGE, whole.as_bytes());
    let broken = image(&config, &absent, 5).to_string();
    let broken = upstream.put_manifest("quay.io", "team/app", None, IMAGE, broken.as_bytes());
    let list = index(&[&whole, &broken]).to_string();
    upstream.put_manifest("quay.io", "team/app", Some("1"), INDEX, list.as_bytes());
    world.pull("quay/team/app", "1").await.assert_refused(404, "MANIFEST_UNKNOWN", "");
    assert_eq!(world.get("/v2/quay/team/app/tags/list").await.json()["tags"], json!([]));
    upstream.put_raw_blob("quay.io", "team/app", &absent, b"not what it says");
    world.pull("quay/team/app", "1").await.assert_refused(503, "UNAVAILABLE", "");
}
