//! Reads tables: known keys only, each value as its type.
//!
//! Every value keeps its span in the file, and every string has its variables replaced, so that
//! readers cannot forget either.

use std::{borrow::Cow, ops::Deref, str::FromStr};

use serde_spanned::Spanned;
use strsim::osa_distance;
use toml::de::{DeTable, DeValue};

use super::{
    context::FileContext,
    interpolate::interpolate,
    problem::{Problem, Span, is_secret_key},
};
use crate::model::NameError;

#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// The form of the table, in backticks, like `[[image]]`.
    pub(super) title: &'static str,
    /// Separated by blanks.
    pub(super) names: &'static str,
}

pub(super) type Key<'a> = Spanned<Cow<'a, str>>;
pub(super) type Value<'a> = Spanned<DeValue<'a>>;

/// The tables of a list that could be read, apart from keys with a mistake.
pub(super) struct ReadTables<T> {
    pub(super) read: Vec<T>,
    pub(super) is_complete: bool,
}

/// A table without unknown keys.
#[derive(Clone)]
pub(super) struct Table<'a> {
    entries: &'a DeTable<'a>,
    pub(super) span: Span,
    file: &'a FileContext<'a>,
}

/// A string of the configuration, its variables replaced.
#[derive(Clone)]
pub(super) struct Text {
    value: String,
    /// Includes the quotes.
    pub(super) span: Span,
    /// Then messages do not show the value.
    has_variables: bool,
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl Text {
    /// A text without variables.
    pub(super) fn plain(value: &str, span: Span) -> Self {
        Self { value: value.to_owned(), span, has_variables: false }
    }

    /// This text and the next one, at the place of the next one.
    pub(super) fn followed_by(&self, next: &Self) -> Self {
        Self {
            value: format!("{}{}", self.value, next.value),
            span: next.span.clone(),
            has_variables: self.has_variables || next.has_variables,
        }
    }

    pub(super) fn parse<T: FromStr<Err = NameError>>(&self) -> Result<T, Problem> {
        self.value.parse().map_err(|error| self.problem(error))
    }

    /// A problem with this text. Hides the values of its variables.
    pub(super) fn problem(&self, error: NameError) -> Problem {
        let problem = Problem::invalid_name(&self.span, error);
        match self.has_variables {
            // a hint may repeat the value
            true => problem.hint("check the value of the variable"),
            false => problem,
        }
    }

    pub(super) fn invalid(&self, label: impl Into<String>, hint: impl Into<String>) -> Problem {
        self.problem(NameError::new(label).hint(hint))
    }

    /// The text, if it is valid.
    pub(super) fn checked(
        &self,
        is_valid: bool,
        label: &str,
        hint: &str,
    ) -> Result<String, Problem> {
        if is_valid { Ok(self.to_string()) } else { Err(self.invalid(label, hint)) }
    }

    /// The text for hints; `None` if it contains variables.
    pub(super) fn as_written(&self) -> Option<&str> {
        (!self.has_variables).then_some(&self.value)
    }
}

impl<'a> Table<'a> {
    /// Opens a table. Every key must be in `keys`.
    pub(super) fn open(
        entries: &'a DeTable<'a>,
        span: Span,
        keys: &Keys,
        file: &'a FileContext<'a>,
    ) -> Result<Self, Problem> {
        let is_known = |key: &str| keys.names.split_whitespace().any(|name| name == key);
        let unknown = entries
            .keys()
            .filter(|key| !is_known(key.get_ref()) && !file.is_masked(key.span().start));
        match unknown.min_by_key(|key| key.span().start) {
            Some(key) => Err(unknown_key(key, keys)),
            None => Ok(Self { entries, span, file }),
        }
    }

    /// Adds a warning, which `check` prints if the file has no error.
    pub(super) fn warn(&self, warning: Problem) {
        self.file.warn(warning);
    }

