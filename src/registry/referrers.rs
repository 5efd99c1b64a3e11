//! Referrers: what says something about a manifest, such as signatures and SBOMs.
//!
//! A registry that has the API answers by itself; where there is none, the tag
//! `sha256-<hex>` holds an index of them, which whoever pushes one has to keep.
//! Only the first answer can tell that there is none: what goes wrong in a list that
//! has begun is an error, because without the rest signatures would be missing unnoticed.
//!
//! Source: distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject".

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, json};
use url::Url;

use super::{
    client::Registry,
    errors::Operation,
    http::ApiRequest,
    scope::{Permission, Scope},
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Repository, Result, Tag,
        TagOrDigest, content::Index,
    },
    remote::Source,
};

/// How many pages of referrers are read; more is a loop.
const PAGES: usize = 50;

/// How many referrers of one manifest are read: real ones have a handful.
const REFERRERS: usize = 4_096;

/// Referrers, and where more are.
type ReferrersPage = (Vec<Descriptor>, Option<Url>);

impl Registry {
    pub(crate) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let first = self.url(&format!("{repository}/referrers/{subject}"));
        let begun = match self.referrers_page(repository, first, Operation::Refer).await {
            // registries without the API say so in many ways
            Err(error) if has_no_api(&error) => None,
            begun => begun?,
        };
        match begun {
            Some(page) => self.referrers_by_api(repository, page).await,
            None => self.referrers_by_tag(repository, subject).await,
        }
    }

    /// The referrers of a page and its link; `None` where what was served is no index.
    async fn referrers_page(
        &self,
        repository: &Repository,
        url: Url,
        doing: Operation,
    ) -> Result<Option<ReferrersPage>> {
        let access = Scope::new(repository, Permission::Pull);
        let call = ApiRequest::new(Method::GET, url, &access, doing);
        let (listed, next) = self.page_as(&call, read_page).await?;
        Ok(listed.map(|listed| (listed, next)))
    }

    /// The referrers of the first page and of all that follow.
    async fn referrers_by_api(
        &self,
        repository: &Repository,
        (mut found, mut next): ReferrersPage,
    ) -> Result<Vec<Descriptor>> {
        let breaks_off = |error: Error| {
            error.context(format!("{}/{repository}: the list of referrers breaks off", self.host))
        };
        for _ in 1..PAGES {
            if found.len() > REFERRERS {
                return Err(self.too_many(repository, REFERRERS, "referrers"));
            }
            let Some(url) = next else { return Ok(found) };
            let page = self.referrers_page(repository, url, Operation::Read).await;
            let (more, link) = page.map_err(breaks_off)?.ok_or_else(|| {
                breaks_off(Error::new(Kind::Protocol, "a page of it is no index"))
            })?;
            found.extend(more);
            next = link;
        }
        Err(self.too_many(repository, PAGES, "pages of referrers"))
    }

    async fn referrers_by_tag(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        // mostly there is none, and a HEAD is no pull
        let index = match self.resolve(repository, &fallback_tag(subject)).await {
            Ok(digest) => self.manifest(repository, &TagOrDigest::Digest(digest)).await?,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match index.read()? {
            Manifest::Index(index) => Ok(index.manifests),
            Manifest::Image(_) => Ok(Vec::new()),
        }
    }

    /// Adds a referrer that was put here to its subject's fallback tag.
    pub(crate) async fn keep_fallback(
        &self,
        repository: &Repository,
        referrer: &RawManifest,
    ) -> Result<()> {
        let Some((subject, entry)) = describe(referrer) else { return Ok(()) };
        // one at a time: reading, adding and writing belong together
        let _turn = self.fallbacks.lock().await;
        let tag = fallback_tag(&subject);
        let access = Scope::new(repository, Permission::PullPush);
        let known = match self.manifest_for(&access, &TagOrDigest::Tag(tag.clone())).await {
            Ok(index) => entries(&index),
            Err(error) if is_absent(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        if known.iter().any(|known| known["digest"] == entry["digest"]) {
            return Ok(());
        }
        let manifests: Vec<Value> = known.into_iter().chain([entry]).collect();
        let media_type = MediaType::OciIndex.as_str();
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let index = RawManifest::new(Bytes::from(index.to_string()), Some(media_type))?;
        self.put(repository, &index, Some(&tag)).await.map(drop)
    }
}

/// The tag that lists what refers to this digest where the registry cannot.
fn fallback_tag(subject: &Digest) -> Tag {
    format!("sha256-{}", subject.hex()).parse().expect("hexadecimal digits make a tag")
}

fn has_no_api(error: &Error) -> bool {
    is_absent(error) || error.kind() == Kind::Unsupported
}

/// The referrers that a page lists; `None` where it is no index, such as a page of HTML.
///
/// # Errors
/// [`Kind::Corrupt`] where it is one, and breaks off or lists what cannot be read.
fn read_page(page: &[u8]) -> Result<Option<Vec<Descriptor>>> {
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
        Error::new(Kind::Corrupt, "its list of referrers cannot be read").because(cause)
    })
}

fn is_absent(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::RepositoryMissing)
}

fn entries(index: &RawManifest) -> Vec<Value> {
    let document: Value = serde_json::from_slice(index.bytes()).unwrap_or_default();
    document["manifests"].as_array().cloned().unwrap_or_default()
}

/// The subject a manifest refers to, and how an index lists the manifest.
fn describe(manifest: &RawManifest) -> Option<(Digest, Value)> {
    let (subject, artifact_type) = manifest.reference()?;
    let said: Value = serde_json::from_slice(manifest.bytes()).ok()?;
    let mut entry = json!({
        "mediaType": manifest.media_type().as_str(),
        "digest": manifest.digest().as_str(),
        "size": manifest.bytes().len(),
    });
    if let Some(artifact_type) = artifact_type {
        entry["artifactType"] = artifact_type.into();
    }
    if said["annotations"].is_object() {
        entry["annotations"] = said["annotations"].clone();
    }
    Some((subject, entry))
}
