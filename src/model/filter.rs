//! The platform filter: which entries of an index stay, and the index that is left.
//!
//! Pure and byte-deterministic: the same index and filter give the same bytes
//! on every machine. The document is edited as JSON, order and unknown fields
//! kept; where nothing is removed, the original bytes are the result.

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

/// The annotation that names the index a filtered one was made from.
pub const SOURCE_DIGEST: &str = "dev.ecr-mirror.source.digest";

/// The annotation that names the filter, in canonical form.
pub const FILTER: &str = "dev.ecr-mirror.filter";

/// What an index entry turned out to be, where its descriptor alone does not tell.
#[derive(Debug, Clone)]
pub enum EntryContent {
    /// A nested index, filtered already.
    Index(Filtered),
    /// An image without a platform in the index, and what its configuration says.
    Image(Platform),
}

/// An index after the filter.
#[derive(Debug, Clone)]
pub struct Filtered {
    /// The index to push; the original where nothing was removed.
    pub manifest: RawManifest,
    /// The entries that stay, in its order.
    pub kept: Vec<Descriptor>,
    /// The platforms that stay.
    pub platforms: Vec<Platform>,
    /// The platforms the source has.
    pub available: Vec<Platform>,
}

/// The fate of one entry.
enum Decision {
    Keep,
    Drop,
    Replace(RawManifest),
}

/// Filters an index; `known` tells what descriptors alone do not.
///
/// Attestations stay with the image they describe. Entries without any
/// platform stay only when all platforms are wanted. The result carries no
/// annotations of ours: see [`annotated`].
///
/// # Errors
/// [`Kind::Corrupt`] when the document does not read as an index.
pub fn filter(
    raw: &RawManifest,
    index: &Index,
    want: &Filter,
    known: &HashMap<Digest, EntryContent>,
) -> Result<Filtered> {
    let mut fates: Vec<Decision> =
        index.manifests.iter().map(|entry| fate_of(entry, want, known)).collect();
    settle_attestations(index, want, &mut fates);

    let entries = || index.manifests.iter().zip(&fates);
    let staying = || entries().filter(|(_, fate)| !matches!(fate, Decision::Drop));
    let of_all = entries().map(|(entry, _)| entry);
    let available = platforms_of(of_all, known, |nested| &nested.available);
    let of_staying = staying().map(|(entry, _)| entry);
    let platforms = platforms_of(of_staying, known, |nested| &nested.platforms);
    let kept = staying().map(|(entry, fate)| standing(entry, fate)).collect();
    let manifest = match fates.iter().all(|fate| matches!(fate, Decision::Keep)) {
        true => raw.clone(),
        false => edited(raw, |document| apply(document, &fates))?,
    };
    Ok(Filtered { manifest, kept, platforms, available })
}

/// The entry as it stands in the index that is left.
fn standing(entry: &Descriptor, fate: &Decision) -> Descriptor {
    let mut entry = entry.clone();
    if let Decision::Replace(nested) = fate {
        entry.size = nested.bytes().len() as u64;
        entry.digest = nested.digest().clone();
    }
    entry
}

fn fate_of(entry: &Descriptor, want: &Filter, known: &HashMap<Digest, EntryContent>) -> Decision {
    match known.get(&entry.digest) {
        Some(EntryContent::Index(nested)) if nested.kept.is_empty() => Decision::Drop,
        Some(EntryContent::Index(nested)) if nested.manifest.digest() != &entry.digest => {
            Decision::Replace(nested.manifest.clone())
        }
        Some(EntryContent::Index(_)) => Decision::Keep,
        Some(EntryContent::Image(platform)) if want.platforms.matches(platform) => Decision::Keep,
        Some(EntryContent::Image(_)) => Decision::Drop,
        None => match (&entry.platform, &want.platforms) {
            (_, Platforms::All) => Decision::Keep,
            (Some(platform), wanted) if wanted.matches(platform) => Decision::Keep,
            _ => Decision::Drop,
        },
    }
}

/// An attestation shares the fate of its image, unless attestations are not wanted at all.
fn settle_attestations(index: &Index, want: &Filter, fates: &mut [Decision]) {
    let kept: HashSet<&str> = (index.manifests.iter().zip(&*fates))
        .filter(|(entry, fate)| entry.attests().is_none() && !matches!(fate, Decision::Drop))
        .map(|(entry, _)| entry.digest.as_str())
        .collect();
    for (entry, fate) in index.manifests.iter().zip(fates) {
        if let Some(subject) = entry.attests() {
            let stays = want.attestations == Attestations::Keep
                && (want.platforms == Platforms::All || kept.contains(subject));
            *fate = if stays { Decision::Keep } else { Decision::Drop };
        }
    }
}

