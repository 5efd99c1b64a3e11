//! Reads tables: known keys only, each value as the type it must be.
//!
//! Every value keeps its place in the file, and every string has its variables
//! replaced, so that what reads a table cannot forget either.

use std::{ops::Deref, str::FromStr};

use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    interpolate::{Environment, interpolate},
    problem::{Problem, Span, is_secret_key},
};
use crate::model::NameError;

/// A table and the keys it may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// How the table is written, in backticks, like `[[image]]`.
    pub(super) title: &'static str,
    /// Every key it may have.
    pub(super) names: &'static [&'static str],
}

/// A table whose keys are all known.
#[derive(Clone)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    /// Where the table begins.
    pub(super) span: Span,
    environment: Environment<'a>,
}

/// A string of the configuration, its variables replaced.
pub(super) struct Text {
    value: String,
    /// Where it is written, quotes included.
    pub(super) span: Span,
    /// Whether it has variables: then its value is not to be shown.
    has_variables: bool,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl Text {
    /// The text as the name it must be.
    pub(super) fn parse<T: FromStr<Err = NameError>>(&self) -> Result<T, Problem> {
        self.value.parse().map_err(|error| self.wrong(error))
    }

    /// A problem with this text, without what its variables hold.
    pub(super) fn wrong(&self, error: NameError) -> Problem {
        let problem = Problem::name(&self.span, error);
        match self.has_variables {
            // a hint may repeat the value
            true => problem.hint("what is wrong may be in the value of a variable"),
            false => problem,
        }
    }

    /// The text itself, for hints: `None` where variables are in it.
    pub(super) fn as_written(&self) -> Option<&str> {
        (!self.has_variables).then_some(&self.value)
    }
}

impl<'a> Table<'a> {
    /// Takes a table, all of whose keys must be in `keys`.
    pub(super) fn open(
        entries: &'a DeTable<'a>,
        span: Span,
        keys: &Keys,
        environment: Environment<'a>,
    ) -> Result<Self, Problem> {
        let unknown = entries.keys().filter(|key| !keys.names.contains(&key.get_ref().as_ref()));
        match unknown.min_by_key(|key| key.span().start) {
            Some(key) => Err(unknown_key(key, keys)),
            None => Ok(Self { entries, span, environment }),
        }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    /// Where the value under this key is.
    pub(super) fn place(&self, key: &str) -> Option<Span> {
        self.value(key).map(Spanned::span)
    }

    /// The string under this key.
    pub(super) fn text(&self, key: &str) -> Result<Option<Text>, Problem> {
        self.value(key).map(|value| self.string(value)).transpose()
    }

    /// The string under this key, which must not be empty.
    pub(super) fn word(&self, key: &str) -> Result<Option<Text>, Problem> {
        match self.text(key)? {
            Some(text) if text.trim().is_empty() => Err(Problem::at(&text.span, "empty")),
            text => Ok(text),
        }
    }

    fn string(&self, value: &Spanned<DeValue<'a>>) -> Result<Text, Problem> {
        let span = value.span();
        let DeValue::String(text) = value.get_ref() else {
            return Err(wrong_type(value, "a string"));
        };
        let value = interpolate(text, self.environment)
            .map_err(|error| Problem::name(&span, error))?
            .into_owned();
        Ok(Text { has_variables: text.contains("${"), value, span })
    }

    /// The list of strings under this key, and where it is; never empty.
    pub(super) fn list(&self, key: &str) -> Result<Option<(Vec<Text>, Span)>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let DeValue::Array(items) = value.get_ref() else {
            let problem = wrong_type(value, "a list of strings");
            return Err(match value.get_ref() {
                DeValue::String(_) => problem.hint(format!("write `{key} = [\"…\"]`")),
                _ => problem,
            });
        };
        if items.is_empty() {
            return Err(Problem::at(&value.span(), "an empty list").hint("name at least one"));
        }
        let texts: Result<_, _> = items.iter().map(|item| self.string(item)).collect();
        Ok(Some((texts?, value.span())))
    }

    /// The value under this key, when it is a string.
    pub(super) fn is_string(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().is_str())
    }

