//! The list of the images that files use: as a table and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::table::{Column, Line, Note, grid};
use crate::model::text::printable;

/// One use of an image.
#[derive(Debug, Serialize)]
pub(crate) struct UseRow {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The text in the file.
    pub(crate) written: String,
    /// The normalised reference; `None` if it is not known.
    pub(crate) reference: Option<String>,
    /// The instruction or the key.
    pub(crate) found: String,
    /// The platform that the file sets.
    pub(crate) platform: Option<String>,
    /// The key has no known meaning.
    pub(crate) maybe: bool,
    /// The variables without a value.
    pub(crate) missing: Vec<String>,
    /// The reason why there is no reference.
    pub(crate) problem: Option<String>,
}

/// A file that cannot be read.
#[derive(Debug, Serialize)]
pub(crate) struct UnreadableRow {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) problem: String,
}

/// Writes the JSON document, format version 1.
pub(crate) fn json(
    out: &mut dyn Write,
    uses: &[UseRow],
    unreadable: &[UnreadableRow],
) -> io::Result<()> {
    writeln!(out, "{:#}", json!({ "version": 1, "uses": uses, "unreadable": unreadable }))
}

/// Writes the table. No reference is cut.
pub(crate) fn table(out: &mut dyn Write, uses: &[UseRow], width: Option<usize>) -> io::Result<()> {
    let lines: Vec<Line> = uses.iter().map(line).collect();
    grid(out, &["PLACE", "WRITTEN", "IMAGE", "FOUND"].map(Column::Left), &lines, width)
}

fn line(row: &UseRow) -> Line {
    let place = format!("{}:{}", printable(&row.file), row.line);
    let written = printable(&row.written);
    let image = row.reference.clone().unwrap_or_else(|| "unresolved".to_owned());
    let mut found = row.found.clone();
    if let Some(platform) = &row.platform {
        found += &format!(" for {platform}");
    }
    if row.maybe {
        found += " (maybe)";
    }
    let notes = row.advice().map(|advice| Note::hint(&advice)).into_iter().collect();
    // a use without a word of its own repeats the image
    let written = if row.reference.as_deref() == Some(&written) { "".into() } else { written };
    Line { cells: [&place, &*written, &image, &found].map(Into::into).into(), notes }
}

impl UseRow {
    /// The way to a reference.
    pub(crate) fn advice(&self) -> Option<String> {
        if self.missing.is_empty() {
            return self.problem.clone();
        }
        let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if let Some(expression) = self.missing.iter().find(|name| !is_name(name)) {
            let expression = printable(expression);
            return Some(format!("only the pipeline knows `{expression}`: write the image itself"));
        }
        let values: Vec<String> =
            self.missing.iter().map(|name| format!("`--build-arg {name}=…`")).collect();
        Some(format!("give {}", values.join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(written: &str, reference: Option<&str>, missing: &[&str]) -> UseRow {
        UseRow {
            file: "a/Dockerfile".to_owned(),
            line: 3,
            written: written.to_owned(),
            reference: reference.map(ToOwned::to_owned),
            found: "FROM".to_owned(),
            platform: None,
            maybe: false,
            missing: missing.iter().map(ToString::to_string).collect(),
            problem: None,
        }
    }

    #[test]
    fn each_use_has_its_place_and_an_unresolved_one_its_build_argument() {
        let rows = [
            row("alpine", Some("docker.io/library/alpine:latest"), &[]),
            row("alpine:$V\u{1b}[2J", None, &["V"]),
        ];
        let mut out = anstream::StripStream::new(Vec::new());
        table(&mut out, &rows, None).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "PLACE           WRITTEN       IMAGE                            FOUND",
                "a/Dockerfile:3  alpine        docker.io/library/alpine:latest  FROM",
                "a/Dockerfile:3  alpine:$V[2J  unresolved                       FROM",
                "    hint: give `--build-arg V=…`",
            ]
        );
        let mut out = Vec::new();
        json(&mut out, &rows, &[]).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(document["uses"][1]["missing"][0], "V");
        assert_eq!(document["uses"][1]["reference"], serde_json::Value::Null);
    }
}
