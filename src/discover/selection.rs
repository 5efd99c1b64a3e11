//! The images of the uses, as entries of a configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{Resolution, Use};
use crate::model::{Digest, Host, Platform, Platforms, Reference, Tag};

/// An image that is used, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedImage {
    /// With a tag or a digest.
    pub reference: Reference,
    /// The tag at the destination.
    pub tag: Tag,
    /// `None` for those of the configuration.
    pub platforms: Option<Platforms>,
}

/// The images of the uses, each once, in their order; without those of the hosts in `skipped`.
///
/// With `platforms`, an image has these, and those that its files set.
pub fn used_images(
    uses: &[Use],
    platforms: &[Platform],
    skipped: &BTreeSet<&Host>,
) -> Vec<UsedImage> {
    let mut images: Vec<(Reference, BTreeSet<Platform>)> = Vec::new();
    let mut indexes: BTreeMap<String, usize> = BTreeMap::new();
    for one in uses {
        let Resolution::Image(reference) = &one.image else { continue };
        if skipped.contains(&reference.host) {
            continue;
        }
        let index = *indexes.entry(reference.to_string()).or_insert_with(|| {
            images.push((reference.clone(), BTreeSet::new()));
            images.len() - 1
        });
        let own = one.platform.as_ref().filter(|_| !platforms.is_empty());
        match own {
            Some(own) => drop(images[index].1.insert(own.clone())),
            None => images[index].1.extend(platforms.iter().cloned()),
        }
    }
    let mut tags: BTreeMap<(String, Tag), Option<Digest>> = BTreeMap::new();
    let mut used = Vec::new();
    // an image without a pin has its tag first
    images.sort_by_key(|(reference, _)| reference.digest.is_some());
    for (reference, platforms) in images {
        let repository = format!("{}/{}", reference.host, reference.repository);
        let by_digest = reference.digest.as_ref().map(by_digest);
        let wanted = reference.tag.clone().filter(|tag| {
            let known = tags.get(&(repository.clone(), tag.clone()));
            known.is_none_or(|known| *known == reference.digest)
        });
        let Some(tag) = wanted.or(by_digest) else { continue };
        tags.insert((repository, tag.clone()), reference.digest.clone());
        used.push(UsedImage { reference, tag, platforms: Platforms::only(platforms) });
    }
    used
}

/// The tag at the destination of an image without another one.
pub fn by_digest(digest: &Digest) -> Tag {
    let tag = format!("sha256-{}", digest.short());
    tag.parse().expect("letters, `-` and digits are a tag")
}

impl UsedImage {
    /// The image as an `[[image]]`. Names and platforms need no escapes.
    pub fn toml(&self) -> String {
        let Reference { host, repository, digest, .. } = &self.reference;
        let mut text = match digest {
            Some(digest) => format!(
                "\n[[image]]\nsource = \"{host}/{repository}@{digest}\"\ntag = \"{}\"\n",
                self.tag
            ),
            None => format!(
                "\n[[image]]\nsource = \"{host}/{repository}\"\ntags = [\"{}\"]\n",
                self.tag
            ),
        };
        if let Some(platforms) = self.platforms_toml() {
            let _ = writeln!(text, "platforms = {platforms}");
        }
        text
    }

    /// The platforms as a list; `None` for those of the configuration.
    pub fn platforms_toml(&self) -> Option<String> {
        let Some(Platforms::Only(platforms)) = &self.platforms else { return None };
        let names: Vec<String> = platforms.iter().map(|one| format!("\"{one}\"")).collect();
        Some(format!("[{}]", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::discover::{DiscoverOptions, read};

    const PIN: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn images(dockerfile: &str, platforms: &[&str]) -> Vec<String> {
        let platforms: Vec<Platform> = platforms.iter().map(|name| name.parse().unwrap()).collect();
        let options = DiscoverOptions { platforms: platforms.clone(), ..Default::default() };
        let found = read(Path::new("Dockerfile"), dockerfile, &options).unwrap();
        let own: Host = "mirror.example".parse().unwrap();
        let used = used_images(&found.uses, &platforms, &BTreeSet::from([&own]));
        used.iter().map(|image| image.toml().trim().replace('\n', " ")).collect()
    }

    #[test]
    fn each_image_is_one_entry_with_the_tag_that_is_used() {
        let text = format!(
            "FROM alpine:3.20@{PIN}\nFROM alpine:3.20\nFROM alpine:3.20\nFROM mirror.example/a:1\n\
             FROM redis@{PIN}\nFROM $UNKNOWN\nFROM node:22@{PIN}\n"
        );
        assert_eq!(
            images(&text, &[]),
            [
                "[[image]] source = \"docker.io/library/alpine\" tags = [\"3.20\"]".to_owned(),
                format!(
                    "[[image]] source = \"docker.io/library/alpine@{PIN}\" \
                     tag = \"sha256-e3b0c44298fc\""
                ),
                format!(
                    "[[image]] source = \"docker.io/library/redis@{PIN}\" \
                     tag = \"sha256-e3b0c44298fc\""
                ),
                format!("[[image]] source = \"docker.io/library/node@{PIN}\" tag = \"22\""),
            ]
        );
    }

    #[test]
    fn an_image_has_the_platforms_of_its_uses() {
        let text = "FROM --platform=linux/s390x golang:1.23 AS a\nFROM alpine:3.20\n\
                    FROM --platform=linux/s390x alpine:3.20\n";
        assert_eq!(
            images(text, &["linux/arm64"]),
            [
                "[[image]] source = \"docker.io/library/golang\" tags = [\"1.23\"] \
                 platforms = [\"linux/s390x\"]",
                "[[image]] source = \"docker.io/library/alpine\" tags = [\"3.20\"] \
                 platforms = [\"linux/arm64\", \"linux/s390x\"]",
            ]
        );
        // without `--platform`, the configuration has the platforms
        assert!(images(text, &[]).iter().all(|image| !image.contains("platforms")));
    }
}
