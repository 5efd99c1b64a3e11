//! Writes to an ordinary registry.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use futures::future::{try_join, try_join_all};
use tokio::sync::SetOnce;

use super::{
    client::{ManifestHead, Registry},
    content::{Absence, RepositoryClient, present},
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Platform, RawManifest, Repository, Result, Tag,
        TagOrDigest,
    },
    remote::{Body, Destination, FoundTag, Mount, Provision, UploadSession, body::stored_platform},
};

impl Destination for Registry {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        self.announce_current_tags(repository, tags, &|_| {}).await
    }

    /// Asks for as many tags as there are connections. If none of them exists, asks for the
    /// repository before the other tags: a missing one has none.
    async fn announce_current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
        announce: FoundTag<'_>,
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let client = &self.pull_push(repository);
        let repository_exists = &SetOnce::new();
        let resolve = |tag| async move {
            let digest = client.resolve(tag, Absence::Likely).await?;
            announce(tag);
            // the first one tells
            repository_exists.set(true).ok();
            Ok(digest)
        };
        let (first, rest) = tags.split_at(tags.len().min(self.max_connections));
        let first = async {
            let found = find_each(first, resolve).await?;
            if found.is_empty() {
                repository_exists.set(exists(client).await?).ok();
            }
            Ok(found)
        };
        let rest = async {
            match repository_exists.wait().await {
                true => find_each(rest, resolve).await,
                false => Ok(HashMap::new()),
            }
        };
        let (mut found, more) = try_join(first, rest).await?;
        found.extend(more);
        if !found.is_empty() {
            return Ok(Some(found));
        }
        if repository_exists.get() == Some(&false) {
            return Ok(None);
        }
        // a registry that answers HEAD with 404 seems to have none of its tags
        if *self.manifest_head.lock() == ManifestHead::Unknown {
            return find_each(tags, |tag| client.resolve(tag, Absence::Unlikely)).await.map(Some);
        }
        Ok(Some(found))
    }

    async fn manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let client = &self.pull_push(repository);
        let get = |digest: &Digest| {
            let at = TagOrDigest::Digest(digest.clone());
            async move {
                // a damaged one counts as missing: then it is pushed again
                client.manifest(&at).await.map_err(|error| match error.kind() {
                    Kind::Corrupt => Error::new(Kind::NotFound, "damaged").because(error),
                    _ => error,
                })
            }
        };
        find_each(digests, get).await
    }

    async fn platform(
        &self,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<Option<Platform>> {
        stored_platform(self, repository, config).await
    }

    async fn missing_manifests(
        &self,
        repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let client = &self.pull_push(repository);
        let find = |digest: &Digest| {
            let at = TagOrDigest::Digest(digest.clone());
            async move { client.find_manifest(&at, Absence::Likely).await.map(drop) }
        };
        let found = find_each(digests, find).await?;
        Ok(without(digests, &found))
    }

    async fn missing_referrers(
        &self,
        repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        let (mut listed, mut missing) = (Vec::new(), HashSet::new());
        for (subject, digests) in referrers {
            let current = self.pull(repository).referrers(subject).await?;
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
        blobs: &[Descriptor],
    ) -> Result<HashSet<Digest>> {
        let client = &self.pull_push(repository);
        let found = try_join_all(blobs.iter().map(async |blob| {
            let found = present(client.find_blob(blob).await)?;
            Ok(found.is_none().then(|| blob.digest.clone()))
        }));
        Ok(found.await?.into_iter().flatten().collect())
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        from: &Repository,
    ) -> Result<Mount> {
        self.pull_push(repository).mount(&blob.digest, from).await
    }

    async fn open_upload(&self, repository: &Repository, _: &Descriptor) -> Result<UploadSession> {
        self.pull_push(repository).open_upload().await
    }

    /// A mount from the repository itself finds the blob there, or opens a session. A registry that
    /// mounts nothing opens one for an existing blob, too.
    async fn open_unless_stored(
        &self,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Mount> {
        let client = self.pull_push(repository);
        match client.mount_own(&blob.digest).await {
            // the answer does not name the size
            Ok(Mount::Mounted) if present(client.find_blob(blob).await)?.is_some() => {
                Ok(Mount::Mounted)
            }
            Ok(Mount::Session(session)) => Ok(Mount::Session(session)),
            Err(error) if error.kind().is_transient() => Err(error),
            _ => self.open_upload(repository, blob).await.map(Mount::Session),
        }
    }

    async fn push_blob(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        session: UploadSession,
        body: Body,
    ) -> Result<()> {
        self.pull_push(repository).upload(blob, session, body).await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let client = self.pull_push(repository);
        match client.put_manifest(manifest, tag).await? {
            true => client.add_to_fallback_tag(manifest).await,
            false => Ok(()),
        }
    }
}

impl Provision for Registry {
    fn asks_in_bulk(&self) -> bool {
        false
    }
}

/// Returns `true` if the repository exists. Needed only if none of its tags was found.
async fn exists(client: &RepositoryClient<'_>) -> Result<bool> {
    match present(client.registry.send_with_retry(&client.tags_request(1)).await) {
        // the registry has no listing, or hides it from this account
        Err(error) if matches!(error.kind(), Kind::Unsupported | Kind::Denied | Kind::Protocol) => {
            Ok(true)
        }
        found => Ok(found?.is_some()),
    }
}

/// Looks all keys up at once, within `max_connections`; omits absent ones.
async fn find_each<'a, K, T, F>(keys: &'a [K], find: impl Fn(&'a K) -> F) -> Result<HashMap<K, T>>
where
    K: Clone + Eq + Hash,
    F: Future<Output = Result<T>>,
{
    let found = try_join_all(keys.iter().map(async |key| present(find(key).await))).await?;
    Ok(keys.iter().zip(found).filter_map(|(key, value)| Some((key.clone(), value?))).collect())
}

fn without(digests: &[Digest], found: &HashMap<Digest, ()>) -> HashSet<Digest> {
    digests.iter().filter(|digest| !found.contains_key(*digest)).cloned().collect()
}
