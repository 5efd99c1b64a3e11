//! The platform filter: removes entries from an index.
//!
//! Pure and deterministic: the same index and filter give the same bytes on every machine. Edits the
//! document as JSON and keeps the order and unknown fields. If no entry is removed, the result has
//! the original bytes.

use std::{
    collections::{HashMap, HashSet},
    slice,
};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{
    content::{Descriptor, Index, MediaType, RawManifest},
    error::{Error, Kind, Result},
    image::{Attestations, Filter, MissingPlatform},
    names::Digest,
    platform::{Platform, Platforms},
};

/// The annotation with the digest of the index that was filtered.
pub const SOURCE_DIGEST: &str = "dev.ecr-mirror.source.digest";

/// The annotation with the filter, in canonical form.
pub const FILTER: &str = "dev.ecr-mirror.filter";

/// The content of an index entry, if its descriptor does not suffice.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// A nested index, already filtered.
    Index(Filtered),
    /// An image without a platform in the index, and the platform of its configuration.
    Image(Platform),
    /// An attestation that the source lists and does not serve.
    Unserved,
}

#[derive(Debug, Clone)]
pub struct Filtered {
    /// The index to push; the original if no entry was removed.
    pub manifest: RawManifest,
    /// The remaining entries, in order.
    pub kept: Vec<Descriptor>,
    pub platforms: Vec<Platform>,
    pub available: Vec<Platform>,
}

enum Decision {
    Keep,
    Drop,
    Replace(RawManifest),
}

/// Filters an index. `contents` completes the descriptors that do not suffice.
///
/// Attestations stay with the image that they describe. Entries without a platform stay only if the
/// filter keeps all platforms. Adds no annotations: see [`annotated`].
///
/// # Errors
/// [`Kind::Corrupt`] if the document is not an index.
pub fn filter(
    raw: &RawManifest,
    index: &Index,
    filter: &Filter,
    contents: &HashMap<Digest, EntryContent>,
) -> Result<Filtered> {
    let mut decisions: Vec<Decision> =
        index.manifests.iter().map(|entry| decide(entry, filter, contents)).collect();
    decide_attestations(index, filter, contents, &mut decisions);

    let entries = || index.manifests.iter().zip(&decisions);
    let remaining = || entries().filter(|(_, decision)| !matches!(decision, Decision::Drop));
    let all = entries().map(|(entry, _)| entry);
    let available = platforms_of(all, contents, |nested| &nested.available);
    let kept = remaining().map(|(entry, _)| entry);
    let platforms = platforms_of(kept, contents, |nested| &nested.platforms);
    let kept = remaining().map(|(entry, decision)| replaced(entry, decision)).collect();
    let manifest = match decisions.iter().all(|decision| matches!(decision, Decision::Keep)) {
        true => raw.clone(),
        false => edited(raw, |document| apply(document, &decisions))?,
    };
    Ok(Filtered { manifest, kept, platforms, available })
}

fn replaced(entry: &Descriptor, decision: &Decision) -> Descriptor {
    let mut entry = entry.clone();
    if let Decision::Replace(nested) = decision {
        entry.size = nested.bytes().len() as u64;
        entry.digest = nested.digest().clone();
    }
    entry
}

fn decide(
    entry: &Descriptor,
    filter: &Filter,
    contents: &HashMap<Digest, EntryContent>,
) -> Decision {
    match contents.get(&entry.digest) {
        Some(EntryContent::Index(nested)) if nested.kept.is_empty() => Decision::Drop,
        Some(EntryContent::Index(nested)) if nested.manifest.digest() != &entry.digest => {
            Decision::Replace(nested.manifest.clone())
        }
        Some(EntryContent::Index(_)) => Decision::Keep,
        Some(EntryContent::Image(platform)) if filter.platforms.matches(platform) => Decision::Keep,
        Some(EntryContent::Image(_) | EntryContent::Unserved) => Decision::Drop,
        None => match (&entry.platform, &filter.platforms) {
            (_, Platforms::All) => Decision::Keep,
            (Some(platform), platforms) if platforms.matches(platform) => Decision::Keep,
            _ => Decision::Drop,
        },
    }
}

/// Keeps an attestation if its image is kept, unless the filter drops all attestations or the source
/// does not serve it.
fn decide_attestations(
    index: &Index,
    filter: &Filter,
    contents: &HashMap<Digest, EntryContent>,
    decisions: &mut [Decision],
) {
    let kept: HashSet<&str> = (index.manifests.iter().zip(&*decisions))
        .filter(|(entry, decision)| {
            entry.attests().is_none() && !matches!(decision, Decision::Drop)
        })
        .map(|(entry, _)| entry.digest.as_str())
        .collect();
    for (entry, decision) in index.manifests.iter().zip(decisions) {
        if let Some(subject) = entry.attests() {
            let is_served = !matches!(contents.get(&entry.digest), Some(EntryContent::Unserved));
            let stays = is_served
                && filter.attestations == Attestations::Keep
                && (filter.platforms == Platforms::All || kept.contains(subject));
            *decision = if stays { Decision::Keep } else { Decision::Drop };
        }
    }
}

