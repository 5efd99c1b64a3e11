//! Logins, account settings, the registry policy, the caller.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

#[tokio::test]
async fn a_login_is_basic_opaque_and_valid_for_twelve_hours() {
    let world = World::new().await;
    let data = world.ecr.get_authorization_token().send().await.unwrap();
    let data = data.authorization_data()[0].clone();
    assert_eq!(data.proxy_endpoint(), Some(format!("https://{HOST}").as_str()));
    let pair = STANDARD.decode(data.authorization_token().unwrap()).unwrap();
    let password = String::from_utf8(pair).unwrap().strip_prefix("AWS:").unwrap().to_owned();
    assert!((200..4000).contains(&password.len()), "{}", password.len());
    let expires = SystemTime::try_from(*data.expires_at().unwrap()).unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(left > Duration::from_secs(43_000) && left <= Duration::from_secs(43_200), "{left:?}");
    assert_eq!(world.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn wrong_credentials_get_a_basic_challenge_in_plain_text() {
    let world = World::new().await;
    let elsewhere = sdk(&world.sandbox, "us-east-1").get_authorization_token().send().await;
    let elsewhere =
        elsewhere.unwrap().authorization_data()[0].authorization_token().unwrap().to_owned();
    for credentials in [
        None,
        Some("Bearer x".to_owned()),
        Some("Basic QVdTOnBhc3N3b3Jk".to_owned()),
        Some(format!("Basic {elsewhere}")),
    ] {
        let mut request = world.http.get(world.url("/v2/")).header("host", HOST);
        if let Some(credentials) = &credentials {
            request = request.header("authorization", credentials);
        }
        let answer = world.send(request).await;
        assert_eq!(answer.status, 401, "{credentials:?}");
        assert_eq!(answer.text(), "Not Authorized\n");
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Basic realm="), "{challenge}");
        assert!(challenge.ends_with("service=\"ecr.amazonaws.com\""), "{challenge}");
    }
}

#[tokio::test]
async fn account_settings_have_defaults_and_change() {
    let world = World::new().await;
    for (name, default) in [
        ("BLOB_MOUNTING", "DISABLED"),
        ("REGISTRY_POLICY_SCOPE", "V2"),
        ("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE"),
    ] {
        let setting = world.ecr.get_account_setting().name(name).send().await.unwrap();
        assert_eq!(setting.value(), Some(default));
    }
    let put = world.ecr.put_account_setting().name("BLOB_MOUNTING");
    put.value("ENABLED").send().await.unwrap();
    let setting = world.ecr.get_account_setting().name("BLOB_MOUNTING");
    assert_eq!(setting.send().await.unwrap().value(), Some("ENABLED"));
}

#[tokio::test]
async fn a_registry_policy_is_stored_unchanged() {
    let world = World::new().await;
    let missing = world.ecr.get_registry_policy().send().await;
    assert_eq!(code(missing), "RegistryPolicyNotFoundException");
    let text = policy("Allow", "\"ecr:CreateRepository\"");
    world.ecr.put_registry_policy().policy_text(&text).send().await.unwrap();
    let policy = world.ecr.get_registry_policy().send().await.unwrap();
    assert_eq!(policy.policy_text(), Some(text.as_str()));
    world.ecr.delete_registry_policy().send().await.unwrap();
    let gone = world.ecr.delete_registry_policy().send().await;
    assert_eq!(code(gone), "RegistryPolicyNotFoundException");
}

fn policy(effect: &str, action: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"a","Effect":"{effect}","Principal":"*","Action":{action},"Resource":"*"}}]}}"#
    )
}

