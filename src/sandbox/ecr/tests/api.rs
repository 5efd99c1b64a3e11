//! Checks before any operation: the protocol, the signature, the model's limits.

use super::*;

#[tokio::test]
async fn a_call_without_a_signature_is_refused() {
    let world = World::new().await;
    let answer = world.send(world.unsigned("DescribeRepositories").body("{}")).await;
    assert_eq!(answer.status, 400);
    let name = "MissingAuthenticationTokenException";
    assert_eq!(answer.json()["__type"], name);
    assert_eq!(answer.header("x-amzn-errortype"), Some(name));
    let other = world.unsigned("DescribeRepositories").header("authorization", signature("s3"));
    let answer = world.send(other.body("{}")).await;
    assert_eq!(answer.json()["__type"], "InvalidSignatureException");
}

#[tokio::test]
async fn an_unknown_operation_is_refused() {
    let world = World::new().await;
    let answer = world.call("MakeCoffee", &json!({})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["__type"], "UnknownOperationException");
    let answer = world.send(world.http.post(world.url("/")).body("{}")).await;
    assert_eq!(answer.json()["__type"], "UnknownOperationException");
}

#[tokio::test]
async fn input_beyond_the_models_limits_is_refused() {
    let world = World::new().await;
    world.create("there").await;
    let digests = |count: usize| vec!["sha256:x"; count];
    let ids = |count: usize| vec![json!({ "imageTag": "1" }); count];
    let filters = |count: usize| vec![json!({ "filterType": "WILDCARD", "filter": "a*" }); count];
    for (operation, input, text) in [
        (
            "CreateRepository",
            json!({}),
            "'repositoryName' failed to satisfy constraint: 'Member must not be null'",
        ),
        ("CreateRepository", json!({ "repositoryName": "a" }), "greater than or equal to 2"),
        (
            "CreateRepository",
            json!({ "repositoryName": "a".repeat(257) }),
            "less than or equal to 256",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "Nginx" }),
            "must satisfy regular expression '(?:",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "a/" }),
            "must satisfy regular expression '(?:",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "registryId": "12345678901" }),
            "registryId",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "imageTagMutability": "FIXED" }),
            "enum value set: [MUTABLE, IMMUTABLE,",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION" }),
            "imageTagMutabilityExclusionFilters",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "imageTagMutabilityExclusionFilters": filters(1) }),
            "imageTagMutabilityExclusionFilters",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION", "imageTagMutabilityExclusionFilters": filters(6) }),
            "less than or equal to 5",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "encryptionConfiguration": { "encryptionType": "ROT13" } }),
            "enum value set",
        ),
        (
            "CreateRepository",
            json!({ "repositoryName": "ab", "tags": [{ "Key": "k".repeat(129), "Value": "" }] }),
            "less than or equal to 128",
        ),
        ("DescribeRepositories", json!({ "maxResults": 1001 }), "value less than or equal to 1000"),
        ("DescribeRepositories", json!({ "maxResults": 0 }), "value greater than or equal to 1"),
        (
            "DescribeRepositories",
            json!({ "maxResults": 5, "repositoryNames": ["there"] }),
            "together",
        ),
        ("DescribeRepositories", json!({ "repositoryNames": [] }), "greater than or equal to 1"),
        ("DescribeRepositories", json!({ "nextToken": "there" }), "Invalid pagination token"),
        (
            "BatchCheckLayerAvailability",
            json!({ "repositoryName": "there", "layerDigests": digests(101) }),
            "less than or equal to 100",
        ),
        (
            "BatchCheckLayerAvailability",
            json!({ "repositoryName": "there", "layerDigests": [] }),
            "greater than or equal to 1",
        ),
        (
            "BatchGetImage",
            json!({ "repositoryName": "there", "imageIds": ids(101) }),
            "less than or equal to 100",
        ),
        (
            "BatchGetImage",
            json!({ "repositoryName": "there", "imageIds": ids(1), "acceptedMediaTypes": [] }),
            "acceptedMediaTypes",
        ),
        ("BatchGetImage", json!({ "repositoryName": "there" }), "imageIds"),
        (
            "ListImages",
            json!({ "repositoryName": "there", "filter": { "tagStatus": "NONE" } }),
            "enum value set",
        ),
        (
            "DescribeImages",
            json!({ "repositoryName": "there", "imageIds": ids(1), "maxResults": 1 }),
            "together",
        ),
        (
            "PutImage",
            json!({ "repositoryName": "there", "imageManifest": "" }),
            "greater than or equal to 1",
        ),
        (
            "PutImage",
            json!({ "repositoryName": "there", "imageManifest": "{}" }),
            "Invalid JSON syntax",
        ),
        (
            "PutLifecyclePolicy",
            json!({ "repositoryName": "there", "lifecyclePolicyText": "{}" }),
            "greater than or equal to 100",
        ),
        (
            "PutLifecyclePolicy",
            json!({ "repositoryName": "there", "lifecyclePolicyText": r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":9},"action":{"type":"expire"}}]}"# }),
            "Lifecycle policy validation failure",
        ),
        (
            "SetRepositoryPolicy",
            json!({ "repositoryName": "there", "policyText": "x".repeat(10_241) }),
            "less than or equal to 10240",
        ),
        (
            "PutAccountSetting",
            json!({ "name": "BLOB_MOUNTING", "value": "ON" }),
            "enum value set: [ENABLED, DISABLED]",
        ),
        ("PutAccountSetting", json!({ "name": "X", "value": "ON" }), "enum value set"),
        (
            "PutRegistryScanningConfiguration",
            json!({ "scanType": "BASIC", "rules": [{ "scanFrequency": "MANUAL", "repositoryFilters": [{ "filter": "a--b", "filterType": "WILDCARD" }] }] }),
            "must satisfy regular expression",
        ),
        (
            "RegisterPullTimeUpdateExclusion",
            json!({ "principalArn": format!("arn:aws:iam::123456789012:role/{}", "r".repeat(170)) }),
            "less than or equal to 200",
        ),
        (
            "UpdateImageStorageClass",
            json!({ "repositoryName": "there", "imageId": {}, "targetStorageClass": "COLD" }),
            "enum value set: [STANDARD, ARCHIVE]",
        ),
        (
            "CreatePullThroughCacheRule",
            json!({ "ecrRepositoryPrefix": "a", "upstreamRegistryUrl": "quay.io" }),
            "greater than or equal to 2",
        ),
        (
            "CreatePullThroughCacheRule",
            json!({ "ecrRepositoryPrefix": "quay--io", "upstreamRegistryUrl": "quay.io" }),
            "regular expression",
        ),
        ("CreateRepository", json!({ "repositoryName": "a__b" }), "regular expression"),
        (
            "CreateRepository",
            json!({
                "repositoryName": "three-stars",
                "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
                "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "*a*b*" }],
            }),
            "regular expression",
        ),
        (
            "CreatePullThroughCacheRule",
            json!({ "ecrRepositoryPrefix": "hub", "upstreamRegistryUrl": "registry-1.docker.io", "credentialArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:other/hub" }),
            "credentialArn",
        ),
        (
            "ListImageReferrers",
            json!({ "repositoryName": "there", "subjectId": { "imageDigest": "sha256:x" }, "maxResults": 51 }),
            "less than or equal to 50",
        ),
    ] {
        let answer = world.call(operation, &input).await;
        let body = answer.json();
        assert_eq!(answer.status, 400, "{operation} {input}");
        assert_eq!(body["__type"], "InvalidParameterException", "{operation} {input}: {body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(text), "{operation} {input}: {message}");
    }
}

#[tokio::test]
async fn input_of_a_wrong_type_is_refused() {
    let world = World::new().await;
    for input in [json!({ "repositoryName": 7 }), json!({ "repositoryName": "ab", "tags": "x" })] {
        let answer = world.call("CreateRepository", &input).await;
        assert_eq!(answer.json()["__type"], "SerializationException", "{input}");
    }
    let request = world.unsigned("CreateRepository").header("authorization", signature("ecr"));
    let answer = world.send(request.body("{")).await;
    assert_eq!(answer.json()["__type"], "SerializationException");
}
