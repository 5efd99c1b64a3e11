//! Writes to an ordinary registry.

use std::collections::{HashMap, HashSet};

use futures::{FutureExt, future::try_join_all};
use http::Method;

use super::{
    client::Registry,
    content::{self, FallbackTag, is_absent},
    errors::Operation,
    http::ApiRequest,
    paging::tags_url,
    referrers,
    scope::{Permission, Scope},
    upload,
};
use crate::{
    model::{Descriptor, Digest, Kind, RawManifest, Repository, Result, Tag, TagOrDigest},
    remote::{Body, Destination, Mount, Provision, UploadSession},
};

impl Destination for Registry {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let scope = &Scope::new(repository, Permission::PullPush);
        let resolve = |tag| async move { content::resolve(self, scope, &tag).await };
        let found = find_each(tags, resolve).await?;
        if found.is_empty() && !exists(self, repository, scope).await? {
            return Ok(None);
        }
        Ok(Some(found.into_iter().collect()))
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let scope = &Scope::new(repository, Permission::PullPush);
        let get = |digest| async move {
            content::manifest(self, scope, &TagOrDigest::Digest(digest)).await
        };
        Ok(find_each(digests, get).await?.into_iter().collect())
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let scope = &Scope::new(repository, Permission::PullPush);
        let head = |digest| async move { content::head_manifest(self, scope, &digest).await };
        Ok(without(digests, find_each(digests, head).await?))
    }

    async fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        let (mut listed, mut missing) = (Vec::new(), HashSet::new());
        for (subject, digests) in referrers {
            let current = referrers::list(self, repository, subject).await?;
            let current: HashSet<Digest> = current.into_iter().map(|it| it.digest).collect();
            for digest in digests {
                match current.contains(digest) {
                    true => listed.push(digest.clone()),
                    false => drop(missing.insert(digest.clone())),
                }
            }
        }
        // a registry can list a referrer that was deleted since
        missing.extend(self.missing_manifests(repository, &listed).await?);
        Ok(missing)
    }

    async fn missing_blobs(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let scope = &Scope::new(repository, Permission::PullPush);
        let head = |digest| async move { content::head_blob(self, scope, &digest).await };
        Ok(without(digests, find_each(digests, head).await?))
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        upload::mount(self, repository, &blob.digest, from).await
    }

    async fn open_upload(
        &self,
        repository: &Repository,
        _blob: &Descriptor,
    ) -> Result<UploadSession> {
        upload::open(self, repository).await
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        upload::send(self, repository, blob, session, body).await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        match content::put_manifest(self, repository, manifest, tag).await? {
            FallbackTag::NotNeeded => Ok(()),
            FallbackTag::Needed => referrers::add_to_fallback_tag(self, repository, manifest).await,
        }
    }
}

impl Provision for Registry {}

/// Returns `true` if the repository exists. Needed only if none of its tags was found.
async fn exists(registry: &Registry, repository: &Repository, scope: &Scope) -> Result<bool> {
    let url = tags_url(registry, repository, 1);
    let request = ApiRequest::new(Method::GET, url, scope, Operation::Read);
    match registry.send_with_retry(&request).await {
        Ok(_) => Ok(true),
        Err(error) if is_absent(&error) => Ok(false),
        // the registry has no listing, or hides it from this account
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::Denied | Kind::Protocol) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Looks all keys up at once, within `max_connections`; omits absent ones.
async fn find_each<K, T, F>(keys: &[K], find: impl Fn(K) -> F) -> Result<Vec<(K, T)>>
where
    K: Clone,
    F: Future<Output = Result<T>>,
{
    let present = |found: Result<T>| match found {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    };
    let lookups = keys.iter().map(|key| find(key.clone()).map(present));
    let found = try_join_all(lookups.collect::<Vec<_>>()).await?;
    let found = keys.iter().cloned().zip(found);
    Ok(found.filter_map(|(key, value)| Some((key, value?))).collect())
}

fn without(digests: &[Digest], found: Vec<(Digest, ())>) -> HashSet<Digest> {
    let found: HashSet<Digest> = found.into_iter().map(|(digest, ())| digest).collect();
    digests.iter().filter(|digest| !found.contains(*digest)).cloned().collect()
}
