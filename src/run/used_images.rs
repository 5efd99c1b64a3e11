//! Turns the images that a build uses into a configuration and its entries.

use std::{collections::BTreeSet, sync::Arc};

use super::copy::nearest;
use crate::{
    config::{
        Config, ConfigError, Entry, KnownRepositories, ListedRepositories, MoreToRead, Tags,
        edit::{ImageEntry, LackingImage},
    },
    discover::{Use, UsedImage, by_digest, used_images},
    model::{
        Archived, Error, Host, Kind, Location, Platform, Reference, RegistryPrefix, Repository,
        Result, Tag,
    },
};

/// The configuration of the destinations, and the entries to mirror.
pub(crate) struct UsedImages {
    pub(crate) config: Config,
    pub(crate) entries: Vec<Entry>,
}

impl UsedImages {
    /// The images at the destinations of a configuration, by its rules. An image of the
    /// configuration has the keys that it has there, also one of a source with a `*`, without a
    /// request. `read` reads the configuration, and again with what the function makes of it.
    ///
    /// # Errors
    /// Those of `read`, and [`Kind::Configuration`] if an image has no valid tag at a destination.
    pub(crate) fn of_configuration(
        read: impl FnOnce(&mut dyn FnMut(&Config) -> MoreToRead) -> Result<Config>,
        uses: &[Use],
        platforms: &[Platform],
    ) -> Result<Self> {
        let (mut known, mut new) = (Vec::new(), Vec::new());
        let config = read(&mut |written| {
            let used = used_at(written, uses, platforms);
            let repositories = repositories(written, &used);
            let is_known =
                |image: &UsedImage| find(written, image).is_some() || is_selected(written, image);
            (known, new) = used.into_iter().partition(is_known);
            MoreToRead { tables: new.iter().map(UsedImage::toml).collect(), repositories }
        })?;
        let mut entries = Vec::new();
        for image in &known {
            let Some(entry) = find(&config, image) else { continue };
            let entry = adapted(&config, entry, image)?;
            // two images can have the digest of one entry
            if !entries.iter().any(|known| is_same_pin(known, &entry)) {
                entries.push(entry);
            }
        }
        entries.extend(new.iter().filter_map(|image| find(&config, image)).cloned());
        Ok(Self { config, entries: restored(entries) })
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
        let mut text = destination_toml(place);
        text.extend(used.iter().map(UsedImage::toml));
        let mut config = Config::generated(text).map_err(ConfigError::into_error)?;
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
        let entries = restored(config.entries.clone());
        Ok(Self { config, entries })
    }
}

/// The `[[destination]]`.
pub(crate) fn destination_toml(place: &RegistryPrefix) -> String {
    let mut text = format!("[[destination]]\nregistry = \"{}\"\n", place.host);
    if let Some(prefix) = &place.prefix {
        text += &format!("prefix = \"{prefix}\"\n");
    }
    text
}

/// The images that a configuration lacks, as additions to it, and the configuration. `read` reads it,
/// and again with what the function makes of it.
///
/// # Errors
/// Those of `read`.
pub(crate) fn lacking_images(
    read: impl FnOnce(&mut dyn FnMut(&Config) -> MoreToRead) -> Result<Config>,
    uses: &[Use],
    platforms: &[Platform],
) -> Result<(Config, Vec<LackingImage>)> {
    let mut used = Vec::new();
    let config = read(&mut |written| {
        used = used_at(written, uses, platforms);
        MoreToRead { repositories: repositories(written, &used), ..MoreToRead::default() }
    })?;
    let lacking = used.iter().filter_map(|image| lacking(&config, image)).collect();
    Ok((config, lacking))
}

/// The image as an addition; `None` if the configuration has its tag or its digest.
fn lacking(config: &Config, image: &UsedImage) -> Option<LackingImage> {
    let UsedImage { reference, tag, .. } = image;
    let (host, repository) = (&reference.host, &reference.repository);
    for entry in of_repository(config, image) {
        match (&entry.tags, &reference.digest) {
            (Tags::Exact(tags), None) if tags.contains(tag) => return None,
            // the file says which image the tag is
            (Tags::Pinned { tag: pinned, .. }, None) if pinned == tag => return None,
            (Tags::Pinned { digest, .. }, Some(pin)) if digest == pin => return None,
            _ => {}
        }
    }
    let tag = match &reference.digest {
        Some(digest) => format!("{}@{digest}", free_tag(config, image)),
        None => tag.to_string(),
    };
    let keys = image.platforms_toml().map(|platforms| ("platforms", platforms));
    let entry = ImageEntry {
        host: host.clone(),
        repository: repository.clone(),
        tags: vec![tag],
        keys: keys.into_iter().collect(),
    };
    let wildcard = config.wildcards.iter().find(|it| it.selects(host, repository));
    Some(LackingImage { entry, wildcard: wildcard.map(|it| it.source.clone()) })
}

