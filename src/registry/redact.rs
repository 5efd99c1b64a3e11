//! Removes the secrets of a request from texts of its response.
//!
//! Servers and proxies repeat requests in refusals and in documents. Refusals and errors are shown
//! without secrets. A document with the login in it is rejected, because its content reaches more
//! than errors: names, platforms, a report.

use std::sync::Arc;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use parking_lot::Mutex;
use reqwest::{Request, Response};
use secrecy::{ExposeSecret, SecretString};
use url::{Url, form_urlencoded};

use super::{
    credentials::{ClientIdentity, basic_header},
    unescape,
};
use crate::model::Error;

/// Replaces each secret.
const HIDDEN: &str = "(hidden)";

/// Shorter texts, in bytes, occur by chance.
const SHORTEST: usize = 4;

/// The encoded forms of shorter texts, in bytes, occur by chance.
const SHORTEST_TO_ENCODE: usize = 8;

/// Shorter logins occur in a document by chance, because documents are longer than error texts.
const SHORTEST_IN_DOCUMENTS: usize = 12;

/// The parameters of queries and forms that are shown. Others are a signature, a token or the
/// state of an upload.
const PUBLIC_PARAMETERS: &str = "account artifactType client_id digest from grant_type last limit \
     mount n page page_size scope service token_type";

/// Secrets that no text shows, such as AWS credentials. Clones share them. Cannot be printed.
#[derive(Clone, Default)]
pub struct KnownSecrets(Arc<Mutex<Vec<SecretString>>>);

impl KnownSecrets {
    /// The secrets that are kept: credentials are renewed hourly, and old ones are worthless.
    const KEPT: usize = 24;

    /// Adds a secret, unless it is so short that it occurs by chance.
    pub(crate) fn record(&self, secret: &str) {
        let mut secrets = self.0.lock();
        let is_known = secrets.iter().any(|known| known.expose_secret() == secret);
        if secret.len() < SHORTEST_IN_DOCUMENTS || is_known {
            return;
        }
        secrets.push(secret.to_owned().into());
        if secrets.len() > Self::KEPT {
            secrets.remove(0);
        }
    }

    fn parts(&self) -> Vec<String> {
        self.0.lock().iter().map(|secret| secret.expose_secret().to_owned()).collect()
    }

    /// Replaces every secret in the text.
    pub(crate) fn redact(&self, text: &str) -> String {
        redact(text, self.parts())
    }
}

impl std::fmt::Debug for KnownSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KnownSecrets")
    }
}

/// The secrets of a request. Attached to its response; cannot be printed.
#[derive(Clone, Default)]
pub(crate) struct RequestSecrets {
    authorization: Option<HeaderValue>,
    /// The identities that the token service received: the request itself may have a token only.
    identities: Vec<ClientIdentity>,
    /// Further secrets of the login.
    known: KnownSecrets,
    url: Option<Url>,
    /// A form with a refresh token.
    form: Option<Bytes>,
}

impl RequestSecrets {
    pub(crate) fn of_request(request: &Request) -> Self {
        let is_form = |kind: &HeaderValue| kind == "application/x-www-form-urlencoded";
        let form = request.headers().get(header::CONTENT_TYPE).filter(|kind| is_form(kind));
        let body = || request.body()?.as_bytes().map(Bytes::copy_from_slice);
        Self {
            authorization: request.headers().get(header::AUTHORIZATION).cloned(),
            url: Some(request.url().clone()),
            form: form.and_then(|_| body()),
            ..Self::default()
        }
    }

    pub(crate) fn of_login(
        authorization: Option<&HeaderValue>,
        identities: Vec<ClientIdentity>,
        known: KnownSecrets,
    ) -> Self {
        Self { authorization: authorization.cloned(), identities, known, ..Self::default() }
    }

    pub(crate) fn add_identities(&mut self, identities: Vec<ClientIdentity>) {
        self.identities.extend(identities);
    }

