//! Requests tokens from a token service, and decides how long they are used.
//!
//! Source: distribution specification, "Token authentication" (GET) and
//! "OAuth2 token authentication" (POST with a refresh token).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use reqwest::Request;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::{
    credentials::{ClientIdentity, basic_header, secret_header},
    errors::{ERROR_BODY_LIMIT, Operation, RefusalDetails},
    read_body::read_body,
    redact::RequestSecrets,
    transport::{ConnectionPool, Transport, authority},
};
use crate::{
    model::{Error, Kind, Result},
    remote::HostContext,
};

/// The parameters of a token; equal requests share one token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenRequest {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The origin of the credentials: repositories of one registry can have several.
    pub(crate) account: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) renew_at: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

/// The identity and the connections for token requests.
#[derive(Clone)]
pub(crate) struct TokenClient {
    pub(crate) transport: Transport,
    pub(crate) context: Arc<HostContext>,
    pub(crate) identity: ClientIdentity,
}

/// Requests a token. Makes one attempt.
pub(crate) async fn fetch(client: TokenClient, wanted: TokenRequest) -> Result<Token> {
    let requested = Instant::now();
    let request = request(&client.identity, &wanted)?;
    let location = format!("{}{}", authority(request.url()), request.url().path());
    let subject = format!("{} {location}", request.method());
    let failed = |error: Error| no_token(error, &wanted.realm);
    let body = send(&client, request, &subject).await.map_err(failed)?;
    parse(&body, requested).map_err(|problem| {
        failed(Error::new(Kind::Protocol, format!("{subject}: the response {problem}")))
    })
}

/// Turns a token service's error into the registry's: its "not found" means no manifest.
fn no_token(error: Error, realm: &Url) -> Error {
    let kind = match error.kind() {
        Kind::PullLimit => Kind::Throttled,
        Kind::NotFound | Kind::RepositoryMissing | Kind::Unsupported | Kind::TooLarge => {
            Kind::Protocol
        }
        kind => kind,
    };
    let wait = error.retry_after();
    Error::new(kind, format!("no token from `{}`", authority(realm))).because(error).after(wait)
}

async fn send(client: &TokenClient, request: Request, subject: &str) -> Result<Bytes> {
    let TokenClient { transport, context, .. } = client;
    let response = transport.send(ConnectionPool::Calls, request, context, subject).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let secrets = RequestSecrets::for_response(&response);
    let stall = context.policy.stall.read;
    let body = read_body(response, ERROR_BODY_LIMIT, subject, stall).await?;
    if status.is_success() {
        return Ok(body);
    }
    let refusal = RefusalDetails::new(status, &headers, &body, &secrets);
    if refusal.is_throttled() {
        context.stats.throttled.add(1);
    }
    Err(refusal.error(subject, Operation::Read))
}

pub(crate) fn request(identity: &ClientIdentity, wanted: &TokenRequest) -> Result<Request> {
    let mut url = wanted.realm.clone();
    if let ClientIdentity::Token(refresh) = identity {
        let mut request = Request::new(Method::POST, url);
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        *request.body_mut() = Some(refresh_form(refresh, wanted).into());
        return Ok(request);
    }
    if wanted.service.is_some() || !wanted.scopes.is_empty() {
        let mut query = url.query_pairs_mut();
        if let Some(service) = &wanted.service {
            query.append_pair("service", service);
        }
        for scope in &wanted.scopes {
            query.append_pair("scope", scope);
        }
    }
    let mut request = Request::new(Method::GET, url);
    if let ClientIdentity::Basic(user) = identity {
        request.headers_mut().insert(header::AUTHORIZATION, basic_header(user)?);
    }
    Ok(request)
}

fn refresh_form(refresh: &SecretString, wanted: &TokenRequest) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "ecr-mirror");
    if let Some(service) = &wanted.service {
        form.append_pair("service", service);
    }
    form.append_pair("scope", &wanted.scopes.join(" "));
    form.append_pair("refresh_token", refresh.expose_secret());
    form.finish()
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// Seconds; some services write them as text.
    #[serde(default)]
    expires_in: Value,
}

