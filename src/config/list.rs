//! `[[list]]`: a file with one reference a line, as releases and other programs write them.
//!
//! Problems of a line point into the list.

use std::collections::{HashMap, HashSet};

use super::{
    context::{ReadEntry, Tables},
    document::{Keys, Table, Text},
    entry::{self, Draft, DraftTag, ImageKeys, Level},
    problem::{Problem, Span},
    select,
    source::SourceFile,
};
use crate::model::{Digest, Host, Reference, Repository, Tag, select::Selection};

pub(super) const KEYS: Keys = Keys {
    title: "`[[list]]`",
    names: "file select name repository retag destinations platforms missing_platform attestations \
        signatures foreign_layers flatten via archived on_conflict",
};

/// The lines with a mistake that are shown.
const MAX_PROBLEMS: usize = 20;

/// The images of a list, one batch for each repository, and the mistakes in its lines.
pub(super) struct ReadList {
    pub(super) entries: Vec<Vec<ReadEntry>>,
    pub(super) problems: Vec<Problem>,
}

pub(super) fn read(table: &Table<'_>, tables: &Tables<'_>) -> Result<ReadList, Problem> {
    let hint = "add the path of a list, like `file = \"images.txt\"`";
    let file = table.word("file")?.ok_or_else(|| table.missing("file", hint))?;
    let settings = ListSettings {
        name: table.word("name")?.map(|name| name.to_string()),
        selection: select::read(table)?,
        keys: entry::image_keys(table, Level::List, tables.destinations)?,
    };
    let list = tables.file.sources.list(&file)?;
    let mut problems = Vec::new();
    let mut repositories = Repositories::default();
    for (text, span) in references(&list) {
        match text.parse::<Reference>() {
            Ok(reference) => repositories.add(reference, text, span, settings.selection.is_some()),
            Err(error) => problems.push(Problem::invalid_name(&span, error)),
        }
    }
    let mut entries = Vec::new();
    for draft in repositories.drafts {
        let reference = draft.reference.clone();
        match entry::entries(settings.with_keys(draft), reference, tables) {
            Ok(read) => entries.push(read),
            Err(problem) => problems.push(problem),
        }
    }
    if entries.is_empty() && problems.is_empty() {
        let label = format!("`{}` has no image", list.name);
        return Err(
            Problem::at(&file.span, label).hint("write one reference a line, like `nginx:1.27`")
        );
    }
    problems.sort_by_key(Problem::start);
    if problems.len() > MAX_PROBLEMS {
        let label = format!("{} more lines have a mistake", problems.len() - MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        problems.push(
            Problem::at(&file.span, label).hint("write one reference a line, like `nginx:1.27`"),
        );
    }
    Ok(ReadList { entries, problems })
}

/// The keys of a list, for each of its images.
struct ListSettings {
    name: Option<String>,
    /// For the repositories without a tag.
    selection: Option<Selection>,
    keys: ImageKeys,
}

impl ListSettings {
    fn with_keys(&self, listed: ListedRepository) -> Draft {
        let ListedRepository { source, tags, is_selected, .. } = listed;
        Draft {
            name: self.name.clone(),
            selection: self.selection.clone().filter(|_| is_selected),
            keys: self.keys.clone(),
            source,
            tags,
        }
    }
}

/// The repositories of a list in its order, with their tags.
#[derive(Default)]
struct Repositories {
    drafts: Vec<ListedRepository>,
    indexes: HashMap<(Host, Repository), usize>,
    seen: HashSet<(usize, Tag, Option<Digest>)>,
}

struct ListedRepository {
    /// The first reference to it.
    source: Text,
    reference: Reference,
    tags: Vec<DraftTag>,
    /// A line names it without a tag, and the list has a `select`.
    is_selected: bool,
}

impl Repositories {
    fn add(&mut self, reference: Reference, text: &str, span: Span, selects: bool) {
        let tag = match (&reference.tag, &reference.digest) {
            (None, None) if selects => None,
            (None, None) => Some(entry::latest(span.clone())),
            (Some(tag), digest) => {
                Some(DraftTag { tag: tag.clone(), digest: digest.clone(), span: span.clone() })
            }
            (None, Some(digest)) => {
                let tag = format!("sha256-{}", digest.short());
                let tag = tag.parse().expect("letters, `-` and digits are a tag");
                Some(DraftTag { tag, digest: Some(digest.clone()), span: span.clone() })
            }
        };
        let key = (reference.host.clone(), reference.repository.clone());
        let index = *self.indexes.entry(key).or_insert_with(|| {
            let source = Text::plain(text, span);
            let (tags, is_selected) = (Vec::new(), false);
            self.drafts.push(ListedRepository { source, reference, tags, is_selected });
            self.drafts.len() - 1
        });
        let listed = &mut self.drafts[index];
        let Some(tag) = tag else {
            listed.is_selected = true;
            return;
        };
        if self.seen.insert((index, tag.tag.clone(), tag.digest.clone())) {
            listed.tags.push(tag);
        }
    }
}

/// The references of a list, with their spans. Skips blank lines and comments.
fn references(list: &SourceFile) -> impl Iterator<Item = (&str, Span)> {
    let mut at = 0;
    list.text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        let reference = reference(line);
        let offset = start + (reference.as_ptr() as usize - line.as_ptr() as usize);
        (!reference.is_empty()).then(|| (reference, list.span(offset..offset + reference.len())))
    })
}

