//! `select`: which tags of a repository are wanted, where they are not listed one by one.

use std::time::Duration;

use super::{
    document::{Keys, Table, Text},
    problem::{Problem, Span},
};
use crate::model::select::{Selection, SortKey};

const KEYS: Keys = Keys {
    title: "`select`",
    names: &[
        "glob", "regex", "semver", "exclude", "newest", "by", "min_age", "max_age", "at_least",
    ],
};

/// The selection of an entry, and where it is.
pub(super) fn read(entry: &Table<'_>) -> Result<Option<(Selection, Span)>, Problem> {
    if let Some(span) = entry.place("select").filter(|_| entry.is_string("select")) {
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
        glob: patterns(&table, "glob")?,
        regex: patterns(&table, "regex")?,
        semver: table.text("semver")?.map(|text| text.parse()).transpose()?,
        exclude: patterns(&table, "exclude")?,
        newest: newest.map(count),
        by: table
            .choice("by", &[("version", SortKey::Version), ("pushed", SortKey::Pushed)])?
            .unwrap_or_default(),
        min_age: age(&table, "min_age")?,
        max_age: age(&table, "max_age")?,
        at_least: at_least.map_or(1, count),
    };
    check(&table, &selection)?;
    Ok(Some((selection, table.span)))
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What each key says well and all of them together cannot mean.
fn check(table: &Table<'_>, selection: &Selection) -> Result<(), Problem> {
    let at = |key| table.place(key).unwrap_or_else(|| table.span.clone());
    if selection.newest.is_some_and(|newest| newest < selection.at_least) {
        let key = if table.place("at_least").is_some() { "at_least" } else { "newest" };
        return Err(Problem::at(&at(key), "`at_least` is more than `newest` leaves"));
    }
    if let (Some(least), Some(most)) = (selection.min_age, selection.max_age)
        && least >= most
    {
        return Err(Problem::at(&at("max_age"), "nothing is older than `min_age` and younger")
            .hint("`min_age` is how long a tag must be there, `max_age` how long it may"));
    }
    Ok(())
}

fn patterns<T>(table: &Table<'_>, key: &str) -> Result<Vec<T>, Problem>
where
    T: std::str::FromStr<Err = crate::model::NameError>,
{
    let Some((texts, _)) = table.list(key)? else { return Ok(Vec::new()) };
    texts.iter().map(Text::parse).collect()
}

fn age(table: &Table<'_>, key: &str) -> Result<Option<Duration>, Problem> {
    let Some(text) = table.text(key)? else { return Ok(None) };
    let age = humantime::parse_duration(&text);
    age.map(Some).map_err(|_| {
        Problem::at(&text.span, "not a length of time")
            .hint("write one like `3d`, `12h` or `2weeks`")
    })
}
