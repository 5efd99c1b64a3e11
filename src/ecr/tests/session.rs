//! Identities, logins, and the errors of failed calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::future::join_all;
use secrecy::ExposeSecret;
use serde_json::json;

use super::ACCOUNT;
use crate::{
    ecr::{
        fake::{Answer, FakeApi, refusal},
        identity::Identity,
        session::{AwsSession, AwsSessions},
    },
    model::Kind,
    registry::{
        Network,
        login::{Freshness, Login},
    },
};

#[tokio::test]
async fn an_unreachable_api_is_unavailable_and_the_error_has_the_cause() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let network = Network::Sandbox(listener.local_addr().unwrap());
    drop(listener);
    let session = AwsSession::open(Identity::default(), network, Arc::default()).await;
    let call = session.api.once("ListImages", |ecr| ecr.list_images().repository_name("x").send());
    let error = call.await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let text = error.chain().join(": ");
    assert!(text.contains("Connection refused") && text.len() < 200, "{text}");
}

#[tokio::test]
async fn a_profile_without_credentials_is_an_error_with_a_hint_at_the_first_call() {
    let identity = Identity {
        profile: Some("no-such-profile-of-ecr-mirror".to_owned()),
        region: Some("eu-west-1".to_owned()),
        ..Identity::default()
    };
    let session = AwsSession::open(identity, Network::Direct, Arc::default()).await;
    let error = session.login.authorization(Freshness::Cached).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let text = error.chain().join(": ");
    assert!(text.contains("profile `no-such-profile-of-ecr-mirror`"), "{text}");
    assert!(error.remedy().unwrap().contains("aws sso login --profile"), "{error:?}");
}

const ROLE: &str = "arn:aws:iam::210987654321:role/mirror";

async fn session_of_role(fake: &FakeApi) -> AwsSession {
    let identity = Identity {
        role_arn: Some(ROLE.to_owned()),
        external_id: Some("e1".to_owned()),
        region: Some("eu-west-1".to_owned()),
        ..Identity::default()
    };
    AwsSession::open(identity, Network::Sandbox(fake.address), Arc::default()).await
}

#[tokio::test]
async fn a_role_is_assumed_once_and_its_credentials_are_used() {
    let fake = FakeApi::start(|action, _| match action {
        "AssumeRole" => {
            let keys = "<AccessKeyId>AKIAROLE</AccessKeyId><SecretAccessKey>x</SecretAccessKey>\
                        <SessionToken>t</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>";
            let xml = format!(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials>{keys}</Credentials>\
                 </AssumeRoleResult></AssumeRoleResponse>"
            );
            (200, json!(xml))
        }
        _ => token(0, 43_200),
    })
    .await;
    let login = session_of_role(&fake).await.login;
    for freshness in [Freshness::Cached, Freshness::Renewed] {
        login.authorization(freshness).await.unwrap();
    }
    assert_eq!(fake.actions(), ["AssumeRole", "GetAuthorizationToken", "GetAuthorizationToken"]);
}

#[tokio::test]
async fn a_role_that_cannot_be_assumed_is_named_with_the_error_of_sts() {
    let fake = FakeApi::start(|_, _| {
        let error = "<Error><Code>AccessDenied</Code><Message>User: me may not</Message></Error>";
        (403, json!(format!("<ErrorResponse>{error}</ErrorResponse>")))
    })
    .await;
    let login = session_of_role(&fake).await.login;
    let error = login.authorization(Freshness::Cached).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let text = error.chain().join(": ");
    assert!(text.contains(ROLE) && text.ends_with(": AccessDenied: User: me may not"), "{text}");
    assert!(error.remedy().unwrap().contains("trust policy"), "{error:?}");
}

fn token(number: usize, seconds: u64) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let data = json!({
        "authorizationToken": format!("dG9rZW4{number}"),
        "expiresAt": now + seconds,
        "proxyEndpoint": "https://210987654321.dkr.ecr.eu-west-1.amazonaws.com",
    });
    (200, json!({ "authorizationData": [data] }))
}

async fn tokens(seconds: u64) -> FakeApi {
    let fetched = AtomicUsize::new(0);
    FakeApi::start(move |_, _| token(fetched.fetch_add(1, SeqCst), seconds)).await
}

