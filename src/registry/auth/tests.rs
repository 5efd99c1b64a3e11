//! The hosts that receive credentials, and the requests that wait for others.

use futures::future::join;

use super::*;
use crate::{
    model::UserPassword,
    registry::{scope::Permission, transport::Network},
};

fn authenticator(host: &str, base: &str, auth_host: Option<&str>) -> Authenticator {
    let (host, base) = (host.parse().unwrap(), base.parse().unwrap());
    let settings = ConnectionSettings {
        credentials: Credentials::Anonymous,
        auth_host: auth_host.map(|host| host.parse().unwrap()),
        ..ConnectionSettings::default()
    };
    let transport = Transport::new(Network::Direct);
    Authenticator::new(&host, &base, &settings, &transport, &Arc::default())
}

#[tokio::test]
async fn credentials_are_sent_over_plain_http_to_this_machine_only() {
    for (base, expected) in [
        ("http://r.example.com/", Err(Kind::Configuration)),
        ("https://r.example.com/", Ok(())),
        ("http://localhost:5000/", Ok(())),
    ] {
        let mut registry = authenticator("r.example.com", base, None);
        let user = UserPassword::new("u", "p");
        registry.credentials = CredentialProvider::Fixed(ClientIdentity::Basic(user));
        assert_eq!(
            registry.identity(&"a".parse().unwrap()).await.map(drop).map_err(|e| e.kind()),
            expected
        );
    }
}

#[test]
fn credentials_go_only_to_token_services_of_the_registry() {
    let hub = authenticator("docker.io", "https://registry-1.docker.io/", None);
    let ghcr = authenticator("ghcr.io", "https://ghcr.io/", None);
    let own = authenticator("r.example.com", "https://r.example.com/", Some("auth.example.com"));
    let port = authenticator("localhost:5000", "http://localhost:5000/", None);
    let gitlab = authenticator("registry.gitlab.com", "https://registry.gitlab.com/", None);
    let nvidia = authenticator("nvcr.io", "https://nvcr.io/", None);
    for (registry, realm, expected) in [
        (&hub, "https://auth.docker.io/token", true),
        (&hub, "https://registry-1.docker.io/token", true),
        (&hub, "http://auth.docker.io/token", false),
        (&hub, "https://auth.docker.io:8443/token", false),
        (&hub, "https://auth.docker.io.evil.example/token", false),
        (&hub, "https://evil.example/auth.docker.io", false),
        (&ghcr, "https://ghcr.io/token", true),
        (&ghcr, "http://ghcr.io/token", false),
        (&ghcr, "https://ghcr.io:444/token", false),
        (&ghcr, "https://auth.docker.io/token", false),
        (&own, "https://auth.example.com/token", true),
        (&own, "https://example.com/token", false),
        (&port, "http://localhost:5000/token", true),
        (&port, "http://localhost:5001/token", false),
        (&own, "http://auth.example.com/token", false),
        (&own, "https://auth.example.com:8443/token", false),
        (&hub, "https://AUTH.docker.io/token", true),
        (&hub, "https://auth.docker.io./token", false),
        (&hub, "https://auth.docker.io@evil.example/token", false),
        (&hub, "https://registry-1.docker.io:p@evil.example/token", false),
        (&hub, "https://gitlab.com/jwt/auth", false),
        (&hub, "https://127.0.0.1/token", false),
        (&gitlab, "https://gitlab.com/jwt/auth", true),
        (&gitlab, "https://gitlab.com.evil.example/jwt/auth", false),
        (&nvidia, "https://authn.nvidia.com/token", true),
        (&nvidia, "https://nvidia.com/token", false),
    ] {
        let realm = realm.parse().unwrap();
        assert_eq!(registry.is_trusted(&realm), expected, "{} {realm}", registry.host);
    }
}