    /// The switch under this key, and where it is.
    pub(super) fn switch(&self, key: &str) -> Result<Option<(bool, Span)>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Boolean(on) => Ok(Some((*on, value.span()))),
            _ => Err(wrong_type(value, "`true` or `false`")),
        }
    }

    /// The whole number under this key, at least `least`.
    pub(super) fn number(&self, key: &str, least: u32) -> Result<Option<u32>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let DeValue::Integer(number) = value.get_ref() else {
            return Err(wrong_type(value, "a whole number"));
        };
        match u32::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(Problem::at(
                &value.span(),
                format!("not a number from {least} to {}", u32::MAX),
            )),
        }
    }

    /// What the word under this key stands for.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        match words.iter().find(|(word, _)| *word == &*text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                Err(Problem::at(&text.span, format!("not one of {}", in_backticks(&words))))
            }
        }
    }

    /// The table under this key.
    pub(super) fn table(&self, key: &str, keys: &Keys) -> Result<Option<Self>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let Some(entries) = value.get_ref().as_table() else {
            return Err(wrong_type(value, "a table").hint(format!("write {}", keys.title)));
        };
        Self::open(entries, value.span(), keys, self.environment).map(Some)
    }

    /// The strings of the table under this key, whatever their names; each with its name, where
    /// that is, and in the order of the file.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<(&'a str, Span, Text)>, Problem> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Some(entries) = value.get_ref().as_table() else {
            return Err(wrong_type(value, "a table of strings"));
        };
        let read = |(name, value): (&'a Spanned<_>, _)| {
            let name: &'a Spanned<std::borrow::Cow<'a, str>> = name;
            Ok((name.get_ref().as_ref(), name.span(), self.string(value)?))
        };
        let mut texts: Vec<_> = entries.iter().map(read).collect::<Result<_, Problem>>()?;
        texts.sort_by_key(|(_, span, _)| span.start);
        Ok(texts)
    }

    /// The tables under this key, each with its problem or without, in the order of the file.
    pub(super) fn tables(
        &self,
        key: &str,
        keys: &Keys,
    ) -> Result<Vec<Result<Self, Problem>>, Problem> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let bad = |value| wrong_type(value, "a list of tables");
        let Some(items) = value.get_ref().as_array() else {
            return Err(bad(value).hint(format!("write {}, with two brackets", keys.title)));
        };
        let open = |item: &'a Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(entries) => Self::open(entries, item.span(), keys, self.environment),
            _ => Err(wrong_type(item, "a table")),
        };
        Ok(items.iter().map(open).collect())
    }

    /// The tables inside the table under this key, each with its name and where that is,
    /// in the order of the file.
    #[allow(clippy::type_complexity, reason = "said in one place, read in one place")]
    pub(super) fn named_tables(
        &self,
        key: &str,
        keys: &Keys,
    ) -> Result<Vec<(&'a str, Span, Result<Self, Problem>)>, Problem> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Some(named) = value.get_ref().as_table() else {
            return Err(wrong_type(value, "a table").hint(format!("write {}", keys.title)));
        };
        let open = |value: &'a Spanned<DeValue<'a>>| match value.get_ref() {
            DeValue::Table(entries) => Self::open(entries, value.span(), keys, self.environment),
            _ => Err(wrong_type(value, "a table").hint(format!("write {}", keys.title))),
        };
        let mut tables: Vec<_> =
            named.iter().map(|(name, v)| (name.get_ref().as_ref(), name.span(), open(v))).collect();
        tables.sort_by_key(|(_, span, _)| span.start);
        Ok(tables)
    }

    /// Whether nothing is written in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn wrong_type(value: &Spanned<DeValue<'_>>, wanted: &str) -> Problem {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::at(&value.span(), format!("{found} where {wanted} belongs"))
}

fn unknown_key(key: &Spanned<std::borrow::Cow<'_, str>>, keys: &Keys) -> Problem {
    let all = format!("{} takes {}", keys.title, in_backticks(keys.names));
    let hint = match nearest(key.get_ref(), keys.names) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    };
    let problem = Problem::at(&key.span(), "not a key here").hint(hint);
    match keys.names.iter().any(|name| is_secret_key(name)) {
        true => problem.hide_rest(),
        false => problem,
    }
}

/// The words in backticks, separated by commas.
pub(super) fn in_backticks<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    words.join(", ")
}

/// The word that is most like `text`, where one is like it at all.
pub(super) fn nearest<'w, S: AsRef<str>>(text: &str, words: &'w [S]) -> Option<&'w str> {
    let distances = words.iter().map(|word| (distance(text, word.as_ref()), word.as_ref()));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.chars().count() / 3).then_some(word)
}

/// How many letters must be changed, added or left out to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(a != *b)).min(1 + row[j].min(above));
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_one_that_could_be_meant() {
        let words = ["platforms", "tags", "tag", "source"];
        for (text, expected) in [
            ("platfroms", Some("platforms")),
            ("platform", Some("platforms")),
            ("Source", Some("source")),
            ("tgas", Some("tags")),
            ("credentials", None),
            ("", None),
        ] {
            assert_eq!(nearest(text, &words), expected, "{text}");
        }
    }
}
