//! Pulls through the cache that import images.

use std::time::{Duration, SystemTime};

use super::{pull_through::name, *};

const HUB: &str = "registry-1.docker.io";
const LOGIN: &str = r#"{"username":"u","accessToken":"t"}"#;

/// A world with a rule that caches Quay below `quay`.
pub(super) async fn with_quay() -> World {
    let world = World::new().await;
    rule(&world, json!({ "ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io" })).await;
    world
}

pub(super) async fn rule(world: &World, input: Value) {
    assert_eq!(name(world, "CreatePullThroughCacheRule", input).await, "ok");
}

/// Caches Docker Hub below `hub`, and returns the ARN of its secret.
pub(super) async fn rule_for_hub(world: &World) -> String {
    let arn = secrets::create(world, "ecr-pullthroughcache/hub", LOGIN).await;
    let hub = json!({ "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": HUB });
    let mut hub = hub;
    hub["credentialArn"] = arn.as_str().into();
    rule(world, hub).await;
    arn
}

impl World {
    pub(super) fn upstream_image(&self, reference: &str) -> Digest {
        self.sandbox.upstream().image(reference).layer_size(2 << 10).push()
    }

    pub(super) async fn pull(&self, repository: &str, at: &str) -> Answer {
        self.get(&format!("/v2/{repository}/manifests/{at}")).await
    }

    /// The digest of a tag in the cache.
    pub(super) async fn digest(&self, repository: &str, tag: &str) -> String {
        let answer = self.head(&format!("/v2/{repository}/manifests/{tag}")).await;
        assert_eq!(answer.status, 200, "{repository}:{tag}");
        answer.header("docker-content-digest").unwrap().to_owned()
    }

    /// The names of all repositories.
    pub(super) async fn repositories(&self) -> Vec<String> {
        let outcome = self.ecr.describe_repositories().send().await.unwrap();
        outcome.repositories().iter().map(|it| it.repository_name().unwrap().to_owned()).collect()
    }

    /// The result of `BatchGetImage` for one image: `ok`, its failure code, or the call's
    /// exception.
    pub(super) async fn batch_get(&self, repository: &str, id: Value) -> String {
        let input = json!({ "repositoryName": repository, "imageIds": [id] });
        let answer = self.call("BatchGetImage", &input).await.json();
        if let Some(exception) = answer["__type"].as_str() {
            return exception.to_owned();
        }
        let failure = answer["failures"][0]["failureCode"].as_str();
        failure.unwrap_or("ok").to_owned()
    }
}

#[tokio::test]
async fn the_first_pull_of_a_tag_imports_the_whole_image_and_creates_its_repository() {
    let world = with_quay().await;
    let before = SystemTime::now() - Duration::from_millis(1);
    let root = world.upstream_image("quay.io/team/app:1.0");
    world.upstream_image("quay.io/team/app:2.0");

    assert_eq!(world.digest("quay/team/app", "1.0").await, root.as_str());
    let index = world.pull("quay/team/app", root.as_str()).await.json();
    for child in index["manifests"].as_array().unwrap() {
        let image = world.pull("quay/team/app", child["digest"].as_str().unwrap()).await.json();
        let layers = image["layers"].as_array().unwrap().iter();
        for blob in layers.chain([&image["config"]]) {
            let digest = blob["digest"].as_str().unwrap();
            let redirect = world.get(&format!("/v2/quay/team/app/blobs/{digest}")).await;
            let (host, path) = location(&redirect);
            let request = world.http.get(world.url(&path)).header("host", host);
            let content = world.send(request).await;
            assert_eq!(Digest::of(&content.body).as_str(), digest);
            let url = world.ecr.get_download_url_for_layer().repository_name("quay/team/app");
            url.layer_digest(digest).send().await.unwrap();
        }
    }
    let outcome = world.ecr.describe_repositories().repository_names("quay/team/app");
    let outcome = outcome.send().await.unwrap().repositories()[0].clone();
    let created = SystemTime::try_from(*outcome.created_at().unwrap()).unwrap();
    assert!((before..=SystemTime::now()).contains(&created), "{created:?}");
    // only the requested image is cached, and no pull limit counted it
    assert_eq!(world.get("/v2/quay/team/app/tags/list").await.json()["tags"], json!(["1.0"]));
    let images = world.ecr.describe_images().repository_name("quay/team/app").send().await.unwrap();
    assert_eq!(images.image_details().len(), 3);
    assert!(world.sandbox.journal().iter().all(|entry| !entry.host.contains("quay.io")));
}

/// The host and the path of a redirect.
fn location(answer: &Answer) -> (String, String) {
    let url: url::Url = answer.header("location").unwrap().parse().unwrap();
    (url.host_str().unwrap().to_owned(), local(url.as_str()))
}

#[tokio::test]
async fn the_api_imports_images_like_the_data_plane() {
    let world = with_quay().await;
    world.upstream_image("quay.io/team/app:1.0");
    assert_eq!(world.batch_get("quay/team/app", json!({ "imageTag": "1.0" })).await, "ok");
    assert_eq!(world.repositories().await, ["quay/team/app"]);
}

