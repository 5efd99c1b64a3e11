//! Reads dregsy's configuration.
//!
//! Source: dregsy, `README.md`, `doc/design-image-matching.md`, `internal/pkg/sync` and
//! `internal/pkg/tags`.

use regex::Regex;

use super::{
    patterns,
    ranges::{Dialect, Patterns},
    wish::{
        Choice, EntryKeys, Input,
        NoEquivalent::{self, Hand, Note, Silent},
        TagWish, Wish,
    },
    yaml::{Node, YamlField},
};
use crate::model::{Digest, Host, Tag};

pub(super) const NO_EQUIVALENT: [(&str, NoEquivalent); 10] = [
    ("relay", Silent),
    ("skopeo", Silent),
    ("docker", Silent),
    ("dockerhost", Silent),
    ("api-version", Silent),
    ("lister", Silent),
    ("watch", Silent),
    ("name", Silent),
    ("verbose", Silent),
    ("interval", Note("run `ecr-mirror sync` from a scheduler")),
];

pub(super) const NO_EQUIVALENT_LOCATION: [(&str, NoEquivalent); 4] = [
    ("lister", Silent),
    (
        "auth",
        Hand("credentials are not repeated: use `docker login`, or set `username` and `password`"),
    ),
    ("auth-refresh", Silent),
    (
        "skip-tls-verify",
        Hand("certificates are always verified; name a `ca_file`, or write `plain_http = true`"),
    ),
];

/// The tag filters of a mapping.
const SEMVER: &str = "semver:";
const REGEX: &str = "regex:";
const KEEP: &str = "keep:";

pub(super) fn is_dregsy(root: &Node) -> bool {
    root.get("tasks").is_some()
}

pub(super) fn read(root: &Node, input: &mut Input<'_>) {
    for YamlField { key, line, value } in root.fields() {
        match key.as_str() {
            "tasks" => value.items().iter().for_each(|item| task(item, input)),
            _ if input.has_no_equivalent(key, *line, &NO_EQUIVALENT) => {}
            _ => input.unknown(key, *line),
        }
    }
}

fn task(table: &Node, input: &mut Input<'_>) {
    let (mut source, mut target) = (None, None);
    for YamlField { key, line, value } in table.fields() {
        match key.as_str() {
            "source" => source = location(value, input),
            "target" => target = location(value, input),
            "mappings" => {}
            _ if input.has_no_equivalent(key, *line, &NO_EQUIVALENT) => {}
            _ => input.unknown(key, *line),
        }
    }
    let (Some(source), Some(target)) = (source, target) else {
        return input.hand(table.line, "a task needs the hosts of `source` and `target`, left out");
    };
    for item in table.get("mappings").map(Node::items).unwrap_or_default() {
        mapping(item, &source, &target, input);
    }
}

fn location(table: &Node, input: &mut Input<'_>) -> Option<Host> {
    for YamlField { key, line, value } in table.fields() {
        let is_off = match key.as_str() {
            "registry" => true,
            "skip-tls-verify" => !value.is_true(),
            "auth" => value.text().is_none_or(|auth| matches!(auth, "" | "none")),
            _ => false,
        };
        if !is_off && !input.has_no_equivalent(key, *line, &NO_EQUIVALENT_LOCATION) {
            input.unknown(key, *line);
        }
    }
    let registry = table.get("registry")?;
    let host = registry.text()?.parse();
    host.map_err(|error| input.hand(registry.line, format!("`registry` {error}"))).ok()
}

fn mapping(table: &Node, source: &Host, target: &Host, input: &mut Input<'_>) {
    let mut keys = EntryKeys::new();
    for YamlField { key, line, value } in table.fields() {
        match (key.as_str(), value.text()) {
            ("from" | "to" | "tags", _) | ("platform", None | Some("all" | "")) => {}
            ("platform", Some(platform)) => {
                input.platforms(&mut keys, &[(platform, *line)]);
                if keys.contains_key("platforms") {
                    keys.insert("flatten", "true".to_owned());
                }
            }
            _ => input.unknown(key, *line),
        }
    }
    let Some(from) = table.text_of("from") else {
        return input.hand(table.line, "a mapping without `from`, left out");
    };
    if from.starts_with(REGEX) {
        let message = "`from: regex:…` matches repositories of a registry: list the repositories";
        return input.hand(table.line, message);
    }
    let from = from.trim_start_matches('/');
    let Some(reference) = input.reference(&format!("{source}/{from}"), table.line) else { return };
    let Some(to) = path(from, table, input) else { return };
    let Some(target) = input.target(target, &to, table.line) else { return };
    let wish = Wish {
        host: reference.host,
        repository: reference.repository,
        tags: Vec::new(),
        target: Some(target),
        keys,
    };
    let tags = table.get("tags").map(Node::texts).unwrap_or_default();
    let choices = choices(&tags, input).into_iter().map(|choice| wish.clone().with(choice));
    input.found.wishes.extend(choices);
}

/// The path at the target: `to`, or `from` with the replacement `to: regex:PATTERN,REPLACEMENT`.
fn path(from: &str, table: &Node, input: &mut Input<'_>) -> Option<String> {
    let to = table.text_of("to").filter(|to| !to.is_empty()).unwrap_or(from);
    let Some(rule) = to.strip_prefix(REGEX) else {
        return Some(to.trim_start_matches('/').to_owned());
    };
    let rule = rule
        .split_once(',')
        .and_then(|(pattern, replacement)| Some((Regex::new(pattern).ok()?, replacement)));
    let Some((pattern, replacement)) = rule else {
        input.hand(table.line, format!("`to: {to}` is not a replacement, left out"));
        return None;
    };
    let from = format!("/{from}");
    Some(pattern.replace_all(&from, replacement).trim_start_matches('/').to_owned())
}

