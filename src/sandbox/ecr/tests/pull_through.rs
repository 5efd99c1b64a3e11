//! Pull-through cache rules and repository creation templates.

use super::*;

async fn name(world: &World, operation: &str, input: Value) -> String {
    world.call(operation, &input).await.json()["__type"].as_str().unwrap_or("ok").to_owned()
}

async fn secret(world: &World, name: &str, text: &str) -> String {
    let request =
        world.http.post(world.url("/")).header("authorization", signature("secretsmanager"));
    let request = request
        .header("x-amz-target", "secretsmanager.CreateSecret")
        .header("content-type", "application/x-amz-json-1.1");
    let input = json!({ "Name": name, "SecretString": text });
    world.send(request.body(input.to_string())).await.json()["ARN"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_rule_is_created_once_described_and_deleted() {
    let world = World::new().await;
    assert_eq!(
        world
            .ecr
            .describe_pull_through_cache_rules()
            .send()
            .await
            .unwrap()
            .pull_through_cache_rules(),
        []
    );
    let rule = json!({ "ecrRepositoryPrefix": "quay", "upstreamRegistryUrl": "quay.io" });
    let created = world.call("CreatePullThroughCacheRule", &rule).await.json();
    assert_eq!(created["upstreamRegistry"], "quay");
    assert_eq!(created["upstreamRepositoryPrefix"], "ROOT");
    let again = name(&world, "CreatePullThroughCacheRule", rule).await;
    assert_eq!(again, "PullThroughCacheRuleAlreadyExistsException");
    let describe = |prefix: &str| {
        world.ecr.describe_pull_through_cache_rules().ecr_repository_prefixes(prefix).send()
    };
    assert_eq!(describe("quay").await.unwrap().pull_through_cache_rules().len(), 1);
    assert_eq!(code(describe("absent").await), "PullThroughCacheRuleNotFoundException");
    let delete = || world.ecr.delete_pull_through_cache_rule().ecr_repository_prefix("quay").send();
    delete().await.unwrap();
    assert_eq!(code(delete().await), "PullThroughCacheRuleNotFoundException");
}

#[tokio::test]
async fn a_rule_has_the_credentials_its_upstream_needs() {
    let world = World::new().await;
    let good =
        secret(&world, "ecr-pullthroughcache/hub", r#"{"username":"u","accessToken":"t"}"#).await;
    let bad =
        secret(&world, "ecr-pullthroughcache/bad", r#"{"username":"u","password":"t"}"#).await;
    let absent =
        format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ecr-pullthroughcache/absent");
    let elsewhere = good.replace(REGION, "us-east-1");
    let hub = "registry-1.docker.io";
    for (url, credential, expected) in [
        (hub, None, "ValidationException"),
        (hub, Some(&bad), "UnableToAccessSecretException"),
        (hub, Some(&absent), "SecretNotFoundException"),
        (hub, Some(&elsewhere), "UnableToAccessSecretException"),
        ("gcr.io", None, "UnsupportedUpstreamRegistryException"),
        ("https://quay.io", None, "UnsupportedUpstreamRegistryException"),
        (hub, Some(&good), "ok"),
    ] {
        let mut rule = json!({ "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": url });
        if let Some(credential) = credential {
            rule["credentialArn"] = credential.as_str().into();
        }
        let got = name(&world, "CreatePullThroughCacheRule", rule).await;
        assert_eq!(got, expected, "{url} {credential:?}");
    }
    let validate =
        || world.ecr.validate_pull_through_cache_rule().ecr_repository_prefix("hub").send();
    assert!(validate().await.unwrap().is_valid());
    let request =
        world.http.post(world.url("/")).header("authorization", signature("secretsmanager"));
    let request = request
        .header("x-amz-target", "secretsmanager.DeleteSecret")
        .header("content-type", "application/x-amz-json-1.1");
    world.send(request.body(json!({ "SecretId": good }).to_string())).await;
    let validated = validate().await.unwrap();
    assert!(!validated.is_valid() && validated.failure().is_some());
}

#[tokio::test]
async fn a_registry_has_at_most_fifty_rules() {
    let world = World::new().await;
    let mut last = String::new();
    for n in 0..51 {
        let rule =
            json!({ "ecrRepositoryPrefix": format!("r{n}"), "upstreamRegistryUrl": "quay.io" });
        last = name(&world, "CreatePullThroughCacheRule", rule).await;
        assert!(n == 50 || last == "ok", "{n}");
    }
    assert_eq!(last, "LimitExceededException");
}

#[tokio::test]
async fn a_rule_changes_its_credentials_and_nothing_else() {
    let world = World::new().await;
    let text = r#"{"username":"u","accessToken":"t"}"#;
    let one = secret(&world, "ecr-pullthroughcache/one", text).await;
    let two = secret(&world, "ecr-pullthroughcache/two", text).await;
    let rule = json!({ "ecrRepositoryPrefix": "gh", "upstreamRegistryUrl": "ghcr.io", "credentialArn": one });
    assert_eq!(name(&world, "CreatePullThroughCacheRule", rule).await, "ok");
    let update = json!({ "ecrRepositoryPrefix": "gh", "credentialArn": two });
    let updated = world.call("UpdatePullThroughCacheRule", &update).await.json();
    assert_eq!(updated["credentialArn"], two.as_str());
    let absent = json!({ "ecrRepositoryPrefix": "absent", "credentialArn": two });
    let absent = name(&world, "UpdatePullThroughCacheRule", absent).await;
    assert_eq!(absent, "PullThroughCacheRuleNotFoundException");
}

#[tokio::test]
async fn templates_are_created_changed_and_deleted() {
    let world = World::new().await;
    let template = json!({ "prefix": "hub", "appliedFor": ["PULL_THROUGH_CACHE"] });
    let created = world.call("CreateRepositoryCreationTemplate", &template).await.json();
    assert_eq!(created["repositoryCreationTemplate"]["imageTagMutability"], "MUTABLE");
    let again = name(&world, "CreateRepositoryCreationTemplate", template).await;
    assert_eq!(again, "TemplateAlreadyExistsException");
    let tagged = json!({ "prefix": "hub", "resourceTags": [{ "Key": "a", "Value": "b" }] });
    let refused = name(&world, "UpdateRepositoryCreationTemplate", tagged.clone()).await;
    assert_eq!(refused, "ValidationException", "tags need a role");
    let mut with_role = tagged;
    with_role["customRoleArn"] = "arn:aws:iam::123456789012:role/template".into();
    assert_eq!(name(&world, "UpdateRepositoryCreationTemplate", with_role).await, "ok");
    let listed = json!({ "prefixes": ["hub", "absent"] });
    let listed = world.call("DescribeRepositoryCreationTemplates", &listed).await.json();
    assert_eq!(listed["repositoryCreationTemplates"].as_array().unwrap().len(), 1);
    assert_eq!(listed["repositoryCreationTemplates"][0]["resourceTags"][0]["Key"], "a");
    let delete = json!({ "prefix": "hub" });
    assert_eq!(name(&world, "DeleteRepositoryCreationTemplate", delete.clone()).await, "ok");
    let gone = name(&world, "DeleteRepositoryCreationTemplate", delete).await;
    assert_eq!(gone, "TemplateNotFoundException");
}

#[tokio::test]
async fn a_push_creates_the_repository_where_the_longest_template_says_so() {
    let world = World::new().await;
    for (prefix, mutability, applied) in [
        ("ROOT", "MUTABLE", "PULL_THROUGH_CACHE"),
        ("team", "MUTABLE", "CREATE_ON_PUSH"),
        ("team/fixed", "IMMUTABLE", "CREATE_ON_PUSH"),
    ] {
        let template =
            json!({ "prefix": prefix, "imageTagMutability": mutability, "appliedFor": [applied] });
        assert_eq!(name(&world, "CreateRepositoryCreationTemplate", template).await, "ok");
    }
    world.push_image("team/fixed/app", "1", "layer").await;
    world.push_image("team/app", "1", "layer").await;
    let answer = world.send(world.request(Method::POST, "/v2/teams/blobs/uploads/")).await;
    answer.assert_refused(404, "NAME_UNKNOWN", "'teams'");
    let described = world.call("DescribeRepositories", &json!({})).await.json();
    let mutability = |n: usize| described["repositories"][n]["imageTagMutability"].clone();
    assert_eq!((mutability(0), mutability(1)), ("MUTABLE".into(), "IMMUTABLE".into()));
}
