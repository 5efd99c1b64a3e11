//! Edits the references of a Dockerfile in place. Every other byte stays.

use std::path::Path;

use super::{
    LeftOut,
    contexts::uses,
    manifests::name_of,
    mapping::{ImageMapping, ImageUse, MappedImage, SpellingPart},
};
use crate::model::{Error, Kind, Reference, Result};

/// A file after the edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrittenFile {
    pub bytes: Vec<u8>,
    /// The number of references that were replaced.
    pub edits: usize,
    pub left_out: Vec<LeftOut>,
}

/// Replaces the references of `FROM`, `COPY --from` and `RUN --mount=from=` in this file by those of
/// the mirror. A literal reference is pinned. In one with variables the name is replaced, if it has
/// none itself.
///
/// # Errors
/// [`Kind::Configuration`] if the bytes of a use are not its reference: the file has changed.
pub fn rewrite(bytes: &[u8], file: &Path, mapping: &ImageMapping) -> Result<RewrittenFile> {
    let is_here = |place: &ImageUse| place.file == file && place.is_in_dockerfile();
    let mut places: Vec<_> = uses(mapping).filter(|(_, place)| is_here(place)).collect();
    places.sort_by_key(|(_, place)| place.spelling.span.start);
    let mut rewritten = RewrittenFile { bytes: Vec::new(), edits: 0, left_out: Vec::new() };
    let mut end = 0;
    for (image, place) in places {
        let (span, written) = (place.spelling.span.clone(), place.spelling.written());
        if span.start < end || bytes.get(span.clone()) != Some(written.as_bytes()) {
            let problem = format!("{} does not name `{written}` any more", place.place());
            return Err(Error::new(Kind::Configuration, problem)
                .hint("run the command again, and do not edit the file meanwhile"));
        }
        rewritten.bytes.extend_from_slice(&bytes[end..span.start]);
        match replacement(image, &place.spelling.parts) {
            Some(text) => {
                rewritten.bytes.extend_from_slice(text.as_bytes());
                rewritten.edits += 1;
            }
            None => {
                rewritten.bytes.extend_from_slice(written.as_bytes());
                let at = place.place();
                let reason =
                    format!("at {at} is written with variables: set the default of its `ARG`");
                rewritten.left_out.push(image.left_out(reason));
            }
        }
        end = span.end;
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