    /// The secrets of the request that caused this response.
    pub(crate) fn for_response(response: &Response) -> Self {
        response.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Adds a login to the secrets of the response: a redirected request carries no login.
    pub(crate) fn add_to_response(&self, response: &mut Response) {
        let carried = Self::for_response(response);
        let authorization = carried.authorization.or_else(|| self.authorization.clone());
        let Self { identities, known, .. } = self.clone();
        response.extensions_mut().insert(Self { authorization, identities, known, ..carried });
    }

    /// Replaces every secret in the text.
    pub(crate) fn redact(&self, text: &str) -> String {
        redact(text, self.parts())
    }

    /// Replaces every secret in the error.
    pub(crate) fn redact_error(&self, error: Error) -> Error {
        error.reworded(&|text| self.redact(text))
    }

    /// Returns `true` if the document contains the login.
    pub(crate) fn login_is_in(&self, document: &[u8]) -> bool {
        let mut login = self.login_parts();
        login.retain(|part| part.len() >= SHORTEST_IN_DOCUMENTS);
        let has_login = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            login.iter().any(|part| text.contains(part.as_str()))
        };
        !login.is_empty()
            && (has_login(document)
                || unescape::has_escapes(document)
                    && has_login(&unescape::unescape(document, |_| {})))
    }

    fn login_parts(&self) -> Vec<String> {
        let mut parts = self.known.parts();
        parts.extend(self.authorization.iter().flat_map(credentials));
        for identity in &self.identities {
            match identity {
                ClientIdentity::Basic(user) => {
                    parts.extend(basic_header(user).iter().flat_map(credentials));
                }
                ClientIdentity::Token(secret) | ClientIdentity::Bearer(secret) => {
                    parts.push(secret.expose_secret().into());
                }
                ClientIdentity::Anonymous => {}
            }
        }
        parts
    }

    fn parts(&self) -> Vec<String> {
        let mut parts = self.login_parts();
        if let Some(url) = &self.url {
            let state = url.path().split_once("/blobs/uploads/").map(|(_, state)| state);
            parts.extend(state.map(str::to_owned));
            parts.extend(values(url.query().unwrap_or_default().as_bytes()));
        }
        parts.extend(self.form.iter().flat_map(|form| values(form)));
        parts
    }
}

/// The query for a log: its public parameters, and `…` for the others. Empty without a query.
pub(crate) fn public_query(url: &Url) -> String {
    let mut shown: Vec<String> = Vec::new();
    let mut has_hidden = false;
    for (name, value) in url.query_pairs() {
        match is_public(&name) {
            true => shown.push(format!("{name}={value}")),
            false => has_hidden = true,
        }
    }
    shown.extend(has_hidden.then(|| "…".to_owned()));
    if shown.is_empty() { String::new() } else { format!("?{}", shown.join("&")) }
}

fn is_public(parameter: &str) -> bool {
    PUBLIC_PARAMETERS.split(' ').any(|public| public == parameter)
}

/// Replaces every part in the text, and the encoded forms of every part.
fn redact(text: &str, mut parts: Vec<String>) -> String {
    // no form is shorter than its secret; the subject of a request is, and each request has one
    parts.retain(|part| part.len() <= text.len());
    let mut forms: Vec<String> = parts.iter().flat_map(|part| encoded(part)).collect();
    forms.extend(parts.into_iter().filter(|part| part.len() >= SHORTEST));
    // the longer ones may hold the shorter ones
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    forms.iter().fold(text.to_owned(), |text, form| hide(&text, form))
}

/// The secret in hexadecimal, and in base64: the characters that depend only on the secret, after
/// none, one or two other bytes, in both alphabets.
fn encoded(secret: &str) -> Vec<String> {
    if secret.len() < SHORTEST_TO_ENCODE {
        return Vec::new();
    }
    let mut forms = vec![const_hex::encode(secret)];
    for before in 0..3 {
        let bytes = [&b"???"[..before], secret.as_bytes()].concat();
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&bytes)[from..to].to_owned());
        }
    }
    forms
}