/// The reference of a line: without `image=`, quotes, a comma, a comment. A part of `line`.
fn reference(line: &str) -> &str {
    let line = line.trim_start_matches('\u{feff}');
    let comment = line
        .match_indices('#')
        .find(|(at, _)| *at == 0 || line[..*at].ends_with(|c: char| c.is_whitespace() || c == ','));
    let text = line[..comment.map_or(line.len(), |(at, _)| at)].trim();
    let text = text.strip_prefix("- ").unwrap_or(text).trim_start();
    let text = text.trim_end_matches(',').trim_end();
    let text = without_key(unquoted(text));
    let text = unquoted(text.trim_end_matches(',').trim());
    text.strip_prefix("docker://").unwrap_or(text)
}

/// The text without `image=` or `image:`.
fn without_key(text: &str) -> &str {
    let key = unquoted_key(text);
    let rest = text[key..].trim_start();
    let value = rest.strip_prefix('=').or_else(|| {
        // `image:tag` is a reference
        rest.strip_prefix(':').filter(|rest| rest.starts_with([' ', '\t', '"', '\'']))
    });
    value.filter(|_| key > 0).map_or(text, str::trim_start)
}

/// The length of `image` at the beginning, with its quotes; 0 if the text begins otherwise.
fn unquoted_key(text: &str) -> usize {
    let keys = ["image", "\"image\"", "'image'", "IMAGE", "Image"];
    keys.iter().find(|key| text.starts_with(**key)).map_or(0, |key| key.len())
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        // `"image": "nginx"` is no text in quotes
        if let Some(inner) = inner.filter(|inner| !inner.contains(quote)) {
            return inner.trim();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_list_has_one_reference() {
        for (line, expected) in [
            ("nginx:1.27\n", "nginx:1.27"),
            ("  docker.io/rancher/pause:3.6  \r\n", "docker.io/rancher/pause:3.6"),
            ("\u{feff}nginx:1\n", "nginx:1"),
            ("image=quay.io/a/b:1\n", "quay.io/a/b:1"),
            ("image = \"quay.io/a/b:1\",\n", "quay.io/a/b:1"),
            ("image: quay.io/a/b:1 # pinned\n", "quay.io/a/b:1"),
            ("  - image: 'quay.io/a/b:1'\n", "quay.io/a/b:1"),
            ("\"image\": \"quay.io/a/b:1\",\n", "quay.io/a/b:1"),
            ("\"image=quay.io/a/b:1\",\n", "quay.io/a/b:1"),
            ("image:tag\n", "image:tag"),
            ("imagetools/x:1\n", "imagetools/x:1"),
            ("- nginx\n", "nginx"),
            ("'nginx:1',", "nginx:1"),
            ("\"nginx:1\" ,  # web\n", "nginx:1"),
            ("docker://nginx:1", "nginx:1"),
            ("# a comment\n", ""),
            (" \t# a comment\n", ""),
            ("\r\n", ""),
            ("", ""),
            ("a b\n", "a b"),
        ] {
            assert_eq!(reference(line), expected, "{line:?}");
        }
    }
}
