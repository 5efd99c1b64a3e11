//! The images of a configuration, and the entries of it that `--only` names.

use globset::GlobBuilder;

use super::{
    Config, Entry, Tags,
    document::{in_backticks, nearest},
};
use crate::model::{
    Digest, Error, Image, Kind, NameError, Origin, Result, Tag, TagOrDigest, Target,
};

impl Config {
    /// Those entries whose name is one of these, or matches one as a glob (`*` matches `/` too).
    ///
    /// All entries where there are no patterns; their order stays.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a pattern that is none, or that matches no entry.
    pub fn only(&self, patterns: &[String]) -> Result<Vec<&Entry>> {
        if patterns.is_empty() {
            return Ok(self.entries.iter().collect());
        }
        let mut chosen = vec![false; self.entries.len()];
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).build().map_err(|error| {
                Error::new(Kind::Configuration, format!("`{pattern}` is not a pattern"))
                    .because(error)
            })?;
            let glob = glob.compile_matcher();
            let mut found = false;
            for (entry, chosen) in self.entries.iter().zip(&mut chosen) {
                if entry.name == *pattern || glob.is_match(&entry.name) {
                    (found, *chosen) = (true, true);
                }
            }
            if !found {
                return Err(self.no_image(pattern));
            }
        }
        let kept = self.entries.iter().zip(chosen).filter(|(_, chosen)| *chosen);
        Ok(kept.map(|(entry, _)| entry).collect())
    }

    fn no_image(&self, pattern: &str) -> Error {
        let mut names: Vec<&str> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let error = Error::new(Kind::Configuration, format!("no image is called `{pattern}`"));
        let all = format!("there is {}", in_backticks(&names));
        match nearest(pattern, &names) {
            _ if names.is_empty() => error.hint("the configuration has no `[[image]]`"),
            Some(near) => error.hint(format!("did you mean `{near}`? {all}")),
            None => error.hint(all),
        }
    }
}

impl Entry {
    /// The entry's images, one for each tag, in the order of the tags; `None` where the source
    /// has to be asked first: for its tags, or for the digests that make the tags here.
    ///
    /// They go to where the entry is mirrored; where it is only cached there are none.
    pub fn images(&self) -> Option<Vec<Image>> {
        let known = "each tag was tried when it was read";
        match &self.tags {
            Tags::Exact(_) | Tags::Pinned { .. } if self.mirrored.is_empty() => Some(Vec::new()),
            Tags::Exact(_) if self.retag.needs_digest() => None,
            Tags::Exact(tags) => {
                let image = |tag| self.image(tag, None).expect(known);
                Some(tags.iter().map(image).collect())
            }
            Tags::Pinned { digest, tag } => Some(vec![self.image(tag, Some(digest)).expect(known)]),
            Tags::Selected(_) => None,
        }
    }

    /// What is pulled of it through a cache, in the order of the tags; `None` where the source has
    /// to be asked first for its tags.
    pub fn pulls(&self) -> Option<Vec<TagOrDigest>> {
        match &self.tags {
            Tags::Exact(tags) => Some(tags.iter().cloned().map(TagOrDigest::Tag).collect()),
            Tags::Pinned { digest, .. } => Some(vec![TagOrDigest::Digest(digest.clone())]),
            Tags::Selected(_) => None,
        }
    }

    /// The image of this tag; of this content, whatever the tag points to, where a digest is given.
    ///
    /// It goes to where the entry is mirrored: nowhere, where it is only cached.
    ///
    /// # Errors
    /// When `retag` makes no tag of it, or needs the digest.
    pub fn image(&self, tag: &Tag, digest: Option<&Digest>) -> Result<Image, NameError> {
        let at = match digest {
            Some(digest) => TagOrDigest::Digest(digest.clone()),
            None => TagOrDigest::Tag(tag.clone()),
        };
        let tag = self.retag.apply(tag, digest)?;
        let target = |place: &super::MirrorTarget| Target {
            destination: place.destination,
            repository: place.repository.clone(),
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
            filter: self.filter.clone(),
        })
    }
}