/// The entries of the image's repository.
fn of_repository<'c>(
    config: &'c Config,
    image: &UsedImage,
) -> impl Iterator<Item = &'c Entry> + Clone {
    let Reference { host, repository, .. } = image.reference.clone();
    config.entries.iter().filter(move |it| it.host == host && it.repository == repository)
}

/// The tag of the image. A pinned image gets another one if the configuration has the tag without
/// this digest: it would replace the image of the tag.
fn free_tag(config: &Config, image: &UsedImage) -> Tag {
    let is_taken = |entry: &Entry| match &entry.tags {
        Tags::Exact(tags) => tags.contains(&image.tag),
        Tags::Pinned { tag, digest } => {
            *tag == image.tag && Some(digest) != image.reference.digest.as_ref()
        }
        Tags::Selected(_) => false,
    };
    match &image.reference.digest {
        Some(digest) if of_repository(config, image).any(is_taken) => by_digest(digest),
        _ => image.tag.clone(),
    }
}

/// The images that are not at a destination of the configuration already.
fn used_at(config: &Config, uses: &[Use], platforms: &[Platform]) -> Vec<UsedImage> {
    let hosts = config.destinations.iter().filter_map(|it| it.registry.host());
    used_images(uses, platforms, &hosts.collect::<BTreeSet<&Host>>())
}

/// A build needs its images: those that ECR has archived are restored.
fn restored(mut entries: Vec<Entry>) -> Vec<Entry> {
    for entry in &mut entries {
        Arc::make_mut(&mut entry.filter).archived = Archived::Restore;
    }
    entries
}

/// Returns `true` if a source with a `*` selects the image's repository.
fn is_selected(config: &Config, image: &UsedImage) -> bool {
    let reference = &image.reference;
    config.wildcards.iter().any(|it| it.selects(&reference.host, &reference.repository))
}

/// The used repositories of the registries that have sources with a `*`. The registries are not
/// asked for others.
fn repositories(config: &Config, used: &[UsedImage]) -> ListedRepositories {
    let repositories = config.wildcards.iter().map(|wildcard| {
        let used = used.iter().map(|image| &image.reference);
        let used = used.filter(|it| it.host == wildcard.host).map(|it| it.repository.clone());
        let key = (wildcard.host.clone(), wildcard.namespace.clone());
        (key, KnownRepositories::Used(used.collect()))
    });
    repositories.collect()
}

/// The entry of the image's repository: the one with its tag, else the first.
fn find<'c>(config: &'c Config, image: &UsedImage) -> Option<&'c Entry> {
    let has_tag = |entry: &&Entry| match &entry.tags {
        Tags::Exact(tags) => tags.contains(&image.tag) && image.reference.digest.is_none(),
        Tags::Pinned { digest, tag } => {
            Some(digest) == image.reference.digest.as_ref() && *tag == image.tag
        }
        Tags::Selected(_) => false,
    };
    let has_digest = |entry: &&Entry| is_pinned_alike(entry, image);
    let mut all = of_repository(config, image);
    all.clone().find(has_tag).or_else(|| all.clone().find(has_digest)).or_else(|| all.next())
}

/// Returns `true` if both are one tag of one repository with one digest.
fn is_same_pin(one: &Entry, other: &Entry) -> bool {
    let pin = |entry: &Entry| match &entry.tags {
        Tags::Pinned { digest, tag } => Some((digest.clone(), tag.clone())),
        Tags::Exact(_) | Tags::Selected(_) => None,
    };
    let is_repository = (&one.host, &one.repository) == (&other.host, &other.repository);
    is_repository && pin(one).is_some() && pin(one) == pin(other)
}

/// Returns `true` if both are pinned to one digest.
fn is_pinned_alike(entry: &Entry, image: &UsedImage) -> bool {
    entry.pin().is_some() && entry.pin() == image.reference.digest.as_ref()
}

/// The entry with the tag and the platforms of this image.
fn adapted(config: &Config, entry: &Entry, image: &UsedImage) -> Result<Entry> {
    let tag = free_tag(config, image);
    let is_pinned_alike = is_pinned_alike(entry, image);
    let mut entry = entry.clone();
    match &image.reference.digest {
        // it has another tag there, perhaps
        Some(_) if is_pinned_alike => {}
        Some(digest) => {
            entry.tags = Tags::Pinned { digest: digest.clone(), tag: tag.clone() };
        }
        None => entry.tags = Tags::Exact(vec![tag.clone()]),
    }
    if let Some(platforms) = &image.platforms {
        Arc::make_mut(&mut entry.filter).platforms = platforms.clone();
    }
    // the configuration was read with other tags
    if !entry.retag.needs_digest() || image.reference.digest.is_some() {
        let result = entry.retag.apply(&tag, image.reference.digest.as_ref());
        result.map_err(|wrong| {
            let problem = format!("`{}` of `{}` {}", entry.retag, image.reference, wrong.problem);
            let error = Error::new(Kind::Configuration, problem);
            wrong.hint.into_iter().fold(error, Error::hint)
        })?;
    }
    Ok(entry)
}