/// Replaces the secret in the text, however it is escaped, and in any case: hosts appear in lower
/// case.
fn hide(text: &str, secret: &str) -> String {
    let text = text.replace(secret, HIDDEN);
    let mut ranges = Vec::new();
    let plain = unescape::unescape(text.as_bytes(), |range| ranges.push(range));
    let (mut shown, mut from, mut at) = (Vec::new(), 0, 0);
    while at + secret.len() <= plain.len() {
        let end = at + secret.len();
        if !plain[at..end].eq_ignore_ascii_case(secret.as_bytes()) {
            at += 1;
            continue;
        }
        shown.extend_from_slice(&text.as_bytes()[from..ranges[at].start]);
        shown.extend_from_slice(HIDDEN.as_bytes());
        (from, at) = (ranges[end - 1].end, end);
    }
    shown.extend_from_slice(&text.as_bytes()[from..]);
    String::from_utf8_lossy(&shown).into_owned()
}

/// The secrets in an `Authorization`, in every form in which a server has them.
fn credentials(header: &HeaderValue) -> Vec<String> {
    let Some((_, value)) = header.to_str().ok().and_then(|header| header.split_once(' ')) else {
        return Vec::new();
    };
    // base64 is often written without padding
    let mut parts = vec![value.to_owned(), value.trim_end_matches('=').to_owned()];
    let pair = BASE64_STANDARD.decode(value).ok().and_then(|pair| String::from_utf8(pair).ok());
    if let Some((pair, (_, password))) =
        pair.as_deref().and_then(|pair| Some((pair, pair.split_once(':')?)))
    {
        parts.extend([pair.to_owned(), password.to_owned()]);
    }
    parts
}