    /// The keys and values.
    pub(super) fn content(&self) -> &'a DeTable<'a> {
        self.entries
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn missing(&self, key: &str, hint: impl Into<String>) -> Problem {
        Problem::needing(&self.span, format!("`{key}` is missing")).hint(hint)
    }

    fn value(&self, key: &str) -> Option<&'a Value<'a>> {
        let (key, value) = self.entries.get_key_value(key)?;
        (!self.file.is_masked(key.span().start)).then_some(value)
    }

    pub(super) fn span_of(&self, key: &str) -> Option<Span> {
        self.value(key).map(Spanned::span)
    }

    pub(super) fn is_string(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().is_str())
    }

    pub(super) fn text(&self, key: &str) -> Result<Option<Text>, Problem> {
        self.value(key).map(|value| self.string(value)).transpose()
    }

    /// The string under this key; must not be blank.
    pub(super) fn word(&self, key: &str) -> Result<Option<Text>, Problem> {
        match self.text(key)? {
            Some(text) if text.trim().is_empty() => {
                Err(Problem::empty(&text.span).hint("write a value, or remove the key"))
            }
            text => Ok(text),
        }
    }

    pub(super) fn parsed<T: FromStr<Err = NameError>>(
        &self,
        key: &str,
    ) -> Result<Option<T>, Problem> {
        self.text(key)?.map(|text| text.parse()).transpose()
    }

    /// The text of a key, its variables replaced.
    pub(super) fn key(&self, key: &Key<'_>) -> Result<Text, Problem> {
        self.interpolated(key.get_ref(), key.span())
    }

    pub(super) fn string(&self, value: &Value<'_>) -> Result<Text, Problem> {
        let span = value.span();
        let DeValue::String(text) = value.get_ref() else {
            return Err(wrong_type(value, "a string"));
        };
        self.interpolated(text, span)
    }

    fn interpolated(&self, text: &str, span: Span) -> Result<Text, Problem> {
        let value = interpolate(text, self.file.environment)
            .map_err(|error| Problem::invalid_name(&span, error))?;
        Ok(Text { has_variables: text.contains("${"), value, span })
    }

    /// The strings under this key; not empty if the key is present.
    pub(super) fn list(&self, key: &str) -> Result<Option<Vec<Text>>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        self.strings(key, value)
    }

    /// The strings of this value; not empty. `None` if all of them are masked.
    pub(super) fn strings(
        &self,
        key: &str,
        value: &Value<'_>,
    ) -> Result<Option<Vec<Text>>, Problem> {
        let DeValue::Array(items) = value.get_ref() else {
            let problem = wrong_type(value, "a list of strings");
            return Err(match value.get_ref() {
                DeValue::String(_) => problem.hint(format!("write `{key} = [\"…\"]`")),
                _ => problem,
            });
        };
        if items.is_empty() {
            return Err(Problem::empty(&value.span()).hint("write at least one value"));
        }
        let items = items.iter().filter(|item| !self.file.is_masked(item.span().start));
        let texts = items.map(|item| self.string(item)).collect::<Result<Vec<_>, _>>()?;
        Ok((!texts.is_empty()).then_some(texts))
    }

    /// The strings under this key: at most `most` of these items, which ECR limits.
    pub(super) fn list_up_to(
        &self,
        key: &str,
        most: usize,
        items: &str,
    ) -> Result<Option<Vec<Text>>, Problem> {
        match (self.list(key)?, self.span_of(key)) {
            (Some(texts), Some(span)) if texts.len() > most => {
                let label = format!("has {} {items}, ECR accepts at most {most}", texts.len());
                Err(Problem::at(&span, label).hint(format!("remove {items}")))
            }
            (texts, _) => Ok(texts),
        }
    }

    /// The strings under this key, parsed; empty without the key.
    pub(super) fn parsed_list<T: FromStr<Err = NameError>>(
        &self,
        key: &str,
    ) -> Result<Vec<T>, Problem> {
        self.list(key)?.iter().flatten().map(Text::parse).collect()
    }