#[tokio::test]
async fn a_digest_is_missing_until_its_tag_is_pulled() {
    let world = with_quay().await;
    let root = world.upstream_image("quay.io/team/app:1.0");
    let by_digest = json!({ "imageDigest": root });
    let by_both = json!({ "imageDigest": root, "imageTag": "1.0" });
    world.pull("quay/team/app", root.as_str()).await.assert_refused(404, "NAME_UNKNOWN", "");
    for id in [&by_digest, &by_both] {
        let outcome = world.batch_get("quay/team/app", id.clone()).await;
        assert_eq!(outcome, "RepositoryNotFoundException");
    }
    world.create("quay/team/app").await;
    world.pull("quay/team/app", root.as_str()).await.assert_refused(404, "MANIFEST_UNKNOWN", "");
    for id in [&by_digest, &by_both] {
        assert_eq!(world.batch_get("quay/team/app", id.clone()).await, "ImageNotFound");
    }
    world.digest("quay/team/app", "1.0").await;
    assert_eq!(world.pull("quay/team/app", root.as_str()).await.status, 200);
    for id in [by_digest, by_both] {
        assert_eq!(world.batch_get("quay/team/app", id).await, "ok");
    }
}

#[tokio::test]
async fn a_cached_repository_gets_the_settings_of_the_template_with_the_longest_prefix() {
    let world = with_quay().await;
    let policy = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":9},"action":{"type":"expire"}}]}"#;
    let key = "arn:aws:kms:eu-west-1:123456789012:key/1234";
    for template in [
        json!({ "prefix": "ROOT", "appliedFor": ["PULL_THROUGH_CACHE"], "imageTagMutability": "IMMUTABLE" }),
        json!({ "prefix": "quay/team", "appliedFor": ["CREATE_ON_PUSH"], "imageTagMutability": "IMMUTABLE" }),
        json!({
            "prefix": "quay",
            "appliedFor": ["PULL_THROUGH_CACHE"],
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "latest*" }],
            "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": key },
            "resourceTags": [{ "Key": "team", "Value": "platform" }],
            "customRoleArn": "arn:aws:iam::123456789012:role/template",
            "lifecyclePolicy": policy,
            "repositoryPolicy": "{\"Version\":\"2012-10-17\"}",
        }),
    ] {
        assert_eq!(name(&world, "CreateRepositoryCreationTemplate", template).await, "ok");
    }
    world.upstream_image("quay.io/team/app:1.0");
    world.digest("quay/team/app", "1.0").await;
    let one = json!({ "repositoryName": "quay/team/app" });
    let outcome = world.call("DescribeRepositories", &json!({})).await.json();
    let outcome = &outcome["repositories"][0];
    assert_eq!(outcome["imageTagMutability"], "IMMUTABLE_WITH_EXCLUSION");
    assert_eq!(outcome["imageTagMutabilityExclusionFilters"][0]["filter"], "latest*");
    let encryption = json!({ "encryptionType": "KMS", "kmsKey": key });
    assert_eq!(outcome["encryptionConfiguration"], encryption);
    let tags = json!({ "resourceArn": outcome["repositoryArn"] });
    let tags = world.call("ListTagsForResource", &tags).await.json();
    assert_eq!(tags["tags"], json!([{ "Key": "team", "Value": "platform" }]));
    let lifecycle = world.call("GetLifecyclePolicy", &one).await.json();
    assert_eq!(lifecycle["lifecyclePolicyText"], policy);
    let repository = world.call("GetRepositoryPolicy", &one).await.json();
    assert_eq!(repository["policyText"], "{\"Version\":\"2012-10-17\"}");
}

#[tokio::test]
async fn a_cached_tag_is_served_for_a_day_and_then_follows_its_upstream() {
    let world = with_quay().await;
    let old = world.upstream_image("quay.io/team/app:1");
    assert_eq!(world.digest("quay/team/app", "1").await, old.as_str());
    let new = world.sandbox.upstream().image("quay.io/team/app:1").layer_size(7).push();
    assert_ne!(old, new);
    let hours = |hours: u64| world.sandbox.pass_time(Duration::from_secs(hours * 3600));
    hours(23);
    assert_eq!(world.digest("quay/team/app", "1").await, old.as_str(), "the upstream is not asked");
    hours(2);
    world.sandbox.faults().add("reset@upstream".parse().unwrap());
    assert_eq!(world.digest("quay/team/app", "1").await, old.as_str(), "the upstream is down");
    world.sandbox.faults().clear();
    assert_eq!(world.digest("quay/team/app", "1").await, new.as_str());
    // a tag that the upstream removes stays in the cache
    world.sandbox.upstream().remove_tag("quay.io", "team/app", "1");
    hours(25);
    assert_eq!(world.digest("quay/team/app", "1").await, new.as_str());
    assert_eq!(world.pull("quay/team/app", old.as_str()).await.status, 200);
}

