//! Lists the referrers of a manifest, such as signatures and SBOMs.
//!
//! A registry with the referrers API answers by itself. Without the API, the tag `sha256-<hex>`
//! points to an index of them, which the client that pushes a referrer must update. Only the first
//! response can mean that the API is missing. A later failure is an error, because an incomplete
//! list would lose signatures silently.
//!
//! Source: distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject".

use http::Method;
use serde::{Deserialize, de::IgnoredAny};

use super::{
    content::{RepositoryClient, is_absent, present},
    errors::Operation,
    http::ApiRequest,
    paging::linked_page,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, RawManifest, Result, TagOrDigest,
        content::Index, fallback_tag,
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
            // registries without the API say so in many ways: Harbor before 2.8 with 403, though
            // the account may pull (goharbor/harbor#18305)
            Err(error) if !is_absent(&error) && !is_refusal(&error) => return Err(error),
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
        let tagged = present(registry.resolve(repository, &fallback_tag::of(subject)).await)?;
        let Some(digest) = tagged else { return Ok(Vec::new()) };
        match registry.manifest(repository, &TagOrDigest::Digest(digest)).await?.read()? {
            Manifest::Index(index) => Ok(index.manifests),
            Manifest::Image(_) => Ok(Vec::new()),
        }
    }

    /// Adds a pushed referrer to its subject's fallback tag. Does nothing without a subject.
    pub(crate) async fn add_to_fallback_tag(&self, referrer: &RawManifest) -> Result<()> {
        let Some((subject, _)) = referrer.reference() else { return Ok(()) };
        // read, add and write exclude each other
        let _guard = self.registry.fallback_tags.lock().await;
        let tag = fallback_tag::of(&subject);
        let index = present(self.manifest(&TagOrDigest::Tag(tag.clone())).await)?;
        match fallback_tag::with_referrer(index.as_ref(), referrer)? {
            Some(index) => self.put_manifest(&index, Some(&tag)).await.map(drop),
            None => Ok(()),
        }
    }
}

/// Returns `true` if the registry does not offer the request, or refuses it to this account.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unsupported | Kind::Unauthorized | Kind::Denied)
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
