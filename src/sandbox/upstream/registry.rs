//! The distribution protocol, read-only, with the quirks of each registry.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
};

use axum::{
    http::{HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    Upstream,
    address::{Address, Registry},
    cdn,
    content::{Content, Visibility},
    limits::SPENT_MESSAGE,
    listing,
    quirks::{
        Accept, Auth, BlobHead, ContentType, DigestTags, Hidden, Paging, Pulls, Quirks, Referrers,
        RepositoryList, TagList,
    },
    synthesis::{Manifest, media},
    token::{self, Access, AccessTarget, credentials},
};
use crate::{
    model::{Digest, TagOrDigest},
    sandbox::{
        distribution::{self, Page, Refusal, Resource, Route, no_body, query},
        fault::{Name, Side},
        store::Links,
    },
};

struct UpstreamRequest<'a> {
    address: &'a Address,
    registry: &'a str,
    repository: &'a str,
    quirks: &'a Quirks,
    request: &'a Parts,
}

impl UpstreamRequest<'_> {
    /// Host and repository, for another thread.
    fn owned(&self) -> (String, String) {
        (self.registry.to_owned(), self.repository.to_owned())
    }
}

impl Upstream {
    pub(super) async fn registry(
        &self,
        address: &Address,
        registry: &Registry,
        request: &Parts,
    ) -> Response {
        let (repository, resource) = match Route::read(&registry.path) {
            Ok(Route::Repository(repository, resource)) => (repository, resource),
            Ok(Route::Base) => return self.base(address, &registry.host, request),
            Ok(Route::Catalog) => return self.catalog(address, &registry.host, request),
            Err(route_error) => return Refusal::from(route_error).into_response(),
        };
        let scope = UpstreamRequest {
            address,
            registry: &registry.host,
            repository: repository.as_str(),
            quirks: &self.quirks(&registry.host, repository.as_str()),
            request,
        };
        let account = match self.authorize(&scope) {
            ControlFlow::Continue(account) => account,
            ControlFlow::Break(refused) => return refused,
        };
        if request.method != Method::GET && request.method != Method::HEAD {
            return Refusal::unsupported().into_response();
        }
        match resource {
            Resource::Manifest(at) => self.manifest(&scope, &at, account.as_deref()).await,
            Resource::Blob(digest) => self.blob(&scope, &digest).await,
            Resource::Tags => self.tags(&scope).await,
            Resource::Referrers(digest) => self.referrers(&scope, &digest).await,
            Resource::Uploads | Resource::Upload(_) => Refusal::unsupported().into_response(),
        }
    }

    /// Answers `/v2/`, where clients learn how to authenticate.
    fn base(&self, address: &Address, host: &str, request: &Parts) -> Response {
        let quirks = self.quirks(host, "");
        let target = AccessTarget { registry: host, repository: None };
        let access = self.access(quirks.auth, &target, request);
        if matches!(access, Access::Granted(_)) {
            let version = ("docker-distribution-api-version", "registry/2.0".to_owned());
            return no_body(StatusCode::OK, [version]);
        }
        let realm = address.realm(address.base_registry(host), quirks.auth);
        unauthorized(token::challenge(quirks.auth, &target, &realm, &access))
    }

    /// Answers `_catalog`, if the registry has it, and the client may read it.
    fn catalog(&self, address: &Address, host: &str, request: &Parts) -> Response {
        let quirks = self.quirks(host, "");
        let target = AccessTarget { registry: host, repository: None };
        let access = self.access(quirks.auth, &target, request);
        let account = match (quirks.repositories, &access) {
            (RepositoryList::Harbor, _) => credentials(&request.headers)
                .filter(|(_, password)| password != "wrong")
                .map(|(name, _)| name),
            (_, Access::Granted(account)) => account.clone(),
            _ => None,
        };
        let is_admin = account.as_deref() == Some("admin");
        match quirks.repositories {
            RepositoryList::OtherApi => {
                Refusal::unknown("UNSUPPORTED", "there is no catalogue").into_response()
            }
            RepositoryList::GitLab if !is_admin => {
                let realm = address.realm(Some(host), quirks.auth);
                let challenge = token::challenge(quirks.auth, &target, &realm, &access);
                let scoped = |it| format!("{it},scope=\"registry:catalog:*\"");
                unauthorized(challenge.map(scoped))
            }
            RepositoryList::Harbor if !is_admin => {
                unauthorized(Some("Basic realm=\"harbor\"".to_owned()))
            }
            _ => catalog(self.content.repositories(host), request),
        }
    }

