//! The list of images and references: as a table and as JSON.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use super::table::{Column, Line, grid};
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

/// Writes the table. No reference is cut, so that each can be pulled.
pub(crate) fn table(
    out: &mut dyn Write,
    rows: &[ImageRow],
    width: Option<usize>,
) -> io::Result<()> {
    let cells =
        |row: &ImageRow| [&row.name, row.via, &row.source, &reference(row)].map(Into::into).into();
    let lines: Vec<Line> =
        rows.iter().map(|row| Line { cells: cells(row), notes: Vec::new() }).collect();
    grid(out, &["NAME", "VIA", "SOURCE", "DESTINATION"].map(Column::Left), &lines, width)
}

/// The reference with the digest, unless it has the digest already.
fn reference(row: &ImageRow) -> String {
    match &row.digest {
        Some(digest) if !row.destination.contains('@') => format!("{}@{digest}", row.destination),
        _ => row.destination.clone(),
    }
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
        assert!(wide.starts_with("NAME  VIA       SOURCE"), "{wide}");
        assert_eq!(wide, text(None));
        let narrow = text(Some(60));
        let lines: Vec<&str> = narrow.lines().take(4).collect();
        assert_eq!(
            lines,
            [
                "NAME  VIA       SOURCE",
                "    DESTINATION",
                "web   mirrored  docker.io/library/nginx:1.27",
                "    a.example/mirror/library/nginx:1.27",
            ]
        );
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
                "NAME  VIA       SOURCE                        DESTINATION",
                "web   mirrored  docker.io/library/nginx:1.27  a.example/mirror/library/nginx:1.27",
                "web   mirrored  docker.io/library/nginx:1.27  b.example/library/nginx:1.27",
                "a/b   mirrored  quay.io/a/b:1                 b.example/a/b:1",
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
