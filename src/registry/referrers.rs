//! Referrers: what says something about a manifest, such as signatures and SBOMs.
//!
//! A registry that has the API answers by itself; where there is none, the tag
//! `sha256-<hex>` holds an index of them, which whoever pushes one has to keep.
//!
//! Source: distribution specification 1.1, "Listing Referrers", "Pushing Manifests with Subject".

use bytes::Bytes;
use serde_json::{Value, json};
use url::Url;

use super::{
    Source,
    access::{Access, Rights},
    client::Registry,
};
use crate::model::{
    Descriptor, Digest, Error, Kind, Manifest, MediaType, Pointer, RawManifest, Repository, Result,
    Tag, content::Index,
};

/// How many pages of referrers are read; more is a loop.
const PAGES: usize = 50;

/// How many referrers of one manifest are read: real ones have a handful.
const REFERRERS: usize = 4_096;

impl Registry {
    pub(super) async fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let first = self.url(&format!("{repository}/referrers/{subject}"));
        match self.referrers_by_api(repository, first).await {
            // registries without the API say so in many ways
            Err(error) if has_no_api(&error) => self.referrers_by_tag(repository, subject).await,
            answer => answer,
        }
    }

    async fn referrers_by_api(
        &self,
        repository: &Repository,
        first: Url,
    ) -> Result<Vec<Descriptor>> {
        let (mut found, mut next) = (Vec::new(), Some(first));
        for _ in 0..PAGES {
            let Some(url) = next else { return Ok(found) };
            let (page, link) = self.page::<Index>(repository, url).await?;
            found.extend(page.manifests);
            if found.len() > REFERRERS {
                return Err(self.too_many(repository, REFERRERS, "referrers"));
            }
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
            Ok(digest) => self.manifest(repository, &Pointer::Digest(digest)).await?,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        match index.read()? {
            Manifest::Index(index) => Ok(index.manifests),
            Manifest::Image(_) => Ok(Vec::new()),
        }
    }

    /// Adds a referrer that was put here to its subject's fallback tag.
    pub(super) async fn keep_fallback(
        &self,
        repository: &Repository,
        referrer: &RawManifest,
    ) -> Result<()> {
        let Some((subject, entry)) = describe(referrer) else { return Ok(()) };
        // one at a time: reading, adding and writing belong together
        let _turn = self.fallbacks.lock().await;
        let tag = fallback_tag(&subject);
        let access = Access::new(repository, Rights::PullPush);
        let known = match self.manifest_for(&access, &Pointer::Tag(tag.clone())).await {
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
    is_absent(error) || matches!(error.kind(), Kind::Unsupported | Kind::Protocol)
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
