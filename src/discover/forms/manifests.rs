//! Forms that name images: the map, Kustomize, Compose and variables.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    FormBody, OmittedImage,
    contexts::{familiar_name, missing_uses, uses},
    mapping::{ImageMapping, ImageUse, MappedImage, MappingBasis, MissingImage, UseKind},
    rules::{by_repository, name, source_tag},
};
use crate::model::{Host, Platforms, Reference};

/// The JSON document, format version 1.
pub(super) fn map(mapping: &ImageMapping) -> FormBody {
    let images: Vec<Value> = mapping.images.iter().map(mapped).collect();
    let document = json!({ "version": 1, "images": images });
    FormBody::one(format!("{document:#}\n"), Vec::new())
}

fn mapped(image: &MappedImage) -> Value {
    let platforms = match &image.platforms {
        Platforms::All => Value::Null,
        Platforms::Only(platforms) => platforms.iter().map(ToString::to_string).collect(),
    };
    let place = |place: &ImageUse| {
        let (file, line) = (place.file.display().to_string(), place.line);
        json!({ "file": file, "line": line, "spelling": place.spelling.written() })
    };
    let by_tag = Reference { digest: None, ..image.destination.clone() };
    // a cached image that is pinned has no tag
    let reference = if by_tag.tag.is_some() { &by_tag } else { &image.destination };
    json!({
        "source": image.source.to_string(),
        "destination": reference.to_string(),
        "digest": image.destination.digest,
        "platforms": platforms,
        "via": if image.is_cached { "pull-through" } else { "mirrored" },
        "uses": image.uses.iter().map(place).collect::<Vec<_>>(),
    })
}