    /// Authorizes the request, and returns its account, or the response that refuses it.
    fn authorize(&self, scope: &UpstreamRequest<'_>) -> ControlFlow<Response, Option<String>> {
        let visible = scope.address.client_name(scope.registry, scope.repository);
        let target = AccessTarget { registry: scope.registry, repository: Some(&visible) };
        let auth = scope.quirks.auth;
        let access = self.access(auth, &target, scope.request);
        let realm = scope.address.realm(Some(scope.registry), auth);
        let challenge = token::challenge(auth, &target, &realm, &access);
        match access {
            Access::Granted(account) => match self.hidden(scope, account.is_some(), challenge) {
                Some(refused) => ControlFlow::Break(refused),
                None => ControlFlow::Continue(account),
            },
            // Chainguard and GitHub distinguish a wrong token from a missing one
            Access::OtherScope if scope.quirks.hidden == Hidden::DeniedOrMissing => {
                ControlFlow::Break(denied())
            }
            Access::OtherScope | Access::Unauthorized => {
                ControlFlow::Break(unauthorized(challenge))
            }
        }
    }

    fn access(&self, auth: Auth, target: &AccessTarget<'_>, request: &Parts) -> Access {
        let access = self.tokens.access(auth, target, &request.headers);
        if auth == Auth::Open || !matches!(access, Access::Granted(_)) {
            return access;
        }
        if self.expire_tokens_if_due() {
            return Access::Unauthorized;
        }
        access
    }

    /// The refusal for a repository whose name makes it private or missing.
    fn hidden(
        &self,
        scope: &UpstreamRequest<'_>,
        has_account: bool,
        challenge: Option<String>,
    ) -> Option<Response> {
        let seen = self.content.visibility(scope.registry, scope.repository);
        Some(match (seen, scope.quirks.hidden) {
            (Visibility::Public, _) => return None,
            (Visibility::Private, _) if has_account => return None,
            (_, Hidden::AlwaysUnauthorized)
            | (Visibility::Private, Hidden::UnauthorizedOrMissing) => unauthorized(challenge),
            (Visibility::Private, Hidden::DeniedOrMissing) => denied(),
            (Visibility::Missing, Hidden::UnauthorizedOrMissing | Hidden::DeniedOrMissing) => {
                let message = "repository name not known to registry";
                Refusal::unknown("NAME_UNKNOWN", message).into_response()
            }
        })
    }

    async fn manifest(
        &self,
        scope: &UpstreamRequest<'_>,
        at: &TagOrDigest,
        account: Option<&str>,
    ) -> Response {
        if let Some((host, prefix)) = scope.quirks.manifests_at {
            let path = format!("{prefix}/{}/manifests/{}", scope.repository, at.as_str());
            return redirect(scope.address.registry_url(host, &path));
        }
        let Some(manifest) = self.find_manifest(scope, at).await else {
            return manifest_unknown(at);
        };
        if scope.quirks.accept == Accept::Needed && !accepts(scope.request, &manifest.media_type) {
            return manifest_unknown(at);
        }
        let method = &scope.request.method;
        let media_type = match scope.quirks.content_type {
            ContentType::Correct => manifest.media_type.as_str(),
            ContentType::Html => "text/html; charset=utf-8",
        };
        let served =
            || distribution::manifest(method, &manifest.digest, media_type, manifest.bytes.clone());
        if scope.quirks.pulls == Pulls::Free {
            return served();
        }
        let limit = self.faults.active(Name::PullLimit, Side::Upstream);
        let budget = self.limits.count(method, account, limit.and_then(|limit| limit.number()));
        let mut response = if budget.is_within {
            served()
        } else {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", SPENT_MESSAGE)
                .into_response()
        };
        budget.write_headers(response.headers_mut());
        response
    }

