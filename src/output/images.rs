//! The list of images and references: as a table and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::table::{GAP, Line, grid};
use crate::model::Digest;

/// One image at one destination.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ImageRow {
    pub(crate) name: String,
    pub(crate) source: String,
    /// The reference to pull.
    pub(crate) destination: String,
    /// The digest to pull, if the source is pinned to one.
    pub(crate) digest: Option<Digest>,
    /// `mirrored` or `pull-through`.
    pub(crate) via: &'static str,
}

/// Writes the JSON document, format version 1.
pub(crate) fn json(out: &mut dyn Write, images: &[ImageRow]) -> io::Result<()> {
    writeln!(out, "{:#}", json!({ "version": 1, "images": images }))
}

/// Writes the table. A shortened reference could not be pulled: if a row is wider than `width`, the
/// reference is written on a line of its own.
pub(crate) fn table(
    out: &mut dyn Write,
    rows: &[ImageRow],
    width: Option<usize>,
) -> io::Result<()> {
    let header = ["NAME", "SOURCE", "DESTINATION", "VIA"];
    let references: Vec<String> = rows.iter().map(reference).collect();
    let rows: Vec<[&str; 4]> = rows
        .iter()
        .zip(&references)
        .map(|(row, reference)| [&row.name, &row.source, reference.as_str(), row.via])
        .collect();
    let is_full = width.is_none_or(|width| full_width(&rows, &header) <= width);
    let line = |row: &[&str; 4]| match (is_full, row) {
        (true, cells) => Line { cells: cells.map(Into::into).into(), notes: Vec::new() },
        (false, &[name, source, reference, via]) => Line {
            cells: [name, source, via].map(Into::into).into(),
            notes: vec![reference.to_owned()],
        },
    };
    let header = if is_full { &header[..] } else { &["NAME", "SOURCE", "VIA"] };
    grid(out, header, &rows.iter().map(line).collect::<Vec<_>>(), width.filter(|_| !is_full))
}

/// The reference with the digest, unless it has the digest already.
fn reference(row: &ImageRow) -> String {
    match &row.digest {
        Some(digest) if !row.destination.contains('@') => format!("{}@{digest}", row.destination),
        _ => row.destination.clone(),
    }
}

/// The width of the table if nothing is shortened.
fn full_width(rows: &[[&str; 4]], header: &[&str; 4]) -> usize {
    let column = |index: usize| {
        let texts = rows.iter().map(|row| row[index]).chain([header[index]]);
        texts.map(|text| text.chars().count()).max().unwrap_or_default()
    };
    (0..header.len()).map(column).sum::<usize>() + GAP * (header.len() - 1)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn rows() -> Vec<ImageRow> {
        let row = |name: &str, source: &str, destination: &str| ImageRow {
            name: name.to_owned(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            digest: None,
            via: "mirrored",
        };
        let nginx = "docker.io/library/nginx:1.27";
        vec![
            row("web", nginx, "a.example/mirror/library/nginx:1.27"),
            row("web", nginx, "b.example/library/nginx:1.27"),
            row("a/b", "quay.io/a/b:1", "b.example/a/b:1"),
        ]
    }

    #[test]
    fn a_reference_is_never_shortened_however_narrow_the_terminal_is() {
        let rows = rows();
        let text = |width| {
            let mut out = anstream::StripStream::new(Vec::new());
            table(&mut out, &rows, width).unwrap();
            String::from_utf8(out.into_inner()).unwrap()
        };
        let wide = text(Some(100));
        assert!(wide.starts_with("NAME  SOURCE") && wide.contains("DESTINATION"), "{wide}");
        assert_eq!(wide, text(None));
        let narrow = text(Some(60));
        assert!(narrow.contains("\n    a.example/mirror/library/nginx:1.27\n"), "{narrow}");
        assert!(!narrow.contains("DESTINATION"), "{narrow}");
    }

    #[test]
    fn the_table_has_a_row_for_each_image_and_destination() {
        let mut written = anstream::StripStream::new(Vec::new());
        table(&mut written, &rows(), None).unwrap();
        let written = String::from_utf8(written.into_inner()).unwrap();
        let lines: Vec<&str> = written.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "NAME  SOURCE                        DESTINATION                          VIA",
                "web   docker.io/library/nginx:1.27  a.example/mirror/library/nginx:1.27  mirrored",
                "web   docker.io/library/nginx:1.27  b.example/library/nginx:1.27         mirrored",
                "a/b   quay.io/a/b:1                 b.example/a/b:1                      mirrored",
            ]
        );
    }

    #[test]
    fn the_document_has_the_same_rows() {
        let mut written = Vec::new();
        json(&mut written, &rows()).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(document["version"], 1);
        assert_eq!(document["images"].as_array().unwrap().len(), 3);
        assert_eq!(
            document["images"][2],
            serde_json::json!({
                "name": "a/b",
                "source": "quay.io/a/b:1",
                "destination": "b.example/a/b:1",
                "digest": null,
                "via": "mirrored",
            })
        );
    }
}
