//! The mapping of selected images, for the forms that make a build use the mirror.

use std::collections::{BTreeSet, HashSet};

use super::{
    pull_through::sites::check_names,
    select_images::{CacheItem, MirrorItem},
};
use crate::{
    config::{Config, DestinationConfig, Tags},
    discover::forms::{ImageMapping, MappedImage, MappingBasis},
    model::{
        DestinationId, Digest, Error, Host, Kind, NameError, Platforms, Reference, Repository,
        Result, TagOrDigest,
    },
};

/// An image at one of its destinations.
pub(crate) struct MappedTarget {
    destination: DestinationId,
    /// `None` at an OCI layout, from which no build pulls.
    image: Option<MappedImage>,
}

impl MirrorItem<'_> {
    /// The image at each destination. `digest` is the one that the destinations get, if it is known.
    pub(crate) fn mapped(&self, config: &Config, digest: Option<&Digest>) -> Vec<MappedTarget> {
        let mut source = source_reference(&self.source());
        if let (Ok(source), Tags::Pinned { tag, .. }) = (&mut source, &self.entry.tags) {
            source.tag = Some(tag.clone());
        }
        let targets = self.image.targets.iter().map(|target| {
            let id = target.destination;
            let (tag, digest) = (Some(target.tag.clone()), digest.cloned());
            let repository = destination_repository(config, id, &target.repository);
            let destination = repository.map(|it| Reference { tag, digest, ..it });
            let platforms = self.image.filter.platforms.clone();
            let image = source.clone().ok().zip(destination);
            let image = image.map(|(source, destination)| MappedImage {
                source,
                destination,
                platforms,
                is_cached: false,
                uses: Vec::new(),
            });
            MappedTarget { destination: id, image }
        });
        targets.collect()
    }
}

impl CacheItem<'_> {
    /// The image below the prefix of the cache, which keeps every digest.
    pub(crate) fn mapped(&self, config: &Config) -> MappedTarget {
        let id = self.target.destination;
        let (tag, digest) = match &self.at {
            TagOrDigest::Tag(tag) => (Some(tag.clone()), None),
            TagOrDigest::Digest(digest) => (None, Some(digest.clone())),
        };
        let repository = destination_repository(config, id, &self.target.repository);
        let destination = repository.map(|it| Reference { tag, digest, ..it });
        let image = source_reference(&self.source).ok().zip(destination);
        let image = image.map(|(source, destination)| MappedImage {
            source,
            destination,
            platforms: Platforms::All,
            is_cached: true,
            uses: Vec::new(),
        });
        MappedTarget { destination: id, image }
    }
}

fn source_reference(text: &str) -> Result<Reference, NameError> {
    text.parse()
}

/// A repository at a destination; `None` for an OCI layout.
fn destination_repository(
    config: &Config,
    id: DestinationId,
    repository: &Repository,
) -> Option<Reference> {
    let host = config.destination(id).registry.host()?.clone();
    Some(Reference { host, repository: repository.clone(), tag: None, digest: None })
}

/// The destination of a form: the named one, or the only one of these; `None` if they are empty.
///
/// # Errors
/// [`Kind::Configuration`] if no destination has the name, if there are several and none is named,
/// and for an OCI layout.
pub(super) fn one_destination(
    config: &Config,
    mut used: BTreeSet<DestinationId>,
    name: Option<&str>,
) -> Result<Option<DestinationId>> {
    check_names(config, &name.map(str::to_owned).into_iter().collect::<Vec<_>>())?;
    used.retain(|id| name.is_none_or(|name| config.destination(*id).name == name));
    if used.len() > 1 {
        let names: Vec<&str> =
            used.iter().map(|id| config.destination(*id).name.as_str()).collect();
        let problem = format!("the images have {} destinations, a form has one", used.len());
        let hint = format!("give `--destination` one of `{}`", names.join("`, `"));
        return Err(Error::new(Kind::Configuration, problem).hint(hint));
    }
    let Some(id) = used.pop_first() else { return Ok(None) };
    let DestinationConfig { name, registry, .. } = config.destination(id);
    if registry.host().is_none() {
        let problem = format!("the destination `{name}` is an OCI layout, not a registry");
        return Err(Error::new(Kind::Configuration, problem)
            .hint("give `--destination` the name of a registry"));
    }
    Ok(Some(id))
}

/// The mapping to one destination: the named one, or the only one that the images have.
///
/// # Errors
/// Those of [`one_destination`].
pub(crate) fn image_mapping(
    config: &Config,
    targets: Vec<MappedTarget>,
    name: Option<&str>,
) -> Result<ImageMapping> {
    let used = targets.iter().map(|target| target.destination).collect();
    let destination = one_destination(config, used, name)?;
    let targets = targets.into_iter().filter(|target| Some(target.destination) == destination);
    let mut sources = HashSet::new();
    let mut images = Vec::new();
    for image in targets.filter_map(|target| target.image) {
        // of one source that goes to two repositories, the first counts
        if sources.insert(image.source.clone()) {
            images.push(image);
        }
    }
    Ok(ImageMapping {
        basis: MappingBasis::Configuration,
        images,
        missing: Vec::new(),
        plain_http: plain_http(config),
        bake_targets: BTreeSet::new(),
    })
}

/// The registries that the configuration says to speak plain HTTP.
pub(crate) fn plain_http(config: &Config) -> BTreeSet<Host> {
    let plain = config.registries.iter().filter(|(_, registry)| registry.plain_http == Some(true));
    plain.map(|(host, _)| host.clone()).collect()
}