#[tokio::test]
async fn an_immutable_tag_is_never_moved() {
    let world = with_quay().await;
    let template = json!({
        "prefix": "quay", "appliedFor": ["PULL_THROUGH_CACHE"], "imageTagMutability": "IMMUTABLE",
    });
    name(&world, "CreateRepositoryCreationTemplate", template).await;
    let old = world.upstream_image("quay.io/team/app:1");
    assert_eq!(world.digest("quay/team/app", "1").await, old.as_str());
    world.sandbox.upstream().image("quay.io/team/app:1").layer_size(7).push();
    world.sandbox.pass_time(Duration::from_secs(25 * 3600));
    assert_eq!(world.digest("quay/team/app", "1").await, old.as_str());
}

#[tokio::test]
async fn the_rule_with_the_longest_prefix_selects_the_upstream() {
    let world = World::new().await;
    for (prefix, url, upstream_prefix) in [
        ("ROOT", "public.ecr.aws", "ROOT"),
        ("team", "quay.io", "ROOT"),
        ("team/k8s", "registry.k8s.io", "images"),
    ] {
        let input = json!({
            "ecrRepositoryPrefix": prefix,
            "upstreamRegistryUrl": url,
            "upstreamRepositoryPrefix": upstream_prefix,
        });
        rule(&world, input).await;
    }
    for (repository, source) in [
        ("a/b", "public.ecr.aws/a/b:1"),
        ("team/a/b", "quay.io/a/b:1"),
        ("team/k8s/pause", "registry.k8s.io/images/pause:1"),
        ("teams/a", "public.ecr.aws/teams/a:1"),
        ("team", "public.ecr.aws/team:1"),
    ] {
        let root = world.upstream_image(source);
        assert_eq!(world.digest(repository, "1").await, root.as_str(), "{repository}");
    }
}

#[tokio::test]
async fn another_ecr_registry_can_be_an_upstream() {
    let world = World::new().await;
    let url = "210987654321.dkr.ecr.us-east-1.amazonaws.com";
    let mut input = json!({
        "ecrRepositoryPrefix": "theirs",
        "upstreamRegistryUrl": url,
        "upstreamRepositoryPrefix": "prod",
    });
    let refused = name(&world, "CreatePullThroughCacheRule", input.clone()).await;
    assert_eq!(refused, "ValidationException", "another account's wants a role");
    input["customRoleArn"] = "arn:aws:iam::123456789012:role/pull".into();
    rule(&world, input).await;
    let theirs = world.sandbox.ecr_store("210987654321", "us-east-1");
    let config = theirs.put_blob("prod/app", b"{}").await.unwrap();
    let layer = theirs.put_blob("prod/app", b"layer").await.unwrap();
    let text = image(&config, &layer, 5).to_string();
    let digest = theirs.put_manifest("prod/app", IMAGE, text.as_bytes()).unwrap();
    theirs.set_tag("prod/app", "1", &digest).unwrap();

    assert_eq!(world.digest("theirs/app", "1").await, digest.as_str());
    let (host, path) = location(&world.get(&format!("/v2/theirs/app/blobs/{layer}")).await);
    let content = world.send(world.http.get(world.url(&path)).header("host", host)).await;
    assert_eq!(content.text(), "layer");
    world.pull("theirs/app", "2").await.assert_refused(404, "MANIFEST_UNKNOWN", "");
}

#[tokio::test]
async fn imports_do_not_count_against_docker_hubs_pull_limit() {
    let world = World::with(&["pull-limit=1"], BlobMounting::Off).await;
    rule_for_hub(&world).await;
    for tag in ["1", "2", "3"] {
        world.sandbox.upstream().image(&format!("acme/app:{tag}")).layer_size(9).push();
        world.digest("hub/acme/app", tag).await;
    }
    let request = world.http.get(world.url("/v2/acme/app/manifests/1"));
    let challenge = world.send(request.header("host", "registry-1.docker.io")).await;
    assert_eq!(challenge.status, 401, "and clients still need a token of their own");
}

#[tokio::test]
async fn existing_blobs_are_not_imported_again_and_none_is_mounted() {
    let world = World::with(&[], BlobMounting::On).await;
    for prefix in ["one", "two"] {
        let quay = json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": "quay.io" });
        rule(&world, quay).await;
    }
    world.upstream_image("quay.io/team/app:1");
    world.digest("one/team/app", "1").await;
    world.sandbox.faults().add("reset@upstream/blobs/".parse().unwrap());
    world.digest("two/team/app", "1").await;
    world.create("ours").await;
    let config = world.sandbox.ecr_store(ACCOUNT, REGION);
    let blob = config
        .manifests("one/team/app")
        .iter()
        .find_map(|image| config.links("one/team/app", image)?.blobs.first().cloned())
        .unwrap();
    let path = format!("/v2/ours/blobs/uploads/?mount={blob}&from=one/team/app");
    assert_eq!(world.send(world.request(Method::POST, &path)).await.status, 202);
}

#[tokio::test]
async fn concurrent_pulls_all_get_the_image() {
    let world = with_quay().await;
    let root = world.upstream_image("quay.io/team/app:1");
    let digests =
        futures::future::join_all((0..8).map(|_| world.digest("quay/team/app", "1"))).await;
    assert!(digests.iter().all(|digest| digest == root.as_str()), "{digests:?}");
}
