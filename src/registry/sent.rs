//! What a request carried that is nobody else's to read, taken out of what is answered.
//!
//! Servers and proxies repeat requests in their refusals, and refusals are shown to people.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderValue, header};
use reqwest::Request;
use url::{Url, form_urlencoded};

/// What stands in the place of what is hidden.
const HIDDEN: &str = "(hidden)";

/// Below this length, in bytes, a text is found by chance.
const SHORTEST: usize = 4;

/// What the protocols have in queries and forms; all else there is a signature, a token or the
/// state of an upload.
const OPEN: [&str; 15] = [
    "account",
    "artifactType",
    "client_id",
    "digest",
    "from",
    "grant_type",
    "last",
    "limit",
    "mount",
    "n",
    "page",
    "page_size",
    "scope",
    "service",
    "token_type",
];

/// What must not come back in a text; goes with the answer, and cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct Sent {
    authorization: Option<HeaderValue>,
    url: Option<Url>,
    /// A form with a refresh token in it.
    form: Option<Bytes>,
}

impl Sent {
    /// What this request carries.
    pub(crate) fn of(request: &Request) -> Self {
        let is_form = |kind: &HeaderValue| kind == "application/x-www-form-urlencoded";
        let form = request.headers().get(header::CONTENT_TYPE).filter(|kind| is_form(kind));
        let body = || request.body()?.as_bytes().map(Bytes::copy_from_slice);
        Self {
            authorization: request.headers().get(header::AUTHORIZATION).cloned(),
            url: Some(request.url().clone()),
            form: form.and_then(|_| body()),
        }
    }

    /// The text without any of it.
    pub(crate) fn hidden_in(&self, text: &str) -> String {
        let mut parts = self.parts();
        parts.retain(|part| part.len() >= SHORTEST);
        // the longer ones may hold the shorter ones
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts.iter().fold(text.to_owned(), |text, part| text.replace(part.as_str(), HIDDEN))
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let header = self.authorization.as_ref().and_then(|header| header.to_str().ok());
        if let Some((_, credentials)) = header.and_then(|header| header.split_once(' ')) {
            parts.push(credentials.to_owned());
            let pair = BASE64_STANDARD.decode(credentials).ok();
            let pair = pair.and_then(|pair| String::from_utf8(pair).ok());
            if let Some((pair, (_, password))) =
                pair.as_deref().and_then(|pair| Some((pair, pair.split_once(':')?)))
            {
                parts.extend([pair.to_owned(), password.to_owned()]);
            }
        }
        if let Some(url) = &self.url {
            let state = url.path().split_once("/blobs/uploads/").map(|(_, state)| state);
            parts.extend(state.map(str::to_owned));
            parts.extend(values(url.query().unwrap_or_default().as_bytes()));
        }
        parts.extend(self.form.iter().flat_map(|form| values(form)));
        parts
    }
}

/// The values that are not the protocols' own, as they are and as they were sent.
fn values(query: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    for pair in query.split(|&b| b == b'&') {
        let Some((name, value)) = form_urlencoded::parse(pair).next() else { continue };
        if OPEN.contains(&&*name) {
            continue;
        }
        let raw = pair.splitn(2, |&b| b == b'=').nth(1).unwrap_or_default();
        values.extend([value.into_owned(), String::from_utf8_lossy(raw).into_owned()]);
    }
    values
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::registry::{
        credentials::Identity,
        token::{TokenRequest, basic, secret},
    };

    fn request(url: &str, authorization: Option<HeaderValue>) -> Request {
        let mut request = Request::new(Method::GET, url.parse().unwrap());
        request.headers_mut().extend(authorization.map(|it| (header::AUTHORIZATION, it)));
        request
    }

    #[test]
    fn what_was_sent_is_hidden_in_every_form_it_was_sent_in() {
        let login = basic("user", &"pa:ss/wörd".into()).unwrap();
        let encoded = login.to_str().unwrap().to_owned();
        let upload =
            "https://r.example/v2/a/blobs/uploads/4711-42?_state=a%2Fb%3D%3D&digest=sha256:1";
        let bearer = secret("Bearer ey.to.ken").unwrap();
        for (sent, text, expected) in [
            (request("https://a", Some(login.clone())), encoded.as_str(), "Basic (hidden)"),
            (
                request("https://a", Some(login)),
                "user:pa:ss/wörd, then pa:ss/wörd of user",
                "(hidden), then (hidden) of user",
            ),
            (request("https://a", Some(bearer)), "not ey.to.ken", "not (hidden)"),
            (
                request(upload, None),
                "PUT /v2/a/blobs/uploads/4711-42?_state=a%2Fb%3D%3D&digest=sha256:1 (a/b==)",
                "PUT /v2/a/blobs/uploads/(hidden)?_state=(hidden)&digest=sha256:1 ((hidden))",
            ),
            (
                request("https://cdn/x?X-Amz-Signature=0123456789&n=1000", None),
                "0123456789 of 1000",
                "(hidden) of 1000",
            ),
            (request("https://a/?k=1", None), "1 of 10", "1 of 10"),
        ] {
            assert_eq!(Sent::of(&sent).hidden_in(text), expected);
        }
        assert_eq!(Sent::default().hidden_in("all of it"), "all of it");
    }

    #[test]
    fn a_refresh_token_is_hidden_too() {
        let realm = "https://a/token".parse().unwrap();
        let wanted =
            TokenRequest { realm, service: None, scopes: vec!["repository:x:pull".into()] };
        let asked = Identity::Token("r&fresh".into());
        let asked = crate::registry::token::request(&asked, &wanted).unwrap();
        let told = Sent::of(&asked).hidden_in("no r&fresh, no r%26fresh for repository:x:pull");
        assert_eq!(told, "no (hidden), no (hidden) for repository:x:pull");
    }
}
