//! Writing to a layout: content whole or not at all, then its name in the index.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, absolute},
    sync::Arc,
};

use futures::StreamExt;
use tokio::{
    fs::File,
    io::{self, AsyncWriteExt},
};
use url::Url;

use super::{
    Layout,
    failure::{FileOperation, failed},
    index::{LayoutIndex, LayoutState, standing},
    on_disk,
    staging::StagingArea,
    store::BlobStore,
};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, Repository, Result, Tag},
    remote::{Body, Destination, HostContext, Mount, Provision, UploadSession},
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
            if standing(store.directory())? == LayoutState::Vacant {
                return Ok(None);
            }
            let index = LayoutIndex::read(store.directory())?;
            let mut found = HashMap::new();
            for tag in tags {
                let Some(image) = index.named(&naming.name(&repository, &tag))? else { continue };
                // what is damaged is not there: copying it again mends it
                if store.is_whole(&image.digest, Some(&image.media_type)) {
                    found.insert(tag, image.digest);
                }
            }
            Ok(Some(found))
        })
        .await
    }

    async fn manifests(
        &self,
        _repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        let store = Arc::clone(&self.store);
        // they are asked for as an index lists them, and it may list one many times
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
        self.without(digests, |store, digest| store.is_whole(digest, None)).await
    }

    async fn missing_referrers(
        &self,
        _repository: &Repository,
        referrers: &HashMap<Digest, Vec<Digest>>,
    ) -> Result<HashSet<Digest>> {
        let store = Arc::clone(&self.store);
        let referrers: Vec<Digest> = referrers.values().flatten().cloned().collect();
        on_disk(move || {
            let index = LayoutIndex::read(store.directory())?;
            let is_there = |digest: &Digest| {
                index.media_type(digest).is_some_and(|it| store.is_whole(digest, Some(it)))
            };
            Ok(referrers.into_iter().filter(|digest| !is_there(digest)).collect())
        })
        .await
    }

    async fn missing_blobs(
        &self,
        _repository: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        self.without(digests, BlobStore::may_have).await
    }

    async fn mount(
        &self,
        repository: &Repository,
        blob: &Descriptor,
        _from: &Repository,
    ) -> Result<Mount> {
        match self.store.has(blob) {
            true => Ok(Mount::Mounted),
            false => self.open_upload(repository, blob).await.map(Mount::Session),
        }
    }

    async fn open_upload(
        &self,
        _repository: &Repository,
        blob: &Descriptor,
    ) -> Result<UploadSession> {
        let place = self.store.place(&blob.digest);
        let place =
            absolute(&place).map_err(|error| failed(FileOperation::Write, &place, error))?;
        let location = Url::from_file_path(place).expect("the path is absolute");
        Ok(UploadSession { location })
    }

    /// The session says no more than the digest does.
    async fn push_blob(
        &self,
        _repository: &Repository,
        blob: &Descriptor,
        _session: UploadSession,
        body: Body,
    ) -> Result<()> {
        let workshop = self.workshop().await?;
        let unfinished = workshop.unfinished();
        let place = self.store.place(&blob.digest);
        let length = fill(&unfinished.path, &place, body, &self.meter).await?;
        if length != blob.size {
            let problem = format!("{length} B came of blob {} ({} B)", blob.digest, blob.size);
            return Err(Error::new(Kind::Unavailable, problem));
        }
        let (store, digest) = (Arc::clone(&self.store), blob.digest.clone());
        on_disk(move || {
            unfinished.persist(&place)?;
            store.mended(&digest);
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
        let workshop = self.workshop().await?;
        self.put(&workshop, manifest.clone()).await?;
        if tag.is_none() && manifest.reference().is_none() {
            return Ok(());
        }
        let name = tag.map(|tag| self.naming.name(repository, tag));
        let manifest = manifest.clone();
        let _turn = self.turn.lock().await;
        let list = move |index: &mut LayoutIndex| match name {
            Some(name) => index.point(&name, &manifest),
            None => index.add_manifest(&manifest),
        };
        workshop.edit(list).await
    }
}

impl Provision for Layout {
    async fn ensure(&self, _repository: &Repository) -> Result<()> {
        self.workshop().await.map(drop)
    }
}

impl Layout {
    async fn workshop(&self) -> Result<Arc<StagingArea>> {
        let open = || async { StagingArea::open(self.store.directory()).await.map(Arc::new) };
        self.workshop.get_or_try_init(open).await.cloned()
    }

    /// Those of the digests that `has` does not find.
    async fn without(
        &self,
        digests: &[Digest],
        has: impl Fn(&BlobStore, &Digest) -> bool + Send + 'static,
    ) -> Result<HashSet<Digest>> {
        let (store, digests) = (Arc::clone(&self.store), digests.to_vec());
        on_disk(move || Ok(digests.into_iter().filter(|digest| !has(&store, digest)).collect()))
            .await
    }

    /// Writes the manifest itself, once everything below it is there.
    async fn put(&self, workshop: &Arc<StagingArea>, manifest: RawManifest) -> Result<()> {
        let (store, workshop) = (Arc::clone(&self.store), Arc::clone(workshop));
        on_disk(move || {
            if let Some(lacking) = store.lack(&manifest)? {
                let problem = format!("manifest {} names {lacking}", manifest.digest());
                return Err(Error::new(
                    Kind::ContentMissing,
                    format!("{problem}, which is not in the layout"),
                ));
            }
            if store.manifest(manifest.digest(), None).is_err() {
                workshop.replace(&store.place(manifest.digest()), manifest.bytes())?;
                store.mended(manifest.digest());
            }
            Ok(())
        })
        .await
    }
}

/// Writes the body to a new file, and its length.
///
/// # Errors
/// The source's own when the body broke, else those of writing, as `place`'s.
async fn fill(path: &Path, place: &Path, body: Body, meter: &HostContext) -> Result<u64> {
    let failed = |error: io::Error| failed(FileOperation::Write, place, error);
    let mut file = File::create_new(path).await.map_err(failed)?;
    let mut stream = body.into_stream();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk?;
        file.write_all(&chunk).await.map_err(failed)?;
        length += chunk.len() as u64;
        meter.stats.bytes.add(chunk.len() as u64);
    }
    file.flush().await.map_err(failed)?;
    // what has a name has its content, even after a power cut
    file.sync_data().await.map_err(failed)?;
    Ok(length)
}
