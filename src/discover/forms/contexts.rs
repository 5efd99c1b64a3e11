//! Forms per reference: named contexts and build arguments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    FormBody,
    mapping::{ImageMapping, ImageUse, MappedImage, MappingBasis, SpellingPart, UseKind},
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

impl ImageUse {
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file.display(), self.line)
    }

    pub(super) fn is_in_dockerfile(&self) -> bool {
        matches!(self.kind, UseKind::From | UseKind::CopyFrom | UseKind::MountFrom)
    }
}

pub(super) fn build_args(mapping: &ImageMapping) -> FormBody {
    let (mut arguments, mut left_out) = (BTreeMap::<String, String>::new(), Vec::new());
    for (image, place) in uses(mapping) {
        let argument = match place.kind {
            UseKind::Syntax => Some(("BUILDKIT_SYNTAX".to_owned(), image.destination.to_string())),
            _ if place.is_in_dockerfile() => argument(image, &place.spelling.parts),
            _ => continue,
        };
        let at = place.place();
        match argument {
            None => left_out.push(image.left_out(format!(
                "at {at} has no build argument for its registry or for the whole reference"
            ))),
            Some((name, value)) => match arguments.get(&name) {
                Some(other) if *other != value => {
                    let reason =
                        format!("at {at} needs `{name}={value}`, and another image `{other}`");
                    left_out.push(image.left_out(reason));
                }
                _ => drop(arguments.insert(name, value)),
            },
        }
    }
    let lines = arguments.iter().map(|(name, value)| format!("--build-arg {name}={value}\n"));
    FormBody::one(lines.collect(), left_out)
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
