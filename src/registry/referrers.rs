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

use super::{
    content::{RepositoryClient, is_absent, present},
    errors::Operation,
    http::ApiRequest,
    paging::linked_page,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Result, Tag,
        TagOrDigest, content::Index,
    },
    remote::Source,
};

/// The largest number of pages that is read; more are a loop.
const PAGES: usize = 50;

/// The largest number of referrers of one manifest that is read; real ones have a handful.
const REFERRERS: usize = 4_096;

impl RepositoryClient<'_> {
    /// Lists the manifest's referrers with the API, or from the fallback tag without it.
    pub(crate) async fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let (registry, repository) = (self.registry, &self.scope.repository);
        let first = self.request(Method::GET, &format!("referrers/{subject}"), Operation::Refer);
        let (mut referrers, mut next) = match linked_page(registry, &first, parse_page).await {
            Ok((Some(referrers), next)) => (referrers, next),
            // registries without the API say so in many ways
            Err(error) if !is_absent(&error) && error.kind() != Kind::Unsupported => {
                return Err(error);
            }
            _ => return self.referrers_by_tag(subject).await,
        };
        let breaks_off = |error: Error| {
            let host = &registry.host;
            error.context(format!("{host}/{repository}: the list of referrers breaks off"))
        };
        for _ in 1..PAGES {
            if referrers.len() > REFERRERS {
                return Err(self.too_many(REFERRERS, "referrers"));
            }
            let Some(url) = next else { return Ok(referrers) };
            let request = ApiRequest::new(Method::GET, url, &self.scope, Operation::Read);
            let page = linked_page(registry, &request, parse_page).await.map_err(breaks_off)?;
            let no_index = || breaks_off(Error::new(Kind::Protocol, "a page is not an index"));
            referrers.extend(page.0.ok_or_else(no_index)?);
            next = page.1;
        }
        Err(self.too_many(PAGES, "pages of referrers"))
    }

    async fn referrers_by_tag(&self, subject: &Digest) -> Result<Vec<Descriptor>> {
        let (registry, repository) = (self.registry, &self.scope.repository);
        // the tag is missing most of the time, and a HEAD spends no pull
        let tagged = present(registry.resolve(repository, &fallback_tag(subject)).await)?;
        let Some(digest) = tagged else { return Ok(Vec::new()) };
        match registry.manifest(repository, &TagOrDigest::Digest(digest)).await?.read()? {
            Manifest::Index(index) => Ok(index.manifests),
            Manifest::Image(_) => Ok(Vec::new()),
        }
    }

    /// Adds a pushed referrer to its subject's fallback tag. Does nothing without a subject.
    pub(crate) async fn add_to_fallback_tag(&self, referrer: &RawManifest) -> Result<()> {
        let Some((subject, entry)) = subject_and_entry(referrer) else { return Ok(()) };
        // read, add and write exclude each other
        let _guard = self.registry.fallback_tags.lock().await;
        let tag = fallback_tag(&subject);
        let index = present(self.manifest(&TagOrDigest::Tag(tag.clone())).await)?;
        let mut manifests = index.as_ref().map(entries_of).unwrap_or_default();
        if manifests.iter().any(|known| known["digest"] == entry["digest"]) {
            return Ok(());
        }
        manifests.push(entry);
        let media_type = MediaType::OciIndex.as_str();
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let index = RawManifest::new(Bytes::from(index.to_string()), Some(media_type))?;
        self.put_manifest(&index, Some(&tag)).await.map(drop)
    }
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