/// The platforms of these entries, each once, in their order.
fn platforms_of<'a>(
    entries: impl Iterator<Item = &'a Descriptor>,
    known: &'a HashMap<Digest, EntryContent>,
    of: impl Fn(&Filtered) -> &Vec<Platform>,
) -> Vec<Platform> {
    let (mut seen, mut looked_into) = (HashSet::new(), HashSet::new());
    let told = entries.flat_map(|entry| match known.get(&entry.digest) {
        // once, though it be listed a thousand times with a thousand platforms
        Some(EntryContent::Index(_)) if !looked_into.insert(&entry.digest) => &[],
        Some(EntryContent::Index(nested)) => of(nested).as_slice(),
        Some(EntryContent::Image(platform)) => slice::from_ref(platform),
        None => entry.platform.as_slice(),
    });
    told.filter(|platform| !platform.is_unknown() && seen.insert(*platform)).cloned().collect()
}

fn apply(document: &mut Map<String, Value>, fates: &[Decision]) {
    let Some(Value::Array(entries)) = document.get_mut("manifests") else { return };
    for (entry, fate) in entries.iter_mut().zip(fates) {
        if let (Value::Object(entry), Decision::Replace(nested)) = (entry, fate) {
            entry.insert("digest".into(), nested.digest().as_str().into());
            entry.insert("size".into(), nested.bytes().len().into());
        }
    }
    let mut fates = fates.iter();
    entries.retain(|_| fates.next().is_some_and(|fate| !matches!(fate, Decision::Drop)));
}

/// The document with a change; the same document and change give the same bytes.
fn edited(raw: &RawManifest, change: impl FnOnce(&mut Map<String, Value>)) -> Result<RawManifest> {
    let mut document: Map<String, Value> = serde_json::from_slice(raw.bytes())
        .map_err(|cause| Error::new(Kind::Corrupt, "the index is not JSON").because(cause))?;
    change(&mut document);
    let bytes = serde_json::to_vec(&document).expect("a JSON object serialises");
    RawManifest::new(Bytes::from(bytes), Some(raw.media_type().as_str()))
}

/// The filtered index with the annotations that let a later run recognise it without a pull.
///
/// Docker manifest lists cannot carry any, and what is not changed needs none.
///
/// # Errors
/// Those of making a manifest: it could have grown too large.
pub fn annotated(filtered: Filtered, source: &Digest, want: &Filter) -> Result<Filtered> {
    let unchanged = filtered.manifest.digest() == source;
    if unchanged || filtered.manifest.media_type() != MediaType::OciIndex {
        return Ok(filtered);
    }
    let manifest = edited(&filtered.manifest, |document| {
        let notes = document.entry("annotations").or_insert_with(|| Map::new().into());
        if !notes.is_object() {
            *notes = Map::new().into();
        }
        if let Value::Object(notes) = notes {
            notes.insert(SOURCE_DIGEST.into(), source.as_str().into());
            notes.insert(FILTER.into(), want.canonical().into());
        }
    })?;
    Ok(Filtered { manifest, ..filtered })
}

/// Whether this index is what the filter made of that source: nothing has to be asked to know.
pub fn is_made_from(index: &Index, source: &Digest, want: &Filter) -> bool {
    let note = |key: &str| index.annotations.get(key).map(String::as_str);
    note(SOURCE_DIGEST) == Some(source.as_str()) && note(FILTER) == Some(&want.canonical())
}

/// What is to be said about wanted platforms that the image has not.
///
/// `Ok(Some(warning))` when that is no failure.
///
/// # Errors
/// [`Kind::PlatformMissing`], naming them and listing what there is, when it
/// is one, and always when nothing at all would be left.
pub fn check_platforms(
    want: &Filter,
    kept: &[Platform],
    available: &[Platform],
) -> Result<Option<String>> {
    let missing = want.platforms.missing_from(kept);
    if missing.is_empty() {
        return Ok(None);
    }
    let problem = format!("no image for {} (there is: {})", list(missing), list(available));
    if want.missing == MissingPlatform::Warn && !kept.is_empty() {
        return Ok(Some(problem));
    }
    Err(Error::new(Kind::PlatformMissing, problem)
        .hint("change `platforms`, or set `missing_platform = \"warn\"` to mirror what there is"))
}

/// How many platforms are listed for people, and how long each may be.
const LISTED: (usize, usize) = (32, 64);

fn list<'a>(platforms: impl IntoIterator<Item = &'a Platform>) -> String {
    let (most, longest) = LISTED;
    let mut platforms = platforms.into_iter();
    let name = |platform: &Platform| platform.to_string().chars().take(longest).collect();
    let names: Vec<String> = platforms.by_ref().take(most).map(name).collect();
    match (names.is_empty(), platforms.count()) {
        (true, _) => "none".to_owned(),
        (_, 0) => names.join(", "),
        (_, more) => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
