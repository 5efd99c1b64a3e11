//! Reads plain lists: one reference a line, as releases and shell scripts have them.

use super::wish::{EntryKeys, Input, TagWish, Wish};
use crate::model::Tag;

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
    !lines(text).any(|(_, line)| is_structure(line))
}

/// The lines with content, without comments, and their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let without_comment = |line: &'_ str| match line.find('#') {
        Some(at) if at == 0 || line[..at].ends_with(char::is_whitespace) => at,
        _ => line.len(),
    };
    let lines = text.lines().enumerate();
    let lines = lines.map(move |(at, line)| (at + 1, line[..without_comment(line)].trim()));
    lines.filter(|(_, line)| !line.is_empty())
}

pub(super) fn read(text: &str, input: &mut Input<'_>) {
    for (number, line) in lines(text) {
        let line = line.strip_prefix("- ").unwrap_or(line);
        let line = line.strip_prefix("image=").unwrap_or(line);
        let text = line.trim_matches([',', ' ', '"', '\'']);
        let text = text.strip_prefix("docker://").unwrap_or(text);
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
