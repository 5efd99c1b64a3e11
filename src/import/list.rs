//! Reads plain lists: one reference a line, as releases and shell scripts have them.

use super::wish::{EntryKeys, Input, TagWish, Wish};
use crate::{config::list::reference, model::Tag};

/// Returns `true` if no line has the form of YAML, JSON or TOML.
pub(super) fn is_list(text: &str) -> bool {
    let is_structure = |line: &str| {
        let key = line.trim_end_matches(['"', '\'']);
        line.starts_with(['{', '[', '}', ']'])
            || line.starts_with("---")
            || line.contains(": ")
            || line.contains(":\t")
            || key.ends_with(':')
            || line.contains(" = ")
            || line.contains("\": ")
    };
    let lines = text.lines().map(|line| line.trim_start_matches('\u{feff}').trim());
    let without_comment = |line: &'_ str| line.find(" #").map_or(line.len(), |at| at);
    let lines = lines.filter(|line| !line.starts_with('#'));
    !lines.map(|line| line[..without_comment(line)].trim_end()).any(is_structure)
}

pub(super) fn read(text: &str, input: &mut Input<'_>) {
    let lines = text.lines().map(reference).zip(1..);
    for (text, number) in lines.filter(|(text, _)| !text.is_empty()) {
        let Some(reference) = input.reference(text, number) else { continue };
        let tag = match (reference.digest, reference.tag) {
            (Some(digest), tag) => {
                if tag.is_none() {
                    input.hand(number, "a digest without a tag gets a tag: write the right one");
                }
                TagWish::pinned(tag, digest)
            }
            (None, tag) => {
                let latest = || "latest".parse::<Tag>().expect("is a tag");
                TagWish::plain(tag.unwrap_or_else(latest))
            }
        };
        let to = input.options.to.clone();
        let target = to
            .and_then(|to| input.target(&to.host, &to.path(reference.repository.as_str()), number));
        input.found.wishes.push(Wish {
            host: reference.host,
            repository: reference.repository,
            tags: vec![tag],
            target,
            keys: EntryKeys::new(),
        });
    }
}