    pub(super) fn switch(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Boolean(on) => Ok(Some(*on)),
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
                format!("must be a whole number from {least} to {}", u32::MAX),
            )),
        }
    }

    /// The meaning of the word under this key.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == &*text) {
            return Ok(Some(*meaning));
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Err(Problem::at(&text.span, format!("must be one of {}", in_backticks(&words))))
    }

    pub(super) fn table(&self, key: &str, keys: &Keys) -> Result<Option<Self>, Problem> {
        self.value(key).map(|value| self.open_value(value, keys)).transpose()
    }

    pub(super) fn open_value(&self, value: &'a Value<'a>, keys: &Keys) -> Result<Self, Problem> {
        match value.get_ref() {
            DeValue::Table(entries) => Self::open(entries, value.span(), keys, self.file),
            _ => Err(wrong_type(value, "a table").hint(format!("write {}", keys.title))),
        }
    }

    /// The tables under this key, in file order, each valid or with its problem.
    pub(super) fn tables(
        &self,
        key: &str,
        keys: &Keys,
    ) -> Result<Vec<Result<Self, Problem>>, Problem> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let Some(items) = value.get_ref().as_array() else {
            return Err(wrong_type(value, "a list of tables")
                .hint(format!("write {}, with two brackets", keys.title)));
        };
        Ok(items.iter().map(|item| self.open_value(item, keys)).collect())
    }

    /// Reads each table under this key, and finds every mistake in them.
    pub(super) fn each<T>(
        &self,
        key: &str,
        keys: &Keys,
        problems: &mut Vec<Problem>,
        read: impl Fn(&Self) -> Result<T, Problem>,
    ) -> ReadTables<T> {
        let mut tables = ReadTables { read: Vec::new(), is_complete: true };
        let Some(value) = self.value(key) else { return tables };
        let Some(items) = value.get_ref().as_array() else {
            let problem = wrong_type(value, "a list of tables");
            problems.push(problem.hint(format!("write {}, with two brackets", keys.title)));
            return ReadTables { is_complete: false, ..tables };
        };
        for item in items.iter() {
            let none = DeTable::default();
            let entries = item.get_ref().as_table().unwrap_or(&none);
            let table =
                self.file.attempt(entries, problems, || read(&self.open_value(item, keys)?));
            tables.is_complete &= table.is_some();
            tables.read.extend(table);
        }
        tables
    }

    /// The strings of the table under this key, with their names, in file order.
    pub(super) fn texts(&self, key: &str) -> Result<Vec<(&'a Key<'a>, Text)>, Problem> {
        let entries = self.entries(key, "a table of strings")?;
        entries.into_iter().map(|(name, value)| Ok((name, self.string(value)?))).collect()
    }

    /// The entries of the table under this key, in file order.
    pub(super) fn entries(
        &self,
        key: &str,
        expected: &str,
    ) -> Result<Vec<(&'a Key<'a>, &'a Value<'a>)>, Problem> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let entries = value.get_ref().as_table().ok_or_else(|| wrong_type(value, expected))?;
        let is_masked = |key: &Key<'_>| self.file.is_masked(key.span().start);
        let mut entries: Vec<_> = entries.iter().filter(|(key, _)| !is_masked(key)).collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        Ok(entries)
    }
}

fn wrong_type(value: &Value<'_>, expected: &str) -> Problem {
    let found = match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a decimal number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    Problem::at(&value.span(), format!("expected {expected}, found {found}"))
}

fn unknown_key(key: &Key<'_>, keys: &Keys) -> Problem {
    let names: Vec<&str> = keys.names.split_whitespace().collect();
    let all = format!("{} accepts {}", keys.title, in_backticks(&names));
    let hint = match nearest(key.get_ref(), &names) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    };
    let problem = Problem::at(&key.span(), "unknown key").hint(hint);
    match names.iter().any(|name| is_secret_key(name)) {
        true => problem.hide_rest(),
        false => problem,
    }
}

pub(super) fn in_backticks<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    words.join(", ")
}

/// The word with the least edit distance to `text`; `None` if none is close.
pub(super) fn nearest<'w, S: AsRef<str>>(text: &str, words: &'w [S]) -> Option<&'w str> {
    let distances = words.iter().map(|word| (osa_distance(text, word.as_ref()), word.as_ref()));
    let (distance, word) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + word.chars().count() / 3).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_within_the_typing_distance() {
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
