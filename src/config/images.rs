//! An entry of `[[image]]`, `[images]` or `[[list]]` after reading, and the images that it names without a request.

use std::sync::Arc;

use super::retag::Retag;
use crate::model::{
    DestinationId, Digest, Filter, Host, Image, NameError, Origin, Repository, Selection, Tag,
    TagOrDigest, Target,
};

/// A source repository, tags of it, and where they go.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name for `--only` and the report; not unique. `--only` also accepts the source.
    pub(crate) name: Arc<str>,
    pub(crate) host: Host,
    pub repository: Repository,
    pub(crate) tags: Tags,
    /// One target for each destination that the entry is mirrored to.
    pub mirrored: Vec<MirrorTarget>,
    /// One target for each destination that caches it. Not both lists are empty.
    pub cached: Vec<CacheTarget>,
    pub(crate) retag: Retag,
    pub(crate) filter: Arc<Filter>,
    pub(crate) on_conflict: OnConflict,
    pub(crate) written: WrittenAt,
}

/// The place of an entry in the files of the configuration. Lines count from 1.
#[derive(Debug, Clone, Default)]
pub(crate) struct WrittenAt {
    /// The index of the file in [`Config::file_names`](super::Config).
    pub(super) file: u32,
    pub(super) line: u32,
    /// The lines of the exact tags, in their order; empty if all are in the same one.
    pub(super) tags: Box<[u32]>,
}

/// The policy for two images that would write one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Both fail.
    #[default]
    Fail,
    /// The first one in the configuration is mirrored, with a warning.
    First,
}

#[derive(Debug, Clone)]
pub enum Tags {
    /// These tags: at least one, no duplicates.
    Exact(Vec<Tag>),
    /// One image by its digest.
    Pinned {
        digest: Digest,
        /// The tag at the destination, before [`Retag`].
        tag: Tag,
    },
    Selected(Selection),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorTarget {
    pub destination: DestinationId,
    /// With the destination's prefix.
    pub(crate) repository: Repository,
}

/// A repository of a destination that a cache fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    pub destination: DestinationId,
    /// The index of the cache in [`Config::caches`](super::Config).
    pub cache: usize,
    /// With the cache's prefix.
    pub repository: Repository,
}

impl Entry {
    /// The name and every usual spelling of the source, without a tag: `nginx`, `library/nginx`,
    /// `docker.io/nginx`, `docker.io/library/nginx`.
    pub(super) fn spellings(&self) -> Vec<String> {
        let (host, path) = (&self.host, self.repository.as_str());
        let mut all = vec![self.name.to_string(), format!("{host}/{path}")];
        if host.is_docker_hub() {
            let official = path.strip_prefix("library/");
            let short = official.map(|name| [name.to_owned(), format!("{host}/{name}")]);
            all.push(path.to_owned());
            all.extend(short.into_iter().flatten());
        }
        all
    }

    /// The destinations of the entry, and its repositories there.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (DestinationId, &Repository)> {
        let mirrored = self.mirrored.iter().map(|to| (to.destination, &to.repository));
        mirrored.chain(self.cached.iter().map(|to| (to.destination, &to.repository)))
    }

    /// The reference of this tag or digest at the source.
    pub(crate) fn reference(&self, at: &TagOrDigest) -> String {
        format!("{}/{}{at}", self.host, self.repository)
    }

    /// The tag or digest of a source with this repository; `None` for another repository.
    pub(super) fn after_repository<'s>(&self, source: &'s str) -> Option<&'s str> {
        let path = source.strip_prefix(self.host.as_str())?.strip_prefix('/')?;
        let at = path.strip_prefix(self.repository.as_str())?;
        (at.is_empty() || at.starts_with([':', '@'])).then_some(at)
    }

    /// The line that names an image of the entry, which a report names by its source; `None` for an image of
    /// another entry.
    pub(super) fn line_of(&self, source: &str) -> Option<u32> {
        let at = self.after_repository(source)?;
        let WrittenAt { line, tags: lines, .. } = &self.written;
        match (&self.tags, at.strip_prefix(':')) {
            (Tags::Exact(tags), Some(tag)) => {
                let index = tags.iter().position(|known| known.as_str() == tag)?;
                Some(*lines.get(index).unwrap_or(line))
            }
            (Tags::Pinned { digest, .. }, _) if !at.is_empty() => {
                at.ends_with(digest.as_str()).then_some(*line)
            }
            _ => Some(*line),
        }
    }

    /// The digest to which the source is pinned.
    pub(crate) fn pin(&self) -> Option<&Digest> {
        match &self.tags {
            Tags::Pinned { digest, .. } => Some(digest),
            Tags::Exact(_) | Tags::Selected(_) => None,
        }
    }

    /// The images to mirror, one for each tag, in the order of the tags. Empty if the entry is
    /// only cached.
    ///
    /// Returns `None` if the source must be queried first: for its tags, or for the digests that
    /// `retag` needs.
    pub(crate) fn images(&self) -> Option<Vec<Image>> {
        let valid = "`retag` was applied to each tag when the entry was read";
        match &self.tags {
            Tags::Exact(_) | Tags::Pinned { .. } if self.mirrored.is_empty() => Some(Vec::new()),
            Tags::Exact(_) if self.retag.needs_digest() => None,
            Tags::Exact(tags) => {
                let image = |tag| self.image(tag, None).expect(valid);
                Some(tags.iter().map(image).collect())
            }
            Tags::Pinned { digest, tag } => Some(vec![self.image(tag, Some(digest)).expect(valid)]),
            Tags::Selected(_) => None,
        }
    }

    /// The references to pull through a cache, in the order of the tags.
    ///
    /// Returns `None` if the source must be queried first for its tags.
    pub(crate) fn pulls(&self) -> Option<Vec<TagOrDigest>> {
        match &self.tags {
            Tags::Exact(tags) => Some(tags.iter().cloned().map(TagOrDigest::Tag).collect()),
            Tags::Pinned { digest, .. } => Some(vec![TagOrDigest::Digest(digest.clone())]),
            Tags::Selected(_) => None,
        }
    }

    /// The image of this tag. With a digest, the image is read by the digest.
    ///
    /// Its targets are those that the entry is mirrored to; none if it is only cached.
    ///
    /// # Errors
    /// If the result of `retag` is not a tag, or if it needs a digest and `digest` is `None`.
    pub(crate) fn image(&self, tag: &Tag, digest: Option<&Digest>) -> Result<Image, NameError> {
        let at = match digest {
            Some(digest) => TagOrDigest::Digest(digest.clone()),
            None => TagOrDigest::Tag(tag.clone()),
        };
        let tag = self.retag.apply(tag, digest)?;
        let target = |mirrored: &MirrorTarget| Target {
            destination: mirrored.destination,
            repository: mirrored.repository.clone(),
            tag: tag.clone(),
        };
        Ok(Image {
            name: self.name.clone(),
            origin: Origin {
                location: self.host.clone().into(),
                repository: self.repository.clone(),
                at,
            },
            targets: self.mirrored.iter().map(target).collect(),
            filter: Arc::clone(&self.filter),
        })
    }
}
