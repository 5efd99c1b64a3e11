//! `select`: which tags of a repository an image entry selects.

use std::time::Duration;

use super::{
    document::{Keys, Table},
    problem::Problem,
};
use crate::model::select::{Selection, SortKey};

const KEYS: Keys = Keys {
    title: "`select`",
    names: &[
        "glob", "regex", "semver", "exclude", "newest", "by", "min_age", "max_age", "at_least",
    ],
};

pub(super) fn read(entry: &Table<'_>) -> Result<Option<Selection>, Problem> {
    if let Some(span) = entry.span_of("select").filter(|_| entry.is_string("select")) {
        return Err(Problem::at(&span, "a string where a table belongs")
            .hint("write what the tags must be, like `select = { semver = \">=1.25\" }`"));
    }
    let Some(table) = entry.table("select", &KEYS)? else { return Ok(None) };
    if table.is_empty() {
        return Err(Problem::at(&table.span, "selects nothing in particular")
            .hint("`select = { glob = [\"*\"] }` is every tag"));
    }
    let (newest, at_least) = (table.number("newest", 1)?, table.number("at_least", 0)?);
    let selection = Selection {
        glob: table.parsed_list("glob")?,
        regex: table.parsed_list("regex")?,
        semver: table.parsed("semver")?,
        exclude: table.parsed_list("exclude")?,
        newest: newest.map(|count| count as usize),
        by: table
            .choice("by", &[("version", SortKey::Version), ("pushed", SortKey::Pushed)])?
            .unwrap_or_default(),
        min_age: age(&table, "min_age")?,
        max_age: age(&table, "max_age")?,
        at_least: at_least.map_or(1, |count| count as usize),
    };
    check(&table, &selection)?;
    Ok(Some(selection))
}

/// Rejects keys that no tag can satisfy together.
fn check(table: &Table<'_>, selection: &Selection) -> Result<(), Problem> {
    let span = |key| table.span_of(key).unwrap_or_else(|| table.span.clone());
    if selection.newest.is_some_and(|newest| newest < selection.at_least) {
        let key = if table.span_of("at_least").is_some() { "at_least" } else { "newest" };
        return Err(Problem::at(&span(key), "`at_least` is more than `newest` leaves"));
    }
    if let (Some(least), Some(most)) = (selection.min_age, selection.max_age)
        && least >= most
    {
        return Err(Problem::at(&span("max_age"), "nothing is older than `min_age` and younger")
            .hint("`min_age` is how long a tag must be there, `max_age` how long it may"));
    }
    Ok(())
}

fn age(table: &Table<'_>, key: &str) -> Result<Option<Duration>, Problem> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let age = humantime::parse_duration(&text);
    age.map(Some).map_err(|_| {
        Problem::at(&text.span, "not a length of time")
            .hint("write one like `3d`, `12h` or `2weeks`")
    })
}