/// Parses the response to a request of this time; the error completes "the response …".
pub(crate) fn parse(body: &[u8], requested: Instant) -> Result<Token, &'static str> {
    let response: TokenResponse = serde_json::from_slice(body).map_err(|_| "is not a token")?;
    let text =
        [response.token, response.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let header = secret_header(&format!(
        "Bearer {}",
        text.ok_or("contains neither `token` nor `access_token`")?
    ));
    let seconds = match &response.expires_in {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    };
    let lifetime = seconds.filter(|seconds| *seconds >= 1.0).unwrap_or(60.0);
    // also renews tokens of years daily
    let lifetime = Duration::from_secs_f64(lifetime.min(86_400.0));
    // renews a fifth of the lifetime or 30 s before its end, and not in its first half
    let margin = (lifetime / 5).max(Duration::from_secs(30)).min(lifetime / 2);
    Ok(Token {
        header: header.ok_or("has a token that does not fit a header")?,
        renew_at: requested + lifetime - margin,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UserPassword;

    fn wanted(realm: &str) -> TokenRequest {
        TokenRequest {
            realm: realm.parse().unwrap(),
            service: Some("a b".into()),
            scopes: vec!["repository:x:pull,push".into(), "repository:y:pull".into()],
            account: None,
        }
    }

    #[test]
    fn token_requests_follow_the_specification() {
        let user = ClientIdentity::Basic(UserPassword::new("u", "p"));
        let sent = request(&user, &wanted("https://a/token?x=1")).unwrap();
        assert_eq!(
            sent.url().query(),
            Some("x=1&service=a+b&scope=repository%3Ax%3Apull%2Cpush&scope=repository%3Ay%3Apull")
        );
        assert_eq!(sent.headers()[header::AUTHORIZATION], "Basic dTpw");
        assert!(sent.headers()[header::AUTHORIZATION].is_sensitive());

        let bare = TokenRequest { service: None, scopes: vec![], ..wanted("https://a/token") };
        let sent = request(&ClientIdentity::Anonymous, &bare).unwrap();
        assert_eq!((sent.url().query(), sent.headers().len()), (None, 0));

        let sent =
            request(&ClientIdentity::Token("r&t".into()), &wanted("https://a/token")).unwrap();
        let body = sent.body().and_then(|body| body.as_bytes()).unwrap();
        assert_eq!(
            std::str::from_utf8(body).unwrap(),
            "grant_type=refresh_token&client_id=ecr-mirror&service=a+b&scope=repository%3Ax%3Apull%2Cpush+repository%3Ay%3Apull&refresh_token=r%26t"
        );
    }

    #[test]
    fn debug_output_has_no_password_and_no_token() {
        let shown = format!(
            "{:?} {:?} {:?}",
            ClientIdentity::Basic(UserPassword::new("u", "canary")),
            ClientIdentity::Token("canary".into()),
            parse(br#"{"token":"canary"}"#, Instant::now()).unwrap(),
        );
        assert!(shown.contains("Basic") && !shown.contains("canary"), "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_it_expires_also_if_the_time_is_a_text() {
        for (body, seconds) in [
            (r#"{"token":"t"}"#, 30),
            (r#"{"access_token":"t","expires_in":300}"#, 240),
            (r#"{"token":"","access_token":"t","expires_in":100}"#, 70),
            (r#"{"token":"t","expires_in":10}"#, 5),
            (r#"{"token":"t","expires_in":-1}"#, 30),
            (r#"{"token":"t","expires_in":1e300}"#, 69_120),
            (r#"{"token":"t","expires_in":"300"}"#, 240),
            (r#"{"token":"t","expires_in":" 300 "}"#, 240),
            (r#"{"token":"t","expires_in":"soon"}"#, 30),
            (r#"{"token":"t","expires_in":null}"#, 30),
        ] {
            let now = Instant::now();
            let token = parse(body.as_bytes(), now).unwrap();
            assert_eq!(token.header, "Bearer t");
            assert_eq!(token.renew_at - now, Duration::from_secs(seconds), "{body}");
        }
        for body in ["", "{}", r#"{"token":"a\nb"}"#, r#"{"token":""}"#] {
            assert!(parse(body.as_bytes(), Instant::now()).is_err(), "{body}");
        }
    }
}
