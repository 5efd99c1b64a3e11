//! The images of a configuration, and those of them that `--only` names.

use globset::GlobBuilder;

use super::{
    Config, Entry, Tags,
    document::{in_backticks, nearest},
};
use crate::model::{Error, Image, Kind, Origin, Pointer, Result, Tag, Target};

impl Config {
    /// Every image, in the order of the file.
    pub fn images(&self) -> Vec<Image> {
        self.entries.iter().flat_map(Entry::images).collect()
    }

    /// Those images whose name is one of these, or matches one as a glob (`*` matches `/` too).
    ///
    /// All images where there are no patterns; their order stays.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a pattern that is none, or that matches no image.
    pub fn only(&self, images: Vec<Image>, patterns: &[String]) -> Result<Vec<Image>> {
        if patterns.is_empty() {
            return Ok(images);
        }
        let mut chosen = vec![false; images.len()];
        for pattern in patterns {
            let glob = GlobBuilder::new(pattern).build().map_err(|error| {
                Error::new(Kind::Configuration, format!("`{pattern}` is not a pattern"))
                    .because(error)
            })?;
            let glob = glob.compile_matcher();
            let mut found = false;
            for (image, chosen) in images.iter().zip(&mut chosen) {
                if image.name == *pattern || glob.is_match(&image.name) {
                    (found, *chosen) = (true, true);
                }
            }
            if !found {
                return Err(self.no_image(pattern));
            }
        }
        let kept = images.into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
        Ok(kept.map(|(image, _)| image).collect())
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
    /// The entry's images, one for each tag, in the order of the tags.
    pub fn images(&self) -> Vec<Image> {
        match &self.tags {
            Tags::Exact(tags) => {
                tags.iter().map(|tag| self.image(Pointer::Tag(tag.clone()), tag)).collect()
            }
            Tags::Pinned { digest, tag } => {
                vec![self.image(Pointer::Digest(digest.clone()), tag)]
            }
        }
    }

    fn image(&self, at: Pointer, tag: &Tag) -> Image {
        let digest = match &at {
            Pointer::Digest(digest) => Some(digest),
            Pointer::Tag(_) => None,
        };
        let tag = self.retag.apply(tag, digest).expect("each tag was tried when it was read");
        let target = |place: &super::Place| Target {
            destination: place.destination,
            repository: place.repository.clone(),
            tag: tag.clone(),
        };
        let targets = self.places.iter().map(target).collect();
        Image {
            name: self.name.clone(),
            origin: Origin {
                site: self.host.clone().into(),
                repository: self.repository.clone(),
                at,
            },
            targets,
            want: self.want.clone(),
        }
    }
}
