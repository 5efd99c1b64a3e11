//! The upstream over HTTP, request by request.

use std::collections::HashSet;

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header},
};
use serde_json::Value;

use super::*;
use crate::model::TagOrDigest;

mod clients;
mod content;
mod protocol;

/// An upstream and its faults.
struct World {
    upstream: Upstream,
    faults: Faults,
}

/// A response with its whole body.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl World {
    fn new() -> Self {
        let faults = Faults::default();
        let upstream = Upstream::new(faults.clone());
        Self { upstream, faults }
    }

    async fn send(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Answer {
        let rest = url.strip_prefix("http://").unwrap();
        let at = rest.find('/').unwrap();
        let (host, path) = (rest[..at].to_owned(), &rest[at..]);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let incoming = IncomingRequest { host, request };
        let response = self.upstream.answer(incoming).await;
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, url: &str) -> Answer {
        self.send(Method::GET, url, &[]).await
    }

    /// Sends a request like a real client: follows the challenge and redirects without forwarding
    /// the token.
    async fn pull(&self, url: &str) -> Answer {
        let first = self.get(url).await;
        let mut answer = match first.challenge() {
            Some(challenge) if first.status == StatusCode::UNAUTHORIZED => {
                let token = self.token(&challenge).await;
                self.send(Method::GET, url, &[("authorization", &token)]).await
            }
            _ => first,
        };
        while answer.status == StatusCode::TEMPORARY_REDIRECT {
            let location = answer.text("location").to_owned();
            answer = self.get(&location).await;
        }
        answer
    }

    /// The value of `Authorization` that answers a challenge.
    async fn token(&self, challenge: &str) -> String {
        let part = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value.to_owned())
        };
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for name in ["service", "scope"] {
            if let Some(value) = part(name) {
                query.append_pair(name, &value);
            }
        }
        let answer = self.get(&format!("{}?{}", part("realm").unwrap(), query.finish())).await;
        assert_eq!(answer.status, StatusCode::OK);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    }
}

impl Answer {
    fn text(&self, header: &str) -> &str {
        self.headers.get(header).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }

    fn challenge(&self) -> Option<String> {
        let value = self.headers.get(header::WWW_AUTHENTICATE)?;
        Some(value.to_str().unwrap().to_owned())
    }
}