#[tokio::test]
async fn a_registry_policy_grants_what_its_scope_allows() {
    let world = World::new().await;
    let all = r#"["ecr:ReplicateImage","ecr:BatchImportUpstreamImage","ecr:CreateRepository"]"#;
    for (text, in_v1, in_v2) in [
        (policy("Allow", all), true, true),
        (policy("Deny", "\"ecr:*\""), true, true),
        (policy("Allow", "\"ecr:BatchGetImage\""), false, true),
        (policy("Allow", r#"["ecr:CreateRepository","ecr:BatchGetImage"]"#), false, true),
        (policy("Allow", "\"s3:GetObject\""), false, false),
        (policy("Allow", "[]"), false, false),
        (policy("allow it", all), false, false),
        (policy("Allow", all).replace("Principal", "Whom"), false, false),
        ("{}".to_owned(), false, false),
        ("[]".to_owned(), false, false),
        ("policy".to_owned(), false, false),
        (policy("Allow", all).replace("\"a\"", &format!("\"{:a>10240}\"", "")), false, false),
    ] {
        for (scope, is_taken) in [("V1", in_v1), ("V2", in_v2)] {
            let set = world.ecr.put_account_setting().name("REGISTRY_POLICY_SCOPE").value(scope);
            set.send().await.unwrap();
            let put = world.ecr.put_registry_policy().policy_text(&text).send().await;
            match is_taken {
                true => drop(put.unwrap()),
                false => assert_eq!(code(put), "InvalidParameterException", "{scope} {text}"),
            }
        }
    }
}

#[tokio::test]
async fn registry_scanning_is_kept() {
    let world = World::new().await;
    let rule = |frequency: &str| json!({ "scanFrequency": frequency, "repositoryFilters": [{ "filter": "prod-*", "filterType": "WILDCARD" }] });
    let input = json!({ "scanType": "ENHANCED", "rules": [rule("CONTINUOUS_SCAN")] });
    world.call("PutRegistryScanningConfiguration", &input).await;
    let scanning = world.call("GetRegistryScanningConfiguration", &json!({})).await.json();
    assert_eq!(scanning["scanningConfiguration"], input);
    let input = json!({ "scanType": "BASIC", "rules": [rule("CONTINUOUS_SCAN")] });
    let answer = world.call("PutRegistryScanningConfiguration", &input).await;
    assert_eq!(answer.json()["__type"], "ValidationException");
}

#[tokio::test]
async fn a_pull_time_exclusion_cannot_be_registered_twice() {
    let world = World::new().await;
    let arn = "arn:aws:iam::123456789012:role/mirror";
    let register = || world.ecr.register_pull_time_update_exclusion().principal_arn(arn).send();
    register().await.unwrap();
    assert_eq!(code(register().await), "ExclusionAlreadyExistsException");
    let listed = world.ecr.list_pull_time_update_exclusions().send().await.unwrap();
    assert_eq!(listed.pull_time_update_exclusions(), [arn]);
    let remove = || world.ecr.deregister_pull_time_update_exclusion().principal_arn(arn).send();
    remove().await.unwrap();
    assert_eq!(code(remove().await), "ExclusionNotFoundException");
    let other = world.ecr.register_pull_time_update_exclusion().principal_arn("mirror").send();
    assert_eq!(code(other.await), "InvalidParameterException");
}

async fn sts(world: &World, form: &str, session_token: Option<&str>) -> Answer {
    let mut request = world
        .http
        .post(world.url("/"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", signature("sts"));
    if let Some(token) = session_token {
        request = request.header("x-amz-security-token", token);
    }
    world.send(request.body(form.to_owned())).await
}

#[tokio::test]
async fn an_assumed_role_acts_in_its_own_account() {
    let world = World::new().await;
    let who = sts(&world, "Action=GetCallerIdentity&Version=2011-06-15", None).await.text();
    assert!(who.contains("<Account>123456789012</Account>"), "{who}");
    let form = "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fmirror&RoleSessionName=nightly";
    let role = sts(&world, form, None).await.text();
    let element = |name: &str| {
        let (_, rest) = role.split_once(&format!("<{name}>")).unwrap();
        rest.split('<').next().unwrap().to_owned()
    };
    assert!(element("AccessKeyId").starts_with("ASIA"));
    assert!(element("Expiration").ends_with('Z'));
    let token = element("SessionToken");
    let who = sts(&world, "Action=GetCallerIdentity&Version=2011-06-15", Some(&token)).await.text();
    assert!(who.contains("arn:aws:sts::210987654321:assumed-role/mirror/nightly"), "{who}");

    let request = world.unsigned("CreateRepository").header("authorization", signature("ecr"));
    let request = request.header("x-amz-security-token", &token);
    let answer = world.send(request.body(r#"{"repositoryName":"theirs"}"#)).await;
    assert_eq!(answer.json()["repository"]["registryId"], "210987654321");
    let request = world.unsigned("DescribeRepositories").header("authorization", signature("ecr"));
    let answer = world.send(request.header("x-amz-security-token", "forged").body("{}")).await;
    assert_eq!(answer.json()["__type"], "UnrecognizedClientException");
    let operations: Vec<_> =
        world.sandbox.journal().into_iter().filter_map(|entry| entry.operation).collect();
    assert!(operations.contains(&"AssumeRole".to_owned()), "{operations:?}");
}

#[tokio::test]
async fn a_role_needs_an_arn_and_a_session_name() {
    let world = World::new().await;
    for form in [
        "Action=AssumeRole&RoleSessionName=nightly",
        "Action=AssumeRole&RoleArn=mirror&RoleSessionName=nightly",
        "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fmirror",
    ] {
        let answer = sts(&world, form, None).await;
        assert_eq!(answer.status, 400, "{form}");
        assert!(answer.text().contains("<Code>ValidationError</Code>"), "{form}");
    }
    world.sandbox.faults().add("deny=AssumeRole".parse().unwrap());
    let form = "Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A210987654321%3Arole%2Fmirror&RoleSessionName=nightly";
    let answer = sts(&world, form, None).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text().contains("<Code>AccessDenied</Code>"));
}
