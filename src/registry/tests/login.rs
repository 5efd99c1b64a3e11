//! Who is told what: tokens, credentials, and how often anyone asks.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};

use futures::future::{BoxFuture, join_all};
use secrecy::SecretString;

use super::fake::{Asked, Fake, MANIFEST, challenge, error, reply, with};
use crate::{
    model::{Kind, Result, TagOrDigest, UserPassword},
    registry::{ConnectionSettings, Credentials, Freshness, KnownSecrets, Login},
    remote::Source,
};

const HUB: &str = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull""#;

fn basic() -> ConnectionSettings {
    let credentials = Credentials::Basic(UserPassword::new("u", "p"));
    ConnectionSettings { credentials, ..ConnectionSettings::default() }
}

fn tag(name: &str) -> TagOrDigest {
    TagOrDigest::Tag(name.parse().unwrap())
}

fn hub(asked: &Asked) -> axum::http::Response<axum::body::Body> {
    match asked.line.as_str() {
        token if token.starts_with("GET auth.docker.io/token?") => {
            reply(200, r#"{"token":"t","expires_in":300}"#)
        }
        _ if asked.authorization.as_deref() != Some("Bearer t") => challenge(HUB),
        _ => reply(200, MANIFEST),
    }
}

#[tokio::test]
async fn a_cold_start_requests_one_token_after_one_refusal() {
    let fake = Fake::new(hub).await;
    let registry = fake.registry("docker.io", basic());
    let repository = "library/nginx".parse().unwrap();
    let at = tag("1");
    let all = join_all((0..32).map(|_| registry.manifest(&repository, &at))).await;
    assert!(all.iter().all(Result::is_ok));

    let lines = fake.lines();
    let tokens: Vec<_> = lines.iter().filter(|line| line.contains("auth.docker.io")).collect();
    assert_eq!(
        tokens,
        [
            "GET auth.docker.io/token?service=registry.docker.io&scope=repository%3Alibrary%2Fnginx%3Apull"
        ]
    );
    assert_eq!(lines.len(), 32 + 1 + 1, "every request once, one refusal, one token");
    let given: Vec<_> = fake.asked().into_iter().filter_map(|a| a.authorization).collect();
    assert_eq!(given.iter().filter(|header| *header == "Basic dTpw").count(), 1);
    assert_eq!((fake.context.stats.requests.value(), fake.context.stats.retries.value()), (34, 0));
}

#[tokio::test]
async fn another_repository_gets_its_own_token_without_a_refusal() {
    let fake = Fake::new(hub).await;
    let registry = fake.registry("docker.io", basic());
    for name in ["library/nginx", "library/redis"] {
        registry.manifest(&name.parse().unwrap(), &tag("1")).await.unwrap();
    }
    let lines = fake.lines();
    assert_eq!(lines.len(), 5);
    assert!(lines[3].ends_with("scope=repository%3Alibrary%2Fredis%3Apull"), "{}", lines[3]);
}

#[tokio::test]
async fn an_open_registry_receives_no_extra_request() {
    let fake = Fake::new(|_| reply(200, MANIFEST)).await;
    let registry = fake.registry("mcr.microsoft.com", basic());
    let (repository, at) = ("a/b".parse().unwrap(), tag("1"));
    join_all((0..8).map(|_| registry.manifest(&repository, &at))).await;
    assert_eq!(fake.lines(), vec!["GET mcr.microsoft.com/v2/a/b/manifests/1"; 8]);
    assert!(fake.asked().iter().all(|asked| asked.authorization.is_none()));
}

#[tokio::test]
async fn basic_credentials_are_sent_at_once_after_the_first_refusal() {
    let fake = Fake::new(|asked| match asked.authorization.as_deref() {
        Some("Basic dTpw") => reply(200, MANIFEST),
        _ => challenge("Basic realm=x"),
    })
    .await;
    let registry = fake.registry("r.example.com", basic());
    for name in ["a", "b", "c"] {
        registry.manifest(&name.parse().unwrap(), &tag("1")).await.unwrap();
    }
    assert_eq!(fake.asked().len(), 4);

    let anonymous = fake.anonymous("r.example.com");
    let refused = anonymous.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert_eq!(
        refused.to_string(),
        "GET r.example.com/v2/a/manifests/1: 401 UNAUTHORIZED: because"
    );
    assert!(refused.remedy().unwrap().contains("docker login r.example.com"));
}

#[tokio::test]
async fn an_unknown_token_service_receives_no_credentials() {
    let script = |asked: &Asked| match asked.line.as_str() {
        token if token.contains("/token") => reply(200, r#"{"access_token":"t"}"#),
        _ if asked.authorization.is_none() => {
            challenge(r#"Bearer realm="https://elsewhere.example/token",scope="aws""#)
        }
        _ => reply(200, MANIFEST),
    };
    let fake = Fake::new(script).await;
    let registry = fake.registry("public.ecr.aws", basic());
    registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap();
    let token = &fake.asked()[1];
    assert_eq!(token.line, "GET elsewhere.example/token?scope=aws");
    assert_eq!(token.authorization, None);
    // the scope is the host's: one token for all
    registry.manifest(&"b".parse().unwrap(), &tag("1")).await.unwrap();
    assert_eq!(fake.asked().len(), 4);

    let fake = Fake::new(script).await;
    let named =
        ConnectionSettings { auth_host: Some("elsewhere.example".parse().unwrap()), ..basic() };
    let registry = fake.registry("public.ecr.aws", named);
    registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap();
    assert_eq!(fake.asked()[1].authorization.as_deref(), Some("Basic dTpw"));
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let tokens = AtomicU32::new(0);
    let fake = Fake::new(move |asked| match asked.line.as_str() {
        token if token.contains("/token") => {
            let number = tokens.fetch_add(1, SeqCst);
            reply(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#))
        }
        // the first token is good for `1`, the second for `2`, none for `3`
        first if first.ends_with('1') && asked.authorization.as_deref() == Some("Bearer t0") => {
            reply(200, MANIFEST)
        }
        second if second.ends_with('2') && asked.authorization.as_deref() == Some("Bearer t1") => {
            reply(200, MANIFEST)
        }
        _ => challenge(r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#),
    })
    .await;
    let registry = fake.anonymous("ghcr.io");
    let repository = "a/b".parse().unwrap();
    registry.manifest(&repository, &tag("1")).await.unwrap();
    registry.manifest(&repository, &tag("2")).await.unwrap();
    assert_eq!(fake.asked().len(), 3 + 3);
    assert_eq!(fake.context.stats.retries.value(), 1);

    let refused = registry.manifest(&repository, &tag("3")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert_eq!(fake.asked().len(), 6 + 3, "no loop");
}

#[tokio::test]
async fn the_failure_of_a_token_service_is_reported() {
    for (status, code, expected) in [
        (403, "DENIED", Kind::Denied),
        (404, "NAME_UNKNOWN", Kind::Protocol),
        (200, "", Kind::Protocol),
    ] {
        let fake = Fake::new(move |asked| match asked.line.contains("/token") {
            true => error(status, code),
            false => challenge(r#"Bearer realm="https://ghcr.io/token""#),
        })
        .await;
        let registry = fake.anonymous("ghcr.io");
        let failed = registry.manifest(&"a/b".parse().unwrap(), &tag("1")).await.unwrap_err();
        assert_eq!(failed.kind(), expected);
        assert_eq!(failed.to_string(), "no token from `ghcr.io`");
        assert_eq!(fake.asked().len(), 2);
    }
}

struct Handed(AtomicU32);

impl Login for Handed {
    fn authorization(&self, freshness: Freshness) -> BoxFuture<'_, Result<SecretString>> {
        if freshness == Freshness::Renewed {
            self.0.fetch_add(1, SeqCst);
        }
        let number = self.0.load(SeqCst);
        Box::pin(async move { Ok(format!("Basic number{number}").into()) })
    }
}

#[tokio::test]
async fn a_login_is_sent_verbatim_and_renewed_once_after_it_expires() {
    let expired = r#"{"errors":[{"code":"DENIED","message":"Your authorization token has expired. Reauthenticate and try again."}]}"#;
    let fake = Fake::new(move |asked| match asked.authorization.as_deref() {
        Some("Basic number1") => reply(200, MANIFEST),
        _ => reply(403, expired),
    })
    .await;
    let credentials = Credentials::Login(Arc::new(Handed(AtomicU32::new(0))));
    let registry = fake.registry(
        "r.example.com",
        ConnectionSettings { credentials, ..ConnectionSettings::default() },
    );
    registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap();
    assert_eq!(fake.asked().len(), 2);

    let never = Fake::new(move |_| reply(403, expired)).await;
    let credentials = Credentials::Login(Arc::new(Handed(AtomicU32::new(0))));
    let registry = never.registry(
        "r.example.com",
        ConnectionSettings { credentials, ..ConnectionSettings::default() },
    );
    let denied = registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap_err();
    assert_eq!((denied.kind(), never.asked().len()), (Kind::Denied, 2));
}

struct Knowing(KnownSecrets);

impl Login for Knowing {
    fn authorization(&self, _: Freshness) -> BoxFuture<'_, Result<SecretString>> {
        Box::pin(async { Ok("Basic QVdTOnBhc3N3b3Jk".to_owned().into()) })
    }

    fn secrets(&self) -> KnownSecrets {
        self.0.clone()
    }
}

#[tokio::test]
async fn a_refusal_that_repeats_another_secret_of_the_login_does_not_show_it() {
    let fake = Fake::new(|_| {
        reply(403, r#"{"errors":[{"code":"DENIED","message":"Q7session\/Token+8Ed7Cb!"}]}"#)
    })
    .await;
    let known = KnownSecrets::default();
    known.record("Q7session/Token+8Ed7Cb");
    let credentials = Credentials::Login(Arc::new(Knowing(known)));
    let settings = ConnectionSettings { credentials, ..ConnectionSettings::default() };
    let registry = fake.registry("r.example.com", settings);
    let refused = registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap_err();
    assert!(refused.to_string().ends_with(": 403 DENIED: (hidden)!"), "{refused}");
}

#[tokio::test]
async fn a_redirect_to_another_host_does_not_carry_the_login() {
    let fake = Fake::new(|asked| match asked.line.as_str() {
        "GET cdn.example.com/x?sig=1" => reply(200, MANIFEST),
        _ if asked.authorization.is_none() => challenge("Basic realm=x"),
        "GET r.example.com/v2/a/manifests/1" => {
            with(reply(307, ""), "location", "https://r.example.com/moved")
        }
        _ => with(reply(302, ""), "location", "https://cdn.example.com/x?sig=1"),
    })
    .await;
    let registry = fake.registry("r.example.com", basic());
    registry.manifest(&"a".parse().unwrap(), &tag("1")).await.unwrap();
    let sent: Vec<_> = fake.asked().into_iter().map(|a| a.authorization.is_some()).collect();
    assert_eq!(sent, [false, true, true, false]);
}

#[tokio::test]
async fn a_repository_that_refuses_new_tokens_does_not_cause_a_token_request_each_time() {
    let fake = Fake::new(|asked| match asked.line.contains("/token") {
        true => reply(200, r#"{"token":"t","expires_in":300}"#),
        false => challenge(HUB),
    })
    .await;
    let registry = fake.anonymous("docker.io");
    let repository = "library/nginx".parse().unwrap();
    for name in ["1", "2", "3"] {
        let refused = registry.manifest(&repository, &tag(name)).await.unwrap_err();
        assert_eq!(refused.kind(), Kind::Unauthorized);
    }
    let tokens = fake.lines().iter().filter(|line| line.contains("/token")).count();
    assert_eq!((tokens, fake.asked().len()), (1, 3 + 1 + 1));
}

#[tokio::test]
async fn each_repository_of_a_gateway_uses_the_token_service_of_its_own_challenge() {
    let fake = Fake::new(|asked| {
        let team = if asked.line.contains("team-a") { "a" } else { "b" };
        match asked.line.as_str() {
            token if token.contains(&format!("/token-{team}?service={team}")) => {
                reply(200, format!(r#"{{"token":"{team}","expires_in":300}}"#))
            }
            token if token.contains("/token") => error(401, "UNAUTHORIZED"),
            _ if asked.authorization.as_deref() == Some(&format!("Bearer {team}")) => {
                reply(200, MANIFEST)
            }
            _ => challenge(&format!(
                r#"Bearer realm="https://r.example.com/token-{team}",service="{team}""#
            )),
        }
    })
    .await;
    let registry = fake.anonymous("r.example.com");
    for name in ["team-a/x", "team-b/x", "team-a/x", "team-b/x"] {
        registry.manifest(&name.parse().unwrap(), &tag("1")).await.unwrap();
    }
    let tokens = fake.lines().iter().filter(|line| line.contains("/token")).count();
    // the first service is asked for `team-b`, and refuses; `team-b` then names its own
    assert_eq!((tokens, fake.asked().len()), (3, 4 + 3 + 2), "{:?}", fake.lines());
}

#[tokio::test]
async fn a_repository_with_another_scheme_than_the_first_is_read() {
    let fake = Fake::new(|asked| match (asked.line.as_str(), asked.authorization.as_deref()) {
        (token, Some("Basic dTpw")) if token.contains("/token") => reply(200, r#"{"token":"t"}"#),
        (line, Some("Basic dTpw")) if line.contains("/v2/basic/") => reply(200, MANIFEST),
        (line, Some("Bearer t")) if line.contains("/v2/bearer/") => reply(200, MANIFEST),
        (line, _) if line.contains("/v2/basic/") => challenge("Basic realm=x"),
        _ => challenge(r#"Bearer realm="https://r.example.com/token""#),
    })
    .await;
    for names in [["basic", "bearer"], ["bearer", "basic"]] {
        let registry = fake.registry("r.example.com", basic());
        for name in names.into_iter().chain(names) {
            registry.manifest(&name.parse().unwrap(), &tag("1")).await.unwrap();
        }
    }
}

/// `front.example.com` redirects manifests to `back.example.com`, which requires a token for them.
fn redirecting(asked: &Asked) -> axum::http::Response<axum::body::Body> {
    match asked.line.as_str() {
        front if front.contains(" front.example.com/") && asked.authorization.is_none() => {
            challenge("Basic realm=x")
        }
        front if front.contains(" front.example.com/") => {
            with(reply(307, ""), "location", "https://back.example.com/v2/moved/app/manifests/1")
        }
        "GET back.example.com/token?scope=repository%3Amoved%2Fapp%3Apull" => {
            let user = asked.authorization.as_deref().unwrap_or("nobody");
            reply(200, format!(r#"{{"token":"{}"}}"#, user.replace(' ', "-")))
        }
        _ if asked.authorization.is_some() => reply(200, MANIFEST),
        _ => challenge(r#"Bearer realm="https://back.example.com/token""#),
    }
}

#[tokio::test]
async fn the_challenge_of_a_redirects_registry_is_answered_with_that_registrys_own_credentials() {
    let back = Credentials::Basic(UserPassword::new("b", "b"));
    let back = ConnectionSettings { credentials: back, ..ConnectionSettings::default() };
    for (others, expected) in
        [(vec![], "nobody"), (vec![("back.example.com".parse().unwrap(), back)], "Basic-Yjpi")]
    {
        let fake = Fake::new(redirecting).await;
        let other_registries = Arc::new(others.into_iter().collect());
        let settings = ConnectionSettings { other_registries, ..basic() };
        let registry = fake.registry("front.example.com", settings);
        registry.manifest(&"team/app".parse().unwrap(), &tag("1")).await.unwrap();
        let sent = |host: &str| {
            let asked = fake.asked().into_iter().filter(move |it| it.line.contains(host));
            asked.filter_map(|it| it.authorization).collect::<Vec<_>>()
        };
        assert_eq!(sent(" front.example.com/"), ["Basic dTpw"]);
        let back = sent(" back.example.com/");
        assert_eq!(back.last(), Some(&format!("Bearer {expected}")));
        assert!(!back.iter().any(|it| it.contains("dTpw")), "ours never travels: {back:?}");
    }
}

#[tokio::test]
async fn a_redirects_registry_that_refuses_is_named_in_the_hint() {
    let fake = Fake::new(|asked| match asked.line.contains(" back.example.com/") {
        true => challenge("Basic realm=x"),
        false => redirecting(asked),
    })
    .await;
    let registry = fake.registry("front.example.com", basic());
    let refused = registry.manifest(&"team/app".parse().unwrap(), &tag("1")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    assert!(refused.remedy().unwrap().contains("`docker login back.example.com`"), "{refused:?}");
}

#[tokio::test]
async fn a_token_answer_without_a_token_says_so() {
    let fake = Fake::new(|asked| match asked.line.contains("/token") {
        true => reply(200, r#"{"expires_in":300}"#),
        false => challenge(r#"Bearer realm="https://ghcr.io/token""#),
    })
    .await;
    let failed = fake.anonymous("ghcr.io").manifest(&"a/b".parse().unwrap(), &tag("1")).await;
    let text = failed.unwrap_err().chain().join(": ");
    assert!(text.ends_with("contains neither `token` nor `access_token`"), "{text}");
}
