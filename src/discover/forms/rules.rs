//! Rules for whole repositories and whole hosts, and the images that they do not fit.

use std::collections::BTreeMap;

use super::{
    OmittedImage,
    mapping::{ImageMapping, MappedImage},
};
use crate::model::{Error, Host, Kind, Reference, Result, Tag};

impl MappedImage {
    /// The image without its tag, like `docker.io/library/alpine`.
    pub(super) fn source_name(&self) -> String {
        name(&self.source)
    }

    pub(super) fn destination_name(&self) -> String {
        name(&self.destination)
    }

    /// Returns `true` if files name the mirror already.
    pub(super) fn is_in_place(&self) -> bool {
        self.source_name() == self.destination_name()
    }

    pub(super) fn omitted(&self, reason: impl Into<String>) -> OmittedImage {
        OmittedImage { source: self.source.clone(), reason: reason.into() }
    }

    /// The change of tag or digest that a rule for names cannot make.
    pub(super) fn change(&self) -> Option<Change> {
        match (&self.source.digest, &self.destination.digest) {
            // the digest decides, and the tag is only a label
            (Some(source), Some(mirrored)) if source != mirrored => Some(Change::Digest),
            (Some(_), _) => None,
            (None, _) => {
                let tag = self.destination.tag.as_ref().map_or("latest", Tag::as_str);
                (tag != source_tag(&self.source)).then_some(Change::Tag)
            }
        }
    }
}

pub(super) fn name(reference: &Reference) -> String {
    format!("{}/{}", reference.host, reference.repository)
}

/// The tag of a reference without a digest.
pub(super) fn source_tag(reference: &Reference) -> &str {
    reference.tag.as_ref().map_or("latest", Tag::as_str)
}

/// The reason why a rule for names does not fit an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Tag,
    Digest,
    Name,
}

impl Change {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Tag => "has another tag in the mirror",
            Self::Digest => "has another digest in the mirror, because platforms are filtered",
            Self::Name => {
                "has a repository in the mirror that differs from the others of its source"
            }
        }
    }
}

/// The images of one source repository.
pub(super) struct RepositoryRule<'a> {
    /// Like `docker.io/library/alpine`.
    pub(super) from: String,
    /// The mirror of most of them.
    pub(super) to: String,
    pub(super) fitting: Vec<&'a MappedImage>,
    pub(super) others: Vec<(&'a MappedImage, Change)>,
    /// An image of another repository that the rule would serve too.
    pub(super) intruder: Option<&'a MappedImage>,
}

/// One rule for each source repository, in the order of their names.
pub(super) fn by_repository(mapping: &ImageMapping) -> Vec<RepositoryRule<'_>> {
    let mut groups: BTreeMap<String, Vec<&MappedImage>> = BTreeMap::new();
    let mut mirrors: BTreeMap<String, Vec<&MappedImage>> = BTreeMap::new();
    // the source of an image that files name in the mirror is not known
    for image in mapping.images.iter().filter(|image| !image.is_in_place()) {
        mirrors.entry(image.destination_name()).or_default().push(image);
        groups.entry(image.source_name()).or_default().push(image);
    }
    let rule = |(from, images)| repository_rule(from, images, &mirrors);
    groups.into_iter().filter_map(rule).collect()
}

/// The rule for the images of one source repository. `mirrors` has all images by their name in the
/// mirror.
fn repository_rule<'a>(
    from: String,
    images: Vec<&'a MappedImage>,
    mirrors: &BTreeMap<String, Vec<&'a MappedImage>>,
) -> Option<RepositoryRule<'a>> {
    let to = most_common(images.iter().map(|image| image.destination_name()))?;
    let (mut fitting, mut others) = (Vec::new(), Vec::new());
    for image in images {
        let moved = (image.destination_name() != to).then_some(Change::Name);
        match moved.or_else(|| image.change()) {
            None => fitting.push(image),
            Some(change) => others.push((image, change)),
        }
    }
    // `0` follows `/`: the range has every name at or below `to`
    let near = mirrors.range(to.clone()..format!("{to}0"));
    let mut near = near.flat_map(|(name, images)| images.iter().map(move |it| (name, *it)));
    let intruder = near.find(|(name, image)| {
        let path = below(name, &to);
        path.is_some_and(|path| below(&image.source_name(), &from) != Some(path))
    });
    let intruder = intruder.map(|(_, image)| image);
    Some(RepositoryRule { from, to, fitting, others, intruder })
}

