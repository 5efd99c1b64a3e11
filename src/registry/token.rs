//! Tokens: asking a token service, and how long what it gives is good.
//!
//! Source: distribution specification, "Token authentication" (GET) and
//! "OAuth2 token authentication" (POST with a refresh token).

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, header};
use reqwest::Request;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::Deserialize;
use tokio::time::{Instant, timeout};
use url::{Url, form_urlencoded};

use super::{
    credentials::ClientIdentity,
    errors::{BODY_LIMIT, Operation, RefusalDetails},
    redact::RequestSecrets,
    transport::{ConnectionPool, Transport, authority},
};
use crate::{
    model::{Error, Kind, Result, UserPassword},
    remote::HostContext,
};

/// What a token is for; equal requests share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenRequest {
    pub(crate) realm: Url,
    pub(crate) service: Option<String>,
    pub(crate) scopes: Vec<String>,
}

/// A token, ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    pub(crate) renew_at: Instant,
}

impl Token {
    /// Whether it is good for long enough to be used.
    pub(crate) fn is_fresh(&self) -> bool {
        Instant::now() < self.renew_at
    }
}

/// Who asks, and over what.
#[derive(Clone)]
pub(crate) struct TokenClient {
    pub(crate) transport: Transport,
    pub(crate) context: Arc<HostContext>,
    pub(crate) identity: ClientIdentity,
}

/// Asks the token service, once.
///
/// # Errors
/// Says that it is the token service that failed, of the kind of its answer.
pub(crate) async fn fetch(asker: TokenClient, wanted: TokenRequest) -> Result<Token> {
    let asked = Instant::now();
    let request = request(&asker.identity, &wanted)?;
    let place = format!("{}{}", authority(request.url()), request.url().path());
    let subject = format!("{} {place}", request.method());
    let failed = |error: Error| failure(error, &wanted.realm);
    let body = exchange(&asker, request, &subject).await.map_err(failed)?;
    read(&body, asked).map_err(|problem| {
        failed(Error::new(Kind::Protocol, format!("{subject}: the answer {problem}")))
    })
}

/// The token service's error as the registry's: its "not found" is nobody's manifest.
fn failure(error: Error, realm: &Url) -> Error {
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

async fn exchange(asker: &TokenClient, request: Request, subject: &str) -> Result<Bytes> {
    let TokenClient { transport, context: meter, .. } = asker;
    let response = transport.send(ConnectionPool::Calls, request, meter, subject).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let sent = RequestSecrets::for_answer(&response);
    let body = limited(response, BODY_LIMIT, subject, meter.policy.stall.read).await?;
    if status.is_success() {
        return Ok(body);
    }
    let refusal = RefusalDetails::new(status, &headers, &body, &sent);
    if refusal.is_throttle() {
        meter.throttled.add(1);
    }
    Err(refusal.error(subject, Operation::Read))
}

/// How long a document may take to come whole: one that trickles is as bad as one that stalls.
const DOCUMENT_PATIENCE: Duration = Duration::from_secs(300);

/// A body in memory, of at most `limit` bytes, of which some come within every `stall`.
///
/// # Errors
/// [`Kind::TooLarge`] when it is longer, [`Kind::Stalled`] and [`Kind::Unavailable`] when it does not come.
pub(crate) async fn limited(
    response: reqwest::Response,
    limit: u64,
    subject: &str,
    stall: Duration,
) -> Result<Bytes> {
    let all = timeout(DOCUMENT_PATIENCE, collected(response, limit, subject, stall)).await;
    all.unwrap_or_else(|_| {
        let seconds = DOCUMENT_PATIENCE.as_secs();
        Err(Error::new(Kind::Stalled, format!("{subject}: not all of it came within {seconds} s")))
    })
}

async fn collected(
    mut response: reqwest::Response,
    limit: u64,
    subject: &str,
    stall: Duration,
) -> Result<Bytes> {
    let too_large =
        || Error::new(Kind::TooLarge, format!("{subject}: the answer is above {limit} B"));
    if response.content_length().is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = timeout(stall, response.chunk()).await.map_err(|_| {
            let seconds = stall.as_secs();
            Error::new(Kind::Stalled, format!("{subject}: nothing came for {seconds} s"))
        })?;
        let chunk = chunk.map_err(|error| {
            Error::new(Kind::Unavailable, format!("{subject}: the connection broke"))
                .because(error.without_url())
        })?;
        let Some(chunk) = chunk else { return Ok(body.into()) };
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
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
        request.headers_mut().insert(header::AUTHORIZATION, basic(user)?);
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

/// The `Authorization` header of user and password.
pub(crate) fn basic(user: &UserPassword) -> Result<HeaderValue> {
    let pair = Zeroizing::new(format!("{}:{}", user.username, user.password.expose_secret()));
    secret(&Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_bytes()))))
        .ok_or_else(|| Error::new(Kind::Configuration, "the credentials do not fit a header"))
}