#[tokio::test]
async fn concurrent_callers_share_one_login_call() {
    let fake = tokens(43_200).await;
    let login = fake.session().await.0.login;
    let headers = join_all((0..20).map(|_| login.authorization(Freshness::Cached))).await;
    for header in headers {
        assert_eq!(header.unwrap().expose_secret(), "Basic dG9rZW40");
    }
    let renewed = join_all((0..20).map(|_| login.authorization(Freshness::Renewed))).await;
    for header in renewed {
        assert_eq!(header.unwrap().expose_secret(), "Basic dG9rZW41");
    }
    assert_eq!(fake.actions(), ["GetAuthorizationToken"; 2]);
    let endpoint = login.endpoint().await.unwrap();
    assert_eq!(endpoint.as_str(), "https://210987654321.dkr.ecr.eu-west-1.amazonaws.com/");
    assert!(!format!("{login:?}").contains("dG9rZW4"));
}

#[tokio::test]
async fn a_login_that_looks_expired_already_is_used_until_ecr_refuses_it() {
    let fake = tokens(0).await;
    let login = fake.session().await.0.login;
    for (freshness, expected) in [
        (Freshness::Cached, "Basic dG9rZW40"),
        (Freshness::Cached, "Basic dG9rZW40"),
        (Freshness::Renewed, "Basic dG9rZW41"),
        (Freshness::Cached, "Basic dG9rZW41"),
    ] {
        let header = login.authorization(freshness).await.unwrap();
        assert_eq!(header.expose_secret(), expected);
    }
}

/// Every form in which a server may repeat a secret.
fn repeated(secret: &str) -> String {
    let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap().replace('/', "\\/");
    let [plain, tail] = [secret, &format!("ab{secret}")].map(|text| BASE64_STANDARD.encode(text));
    format!("{secret} {url} {json} {plain} {tail} {}", const_hex::encode(secret))
}

#[tokio::test]
async fn an_error_that_repeats_the_credentials_of_the_session_does_not_show_them() {
    const SECRETS: [&str; 3] =
        ["q1SecretAccess/Key+0Gf9x", "Q7session/Token+8Ed7Cb==", "Q9ecrPassword7Yw6Vu/x"];
    let fake = FakeApi::start(|action, _| match action {
        "AssumeRole" => {
            let [key, token, _] = SECRETS;
            let xml = format!(
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>AKIAROLE</AccessKeyId>\
                 <SecretAccessKey>{key}</SecretAccessKey><SessionToken>{token}</SessionToken>\
                 <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult>\
                 </AssumeRoleResponse>"
            );
            (200, json!(xml))
        }
        "GetAuthorizationToken" => {
            let (status, mut answer) = token(0, 43_200);
            let login = BASE64_STANDARD.encode(format!("AWS:{}", SECRETS[2]));
            answer["authorizationData"][0]["authorizationToken"] = json!(login);
            (status, answer)
        }
        _ => refusal("AccessDeniedException", &SECRETS.map(repeated).join(" ")),
    })
    .await;
    let session = session_of_role(&fake).await;
    session.login.authorization(Freshness::Cached).await.unwrap();
    let call = session.api.once("ListImages", |ecr| ecr.list_images().repository_name("x").send());
    let error = call.await.unwrap_err();
    let text = format!("{error:?} {error} {:?}", error.remedy());
    assert!(text.contains("AccessDeniedException: (hidden) (hidden)"), "{text}");
    let parts = ["SecretAccess", "session", "Password", "cret", "UTdz", "cTFT", "ZWNy", "51377"];
    for part in parts {
        assert!(!text.contains(part), "{part}: {text}");
    }
    // a registry that repeats what it was never sent
    let secrets = session.login.secrets();
    assert!(!secrets.redact(&SECRETS.map(repeated).join(" ")).contains("Key"));
}

#[tokio::test]
async fn only_equal_identities_share_a_session() {
    let fake = tokens(43_200).await;
    let sessions = AwsSessions::new(Network::Sandbox(fake.address), Arc::default());
    let identity = |region: &str| {
        Identity::of(&format!("{ACCOUNT}.dkr.ecr.{region}.amazonaws.com").parse().unwrap())
    };
    let first = sessions.session(identity("eu-west-1")).await;
    assert!(Arc::ptr_eq(&first, &sessions.session(identity("eu-west-1")).await));
    assert!(!Arc::ptr_eq(&first, &sessions.session(identity("us-east-1")).await));
    assert_eq!(first.api.region(), "eu-west-1");
}