/// The rest of the name after the path: empty, or with a leading `/`.
fn below<'a>(name: &'a str, path: &str) -> Option<&'a str> {
    name.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The value that occurs most often, the smallest of several. `None` without values.
fn most_common<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    let best = counts.into_iter().reduce(|best, next| if next.1 > best.1 { next } else { best });
    best.map(|(value, _)| value)
}

/// All images of one source host.
pub(super) struct HostRule<'a> {
    pub(super) from: &'a Host,
    pub(super) to: &'a Host,
    /// Empty, or a path with a leading `/`.
    pub(super) prefix: String,
}

impl HostRule<'_> {
    /// The mirror of the host, like `registry.example/mirror`.
    pub(super) fn mirror(&self) -> String {
        format!("{}{}", self.to, self.prefix)
    }
}

/// One rule for each source host, and the images that do not fit.
///
/// # Errors
/// If a rule would serve the image of another host: a mirror answers for every path of its host.
pub(super) fn by_host(mapping: &ImageMapping) -> Result<(Vec<HostRule<'_>>, Vec<OmittedImage>)> {
    let mut omitted = Vec::new();
    let mut groups: BTreeMap<&Host, Vec<(&MappedImage, &str)>> = BTreeMap::new();
    for image in mapping.images.iter().filter(|image| !image.is_in_place()) {
        let repository = image.destination.repository.as_str();
        let prefix = repository.strip_suffix(image.source.repository.as_str());
        let prefix = prefix.filter(|prefix| prefix.is_empty() || prefix.ends_with('/'));
        match (prefix, image.change()) {
            (Some(prefix), None) => {
                let prefix = prefix.trim_end_matches('/');
                groups.entry(&image.source.host).or_default().push((image, prefix));
            }
            (Some(_), Some(change)) => omitted.push(image.omitted(change.reason())),
            (None, _) => omitted.push(image.omitted("has another repository in the mirror")),
        }
    }
    let mut rules = Vec::new();
    for (from, images) in groups {
        let place = |(image, prefix): &(&'_ MappedImage, &'_ str)| {
            (image.destination.host.clone(), prefix.to_string())
        };
        let common = most_common(images.iter().map(place));
        let fits = |image: &&(&MappedImage, &str)| Some(place(image)) == common;
        for (image, _) in images.iter().filter(|image| !fits(image)) {
            omitted.push(image.omitted(Change::Name.reason()));
        }
        let Some((image, prefix)) = images.iter().find(fits) else { continue };
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        rules.push(HostRule { from, to: &image.destination.host, prefix });
    }
    for rule in &rules {
        let is_intruder = |image: &&MappedImage| {
            image.source.host != *rule.from
                && !image.is_in_place()
                && below(&image.destination_name(), &rule.mirror()).is_some()
        };
        if let Some(image) = mapping.images.iter().find(is_intruder) {
            return Err(shared(rule, image));
        }
    }
    Ok((rules, omitted))
}

fn shared(rule: &HostRule<'_>, image: &MappedImage) -> Error {
    let (from, mirror) = (rule.from, rule.mirror());
    let problem = format!(
        "a mirror of {from} at `{mirror}` would also serve {}, as an image of {from}",
        image.source
    );
    Error::new(Kind::Configuration, problem).hint(
        "keep the registries apart with `repository = \"{registry}/{repository}\"`, or with a \
         prefix for each; or use `source-policy` or `registries.conf`, which name each repository",
    )
}
