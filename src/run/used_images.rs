//! Turns the images that a build uses into a configuration and its entries.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use super::copy::nearest;
use crate::{
    config::{Config, Entry, Tags},
    discover::{Use, UsedImage, used_images},
    model::{Error, Host, Kind, Location, Platform, RegistryPrefix, Repository, Result},
};

/// The name of the generated tables in errors.
const GENERATED: &str = "the images that are used";

/// The configuration of the destinations, and the entries to mirror.
pub(crate) struct UsedImages {
    pub(crate) config: Config,
    pub(crate) entries: Vec<Entry>,
}

impl UsedImages {
    /// The images at the destinations of a configuration, by its rules. An image of the
    /// configuration has the keys that it has there. `read` reads the configuration, and again with
    /// the tables that the function makes of it.
    ///
    /// # Errors
    /// Those of `read`, and [`Kind::Configuration`] if an image has no valid tag at a destination.
    pub(crate) fn of_configuration(
        read: impl FnOnce(&mut dyn FnMut(&Config) -> String) -> Result<Config>,
        uses: &[Use],
        platforms: &[Platform],
    ) -> Result<Self> {
        let (mut known, mut new) = (Vec::new(), Vec::new());
        let config = read(&mut |written| {
            let hosts = written.destinations.iter().filter_map(|it| it.registry.host());
            let used = used_images(uses, platforms, &hosts.collect::<BTreeSet<&Host>>());
            (known, new) = used.into_iter().partition(|image| find(written, image).is_some());
            new.iter().map(UsedImage::toml).collect()
        })?;
        let mut entries = Vec::new();
        for image in &known {
            let entry = find(&config, image);
            entries.extend(entry.map(|entry| adapted(entry, image)).transpose()?);
        }
        entries.extend(new.iter().filter_map(|image| find(&config, image)).cloned());
        Ok(Self { config, entries })
    }

    /// The images at one registry. From a configuration come the settings of the registries, and
    /// the identity and repository settings of the destination with the same registry and prefix.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if two images have the same name at the registry.
    pub(crate) fn at(
        place: &RegistryPrefix,
        file: Option<Config>,
        uses: &[Use],
        platforms: &[Platform],
    ) -> Result<Self> {
        let used = used_images(uses, platforms, &BTreeSet::from([&place.host]));
        let mut text = format!("[[destination]]\nregistry = \"{}\"\n", place.host);
        if let Some(prefix) = &place.prefix {
            text += &format!("prefix = \"{prefix}\"\n");
        }
        text.extend(used.iter().map(UsedImage::toml));
        let parsed = Config::parse(GENERATED, &text, Path::new(""), &|_| None);
        let mut config = parsed.map_err(|error| {
            let text = error.to_string();
            Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
        })?;
        if let Some(file) = file {
            config.registries = file.registries;
            let location = Location::from(place.host.clone());
            // any repository below the prefix has the same destination
            let below = match &place.prefix {
                Some(prefix) => format!("{prefix}/x"),
                None => "x".to_owned(),
            };
            let below: Repository = below.parse().map_err(|wrong: crate::model::NameError| {
                Error::new(Kind::Configuration, format!("`--to` {}", wrong.problem))
            })?;
            if let Some(known) = nearest(file.destinations, &location, &below) {
                let target = &mut config.destinations[0];
                (target.aws, target.repositories) = (known.aws, known.repositories);
            }
        }
        let entries = config.entries.clone();
        Ok(Self { config, entries })
    }
}

/// The entry of the image's repository: the one with its tag, else the first.
fn find<'c>(config: &'c Config, image: &UsedImage) -> Option<&'c Entry> {
    let of_repository = |entry: &&Entry| {
        entry.host == image.reference.host && entry.repository == image.reference.repository
    };
    let has_tag = |entry: &&Entry| match &entry.tags {
        Tags::Exact(tags) => tags.contains(&image.tag) && image.reference.digest.is_none(),
        Tags::Pinned { digest, tag } => {
            Some(digest) == image.reference.digest.as_ref() && *tag == image.tag
        }
        Tags::Selected(_) => false,
    };
    let mut all = config.entries.iter().filter(of_repository);
    all.clone().find(has_tag).or_else(|| all.next())
}

/// The entry with the tag and the platforms of this image.
fn adapted(entry: &Entry, image: &UsedImage) -> Result<Entry> {
    let mut entry = entry.clone();
    entry.tags = match &image.reference.digest {
        Some(digest) => Tags::Pinned { digest: digest.clone(), tag: image.tag.clone() },
        None => Tags::Exact(vec![image.tag.clone()]),
    };
    if let Some(platforms) = &image.platforms {
        Arc::make_mut(&mut entry.filter).platforms = platforms.clone();
    }
    // the configuration was read with other tags
    if !entry.retag.needs_digest() || image.reference.digest.is_some() {
        let result = entry.retag.apply(&image.tag, image.reference.digest.as_ref());
        result.map_err(|wrong| {
            let problem = format!("`{}` of `{}` {}", entry.retag, image.reference, wrong.problem);
            let error = Error::new(Kind::Configuration, problem);
            wrong.hint.into_iter().fold(error, Error::hint)
        })?;
    }
    Ok(entry)
}
