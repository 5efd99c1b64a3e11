//! BuildKit's source policy: converts names, and denies what is not mirrored.
//!
//! A selector sees the normalized name. A CONVERT that changes the name starts the list again with
//! the new name; of ALLOW and DENY the last match counts. A rule has no `match_type`: the default is
//! WILDCARD, and before BuildKit 0.31 a CONVERT with EXACT has no effect.
//!
//! Source: moby/buildkit, `sourcepolicy/engine.go` and `util/wildcard/wildcard.go`.

use serde_json::{Value, json};

use super::{
    FormBody, destination_hosts,
    mapping::{ImageMapping, MappedImage, MappingBasis},
    rules::{Change, RepositoryRule, by_repository, name, source_tag},
};
use crate::model::{Host, Reference};

const SCHEME: &str = "docker-image://";

pub(super) fn source_policy(mapping: &ImageMapping) -> FormBody {
    let rule = |action: &str, selected: &str| json!({ "action": action, "selector": { "identifier": format!("{SCHEME}{selected}") } });
    // not `*`, which denies the build's own files
    let mut rules = vec![rule("DENY", "*")];
    let hosts = destination_hosts(mapping);
    rules.extend(hosts.iter().map(|host: &&Host| rule("ALLOW", &format!("{host}/*"))));
    rules.extend(match mapping.basis {
        MappingBasis::Uses => used(mapping),
        MappingBasis::Configuration => selected(mapping),
    });
    FormBody::one(format!("{:#}\n", json!({ "rules": rules })), Vec::new())
}

fn convert(from: &str, to: &str) -> Value {
    json!({
        "action": "CONVERT",
        "selector": { "identifier": format!("{SCHEME}{from}") },
        "updates": { "identifier": format!("{SCHEME}{to}") },
    })
}

/// One rule for each reference, which pins it.
fn used(mapping: &ImageMapping) -> Vec<Value> {
    let images = mapping.images.iter().filter(|image| !image.is_in_place());
    let pin =
        |image: &MappedImage| convert(&normalized(&image.source), &image.destination.to_string());
    images.map(pin).collect()
}

/// The name that BuildKit gives to a reference: with `latest` if it has neither tag nor digest.
pub(super) fn normalized(reference: &Reference) -> String {
    match (&reference.tag, &reference.digest) {
        (None, None) => format!("{reference}:latest"),
        _ => reference.to_string(),
    }
}

/// Pairs of digests first, then single tags, then whole repositories: the first CONVERT that matches
/// decides.
fn selected(mapping: &ImageMapping) -> Vec<Value> {
    let (mut pairs, mut tags, mut repositories) = (Vec::new(), Vec::new(), Vec::new());
    for rule in by_repository(mapping) {
        let RepositoryRule { from, to, fitting, others, intruder } = &rule;
        for (image, change) in others {
            match (change, &image.source.digest) {
                (Change::Digest, Some(digest)) => pairs.extend(pair(image, digest.as_str())),
                _ => tags.extend(single(image)),
            }
        }
        // a wildcard would serve tags of the other repository
        match intruder {
            Some(_) => tags.extend(fitting.iter().copied().flat_map(single)),
            None if fitting.is_empty() => {}
            None => repositories.push(convert(&format!("{from}:*"), &format!("{to}:${{1}}"))),
        }
        repositories.push(convert(&format!("{from}@*"), &format!("{to}@${{1}}")));
    }
    [pairs, tags, repositories].concat()
}

/// An upstream digest and that of its filtered copy.
fn pair(image: &MappedImage, digest: &str) -> [Value; 2] {
    let (from, to) = (image.source_name(), image.destination.to_string());
    [format!("{from}@{digest}"), format!("{from}:*@{digest}")].map(|from| convert(&from, &to))
}

/// One tag, also with a digest. A pinned image has a tag in the mirror only.
fn single(image: &MappedImage) -> Vec<Value> {
    let (from, to) = (image.source_name(), name(&image.destination));
    if let Some(digest) = &image.source.digest {
        let to = format!("{to}@{}", image.destination.digest.as_ref().unwrap_or(digest));
        let selectors = [format!("{from}@{digest}"), format!("{from}:*@{digest}")];
        return selectors.map(|from| convert(&from, &to)).to_vec();
    }
    let from = format!("{from}:{}", source_tag(&image.source));
    let to = match &image.destination.tag {
        Some(tag) => format!("{to}:{tag}"),
        None => image.destination.to_string(),
    };
    vec![convert(&from, &to), convert(&format!("{from}@*"), &format!("{to}@${{1}}"))]
}
