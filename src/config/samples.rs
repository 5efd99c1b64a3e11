//! An image of each naming rule, for `check -v`.

use std::collections::BTreeSet;

use super::{
    context::{ReadEntry, Tables},
    images::Tags,
    problem::Span,
};
use crate::model::{Tag, TagOrDigest};

/// The first image that a naming rule applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamingSample {
    /// The rule as written, and its line; that of the default has none.
    pub(crate) rule: String,
    /// The references, without a tag if the tags are selected.
    pub(crate) source: String,
    pub(crate) destination: String,
}

/// A sample of each naming rule and each `retag`, in the order of the images.
pub(super) fn of(entries: &[ReadEntry], tables: &Tables<'_>) -> Vec<NamingSample> {
    let mut seen: BTreeSet<(Option<usize>, Option<usize>)> = BTreeSet::new();
    let mut samples = Vec::new();
    for read in entries {
        for (target, rule) in read.entry.mirrored.iter().zip(&read.rules) {
            let start = |span: &Option<Span>| span.as_ref().map(|span| span.start);
            if !seen.insert((start(rule), start(&read.retag))) {
                continue;
            }
            let entry = &read.entry;
            let tag = match &entry.tags {
                Tags::Exact(tags) => tags.first(),
                Tags::Pinned { tag, .. } => Some(tag),
                Tags::Selected(_) => None,
            };
            let location = tables.location(target.destination);
            let at = |tag: &Tag| TagOrDigest::Tag(tag.clone());
            // a `retag` with a digest is known only when the source was asked
            let made = tag.and_then(|tag| entry.retag.apply(tag, entry.pin()).ok());
            let destination = match &made {
                Some(made) => location.reference(&target.repository, &at(made)),
                None => location.repository(&target.repository),
            };
            let tag = tag.filter(|_| made.is_some());
            let tag = tag.map(|tag| at(tag).to_string()).unwrap_or_default();
            samples.push(NamingSample {
                rule: rule_name(rule, &read.retag, tables),
                source: format!("{}/{}{tag}", entry.host, entry.repository),
                destination,
            });
        }
    }
    samples
}

fn rule_name(rule: &Option<Span>, retag: &Option<Span>, tables: &Tables<'_>) -> String {
    let shown = |key: &str, span: &Span| {
        let file = tables.file.sources.file(span);
        let text = file.text.get(file.local(span)).unwrap_or_default();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("`{key} = {text}` in line {}", tables.file.line_of(span))
    };
    let rule = match rule {
        Some(span) => shown("repository", span),
        None => "the default, `{repository}`".to_owned(),
    };
    match retag {
        Some(span) => format!("{rule}, {}", shown("retag", span)),
        None => rule,
    }
}
