//! Lists the referrers of a manifest, such as signatures and SBOMs.
//!
//! A registry with the referrers API answers by itself. Without the API, the tag `sha256-<hex>`
//! points to an index of them, which the client that pushes a referrer must update. Only the first
//! response can mean that the API is missing. A later failure is an error, because an incomplete
//! list would lose signatures silently.
//!
//! Source: distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject".

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use url::Url;

use super::{
    client::Registry,
    content::{is_absent, manifest, put_manifest},
    errors::Operation,
    http::ApiRequest,
    paging::{LinkedPage, linked_page, too_many},
    scope::{Permission, Scope},
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Repository, Result, Tag,
        TagOrDigest, content::Index,
    },
    remote::Source,
};

/// The largest number of pages that is read; more are a loop.
const PAGES: usize = 50;

/// The largest number of referrers of one manifest that is read; real ones have a handful.
const REFERRERS: usize = 4_096;

/// Lists the manifest's referrers with the API, or from the fallback tag without it.
pub(crate) async fn list(
    registry: &Registry,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Descriptor>> {
    let first = registry.url(&format!("{repository}/referrers/{subject}"));
    let page = match referrers_page(registry, repository, first, Operation::Refer).await {
        // registries without the API say so in many ways
        Err(error) if is_absent(&error) || error.kind() == Kind::Unsupported => None,
        page => page?,
    };
    match page {
        Some(page) => following_pages(registry, repository, page).await,
        None => list_by_tag(registry, repository, subject).await,
    }
}

/// One page of referrers; `None` if the response is no index.
async fn referrers_page(
    registry: &Registry,
    repository: &Repository,
    url: Url,
    operation: Operation,
) -> Result<Option<LinkedPage<Vec<Descriptor>>>> {
    let scope = Scope::new(repository, Permission::Pull);
    let request = ApiRequest::new(Method::GET, url, &scope, operation);
    let LinkedPage { content, next } = linked_page(registry, &request, parse_page).await?;
    Ok(content.map(|content| LinkedPage { content, next }))
}

/// The referrers of the first page and of all following ones.
async fn following_pages(
    registry: &Registry,
    repository: &Repository,
    first: LinkedPage<Vec<Descriptor>>,
) -> Result<Vec<Descriptor>> {
    let breaks_off = |error: Error| {
        error.context(format!("{}/{repository}: the list of referrers breaks off", registry.host))
    };
    let LinkedPage { content: mut referrers, mut next } = first;
    for _ in 1..PAGES {
        if referrers.len() > REFERRERS {
            return Err(too_many(registry, repository, REFERRERS, "referrers"));
        }
        let Some(url) = next else { return Ok(referrers) };
        let page = referrers_page(registry, repository, url, Operation::Read).await;
        let page = page
            .map_err(breaks_off)?
            .ok_or_else(|| breaks_off(Error::new(Kind::Protocol, "a page is not an index")))?;
        referrers.extend(page.content);
        next = page.next;
    }
    Err(too_many(registry, repository, PAGES, "pages of referrers"))
}

async fn list_by_tag(
    registry: &Registry,
    repository: &Repository,
    subject: &Digest,
) -> Result<Vec<Descriptor>> {
    // the tag is missing most of the time, and a HEAD spends no pull
    let index = match registry.resolve(repository, &fallback_tag(subject)).await {
        Ok(digest) => registry.manifest(repository, &TagOrDigest::Digest(digest)).await?,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    match index.read()? {
        Manifest::Index(index) => Ok(index.manifests),
        Manifest::Image(_) => Ok(Vec::new()),
    }
}

/// Adds a pushed referrer to its subject's fallback tag. Does nothing without a subject.
pub(crate) async fn add_to_fallback_tag(
    registry: &Registry,
    repository: &Repository,
    referrer: &RawManifest,
) -> Result<()> {
    let Some((subject, entry)) = subject_and_entry(referrer) else { return Ok(()) };
    // read, add and write exclude each other
    let _guard = registry.fallback_tags.lock().await;
    let tag = fallback_tag(&subject);
    let scope = Scope::new(repository, Permission::PullPush);
    let entries = match manifest(registry, &scope, &TagOrDigest::Tag(tag.clone())).await {
        Ok(index) => entries_of(&index),
        Err(error) if is_absent(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    if entries.iter().any(|known| known["digest"] == entry["digest"]) {
        return Ok(());
    }
    let manifests: Vec<Value> = entries.into_iter().chain([entry]).collect();
    let media_type = MediaType::OciIndex.as_str();
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let index = RawManifest::new(Bytes::from(index.to_string()), Some(media_type))?;
    put_manifest(registry, repository, &index, Some(&tag)).await.map(drop)
}

/// The tag of the index of referrers, for registries without the API.
fn fallback_tag(subject: &Digest) -> Tag {
    format!("sha256-{}", subject.hex()).parse().expect("hexadecimal digits make a tag")
}

/// The referrers of a page; `None` if it is no index, such as a page of HTML.
///
/// # Errors
/// [`Kind::Corrupt`] for an index that breaks off, or has an entry that cannot be read.
fn parse_page(page: &[u8]) -> Result<Option<Vec<Descriptor>>> {
    #[derive(Deserialize)]
    struct IndexOutline {
        manifests: Option<IgnoredAny>,
    }

    let listed = match serde_json::from_slice(page) {
        Ok(IndexOutline { manifests: Some(_) }) => serde_json::from_slice::<Index>(page),
        Err(error) if error.is_eof() && !page.trim_ascii().is_empty() => Err(error),
        _ => return Ok(None),
    };
    listed.map(|index| Some(index.manifests)).map_err(|cause| {
        Error::new(Kind::Corrupt, "cannot read the list of referrers").because(cause)
    })
}

fn entries_of(index: &RawManifest) -> Vec<Value> {
    let document: Value = serde_json::from_slice(index.bytes()).unwrap_or_default();
    document["manifests"].as_array().cloned().unwrap_or_default()
}

/// The manifest's subject, and the manifest's entry in an index.
fn subject_and_entry(manifest: &RawManifest) -> Option<(Digest, Value)> {
    let (subject, artifact_type) = manifest.reference()?;
    let document: Value = serde_json::from_slice(manifest.bytes()).ok()?;
    let mut entry = json!({
        "mediaType": manifest.media_type().as_str(),
        "digest": manifest.digest().as_str(),
        "size": manifest.bytes().len(),
    });
    if let Some(artifact_type) = artifact_type {
        entry["artifactType"] = artifact_type.into();
    }
    if document["annotations"].is_object() {
        entry["annotations"] = document["annotations"].clone();
    }
    Some((subject, entry))
}