/// The values of all parameters that are not public, decoded and raw.
fn values(query: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    for pair in query.split(|&b| b == b'&') {
        let Some((name, value)) = form_urlencoded::parse(pair).next() else { continue };
        if is_public(&name) {
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
    use crate::{
        model::UserPassword,
        registry::{
            credentials::secret_header,
            token::{self, TokenRequest},
        },
    };

    fn request(url: &str, authorization: Option<HeaderValue>) -> Request {
        let mut request = Request::new(Method::GET, url.parse().unwrap());
        request.headers_mut().extend(authorization.map(|it| (header::AUTHORIZATION, it)));
        request
    }

    #[test]
    fn a_logged_query_shows_public_parameters_only() {
        for (query, expected) in [
            ("", ""),
            ("?", ""),
            ("?n=100&last=1.27", "?n=100&last=1.27"),
            ("?_state=s3cret&digest=sha256:1", "?digest=sha256:1&…"),
            ("?token=s3cret&X-Amz-Signature=s3cret", "?…"),
        ] {
            let url = format!("https://r.example/v2/a{query}").parse().unwrap();
            assert_eq!(public_query(&url), expected, "{query}");
        }
    }

    #[test]
    fn secrets_are_hidden_in_every_form_in_which_they_were_sent() {
        let login = basic_header(&UserPassword::new("user", "pa:ss/wörd")).unwrap();
        let encoded = login.to_str().unwrap().to_owned();
        let upload =
            "https://r.example/v2/a/blobs/uploads/4711-42?_state=a%2Fb%3D%3D&digest=sha256:1";
        let bearer = secret_header("Bearer ey.to.ken").unwrap();
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
            assert_eq!(RequestSecrets::of_request(&sent).redact(text), expected);
        }
        assert_eq!(RequestSecrets::default().redact("all of it"), "all of it");
    }

    #[test]
    fn secrets_are_hidden_however_they_are_escaped() {
        let sent = RequestSecrets::of_request(&request(
            "https://a",
            basic_header(&UserPassword::new("u", "pa:s\"/wörd")).ok(),
        ));
        for (text, expected) in [
            ("at /pa:s%22%2Fw%C3%B6rd/x%2F", "at /(hidden)/x%2F"),
            ("at /pa%3as%22%2fw%c3%b6rd", "at /(hidden)"),
            (r#"string "pa:s\"/wörd", not \"s\""#, r#"string "(hidden)", not \"s\""#),
            (r#"{"x":"u:pa:s\"\/w\u00f6rd, u:pa:s\u{22}\/wörd"}"#, r#"{"x":"(hidden), (hidden)"}"#),
            ("at DTPWYTPZII93W7ZYZA==.example", "at (hidden).example"),
            ("dTpwYTpzIi93w7ZyZA== and dTpwYTpzIi93w7ZyZA", "(hidden) and (hidden)"),
        ] {
            assert_eq!(sent.redact(text), expected);
        }
    }

    #[test]
    fn a_login_is_found_in_a_document_unless_it_is_too_short() {
        let login = |password: &str| {
            let identities = vec![ClientIdentity::Basic(UserPassword::new("u", password))];
            let header = secret_header("Bearer ey.to.ken.of.it");
            RequestSecrets::of_login(header.as_ref(), identities, KnownSecrets::default())
        };
        for (password, document, expected) in [
            ("linux", r#"{"os":"linux","architecture":"amd64"}"#, false),
            ("linux", r#"{"os":"u:linux"}"#, false),
            ("correct horse", r#"{"os":"correct horse"}"#, true),
            ("correct/horse", r#"{"os":"a correct\/horse"}"#, true),
            ("linux", r#"{"os":"ey.to.ken.of.it"}"#, true),
            ("correct horse", r#"{"os":"dTpjb3JyZWN0IGhvcnNl"}"#, true),
            ("correct horse", r#"{"os":"horse"}"#, false),
        ] {
            assert_eq!(login(password).login_is_in(document.as_bytes()), expected, "{document}");
        }
        assert!(
            !RequestSecrets::of_request(&request("https://a/?_state=0123456789abcdef", None))
                .login_is_in(b"0123456789abcdef")
        );
    }

    #[test]
    fn a_refresh_token_is_hidden() {
        let realm = "https://a/token".parse().unwrap();
        let wanted = TokenRequest {
            realm,
            service: None,
            scopes: vec!["repository:x:pull".into()],
            account: None,
        };
        let identity = ClientIdentity::Token("r&fresh".into());
        let secrets = RequestSecrets::of_request(&token::request(&identity, &wanted).unwrap());
        let redacted = secrets.redact("no r&fresh, no r%26fresh for repository:x:pull");
        assert_eq!(redacted, "no (hidden), no (hidden) for repository:x:pull");
    }

    #[test]
    fn a_known_secret_is_hidden_in_every_form() {
        let secret = "IQoJb3JpZ2luX2VjEJr//////+wEaCXVz=";
        let secrets = KnownSecrets::default();
        secrets.record(secret);
        let url: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let json = serde_json::json!({ "headers": { "X-Amz-Security-Token": secret } }).to_string();
        for text in [
            format!("x-amz-security-token:{secret}\nhost:ecr"),
            format!("X-Amz-Security-Token: {secret}"),
            format!("?X-Amz-Security-Token={url}&x=1"),
            json.clone(),
            json.replace('/', r"\/"),
            BASE64_STANDARD.encode(secret),
            BASE64_STANDARD.encode(format!("a{secret}")),
            BASE64_URL_SAFE_NO_PAD.encode(format!("ab{secret}")),
            const_hex::encode(secret),
            secret.to_uppercase(),
        ] {
            let redacted = secrets.redact(&text);
            assert!(redacted.contains(HIDDEN), "{redacted}");
            assert!(!redacted.contains("b3Jp") && !redacted.contains("CXVz"), "{redacted}");
            assert!(redacted.len() < HIDDEN.len() + 45, "{redacted}");
        }
        assert_eq!(secrets.redact("another text"), "another text");
    }
}