#[tokio::test]
async fn a_foreign_token_service_receives_neither_password_nor_refresh_token() {
    let basic = || ClientIdentity::Basic(UserPassword::new("u", "p"));
    for make in [basic, || ClientIdentity::Token("refresh".into())] {
        let mut registry = authenticator("ghcr.io", "https://ghcr.io/", None);
        registry.credentials = CredentialProvider::Fixed(make());
        for (realm, is_sent) in [
            ("https://ghcr.io/token", true),
            ("https://elsewhere.example/token", false),
            ("http://ghcr.io/token", false),
        ] {
            let (realm, repository) = (realm.parse().unwrap(), "a".parse().unwrap());
            let found = registry.identity_at(&realm, &repository).await.unwrap();
            assert_eq!(!matches!(found.identity, ClientIdentity::Anonymous), is_sent, "{realm}");
        }
        assert!(registry.has_warned.load(Relaxed), "a warning says why");
    }
}

#[tokio::test]
async fn an_api_that_cannot_use_the_credentials_is_not_asked_without_them() {
    let basic = || ClientIdentity::Basic(UserPassword::new("u", "p"));
    let own = "https://r.example.com/api/v2.0/";
    for (identity, api, expected) in [
        (basic(), own, Ok(true)),
        (ClientIdentity::Anonymous, own, Ok(false)),
        (ClientIdentity::Anonymous, "https://elsewhere.example/api/v4/", Ok(false)),
        (basic(), "https://elsewhere.example/api/v4/", Err(Kind::Unauthorized)),
        (ClientIdentity::Token("renew".into()), own, Err(Kind::Unauthorized)),
        (ClientIdentity::Bearer("own".into()), own, Err(Kind::Unauthorized)),
    ] {
        let mut registry = authenticator("r.example.com", "https://r.example.com/", None);
        registry.credentials = CredentialProvider::Fixed(identity);
        let user = registry.user_at(&api.parse().unwrap(), &"a".parse().unwrap()).await;
        assert_eq!(user.map(|it| it.is_some()).map_err(|it| it.kind()), expected, "{api}");
    }
}

#[tokio::test]
async fn a_token_for_the_registry_itself_is_used_whatever_token_service_the_registry_names() {
    let mut registry = authenticator("r.example.com", "https://r.example.com/", None);
    registry.credentials = CredentialProvider::Fixed(ClientIdentity::Bearer("own".into()));
    let realm = "https://tokens.example.com/token".parse().unwrap();
    let wanted = TokenRequest { realm, service: None, scopes: Vec::new(), account: None };
    let scope = Scope::new(&"a".parse().unwrap(), Permission::Pull);
    // no request is sent: nothing listens at that service
    let authorization = registry.token(wanted, &scope).await.unwrap();
    assert_eq!(authorization.header.unwrap().to_str().unwrap(), "Bearer own");
    assert!(!registry.has_warned.load(Relaxed));
}

#[tokio::test]
async fn requests_wait_for_the_first_response_but_not_after_a_failure() {
    let registry = authenticator("r.example.com", "https://r.example.com/", None);
    let scope = Scope::new(&"a".parse().unwrap(), Permission::Pull);
    let other = Scope::new(&"b".parse().unwrap(), Permission::Pull);
    let first = registry.authorize(&scope).await.unwrap();
    assert!(registry.authorize(&scope).now_or_never().is_none(), "it waits");
    assert!(
        registry.authorize(&other).now_or_never().is_none(),
        "and so do requests to other repositories"
    );

    first.unanswered();
    let (one, two) = join(registry.authorize(&scope), registry.authorize(&other)).await;
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(one.header.is_none() && two.header.is_none());

    registry.accepted(one, &scope);
    let open = registry.authorize(&scope).now_or_never().unwrap().unwrap();
    assert!(open.header.is_none() && open.first_request.is_none());
    // the other repository needs a first request of its own
    let second = registry.authorize(&other).await.unwrap();
    assert!(registry.authorize(&other).now_or_never().is_none());
    drop(second);
    assert!(
        registry.authorize(&other).now_or_never().is_some(),
        "a dropped first request blocks no other"
    );
}

#[tokio::test]
async fn requests_without_tls_do_not_wait_for_the_first_response() {
    let registry = authenticator("r.example.com", "http://r.example.com/", None);
    let scope = Scope::new(&"a".parse().unwrap(), Permission::Pull);
    for _ in 0..2 {
        let authorization =
            registry.authorize(&scope).now_or_never().expect("it does not wait").unwrap();
        assert!(authorization.header.is_none() && authorization.first_request.is_none());
    }
}