/// A string in YAML: that of JSON, which quotes versions and digests.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// An entry of `images`, for one spelling.
struct KustomizeImage {
    name: String,
    to: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// Source: the Kustomize reference, `images` and components. An entry applies to every tag of its
/// name, and only to this spelling of it.
pub(super) fn kustomize(mapping: &ImageMapping) -> FormBody {
    let mut omitted = Vec::new();
    let images = match mapping.basis {
        MappingBasis::Configuration => of_repositories(mapping, &mut omitted),
        MappingBasis::Uses => of_spellings(mapping, &mut omitted),
    };
    let mut text =
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nimages:".to_owned();
    text += if images.is_empty() { " []\n" } else { "\n" };
    for KustomizeImage { name, to, tag, digest } in images {
        text += &format!("- name: {}\n  newName: {}\n", quoted(&name), quoted(&to));
        let fields = tag.map(|tag| ("newTag", tag)).into_iter();
        for (key, value) in fields.chain(digest.map(|digest| ("digest", digest))) {
            text += &format!("  {key}: {}\n", quoted(&value));
        }
    }
    FormBody::one(text, omitted)
}

/// The usual spellings of each repository, with the written tag.
fn of_repositories(mapping: &ImageMapping, omitted: &mut Vec<OmittedImage>) -> Vec<KustomizeImage> {
    let mut images = Vec::new();
    for rule in by_repository(mapping) {
        let others = rule.others.iter();
        omitted.extend(others.map(|(image, change)| image.omitted(change.reason())));
        let Some(image) = rule.fitting.first() else { continue };
        if let Some(intruder) = rule.intruder {
            let reason = format!("shares `{}` in the mirror with {}", rule.to, intruder.source);
            omitted.extend(rule.fitting.iter().map(|image| image.omitted(reason.clone())));
            continue;
        }
        let entry = |name| KustomizeImage { name, to: rule.to.clone(), tag: None, digest: None };
        images.extend(spellings(&image.source).into_iter().map(entry));
    }
    images
}

/// The usual spellings of a repository.
fn spellings(reference: &Reference) -> BTreeSet<String> {
    let (host, short) = (&reference.host, familiar_name(reference));
    let mut all = BTreeSet::from([short.clone(), format!("{host}/{}", reference.repository)]);
    if host.as_str() == Host::DOCKER_HUB {
        all.extend([reference.repository.to_string(), format!("{host}/{short}")]);
    }
    all
}

/// The spellings in manifests. One that has one image is pinned.
fn of_spellings(mapping: &ImageMapping, omitted: &mut Vec<OmittedImage>) -> Vec<KustomizeImage> {
    let mut names: BTreeMap<String, Vec<&MappedImage>> = BTreeMap::new();
    for (image, place) in uses(mapping) {
        if place.kind != UseKind::Kubernetes {
            continue;
        }
        let images = names.entry(name_of(&place.spelling.expanded()).to_owned()).or_default();
        if !images.iter().any(|other| other.source == image.source) {
            images.push(image);
        }
    }
    for (image, place) in uses(mapping) {
        // one that is in a list of containers, too, is in an entry, or omitted below
        let others = names.get(name_of(&place.spelling.expanded()));
        let is_in_list = others.is_some_and(|all| all.iter().any(|it| it.source == image.source));
        if place.kind == UseKind::KubernetesOther && !is_in_list {
            let reason = format!(
                "at {} is not changed by Kustomize, outside of `containers` and `initContainers`",
                place.place()
            );
            omitted.push(image.omitted(reason));
        }
    }
    let missing = missing_uses(mapping).filter(|(_, place)| place.kind == UseKind::Kubernetes);
    let missing: BTreeMap<String, &MissingImage> = missing
        .map(|(image, place)| (name_of(&place.spelling.expanded()).to_owned(), image))
        .collect();
    let mut entries = Vec::new();
    for (name, images) in names {
        if let Some(missing) = missing.get(&name) {
            let reason = format!("shares the name `{name}` {}", missing.conflict());
            omitted.extend(images.iter().map(|image| image.omitted(reason.clone())));
            continue;
        }
        if let [image] = images[..] {
            let tag = image.destination.tag.as_ref().filter(|tag| {
                image.source.digest.is_none() && tag.as_str() != source_tag(&image.source)
            });
            let digest = image.destination.digest.as_ref().map(ToString::to_string);
            let tag = tag.filter(|_| digest.is_none()).map(ToString::to_string);
            entries.push(KustomizeImage { name, to: image.destination_name(), tag, digest });
            continue;
        }
        let to = images[0].destination_name();
        let fits =
            |image: &&&MappedImage| image.destination_name() == to && image.change().is_none();
        for image in images.iter().filter(|image| !fits(image)) {
            let reason =
                format!("shares the name `{name}` with other tags, which one entry changes");
            omitted.push(image.omitted(reason));
        }
        if images.iter().any(|image| fits(&image)) {
            entries.push(KustomizeImage { name, to, tag: None, digest: None });
        }
    }
    entries
}

/// The reference without tag and digest.
pub(super) fn name_of(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let start = name.rfind('/').map_or(0, |at| at + 1);
    name[start..].find(':').map_or(name, |at| &name[..start + at])
}

pub(super) fn compose(mapping: &ImageMapping) -> FormBody {
    let missing = missing_uses(mapping).filter_map(|(image, place)| match &place.kind {
        UseKind::Compose { service } => Some((service.as_str(), image)),
        _ => None,
    });
    let missing: BTreeMap<&str, &MissingImage> = missing.collect();
    let (mut services, mut omitted) = (BTreeMap::<&str, String>::new(), Vec::new());
    for (image, place) in uses(mapping) {
        let UseKind::Compose { service } = &place.kind else { continue };
        if let Some(missing) = missing.get(service.as_str()) {
            let at = place.place();
            let reason = format!("at {at} shares the service `{service}` {}", missing.conflict());
            omitted.push(image.omitted(reason));
            continue;
        }
        let to = image.destination.to_string();
        match services.get(service.as_str()) {
            Some(other) if *other != to => {
                let at = place.place();
                let reason = format!("at {at} is of `{service}`, a service with another image");
                omitted.push(image.omitted(reason));
            }
            _ => drop(services.insert(service, to)),
        }
    }
    let mut text = format!("services:{}\n", if services.is_empty() { " {}" } else { "" });
    for (service, image) in services {
        text += &format!("  {}:\n    image: {}\n", quoted(service), quoted(&image));
    }
    FormBody::one(text, omitted)
}

/// `ECR_MIRROR_NAME=reference`. The name is that of the repository. Where several images have it,
/// each has its tag too, and then its host. An image that is not mirrored counts, so that the names do
/// not depend on the result of the run. A digest with a tag and without it is one image.
pub(super) fn env(mapping: &ImageMapping) -> FormBody {
    let images = &mapping.images;
    let sources = images.iter().map(|image| &image.source);
    let sources = sources.chain(mapping.missing.iter().map(|image| &image.source));
    let candidates: BTreeMap<String, [String; 3]> =
        sources.map(|source| (identity(source), variable_names(source))).collect();
    let mut counts: BTreeMap<(usize, &str), usize> = BTreeMap::new();
    for (level, name) in
        candidates.values().flat_map(|names| names.iter().map(String::as_str).enumerate())
    {
        *counts.entry((level, name)).or_default() += 1;
    }
    let (mut variables, mut omitted) = (BTreeMap::<&str, &MappedImage>::new(), Vec::new());
    for image in images {
        let names = &candidates[&identity(&image.source)];
        let mut names_by_level = names.iter().map(String::as_str).enumerate();
        let unique = names_by_level.find(|level| counts[level] == 1).map(|(_, name)| name);
        match unique.map(|name| (name, variables.get(name))) {
            Some((name, None)) => drop(variables.insert(name, image)),
            Some((_, Some(other))) if other.is_same_content(image) => {}
            _ => {
                let reason = format!("shares the variable `{}` with another image", names[2]);
                omitted.push(image.omitted(reason));
            }
        }
    }
    let lines = variables.iter().map(|(name, image)| format!("{name}={}\n", image.destination));
    FormBody::one(lines.collect(), omitted)
}

/// The repository with its digest, or with its tag.
fn identity(source: &Reference) -> String {
    match &source.digest {
        Some(digest) => format!("{}@{digest}", name(source)),
        None => format!("{}:{}", name(source), source_tag(source)),
    }
}

impl MappedImage {
    /// Returns `true` if both are one image at the destination, with one tag or several.
    fn is_same_content(&self, other: &Self) -> bool {
        let (own, other) = (&self.destination, &other.destination);
        name(own) == name(other)
            && match (&own.digest, &other.digest) {
                (Some(own), Some(other)) => own == other,
                _ => own.tag == other.tag,
            }
    }
}

fn variable_names(source: &Reference) -> [String; 3] {
    let repository = source.repository.as_str();
    let short = repository.strip_prefix("library/").unwrap_or(repository);
    let at = match &source.digest {
        Some(digest) => digest.short(),
        None => source_tag(source),
    };
    let variable = |text: String| {
        let upper = text.to_ascii_uppercase();
        format!("ECR_MIRROR_{upper}").replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    };
    let tagged = format!("{short}_{at}");
    [
        variable(short.to_owned()),
        variable(tagged.clone()),
        variable(format!("{}_{tagged}", source.host)),
    ]
}