/// A `regex:` or `keep:` filter.
struct TagFilter {
    pattern: String,
    /// `true` after a `!`: then it selects the other tags.
    is_inverted: bool,
}

/// The filters of a list of tags.
#[derive(Default)]
struct TagFilters<'a> {
    tags: Vec<TagWish>,
    ranges: Vec<(&'a str, usize)>,
    patterns: Vec<TagFilter>,
    keep: Vec<TagFilter>,
    newest: Option<String>,
}

/// The choices of a list of tags. An item selects tags, `keep:` narrows all selections.
fn choices(texts: &[(&str, usize)], input: &mut Input<'_>) -> Vec<Choice> {
    let mut filters = TagFilters::default();
    for (text, line) in texts {
        let text = text.trim();
        if let Some(range) = text.strip_prefix(SEMVER) {
            filters.ranges.push((range, *line));
        } else if let Some(pattern) = text.strip_prefix(REGEX) {
            let Some(filter) = filter(pattern, *line, input) else { continue };
            filters.patterns.push(filter);
        } else if let Some(count) = text.strip_prefix(KEEP).and_then(newest) {
            filters.newest = Some(count);
        } else if let Some(pattern) = text.strip_prefix(KEEP) {
            // without it, more is selected than the tool copies
            let Some(filter) = filter(pattern, *line, input) else { return Vec::new() };
            filters.keep.push(filter);
        } else {
            filters.tags.extend(verbatim(text, *line, input));
        }
    }
    let line = texts.first().map_or(1, |(_, line)| *line);
    // a list without another item than `keep:` selects every tag
    let selects_all = texts.iter().all(|(text, _)| text.trim().starts_with(KEEP));
    let mut all = selections(&filters, selects_all, line, input);
    if let Some(count) = &filters.newest {
        if all.len() != 1 || filters.ranges.is_empty() || !filters.tags.is_empty() {
            let message = "`keep: latest`: the limit counts all tags of the mapping, `newest` those \
                 that are versions, of each selection";
            input.hand(line, message);
        }
        all.iter_mut().for_each(|it| drop(it.keys.insert("newest", count.clone())));
    }
    if !filters.tags.is_empty() {
        all.push(Choice::tags(filters.tags));
    }
    all
}

fn selections(
    filters: &TagFilters<'_>,
    every_tag: bool,
    line: usize,
    input: &mut Input<'_>,
) -> Vec<Choice> {
    let of = |inverted| {
        let keep = filters.keep.iter().filter(move |keep| keep.is_inverted == inverted);
        keep.map(|keep| keep.pattern.clone()).collect::<Vec<_>>()
    };
    let (mut kept, deny) = (of(false), of(true));
    let plain: Vec<String> =
        filters.patterns.iter().filter(|it| !it.is_inverted).map(|it| it.pattern.clone()).collect();
    if kept.len() > 1 || (!kept.is_empty() && !plain.is_empty()) {
        input.hand(line, "`keep:` with `regex:` or a second `keep:`: only one pattern is kept");
        kept.truncate(usize::from(plain.is_empty()));
    }
    let patterns = Patterns { allow: kept, deny };
    let any = vec![".*".to_owned()];
    let allowed = if patterns.allow.is_empty() { &any } else { &patterns.allow };
    let mut all = Vec::new();
    if every_tag && filters.keep.is_empty() {
        all.push(Choice::every_tag());
    } else if every_tag {
        all.push(Choice::select(patterns.keys(allowed, Vec::new())));
    }
    if !filters.ranges.is_empty() {
        all.extend(input.ranges(Dialect::Blang, &filters.ranges, &patterns));
    }
    if !plain.is_empty() {
        all.push(Choice::select(patterns.keys(&plain, Vec::new())));
    }
    for filter in filters.patterns.iter().filter(|filter| filter.is_inverted) {
        all.push(Choice::select(patterns.keys(allowed, vec![filter.pattern.clone()])));
    }
    all
}

fn filter(text: &str, line: usize, input: &mut Input<'_>) -> Option<TagFilter> {
    let text = text.trim();
    let (text, is_inverted) = match text.strip_prefix('!') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let pattern = input.patterns(&[(text, line)], patterns::with_missing_anchors)?.pop()?;
    Some(TagFilter { pattern, is_inverted })
}

/// The number of `latest N`.
fn newest(text: &str) -> Option<String> {
    let count = text.trim().strip_prefix("latest")?;
    let count =
        count.starts_with(char::is_whitespace).then(|| count.trim().parse::<u32>().ok())??;
    (count > 0).then(|| count.to_string())
}

/// `TAG`, `TAG@DIGEST` or `DIGEST`.
fn verbatim(text: &str, line: usize, input: &mut Input<'_>) -> Option<TagWish> {
    let (tag, digest) = match text.rsplit_once('@') {
        Some((tag, digest)) => (Some(tag), digest),
        None if text.starts_with("sha256:") => (None, text),
        None => return input.tag(text, line).map(TagWish::plain),
    };
    let digest = digest.parse::<Digest>();
    let digest = digest.map_err(|error| input.hand(line, format!("`{text}` {error}, left out")));
    let tag: Option<Tag> = match tag.filter(|tag| !tag.is_empty()) {
        Some(tag) => Some(input.tag(tag, line)?),
        None => {
            input.hand(line, "a digest without a tag gets a tag: write the right one");
            None
        }
    };
    Some(TagWish::pinned(tag, digest.ok()?))
}
