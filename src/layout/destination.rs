//! A layout as a destination: writes content, then its name in the index.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, absolute},
    sync::Arc,
};

use futures::StreamExt;
use tokio::{fs::File, io::AsyncWriteExt};
use url::Url;

use super::{
    Layout,
    failure::cannot_write,
    index::{LayoutIndex, is_layout},
    on_disk,
    staging::StagingArea,
    store::BlobStore,
};
use crate::{
    model::{
        Descriptor, Digest, Error, Kind, Platform, RawManifest, Repository, Result, Tag,
        fallback_tag,
    },
    remote::{
        Body, Destination, HostContext, Mount, Provision, UploadSession, body::stored_platform,
    },
};

impl Destination for Layout {
    async fn current_tags(
        &self,
        repository: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let (store, naming) = (Arc::clone(&self.store), self.naming);
        let (repository, tags) = (repository.clone(), tags.to_vec());
        on_disk(move || {
            if !is_layout(store.directory())? {
                return Ok(None);
            }
            let index = LayoutIndex::read(store.directory())?;
            let mut found = HashMap::new();
            for tag in tags {
                let Some(image) = index.named(&naming.name(&repository, &tag))? else { continue };
                // a damaged image counts as missing, so that a copy repairs it
                if store.is_whole(&image.digest, Some(&image.media_type)) {
                    found.insert(tag, image.digest);
                }
            }
            Ok(Some(found))
        })
        .await
    }

    async fn platform(
        &self,
        repository: &Repository,
        config: &Descriptor,
    ) -> Result<Option<Platform>> {
        stored_platform(self, repository, config).await
    }

    async fn manifests(
        &self,
        _repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let store = Arc::clone(&self.store);
        // an index may list a digest many times
        let digests: HashSet<Digest> = digests.iter().cloned().collect();
        on_disk(move || {
            let index = LayoutIndex::read(store.directory())?;
            let read = digests.into_iter().filter_map(|digest| {
                let manifest = store.manifest(&digest, index.media_type(&digest)).ok()?;
                Some((digest, manifest))
            });
            Ok(read.collect())
        })
        .await
    }

    async fn missing_manifests(
        &self,
        _repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        let missing = self.missing(digests, |store, digest| store.is_whole(digest, None)).await?;
        Ok(missing.into_iter().collect())
    }

    async fn missing_referrers(
        &self,
        _repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        let (store, referrers) = (Arc::clone(&self.store), referrers.clone());
        on_disk(move || {
            let index = LayoutIndex::read(store.directory())?;
            let mut missing = HashSet::new();
            for (subject, digests) in referrers {
                let tagged = index.tagged_referrers(&store, &subject).unwrap_or_default();
                let tagged: HashSet<Digest> = tagged.into_iter().map(|it| it.digest).collect();
                // both schemes list it: other tools read only one of them
                let is_listed = |digest: &Digest| {
                    let entry = index.media_type(digest);
                    tagged.contains(digest)
                        && entry.is_some_and(|it| store.is_whole(digest, Some(it)))
                };
                missing.extend(digests.into_iter().filter(|digest| !is_listed(digest)));
            }
            Ok(missing)
        })
        .await
    }

    async fn missing_blobs(&self, _: &Repository, blobs: &[Descriptor]) -> Result<HashSet<Digest>> {
        let missing = self.missing(blobs, BlobStore::has).await?;
        Ok(missing.into_iter().map(|blob| blob.digest).collect())
    }

    async fn mount(&self, to: &Repository, blob: &Descriptor, _: &Repository) -> Result<Mount> {
        let (store, wanted) = (Arc::clone(&self.store), blob.clone());
        match on_disk(move || Ok(store.has(&wanted))).await? {
            true => Ok(Mount::Mounted),
            false => self.open_upload(to, blob).await.map(Mount::Session),
        }
    }

    async fn open_upload(&self, _: &Repository, blob: &Descriptor) -> Result<UploadSession> {
        let path = self.store.path(&blob.digest);
        let path = absolute(&path).map_err(cannot_write(&path))?;
        let location = Url::from_file_path(path).expect("the path is absolute");
        Ok(UploadSession { location, min_chunk: 0 })
    }

    /// Ignores the session, which names the digest only.
    async fn push_blob(
        &self,
        _repository: &Repository,
        blob: &Descriptor,
        _session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let partial = self.staging().await?.partial_file();
        let path = self.store.path(&blob.digest);
        let length = write_body(&partial.path, &path, body, &self.context).await?;
        if length != blob.size {
            let problem = format!("received {length} B of blob {} ({} B)", blob.digest, blob.size);
            return Err(Error::new(Kind::Unavailable, problem));
        }
        let (store, digest) = (Arc::clone(&self.store), blob.digest.clone());
        on_disk(move || {
            partial.persist(&path)?;
            store.mark_repaired(&digest);
            Ok(())
        })
        .await
    }

    async fn push_manifest(
        &self,
        repository: &Repository,
        manifest: &RawManifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let staging = self.staging().await?;
        self.write_manifest(&staging, manifest.clone()).await?;
        if tag.is_none() && manifest.reference().is_none() {
            return Ok(());
        }
        let name = tag.map(|tag| self.naming.name(repository, tag));
        let (naming, repository, manifest) = (self.naming, repository.clone(), manifest.clone());
        let store = Arc::clone(&self.store);
        let _lock = self.index_lock.lock().await;
        let edit = move |staging: &StagingArea, index: &mut LayoutIndex| {
            let is_changed = match name {
                Some(name) => index.set_name(&name, &manifest),
                None => index.add_manifest(&manifest),
            };
            let Some((subject, _)) = manifest.reference() else { return Ok(is_changed) };
            let tag = fallback_tag::of(&subject);
            let current = index.listings(&tag)?.into_iter().next();
            let current = current.and_then(|listing| store.listing(&listing).ok());
            let Some(listing) = fallback_tag::with_referrer(current.as_ref(), &manifest)? else {
                return Ok(is_changed);
            };
            staging.replace(&store.path(listing.digest()), listing.bytes())?;
            Ok(index.set_name(&naming.name(&repository, &tag), &listing) || is_changed)
        };
        staging.edit_index(edit).await
    }
}

impl Provision for Layout {
    async fn ensure(&self, _repository: &Repository) -> Result<()> {
        self.staging().await.map(drop)
    }
}

/// Writes the body to the new file `path` and returns its length. Errors name `target`.
///
/// # Errors
/// The source's error if the body broke, else the error of the write.
async fn write_body(path: &Path, target: &Path, body: Body, context: &HostContext) -> Result<u64> {
    let mut file = File::create_new(path).await.map_err(cannot_write(target))?;
    let mut stream = body.into_stream();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        file.write_all(&chunk).await.map_err(cannot_write(target))?;
        length += chunk.len() as u64;
        context.stats.bytes.add(chunk.len() as u64);
    }
    file.flush().await.map_err(cannot_write(target))?;
    // before the rename, so that a file has its content even after a power failure
    file.sync_data().await.map_err(cannot_write(target))?;
    Ok(length)
}
