//! `select`: which tags of a repository an image entry selects.

use std::time::Duration;

use super::{
    document::{Keys, Table, Text},
    problem::Problem,
};
use crate::model::select::{RegexEnds, Selection, SortKey, TagGlob, TagRegex};

const KEYS: Keys = Keys {
    title: "`select`",
    names: "glob regex semver exclude exclude_regex newest by min_age max_age at_least",
};

pub(super) fn read(entry: &Table<'_>) -> Result<Option<Selection>, Problem> {
    if let Some(span) = entry.span_of("select").filter(|_| entry.is_string("select")) {
        return Err(Problem::at(&span, "expected a table, found a string")
            .hint("write a table, like `select = { semver = \">=1.25\" }`"));
    }
    let Some(table) = entry.table("select", &KEYS)? else { return Ok(None) };
    if table.is_empty() {
        return Err(Problem::empty(&table.span)
            .hint("write `select = { newest = 3 }`, or `select = { glob = [\"*\"] }` for all tags except pre-releases"));
    }
    selection(&table).map(Some)
}

/// Reads the keys of `select` from the table of an image; `None` without one of them.
pub(super) fn read_short(entry: &Table<'_>) -> Result<Option<Selection>, Problem> {
    let is_written = KEYS.names.split_whitespace().any(|key| entry.span_of(key).is_some());
    is_written.then(|| selection(entry)).transpose()
}

fn selection(table: &Table<'_>) -> Result<Selection, Problem> {
    let sort_keys = [("version", SortKey::Version), ("pushed", SortKey::Pushed)];
    let (newest, at_least) = (table.number("newest", 1)?, table.number("at_least", 0)?);
    let selection = Selection {
        glob: globs(table, "glob", "regex")?,
        regex: regexes(table, "regex")?,
        semver: table.parsed("semver")?,
        exclude: globs(table, "exclude", "exclude_regex")?,
        exclude_regex: regexes(table, "exclude_regex")?,
        newest: newest.map(|count| count as usize),
        by: table.choice("by", &sort_keys)?.unwrap_or_default(),
        min_age: age(table, "min_age")?,
        max_age: age(table, "max_age")?,
        at_least: at_least.map_or(1, |count| count as usize),
    };
    check(table, &selection)?;
    Ok(selection)
}

/// Warns of globs that are regular expressions by their characters. `regex` is the key for these.
fn globs(table: &Table<'_>, key: &str, regex: &str) -> Result<Vec<TagGlob>, Problem> {
    let read = |text: &Text| {
        let glob: TagGlob = text.parse()?;
        // the value of a variable is not shown
        if let (Some(character), Some(_)) = (glob.impossible(), text.as_written()) {
            let label = format!("is a glob, and no tag contains `{character}`");
            table.warn(text.invalid(
                label,
                format!("move a regular expression to `{regex}`, or write a glob like `*-rc*`"),
            ));
        }
        Ok(glob)
    };
    table.list(key)?.iter().flatten().map(read).collect()
}

/// Warns of regular expressions that this release reads in another way than version 0.1, which
/// accepted a match of any part of the tag.
fn regexes(table: &Table<'_>, key: &str) -> Result<Vec<TagRegex>, Problem> {
    let read = |text: &Text| {
        let regex: TagRegex = text.parse()?;
        // `exclude_regex` is younger than the change
        let ends = regex.with_ends().filter(|_| key == "regex");
        if let (Some(RegexEnds { whole, anywhere }), Some(_)) = (ends, text.as_written()) {
            let hint = format!(
                "write `{whole}` if that is right, or `{anywhere}` to match any part of a tag"
            );
            let label = "now matches whole tags only, no longer any part of a tag";
            table.warn(text.invalid(label, hint));
        }
        Ok(regex)
    };
    table.list(key)?.iter().flatten().map(read).collect()
}

/// Rejects keys that no tag can satisfy together.
fn check(table: &Table<'_>, selection: &Selection) -> Result<(), Problem> {
    let span = |key| table.span_of(key).unwrap_or_else(|| table.span.clone());
    if selection.newest.is_some_and(|newest| newest < selection.at_least) {
        let key = if table.span_of("at_least").is_some() { "at_least" } else { "newest" };
        return Err(Problem::at(&span(key), "`at_least` must not exceed `newest`")
            .hint("lower `at_least`, or raise `newest`"));
    }
    if selection.max_age.is_some_and(|most| selection.min_age.is_some_and(|least| least >= most)) {
        return Err(Problem::at(&span("max_age"), "`max_age` must be greater than `min_age`")
            .hint("write a greater `max_age`: the keys are the least and greatest time since the push"));
    }
    Ok(())
}

fn age(table: &Table<'_>, key: &str) -> Result<Option<Duration>, Problem> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let hint = "write a duration like `3d`, `12h` or `2weeks`";
    let age = humantime::parse_duration(&text).map(Some);
    age.map_err(|_| Problem::at(&text.span, "not a duration").hint(hint))
}
