//! Secrets Manager: create, read, delete, and the recovery window.

use std::time::Duration;

use super::*;

const NAME: &str = "ecr-pullthroughcache/docker-hub";

/// A signed call of Secrets Manager over HTTP.
pub(super) async fn call(world: &World, operation: &str, input: &Value) -> Answer {
    let request = world.http.post(world.url("/"));
    let request = request
        .header("authorization", signature("secretsmanager"))
        .header("x-amz-target", format!("secretsmanager.{operation}"))
        .header("content-type", "application/x-amz-json-1.1");
    world.send(request.body(input.to_string())).await
}

/// Creates a secret, and returns its ARN.
pub(super) async fn create(world: &World, name: &str, text: &str) -> String {
    let input = json!({ "Name": name, "SecretString": text });
    call(world, "CreateSecret", &input).await.json()["ARN"].as_str().unwrap().to_owned()
}

/// `ok`, or the exception.
async fn outcome(world: &World, operation: &str, input: Value) -> String {
    call(world, operation, &input).await.json()["__type"].as_str().unwrap_or("ok").to_owned()
}

#[tokio::test]
async fn secrets_are_created_changed_and_read() {
    let world = World::new().await;
    let id = json!({ "SecretId": NAME });
    assert_eq!(outcome(&world, "GetSecretValue", id.clone()).await, "ResourceNotFoundException");
    let arn = create(&world, NAME, "one").await;
    let place = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{NAME}-");
    assert!(arn.strip_prefix(&place).is_some_and(|suffix| suffix.len() == 6), "{arn}");
    let again = json!({ "Name": NAME, "SecretString": "one" });
    assert_eq!(outcome(&world, "CreateSecret", again).await, "ResourceExistsException");
    let put = json!({ "SecretId": NAME, "SecretString": "two" });
    assert_eq!(outcome(&world, "PutSecretValue", put).await, "ok");
    for id in [NAME, &arn, arn.rsplit_once('-').unwrap().0] {
        let value = call(&world, "GetSecretValue", &json!({ "SecretId": id })).await.json();
        assert_eq!(value["SecretString"], "two", "{id}");
    }
    let described = call(&world, "DescribeSecret", &id).await.json();
    assert_eq!((&described["ARN"], &described["DeletedDate"]), (&json!(arn), &Value::Null));
}

#[tokio::test]
async fn a_deleted_secret_keeps_its_name_and_can_be_restored() {
    let world = World::new().await;
    let arn = create(&world, NAME, "one").await;
    let id = json!({ "SecretId": NAME });
    let deleted = call(&world, "DeleteSecret", &id).await.json();
    let described = call(&world, "DescribeSecret", &id).await.json();
    assert_eq!(described["DeletedDate"], deleted["DeletionDate"]);
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let days = (deleted["DeletionDate"].as_f64().unwrap() - now) / 86_400.0;
    assert!((29.9..30.1).contains(&days), "{days} days");
    for (operation, input, text) in [
        ("GetSecretValue", id.clone(), "marked for deletion"),
        ("PutSecretValue", json!({ "SecretId": NAME, "SecretString": "x" }), "marked for deletion"),
        ("TagResource", json!({ "SecretId": NAME, "Tags": [] }), "marked for deletion"),
        ("DeleteSecret", id.clone(), "marked for deletion"),
        ("CreateSecret", json!({ "Name": NAME, "SecretString": "x" }), "scheduled for deletion"),
    ] {
        let refused = call(&world, operation, &input).await.json();
        assert_eq!(refused["__type"], "InvalidRequestException", "{operation}");
        assert!(refused["message"].as_str().unwrap().contains(text), "{operation}: {refused}");
    }
    let restored = call(&world, "RestoreSecret", &id).await.json();
    assert_eq!(restored["ARN"], arn.as_str());
    assert_eq!(call(&world, "GetSecretValue", &id).await.json()["SecretString"], "one");
    assert_eq!(outcome(&world, "RestoreSecret", id).await, "ok", "it stays as it is");
}