    async fn find_manifest(
        &self,
        scope: &UpstreamRequest<'_>,
        at: &TagOrDigest,
    ) -> Option<Manifest> {
        let find = async |at: TagOrDigest| {
            let (registry, repository) = scope.owned();
            self.content
                .run_blocking(move |content| content.manifest(&registry, &repository, &at))
                .await
        };
        let manifest = match find(at.clone()).await {
            None if scope.quirks.digest_tags == DigestTags::Digests => find(as_digest(at)?).await?,
            found => found?,
        };
        if let TagOrDigest::Tag(tag) = at
            && self.faults.active(Name::MoveTag, Side::Upstream).is_some()
        {
            self.content.rebuild_tag(scope.registry, scope.repository, tag.as_str());
        }
        let is_list = [media::OCI_INDEX, media::DOCKER_LIST].contains(&&*manifest.media_type);
        if matches!(at, TagOrDigest::Tag(_))
            && is_list
            && !accepts(scope.request, &manifest.media_type)
            && self.faults.active(Name::Translate, Side::Upstream).is_some()
        {
            let index: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            let child: Digest = index["manifests"][0]["digest"].as_str()?.parse().ok()?;
            return find(TagOrDigest::Digest(child)).await;
        }
        Some(manifest)
    }

    async fn blob(&self, scope: &UpstreamRequest<'_>, digest: &Digest) -> Response {
        let UpstreamRequest { registry, repository, quirks, request, .. } = scope;
        let is_head = request.method == Method::HEAD;
        if is_head && quirks.blob_head == BlobHead::Unauthorized {
            return unauthorized(None);
        }
        let (host, name) = scope.owned();
        let wanted = digest.clone();
        let found =
            self.content.run_blocking(move |content| content.blob(&host, &name, &wanted)).await;
        let Some(blob) = found else {
            return Refusal::unknown("BLOB_UNKNOWN", "blob unknown to registry").into_response();
        };
        match quirks.blobs_at {
            Some(host) if !is_head => {
                let path = cdn::path(registry, repository, digest);
                redirect(scope.address.cdn_url(host, &path))
            }
            _ => cdn::serve(&self.content, &blob, digest, request).await,
        }
    }

    async fn tags(&self, scope: &UpstreamRequest<'_>) -> Response {
        let UpstreamRequest { registry, repository, quirks, request, .. } = scope;
        let uri = match quirks.paging {
            Paging::NextPage => with_last(&request.uri),
            _ => request.uri.clone(),
        };
        let uri = with_page_size(&uri, quirks.page);
        let (host, name) = scope.owned();
        let with_digests = quirks.tag_list == TagList::WithDigests;
        let names = move |content: &Content| {
            let mut names = content.tag_names(&host, &name);
            if with_digests {
                names.extend(digest_names(content, &host, &name));
            }
            names
        };
        let names = self.content.run_blocking(names).await;
        let page = match distribution::page(names, &uri) {
            Ok(page) => page,
            Err(refusal) => return refusal.into_response(),
        };
        let name = scope.address.client_name(registry, repository);
        let mut body = json!({ "name": name, "tags": page.names });
        if quirks.tag_list == TagList::WithManifests {
            body["child"] = json!([]);
            body["manifest"] = listing::google(&self.content, registry, repository).await;
        }
        let mut response = distribution::json_page(&body, &page, &uri);
        if let Some(link) = response.headers_mut().remove(header::LINK)
            && let Some(link) = relinked(quirks.paging, &link, &page)
        {
            response.headers_mut().insert(header::LINK, link);
        }
        response
    }

    async fn referrers(&self, scope: &UpstreamRequest<'_>, subject: &Digest) -> Response {
        match scope.quirks.referrers {
            Referrers::Native => {}
            Referrers::Absent => {
                return (StatusCode::NOT_FOUND, "404 page not found").into_response();
            }
            Referrers::Unauthorized => return unauthorized(None),
            Referrers::PageOf(host) => {
                let path = scope.request.uri.path().trim_start_matches("/v2");
                let page = scope.address.page_url(host, path);
                return no_body(StatusCode::SEE_OTHER, [("location", page)]);
            }
        }
        let (host, name) = scope.owned();
        let subject = subject.clone();
        let content = &self.content;
        let found = content.run_blocking(move |all| all.referrers(&host, &name, &subject)).await;
        let artifact_type = query(&scope.request.uri, "artifactType");
        distribution::referrers(found.iter().map(referrer).collect(), artifact_type.as_deref())
    }
}

/// Answers `_catalog`: every repository that has listed tags.
pub(super) fn catalog(names: impl IntoIterator<Item = String>, request: &Parts) -> Response {
    match distribution::page(names, &request.uri) {
        Ok(page) => {
            let body = json!({ "repositories": page.names });
            distribution::json_page(&body, &page, &request.uri)
        }
        Err(refused) => refused.into_response(),
    }
}