/// The platforms of these entries, each once, in order.
fn platforms_of<'a>(
    entries: impl Iterator<Item = &'a Descriptor>,
    contents: &'a HashMap<Digest, EntryContent>,
    of_nested: impl Fn(&Filtered) -> &Vec<Platform>,
) -> Vec<Platform> {
    let (mut seen, mut expanded) = (HashSet::new(), HashSet::new());
    let platforms = entries.flat_map(|entry| match contents.get(&entry.digest) {
        // an index can be listed a thousand times with a thousand platforms
        Some(EntryContent::Index(_)) if !expanded.insert(&entry.digest) => &[],
        Some(EntryContent::Index(nested)) => of_nested(nested).as_slice(),
        Some(EntryContent::Image(platform)) => slice::from_ref(platform),
        Some(EntryContent::Unserved) => &[],
        None => entry.platform.as_slice(),
    });
    platforms.filter(|platform| !platform.is_unknown() && seen.insert(*platform)).cloned().collect()
}

fn apply(document: &mut Map<String, Value>, decisions: &[Decision]) {
    let Some(Value::Array(entries)) = document.get_mut("manifests") else { return };
    for (entry, decision) in entries.iter_mut().zip(decisions) {
        if let (Value::Object(entry), Decision::Replace(nested)) = (entry, decision) {
            entry.insert("digest".into(), nested.digest().as_str().into());
            entry.insert("size".into(), nested.bytes().len().into());
        }
    }
    let mut decisions = decisions.iter();
    entries.retain(|_| decisions.next().is_some_and(|next| !matches!(next, Decision::Drop)));
}

/// The changed document. Equal documents and changes give equal bytes.
fn edited(raw: &RawManifest, change: impl FnOnce(&mut Map<String, Value>)) -> Result<RawManifest> {
    let mut document: Map<String, Value> = serde_json::from_slice(raw.bytes())
        .map_err(|cause| Error::new(Kind::Corrupt, "the index is not JSON").because(cause))?;
    change(&mut document);
    let bytes = serde_json::to_vec(&document).expect("a JSON object serialises");
    RawManifest::new(Bytes::from(bytes), Some(raw.media_type().as_str()))
}

/// Adds the annotations by which a later run detects without a pull that the index is up to date.
///
/// Returns Docker manifest lists, which cannot have annotations, and unchanged indexes as they are.
///
/// # Errors
/// [`Kind::TooLarge`] if the annotations make the manifest too large.
pub fn annotated(filtered: Filtered, source: &Digest, filter: &Filter) -> Result<Filtered> {
    let unchanged = filtered.manifest.digest() == source;
    if unchanged || filtered.manifest.media_type() != MediaType::OciIndex {
        return Ok(filtered);
    }
    let manifest = edited(&filtered.manifest, |document| {
        let annotations = document.entry("annotations").or_insert_with(|| Map::new().into());
        if !annotations.is_object() {
            *annotations = Map::new().into();
        }
        if let Value::Object(annotations) = annotations {
            annotations.insert(SOURCE_DIGEST.into(), source.as_str().into());
            annotations.insert(FILTER.into(), filter.canonical().into());
        }
    })?;
    Ok(Filtered { manifest, ..filtered })
}

/// The digest of the source that a filter made the index of, if its annotations name one.
pub(crate) fn recorded_source(index: &Index) -> Option<&str> {
    index.annotations.get(SOURCE_DIGEST).map(String::as_str)
}

/// Returns `true` if the annotations show that this filter made the index from that source.
pub fn is_made_from(index: &Index, source: &Digest, filter: &Filter) -> bool {
    let annotation = |key: &str| index.annotations.get(key).map(String::as_str);
    annotation(SOURCE_DIGEST) == Some(source.as_str())
        && annotation(FILTER) == Some(&filter.canonical())
}

/// Checks that the image has the platforms of the filter. Returns a warning for missing platforms
/// if the filter allows them.
///
/// # Errors
/// [`Kind::PlatformMissing`], with the missing and the available platforms, if the filter does not
/// allow them or if no platform remains.
pub fn check_platforms(
    filter: &Filter,
    kept: &[Platform],
    available: &[Platform],
) -> Result<Option<String>> {
    let missing = filter.platforms.missing_from(kept);
    if missing.is_empty() {
        return Ok(None);
    }
    let problem = format!("no image for {} (available: {})", list(missing), list(available));
    if filter.missing == MissingPlatform::Warn && !kept.is_empty() {
        return Ok(Some(problem));
    }
    Err(Error::new(Kind::PlatformMissing, problem)
        .hint("change `platforms`, or set `missing_platform = \"warn\"` to mirror the available platforms"))
}

/// Checks an image whose configuration does not name its platform. Returns a warning if the filter
/// allows missing platforms.
///
/// # Errors
/// [`Kind::PlatformMissing`] if it does not.
pub(crate) fn check_unknown_platform(filter: &Filter) -> Result<String> {
    let problem = format!("the image does not name its platform ({} wanted)", filter.platforms);
    match filter.missing {
        MissingPlatform::Warn => Ok(problem),
        MissingPlatform::Fail => Err(Error::new(Kind::PlatformMissing, problem)
            .hint("set `missing_platform = \"warn\"` to mirror the image as it is")),
    }
}

/// The platforms that a message lists, and the characters of each.
const MAX_LISTED: usize = 32;
const MAX_CHARACTERS: usize = 64;

fn list<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let mut platforms = platforms.into_iter();
    let name = |platform: &Platform| platform.to_string().chars().take(MAX_CHARACTERS).collect();
    let names: Vec<String> = platforms.by_ref().take(MAX_LISTED).map(name).collect();
    match (names.is_empty(), platforms.count()) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