#[tokio::test]
async fn a_secret_is_removed_at_the_end_of_its_window_or_at_once() {
    let world = World::new().await;
    let id = json!({ "SecretId": NAME });
    let delete = |days: u64| json!({ "SecretId": NAME, "RecoveryWindowInDays": days });
    for days in [0, 6, 31] {
        let refused = outcome(&world, "DeleteSecret", delete(days)).await;
        assert_eq!(refused, "InvalidParameterException", "{days}");
    }
    let both = json!({
        "SecretId": NAME, "RecoveryWindowInDays": 7, "ForceDeleteWithoutRecovery": true,
    });
    assert_eq!(outcome(&world, "DeleteSecret", both).await, "InvalidParameterException");
    assert_eq!(outcome(&world, "DeleteSecret", delete(7)).await, "ResourceNotFoundException");

    let first = create(&world, NAME, "one").await;
    assert_eq!(outcome(&world, "DeleteSecret", delete(7)).await, "ok");
    world.sandbox.pass_time(Duration::from_secs(6 * 86_400));
    assert_eq!(outcome(&world, "DescribeSecret", id.clone()).await, "ok");
    world.sandbox.pass_time(Duration::from_secs(2 * 86_400));
    assert_eq!(outcome(&world, "RestoreSecret", id.clone()).await, "ResourceNotFoundException");

    let second = create(&world, NAME, "two").await;
    assert_ne!(first, second, "a rule that names the first one does not get the second");
    let force = json!({ "SecretId": NAME, "ForceDeleteWithoutRecovery": true });
    assert_eq!(outcome(&world, "DeleteSecret", delete(30)).await, "ok");
    for _ in 0..2 {
        // also for a deleted secret, and for a missing one
        assert_eq!(outcome(&world, "DeleteSecret", force.clone()).await, "ok");
        assert_eq!(
            outcome(&world, "DescribeSecret", id.clone()).await,
            "ResourceNotFoundException"
        );
    }
}

#[tokio::test]
async fn secrets_are_listed_by_prefix_and_have_a_description_and_a_policy() {
    let world = World::new().await;
    for name in [NAME, "ecr-pullthroughcache/gone", "other"] {
        create(&world, name, "one").await;
    }
    call(&world, "DeleteSecret", &json!({ "SecretId": "ecr-pullthroughcache/gone" })).await;
    let update = json!({ "SecretId": NAME, "Description": "ours" });
    assert_eq!(outcome(&world, "UpdateSecret", update).await, "ok");
    let tag = json!({ "SecretId": NAME, "Tags": [{ "Key": "a", "Value": "b" }] });
    assert_eq!(outcome(&world, "TagResource", tag).await, "ok");
    let filter = json!({ "Filters": [{ "Key": "name", "Values": ["ecr-pullthroughcache/"] }] });
    let listed = call(&world, "ListSecrets", &filter).await.json();
    let [secret] = &listed["SecretList"].as_array().unwrap()[..] else { panic!("{listed}") };
    let shown = (&secret["Name"], &secret["Description"], &secret["Tags"][0]["Key"]);
    assert_eq!(shown, (&json!(NAME), &json!("ours"), &json!("a")));

    let id = json!({ "SecretId": NAME });
    let read = call(&world, "GetResourcePolicy", &id).await.json();
    assert_eq!(read["ResourcePolicy"], Value::Null);
    for (policy, expected) in [("x", "MalformedPolicyDocumentException"), ("{}", "ok")] {
        let put = json!({ "SecretId": NAME, "ResourcePolicy": policy });
        assert_eq!(outcome(&world, "PutResourcePolicy", put).await, expected);
    }
    assert_eq!(call(&world, "GetResourcePolicy", &id).await.json()["ResourcePolicy"], "{}");
}