/// A header value that is never printed.
pub(crate) fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

/// The token in the answer to a question of `asked`; else what is wrong with the answer.
pub(crate) fn read(body: &[u8], asked: Instant) -> Result<Token, &'static str> {
    let answer: TokenResponse = serde_json::from_slice(body).map_err(|_| "is no token")?;
    let text = [answer.token, answer.access_token].into_iter().flatten().find(|t| !t.is_empty());
    let header = secret(&format!("Bearer {}", text.ok_or("has no token in it")?));
    let life = answer.expires_in.filter(|life| *life >= 1.0).unwrap_or(60.0);
    // tokens of years are renewed daily: nothing is lost by it
    let life = Duration::from_secs_f64(life.min(86_400.0));
    // ahead of the end by a fifth or 30 s, but never before it is of use
    let margin = (life / 5).max(Duration::from_secs(30)).min(life / 2);
    Ok(Token {
        header: header.ok_or("has a token that does not fit a header")?,
        renew_at: asked + life - margin,
    })
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use tokio::time::sleep;

    use super::*;

    fn wanted(realm: &str) -> TokenRequest {
        TokenRequest {
            realm: realm.parse().unwrap(),
            service: Some("a b".into()),
            scopes: vec!["repository:x:pull,push".into(), "repository:y:pull".into()],
        }
    }

    #[test]
    fn a_token_is_asked_for_as_the_specification_says() {
        let user = ClientIdentity::Basic(UserPassword::new("u", "p"));
        let asked = request(&user, &wanted("https://a/token?x=1")).unwrap();
        assert_eq!(
            asked.url().query(),
            Some("x=1&service=a+b&scope=repository%3Ax%3Apull%2Cpush&scope=repository%3Ay%3Apull")
        );
        assert_eq!(asked.headers()[header::AUTHORIZATION], "Basic dTpw");
        assert!(asked.headers()[header::AUTHORIZATION].is_sensitive());

        let bare = TokenRequest { service: None, scopes: vec![], ..wanted("https://a/token") };
        let asked = request(&ClientIdentity::Anonymous, &bare).unwrap();
        assert_eq!((asked.url().query(), asked.headers().len()), (None, 0));

        let asked =
            request(&ClientIdentity::Token("r&t".into()), &wanted("https://a/token")).unwrap();
        let body = asked.body().and_then(|body| body.as_bytes()).unwrap();
        assert_eq!(
            std::str::from_utf8(body).unwrap(),
            "grant_type=refresh_token&client_id=ecr-mirror&service=a+b&scope=repository%3Ax%3Apull%2Cpush+repository%3Ay%3Apull&refresh_token=r%26t"
        );
    }

    #[test]
    fn no_identity_and_no_token_prints_itself() {
        let shown = format!(
            "{:?} {:?} {:?}",
            ClientIdentity::Basic(UserPassword::new("u", "canary")),
            ClientIdentity::Token("canary".into()),
            read(br#"{"token":"canary"}"#, Instant::now()).unwrap(),
        );
        assert!(shown.contains("Basic") && !shown.contains("canary"), "{shown}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_trickles_in_is_given_up() {
        for (pause, came) in [(20, false), (1, true)] {
            let trickle = stream::iter(0..100).then(move |_| async move {
                sleep(Duration::from_secs(pause)).await;
                Ok::<_, std::io::Error>(Bytes::from_static(b"."))
            });
            let body = reqwest::Body::wrap_stream(trickle);
            let begun = Instant::now();
            let read =
                limited(http::Response::new(body).into(), 1_000, "GET x", DOCUMENT_PATIENCE).await;
            match came {
                true => assert_eq!(read.unwrap().len(), 100),
                false => assert_eq!(read.unwrap_err().kind(), Kind::Stalled),
            }
            assert!(begun.elapsed() <= DOCUMENT_PATIENCE);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_before_its_end() {
        for (body, seconds) in [
            (r#"{"token":"t"}"#, 30),
            (r#"{"access_token":"t","expires_in":300}"#, 240),
            (r#"{"token":"","access_token":"t","expires_in":100}"#, 70),
            (r#"{"token":"t","expires_in":10}"#, 5),
            (r#"{"token":"t","expires_in":-1}"#, 30),
            (r#"{"token":"t","expires_in":1e300}"#, 69_120),
        ] {
            let now = Instant::now();
            let token = read(body.as_bytes(), now).unwrap();
            assert_eq!(token.header, "Bearer t");
            assert_eq!(token.renew_at - now, Duration::from_secs(seconds), "{body}");
        }
        for body in ["", "{}", r#"{"token":"a\nb"}"#, r#"{"token":""}"#] {
            assert!(read(body.as_bytes(), Instant::now()).is_err(), "{body}");
        }
    }
}
