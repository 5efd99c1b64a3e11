//! Edits the references of a Dockerfile in place. Every other byte stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    OmittedImage,
    contexts::{missing_uses, uses},
    manifests::name_of,
    mapping::{ImageMapping, ImageUse, MappedImage, SpellingPart, UseKind},
};
use crate::model::{Error, Kind, Reference, Result};

/// A file after the edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrittenFile {
    pub bytes: Vec<u8>,
    /// In the order of the file.
    pub edits: Vec<Edit>,
    pub omitted: Vec<OmittedImage>,
}

/// A reference that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// From 1.
    pub line: usize,
    pub from: String,
    pub to: String,
}

/// The files in which [`rewrite`] finds references of the mapping.
pub fn dockerfiles(mapping: &ImageMapping) -> BTreeSet<&Path> {
    let places = uses(mapping).map(|(_, place)| place).filter(|place| place.is_in_dockerfile());
    places.map(|place| place.file.as_path()).collect()
}

/// A line for each `# syntax=`, which [`rewrite`] keeps: its place, and the build argument that
/// replaces it.
pub fn syntax_lines(mapping: &ImageMapping) -> BTreeSet<String> {
    let places = uses(mapping).filter(|(_, place)| place.kind == UseKind::Syntax);
    let lines = places.map(|(image, place)| {
        let (at, to) = (place.place(), &image.destination);
        format!("{at}: `# syntax=` is kept: build with `--build-arg BUILDKIT_SYNTAX={to}`")
    });
    lines.collect()
}

/// Replaces the references of `FROM`, `COPY --from` and `RUN --mount=from=` in this file by those of
/// the mirror. A literal reference is pinned. In one with variables the name is replaced, if it has
/// none itself.
///
/// # Errors
/// [`Kind::Configuration`] if the bytes of a use are not its reference: the file has changed.
pub fn rewrite(bytes: &[u8], file: &Path, mapping: &ImageMapping) -> Result<RewrittenFile> {
    // several builds of one file can use several images in one place
    let mut places: BTreeMap<usize, Vec<(&MappedImage, &ImageUse)>> = BTreeMap::new();
    let is_here = |place: &ImageUse| place.file == file && place.is_in_dockerfile();
    for (image, place) in uses(mapping).filter(|(_, place)| is_here(place)) {
        places.entry(place.spelling.span.start).or_default().push((image, place));
    }
    let mut rewritten = RewrittenFile { bytes: Vec::new(), edits: Vec::new(), omitted: Vec::new() };
    let mut end = 0;
    for uses in places.into_values() {
        let (image, place) = uses[0];
        let (span, written) = (place.spelling.span.clone(), place.spelling.written());
        if span.start < end || bytes.get(span.clone()) != Some(written.as_bytes()) {
            let problem = format!("{} does not name `{written}` any more", place.place());
            return Err(Error::new(Kind::Configuration, problem)
                .hint("run the command again, and do not edit the file meanwhile"));
        }
        rewritten.bytes.extend_from_slice(&bytes[end..span.start]);
        end = span.end;
        let texts = uses.iter().map(|(image, place)| replacement(image, &place.spelling.parts));
        let mut texts: Vec<Option<String>> = texts.collect();
        texts.dedup();
        let is_same = |other: &ImageUse| is_here(other) && other.spelling.span.start == span.start;
        let missing = missing_uses(mapping).find(|(_, other)| is_same(other));
        if let Some((missing, _)) = missing {
            rewritten.bytes.extend_from_slice(written.as_bytes());
            let reason = format!("shares {} {}", place.place(), missing.conflict());
            rewritten.omitted.push(image.omitted(reason));
        } else if let [Some(to)] = &texts[..] {
            rewritten.bytes.extend_from_slice(to.as_bytes());
            rewritten.edits.push(Edit { line: place.line, from: written, to: to.clone() });
        } else {
            rewritten.bytes.extend_from_slice(written.as_bytes());
            let reason = format!(
                "at {} is written with variables: set the default of its `ARG`",
                place.place()
            );
            rewritten.omitted.push(image.omitted(reason));
        }
    }
    rewritten.bytes.extend_from_slice(&bytes[end..]);
    Ok(rewritten)
}

fn replacement(image: &MappedImage, parts: &[SpellingPart]) -> Option<String> {
    if parts.iter().all(|part| part.written == part.expanded) {
        return Some(image.destination.to_string());
    }
    let first = parts.first().filter(|part| part.written == part.expanded)?;
    let name = name_of(&first.written);
    let is_whole = name.len() < first.written.len()
        && name.parse::<Reference>().is_ok_and(|named| {
            (&named.host, &named.repository) == (&image.source.host, &image.source.repository)
        });
    if !is_whole || image.change().is_some() {
        return None;
    }
    let rest: String = parts[1..].iter().map(|part| part.written.as_str()).collect();
    Some(format!("{}{}{rest}", image.destination_name(), &first.written[name.len()..]))
}
