//! Forms per reference: named contexts and build arguments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    FormBody,
    mapping::{
        ImageMapping, ImageUse, MappedImage, MappingBasis, MissingImage, SpellingPart, UseKind,
    },
    rules::source_tag,
};
use crate::model::{Host, Reference};

/// The name under which BuildKit looks up a context for a reference: Docker's short form, without
/// `latest`.
///
/// Source: moby/buildkit, `frontend/dockerui/config.go`, `NamedContext`.
fn familiar(reference: &Reference) -> String {
    let name = familiar_name(reference);
    match (&reference.tag, &reference.digest) {
        (Some(tag), Some(digest)) => format!("{name}:{tag}@{digest}"),
        (None, Some(digest)) => format!("{name}@{digest}"),
        (_, None) => match source_tag(reference) {
            "latest" => name,
            tag => format!("{name}:{tag}"),
        },
    }
}

/// Docker's short name of the repository.
pub(super) fn familiar_name(reference: &Reference) -> String {
    let repository = reference.repository.as_str();
    if reference.host.as_str() != Host::DOCKER_HUB {
        return format!("{}/{repository}", reference.host);
    }
    let official = repository.strip_prefix("library/").filter(|name| !name.contains('/'));
    official.unwrap_or(repository).to_owned()
}

/// The names of an image: one, or two for an image that a configuration pins.
fn context_names(image: &MappedImage, basis: MappingBasis) -> BTreeSet<String> {
    let mut names = BTreeSet::from([familiar(&image.source)]);
    if basis == MappingBasis::Configuration && image.source.digest.is_some() {
        names.insert(familiar(&Reference { tag: None, ..image.source.clone() }));
    }
    names
}

fn contexts(mapping: &ImageMapping) -> BTreeMap<String, String> {
    let images = mapping.images.iter().filter(|image| !image.is_in_place());
    let pairs = images.flat_map(|image| {
        let target = format!("docker-image://{}", image.destination);
        context_names(image, mapping.basis).into_iter().map(move |name| (name, target.clone()))
    });
    pairs.collect()
}

pub(super) fn build_contexts(mapping: &ImageMapping) -> FormBody {
    let contexts = contexts(mapping).into_iter();
    let lines = contexts.map(|(name, to)| format!("--build-context {name}={to}\n"));
    FormBody::one(lines.collect(), Vec::new())
}

/// The target of a configuration's contexts, for `inherits`.
const TARGET: &str = "ecr-mirror";

pub(super) fn bake(mapping: &ImageMapping) -> FormBody {
    let all = contexts(mapping);
    let mut targets: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for target in &mapping.bake_targets {
        targets.insert(target, all.clone());
    }
    if targets.is_empty() {
        targets.insert(TARGET, all);
    }
    for (image, place) in uses(mapping) {
        if let UseKind::Bake { target, context } = &place.kind {
            let to = format!("docker-image://{}", image.destination);
            targets.entry(target).or_default().insert(context.clone(), to);
        }
    }
    let targets: Map<String, Value> = targets
        .into_iter()
        .map(|(target, contexts)| (target.to_owned(), json!({ "contexts": contexts })))
        .collect();
    FormBody::one(format!("{:#}\n", json!({ "target": targets })), Vec::new())
}

/// The uses of each image that is not in place.
pub(super) fn uses(mapping: &ImageMapping) -> impl Iterator<Item = (&MappedImage, &ImageUse)> {
    let images = mapping.images.iter().filter(|image| !image.is_in_place());
    images.flat_map(|image| image.uses.iter().map(move |place| (image, place)))
}

/// The uses of each image that the destination does not have.
pub(super) fn missing_uses(
    mapping: &ImageMapping,
) -> impl Iterator<Item = (&MissingImage, &ImageUse)> {
    let images = mapping.missing.iter();
    images.flat_map(|image| image.uses.iter().map(move |place| (image, place)))
}

impl MissingImage {
    /// The end of a reason: an image that shares something with this one is omitted.
    pub(super) fn conflict(&self) -> String {
        format!("with {}, which the destination does not have", self.source)
    }
}

impl ImageUse {
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }

    pub(super) fn is_in_dockerfile(&self) -> bool {
        matches!(self.kind, UseKind::From | UseKind::CopyFrom | UseKind::MountFrom)
    }
}

/// The build argument that replaces `# syntax=`.
const SYNTAX: &str = "BUILDKIT_SYNTAX";

/// The build arguments that decide which image the place uses.
fn arguments(place: &ImageUse) -> Vec<&str> {
    match place.kind {
        UseKind::Syntax => vec![SYNTAX],
        _ if place.is_in_dockerfile() => {
            place.spelling.parts.iter().filter_map(|part| part.argument.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

pub(super) fn build_args(mapping: &ImageMapping) -> FormBody {
    let missing = missing_uses(mapping)
        .flat_map(|(image, place)| arguments(place).into_iter().map(move |name| (name, image)));
    let missing: BTreeMap<&str, &MissingImage> = missing.collect();
    let (mut arguments, mut omitted) = (BTreeMap::<String, String>::new(), Vec::new());
    for (image, place) in uses(mapping) {
        let argument = match place.kind {
            UseKind::Syntax => Some((SYNTAX.to_owned(), image.destination.to_string())),
            _ if place.is_in_dockerfile() => argument(image, &place.spelling.parts),
            _ => continue,
        };
        let at = place.place();
        match argument {
            None => omitted.push(image.omitted(format!(
                "at {at} has no build argument for its registry or for the whole reference"
            ))),
            Some((name, value)) => match (missing.get(name.as_str()), arguments.get(&name)) {
                (Some(missing), _) => {
                    let conflict = missing.conflict();
                    let reason = format!("at {at} shares the build argument `{name}` {conflict}");
                    omitted.push(image.omitted(reason));
                }
                (None, Some(other)) if *other != value => {
                    let reason =
                        format!("at {at} needs `{name}={value}`, and another image `{other}`");
                    omitted.push(image.omitted(reason));
                }
                (None, _) => drop(arguments.insert(name, value)),
            },
        }
    }
    let lines = arguments.iter().map(|(name, value)| format!("--build-arg {name}={value}\n"));
    FormBody::one(lines.collect(), omitted)
}

/// The argument that starts the reference, and the value that makes it name the mirror.
fn argument(image: &MappedImage, parts: &[SpellingPart]) -> Option<(String, String)> {
    let (first, rest) = parts.split_first()?;
    let name = first.argument.clone()?;
    let pinned = image.destination.to_string();
    let rest: String = rest.iter().map(|part| part.expanded.as_str()).collect();
    if rest.is_empty() {
        return Some((name, pinned));
    }
    let by_tag = Reference { digest: None, ..image.destination.clone() }.to_string();
    let tagged = by_tag.strip_suffix(&rest).or_else(|| {
        let tag = by_tag.strip_suffix(":latest").filter(|_| image.source.tag.is_none());
        tag?.strip_suffix(&rest)
    });
    let value = tagged.or_else(|| pinned.strip_suffix(&rest))?;
    (!value.is_empty()).then(|| (name, value.to_owned()))
}
