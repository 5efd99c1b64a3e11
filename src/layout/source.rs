//! A layout as a source: reads names from its index and content from its files.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, stream};
use tokio::{
    fs::File,
    io::{AsyncReadExt, Take},
};

use super::{Layout, failure::cannot_read, file, on_disk};
use crate::{
    model::{Descriptor, Digest, Error, Kind, RawManifest, Repository, Result, Tag, TagOrDigest},
    remote::{ByteStream, PullLimits, Source, body::corrupt},
};

/// Bytes per read.
const CHUNK: usize = 256 * 1024;

impl Source for Layout {
    async fn digests(&self, repository: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        let (naming, repository, tags) = (self.naming, repository.clone(), tags.to_vec());
        let found = self.read(move |_, index| {
            let found = tags.into_iter().filter_map(|tag| {
                let image = index.named(&naming.name(&repository, &tag)).ok()??;
                Some((tag, image.digest))
            });
            Ok(found.collect())
        });
        // `resolve` reports the error
        found.await.unwrap_or_default()
    }

    async fn resolve(&self, repository: &Repository, tag: &Tag) -> Result<Digest> {
        let (location, name) = (self.location(), self.naming.name(repository, tag));
        self.read(move |_, index| {
            let image = index.named(&name)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("no image is named `{name}` in `{location}`"))
                    .hint(index.list_names())
            })?;
            Ok(image.digest)
        })
        .await
    }

    async fn manifest(&self, repository: &Repository, at: &TagOrDigest) -> Result<RawManifest> {
        let digest = match at {
            TagOrDigest::Digest(digest) => digest.clone(),
            TagOrDigest::Tag(tag) => self.resolve(repository, tag).await?,
        };
        self.read(move |store, index| store.manifest(&digest, index.media_type(&digest))).await
    }

    async fn referrers(&self, _: &Repository, subject: &Digest) -> Result<Vec<Descriptor>> {
        let subject = subject.clone();
        self.read(move |store, index| {
            let mut found = index.tagged_referrers(store, &subject)?;
            let mut seen = HashSet::new();
            found.retain(|entry| seen.insert(entry.digest.clone()));
            for mut entry in index.descriptors()? {
                // an image with several names has several entries
                if !seen.insert(entry.digest.clone()) {
                    continue;
                }
                let manifest = store.manifest(&entry.digest, Some(&entry.media_type));
                // an unreadable manifest is no referrer here; copying it reports the error
                if let Some((referred, artifact_type)) = manifest.ok().and_then(|it| it.reference())
                    && referred == subject
                {
                    entry.artifact_type = artifact_type;
                    found.push(entry);
                }
            }
            Ok(found)
        })
        .await
    }

    async fn blob(&self, _: &Repository, blob: &Descriptor, from: u64) -> Result<ByteStream> {
        let path = self.store.path(&blob.digest);
        let at = path.clone();
        let opened = on_disk(move || open(&at, from).map_err(cannot_read(&at)));
        let (file, size) = opened.await?;
        if size != blob.size {
            let (shown, expected) = (path.display(), blob.size);
            let problem = format!("`{shown}` has {size} B, the manifest says {expected} B");
            return Err(corrupt(problem));
        }
        // the file may grow during the read
        let rest = file.take(size.saturating_sub(from));
        Ok(chunks(rest, path).boxed())
    }
}

impl PullLimits for Layout {}

/// Opens the file at this offset, and returns its whole length.
fn open(path: &Path, from: u64) -> io::Result<(File, u64)> {
    let (mut file, size) = file::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    Ok((File::from_std(file), size))
}

fn chunks(file: Take<File>, path: PathBuf) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    stream::try_unfold((file, path), |(mut file, path)| async move {
        let mut chunk = BytesMut::with_capacity(CHUNK);
        match file.read_buf(&mut chunk).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some((chunk.freeze(), (file, path)))),
            Err(error) => Err(cannot_read(&path)(error)),
        }
    })
}