fn referrer(manifest: &Manifest) -> Value {
    let content: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
    let artifact_type = match &content["artifactType"] {
        Value::Null => &content["config"]["mediaType"],
        own => own,
    };
    let mut referrer = json!({
        "mediaType": manifest.media_type, "digest": manifest.digest,
        "size": manifest.bytes.len(), "artifactType": artifact_type,
    });
    if content["annotations"].is_object() {
        referrer["annotations"] = content["annotations"].clone();
    }
    referrer
}

/// True if `Accept` includes the manifest's media type, or if there is no `Accept`.
fn accepts(request: &Parts, media_type: &str) -> bool {
    let mut accepted = request.headers.get_all(header::ACCEPT).iter().peekable();
    accepted.peek().is_none()
        || accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |range| {
                let range = range.split(';').next().unwrap_or_default().trim();
                range == "*/*" || range == media_type
            },
        )
}

/// Adds `n` to the URI if the registry pages by default, and limits it to the registry's page size.
fn with_page_size(uri: &Uri, page: Option<usize>) -> Uri {
    let Some(most) = page else { return uri.clone() };
    let requested = query(uri, "n").unwrap_or_else(|| most.to_string());
    // an invalid number is refused later
    let n = requested.parse::<usize>().map_or(requested, |n| n.min(most).to_string());
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    pairs.append_pair("n", &n);
    if let Some(last) = query(uri, "last") {
        pairs.append_pair("last", &last);
    }
    let paged = format!("{}?{}", uri.path(), pairs.finish());
    paged.parse().unwrap_or_else(|_| uri.clone())
}

/// The digests of the platforms of the tags, in the order of a tag list.
fn digest_names(content: &Content, host: &str, name: &str) -> BTreeSet<String> {
    let mut roots = HashMap::new();
    for tagged in content.tags(host, name) {
        roots.insert(tagged.manifest.digest, tagged.manifest.bytes);
    }
    let links = roots.values().filter_map(|bytes| Links::read(bytes).ok());
    links.flat_map(|links| links.children).map(|digest| digest.to_string()).collect()
}

/// Replaces an opaque `next_page` by `last`, and drops the client's `last`.
fn with_last(uri: &Uri) -> Uri {
    let last = query(uri, "next_page").and_then(|page| STANDARD.decode(page).ok());
    let last = last.and_then(|last| String::from_utf8(last).ok());
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in [("n", query(uri, "n")), ("last", last)] {
        if let Some(value) = value {
            pairs.append_pair(name, &value);
        }
    }
    let paged = format!("{}?{}", uri.path(), pairs.finish());
    paged.parse().unwrap_or_else(|_| uri.clone())
}

/// The `Link` as a registry with this paging writes it; `None` if it omits it.
fn relinked(paging: Paging, link: &HeaderValue, page: &Page) -> Option<HeaderValue> {
    let text = link.to_str().ok()?;
    let text = match paging {
        Paging::Last => return Some(link.clone()),
        Paging::Unlinked => return None,
        Paging::NextPage => {
            let (path, _) = text.split_once('?')?;
            let cursor = STANDARD.encode(page.names.last()?);
            let query = url::form_urlencoded::Serializer::new(String::new())
                .append_pair("next_page", &cursor)
                .append_pair("n", &page.names.len().to_string())
                .finish();
            format!("{path}?{query}>; rel=\"next\"")
        }
        Paging::FirstComponentMissing => {
            let (_, rest) = text.strip_prefix("</v2/")?.split_once('/')?;
            format!("</v2/{rest}")
        }
    };
    HeaderValue::try_from(text).ok()
}

/// The digest that a tag like `sha256-` and 64 digits names.
fn as_digest(at: &TagOrDigest) -> Option<TagOrDigest> {
    let TagOrDigest::Tag(tag) = at else { return None };
    let digest = tag.as_str().replacen('-', ":", 1).parse().ok()?;
    Some(TagOrDigest::Digest(digest))
}

fn redirect(to: String) -> Response {
    no_body(StatusCode::TEMPORARY_REDIRECT, [("location", to)])
}

fn manifest_unknown(at: &TagOrDigest) -> Response {
    Refusal::unknown("MANIFEST_UNKNOWN", format!("manifest unknown: {}", at.as_str()))
        .into_response()
}

fn denied() -> Response {
    let message = "requested access to the resource is denied";
    Refusal::new(StatusCode::FORBIDDEN, "DENIED", message).into_response()
}

fn unauthorized(challenge: Option<String>) -> Response {
    let message = "authentication required";
    let mut response =
        Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message).into_response();
    if let Some(Ok(challenge)) = challenge.map(HeaderValue::try_from) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}
