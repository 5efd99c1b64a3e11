//! Pull-through cache rules and repository creation templates.

use super::*;

/// `ok`, or the exception.
pub(super) async fn name(world: &World, operation: &str, input: Value) -> String {
    world.call(operation, &input).await.json()["__type"].as_str().unwrap_or("ok").to_owned()
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
async fn a_rule_requires_exactly_the_credentials_that_its_upstream_needs() {
    let world = World::new().await;
    let text = r#"{"username":"u","accessToken":"t"}"#;
    let good = secrets::create(&world, "ecr-pullthroughcache/hub", text).await;
    let bad =
        secrets::create(&world, "ecr-pullthroughcache/bad", r#"{"username":"u","password":"t"}"#)
            .await;
    let going = secrets::create(&world, "ecr-pullthroughcache/going", text).await;
    secrets::call(&world, "DeleteSecret", &json!({ "SecretId": going })).await;
    let absent =
        format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:ecr-pullthroughcache/absent");
    let elsewhere = good.replace(REGION, "us-east-1");
    let hub = "registry-1.docker.io";
    for (url, credential, expected) in [
        (hub, None, "UnsupportedUpstreamRegistryException"),
        ("quay.io", Some(&good), "ValidationException"),
        (hub, Some(&bad), "UnableToAccessSecretException"),
        (hub, Some(&absent), "SecretNotFoundException"),
        (hub, Some(&elsewhere), "UnableToAccessSecretException"),
        ("gcr.io", None, "UnsupportedUpstreamRegistryException"),
        ("https://quay.io", None, "UnsupportedUpstreamRegistryException"),
        ("x.azurecr.io/team", Some(&good), "UnsupportedUpstreamRegistryException"),
        (".azurecr.io", Some(&good), "UnsupportedUpstreamRegistryException"),
        ("x.dkr.ecr.eu-west-1.amazonaws.com", None, "UnsupportedUpstreamRegistryException"),
        (hub, Some(&going), "UnableToAccessSecretException"),
        (hub, Some(&good), "ok"),
    ] {
        let mut rule = json!({ "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": url });
        if let Some(credential) = credential {
            rule["credentialArn"] = credential.as_str().into();
        }
        let got = name(&world, "CreatePullThroughCacheRule", rule).await;
        assert_eq!(got, expected, "{url} {credential:?}");
    }
}

#[tokio::test]
async fn a_rule_is_valid_while_its_secret_and_its_upstream_work() {
    let world = World::new().await;
    let login = |token: &str| json!({ "username": "u", "accessToken": token }).to_string();
    let arn = secrets::create(&world, "ecr-pullthroughcache/hub", &login("t")).await;
    let rule = json!({
        "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": "registry-1.docker.io",
        "credentialArn": arn,
    });
    assert_eq!(name(&world, "CreatePullThroughCacheRule", rule).await, "ok");
    let failure = async || {
        let rule = world.ecr.validate_pull_through_cache_rule().ecr_repository_prefix("hub");
        let outcome = rule.send().await.unwrap();
        assert_eq!(outcome.is_valid(), outcome.failure().is_none());
        outcome.failure().map(str::to_owned)
    };
    assert_eq!(failure().await, None);
    for (fault, text) in
        [("reset@upstream", "could not be reached"), ("throttle@upstream", "throttled")]
    {
        world.sandbox.faults().add(fault.parse().unwrap());
        let outcome = failure().await.unwrap();
        assert!(outcome.contains(text), "{outcome}");
        world.sandbox.faults().clear();
    }
    for (content, text) in [(login("wrong"), "authentication"), ("u:t".to_owned(), "accessToken")] {
        let put = json!({ "SecretId": arn, "SecretString": content });
        secrets::call(&world, "PutSecretValue", &put).await;
        let outcome = failure().await.unwrap();
        assert!(outcome.contains(text) && !outcome.contains("u:t"), "{outcome}");
    }
    secrets::call(&world, "DeleteSecret", &json!({ "SecretId": arn })).await;
    assert!(failure().await.unwrap().contains("marked for deletion"));
    let gone = json!({ "SecretId": arn, "ForceDeleteWithoutRecovery": true });
    secrets::call(&world, "DeleteSecret", &gone).await;
    assert!(failure().await.unwrap().contains("not found"));
}

#[tokio::test]
async fn implied_actions_require_the_callers_rights() {
    let world = World::new().await;
    let text = r#"{"username":"u","accessToken":"t"}"#;
    let arn = secrets::create(&world, "ecr-pullthroughcache/hub", text).await;
    let role = "arn:aws:iam::123456789012:role/it";
    let hub = json!({
        "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": "registry-1.docker.io",
        "credentialArn": arn,
    });
    let ecr = json!({
        "ecrRepositoryPrefix": "ecr", "customRoleArn": role,
        "upstreamRegistryUrl": "210987654321.dkr.ecr.eu-west-1.amazonaws.com",
    });
    let template = json!({
        "prefix": "hub", "appliedFor": ["PULL_THROUGH_CACHE"], "customRoleArn": role,
        "repositoryPolicy": "{}",
    });
    for (denied, operation, input, expected) in [
        ("CreateServiceLinkedRole", "CreatePullThroughCacheRule", &hub, "AccessDeniedException"),
        ("GetSecretValue", "CreatePullThroughCacheRule", &hub, "UnableToAccessSecretException"),
        ("PassRole", "CreatePullThroughCacheRule", &hub, "ok"),
        ("PassRole", "CreatePullThroughCacheRule", &ecr, "AccessDeniedException"),
        ("CreateServiceLinkedRole", "CreatePullThroughCacheRule", &ecr, "ok"),
        ("PassRole", "CreateRepositoryCreationTemplate", &template, "AccessDeniedException"),
        (
            "CreateRepository",
            "CreateRepositoryCreationTemplate",
            &template,
            "AccessDeniedException",
        ),
        (
            "SetRepositoryPolicy",
            "CreateRepositoryCreationTemplate",
            &template,
            "AccessDeniedException",
        ),
        ("PutLifecyclePolicy", "CreateRepositoryCreationTemplate", &template, "ok"),
    ] {
        world.sandbox.faults().add(format!("deny={denied}").parse().unwrap());
        let outcome = name(&world, operation, input.clone()).await;
        assert_eq!(outcome, expected, "{operation} without {denied}");
        world.sandbox.faults().clear();
    }
}

#[tokio::test]
async fn rules_and_templates_are_within_the_models_limits() {
    let world = World::new().await;
    let long = |length: usize| "a".repeat(length);
    let rule =
        |prefix: &str| json!({ "ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": "quay.io" });
    let template = |member: &str, value: Value| {
        let mut template = json!({
            "prefix": "t", "appliedFor": ["PULL_THROUGH_CACHE"],
            "customRoleArn": "arn:aws:iam::123456789012:role/it",
        });
        template[member] = value;
        template
    };
    let kms = |key: &str| json!({ "encryptionType": "KMS", "kmsKey": key });
    let tags: Vec<Value> = (0..51).map(|n| json!({ "Key": n.to_string(), "Value": "" })).collect();
    let (parameter, validation) = ("InvalidParameterException", "ValidationException");
    for (operation, input, expected) in [
        ("CreatePullThroughCacheRule", rule("a"), parameter),
        ("CreatePullThroughCacheRule", rule(&long(31)), parameter),
        ("CreatePullThroughCacheRule", rule("A/b"), parameter),
        ("CreatePullThroughCacheRule", json!({ "ecrRepositoryPrefix": "aa" }), parameter),
        (
            "CreatePullThroughCacheRule",
            json!({
                "ecrRepositoryPrefix": "aa", "upstreamRegistryUrl": "quay.io",
                "credentialArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other/x-abcdef",
            }),
            parameter,
        ),
        (
            "CreatePullThroughCacheRule",
            json!({
                "ecrRepositoryPrefix": "aa", "upstreamRegistryUrl": "quay.io",
                "upstreamRegistry": "hub",
            }),
            parameter,
        ),
        (
            "CreatePullThroughCacheRule",
            json!({
                "ecrRepositoryPrefix": "aa", "upstreamRegistryUrl": "quay.io",
                "customRoleArn": "arn:aws:iam::123456789012:role/it",
            }),
            validation,
        ),
        (
            "CreatePullThroughCacheRule",
            json!({
                "ecrRepositoryPrefix": "ROOT", "upstreamRegistryUrl": "quay.io",
                "upstreamRepositoryPrefix": "team",
            }),
            validation,
        ),
        ("CreateRepositoryCreationTemplate", template("prefix", long(257).into()), parameter),
        ("CreateRepositoryCreationTemplate", template("description", long(257).into()), parameter),
        (
            "CreateRepositoryCreationTemplate",
            template("repositoryPolicy", long(10_241).into()),
            parameter,
        ),
        (
            "CreateRepositoryCreationTemplate",
            template("lifecyclePolicy", long(30_721).into()),
            parameter,
        ),
        (
            "CreateRepositoryCreationTemplate",
            template("lifecyclePolicy", r#"{"rules":[]}"#.into()),
            parameter,
        ),
        ("CreateRepositoryCreationTemplate", template("appliedFor", json!(["PULL"])), parameter),
        ("CreateRepositoryCreationTemplate", template("appliedFor", Value::Null), parameter),
        (
            "CreateRepositoryCreationTemplate",
            template("customRoleArn", long(2049).into()),
            parameter,
        ),
        ("CreateRepositoryCreationTemplate", template("resourceTags", tags.into()), validation),
        (
            "CreateRepositoryCreationTemplate",
            template("encryptionConfiguration", kms("alias/ecr")),
            parameter,
        ),
        (
            "CreateRepositoryCreationTemplate",
            template("encryptionConfiguration", kms("arn:aws:kms:eu-west-1:123456789012:key/1-a")),
            "ok",
        ),
        ("CreatePullThroughCacheRule", rule(&long(30)), "ok"),
    ] {
        assert_eq!(name(&world, operation, input.clone()).await, expected, "{operation} {input}");
    }
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
async fn an_update_changes_only_a_rules_credentials() {
    let world = World::new().await;
    let text = r#"{"username":"u","accessToken":"t"}"#;
    let one = secrets::create(&world, "ecr-pullthroughcache/one", text).await;
    let two = secrets::create(&world, "ecr-pullthroughcache/two", text).await;
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
    let encrypted =
        json!({ "prefix": "hub", "encryptionConfiguration": { "encryptionType": "KMS" } });
    let refused = name(&world, "UpdateRepositoryCreationTemplate", encrypted).await;
    assert_eq!(refused, "ValidationException", "KMS needs a role");
    let mut with_role = json!({ "prefix": "hub", "resourceTags": [{ "Key": "a", "Value": "b" }] });
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
async fn tags_in_a_template_without_a_role_are_accepted_or_refused() {
    let template = |prefix: &str, member: &str, value: Value| {
        let mut template = json!({ "prefix": prefix, "appliedFor": ["PULL_THROUGH_CACHE"] });
        template[member] = value;
        template
    };
    let tags = json!([{ "Key": "team", "Value": "x" }]);
    let kms = json!({ "encryptionType": "KMS" });
    for (faults, expected) in [(&[][..], 200), (&["template-role"], 400)] {
        let world = World::with(faults, BlobMounting::Off).await;
        let create = async |template: Value| {
            world.call("CreateRepositoryCreationTemplate", &template).await.status
        };
        assert_eq!(create(template("a", "resourceTags", tags.clone())).await, expected);
        assert_eq!(create(template("b", "encryptionConfiguration", kms.clone())).await, 400);
    }
}

#[tokio::test]
async fn a_push_creates_the_repository_if_the_template_with_the_longest_prefix_allows_it() {
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
