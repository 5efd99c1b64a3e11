//! The fallback tag of a subject: an index of its referrers, for registries without the referrers
//! API and for layouts.
//!
//! Source: distribution specification 1.1, "Referrers Tag Schema".

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    content::{MediaType, RawManifest},
    error::Result,
    names::{Digest, Tag},
};

/// The tag of the index of this manifest's referrers.
pub(crate) fn of(subject: &Digest) -> Tag {
    format!("sha256-{}", subject.hex()).parse().expect("hexadecimal digits make a tag")
}

/// Returns `true` for a fallback tag, and for cosign's tags, which begin with one.
pub(crate) fn is_derived(tag: &str) -> bool {
    let hex = tag.strip_prefix("sha256-").and_then(|rest| rest.get(..64));
    hex.is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The index with the referrer added; `None` if the index lists it, or if it has no subject.
///
/// # Errors
/// [`Kind::TooLarge`](super::Kind) if the index becomes too large.
pub(crate) fn with_referrer(
    index: Option<&RawManifest>,
    referrer: &RawManifest,
) -> Result<Option<RawManifest>> {
    let Some(entry) = entry_of(referrer) else { return Ok(None) };
    let mut manifests = index.map(entries_of).unwrap_or_default();
    if manifests.iter().any(|known| known["digest"] == entry["digest"]) {
        return Ok(None);
    }
    manifests.push(entry);
    let media_type = MediaType::OciIndex.as_str();
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    RawManifest::new(Bytes::from(index.to_string()), Some(media_type)).map(Some)
}

fn entries_of(index: &RawManifest) -> Vec<Value> {
    let document: Value = serde_json::from_slice(index.bytes()).unwrap_or_default();
    document["manifests"].as_array().cloned().unwrap_or_default()
}

/// The referrer's entry in an index; `None` without a subject.
fn entry_of(referrer: &RawManifest) -> Option<Value> {
    let (_, artifact_type) = referrer.reference()?;
    let document: Value = serde_json::from_slice(referrer.bytes()).ok()?;
    let mut entry = json!({
        "mediaType": referrer.media_type().as_str(),
        "digest": referrer.digest().as_str(),
        "size": referrer.bytes().len(),
    });
    if let Some(artifact_type) = artifact_type {
        entry["artifactType"] = artifact_type.into();
    }
    if document["annotations"].is_object() {
        entry["annotations"] = document["annotations"].clone();
    }
    Some(entry)
}
