//! `ecr-mirror images`: every image and the reference to pull it from. Reads no network.

use std::io::{self, Write};

use serde::Serialize;

use super::mirroring::configuration;
use crate::{
    cli::{Global, ImagesArgs},
    config::Config,
    model::{Image, Pointer, Result, Target},
    output::{
        Screen,
        table::{self, Line},
    },
};

/// Lists on stdout.
///
/// # Errors
/// When the configuration is wrong, or `--only` names nothing in it.
pub fn run(global: &Global, screen: &Screen, args: &ImagesArgs) -> Result<u8> {
    let config = configuration(global)?;
    let images = config.only(config.images(), &args.only)?;
    let rows = rows(&config, &images);
    screen.print(|out| match args.json {
        true => out.write_all(json(rows).as_bytes()),
        false => table(out, &rows, screen.width()),
    })?;
    Ok(0)
}

/// One image at one destination.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    source: String,
    /// The reference to pull.
    destination: String,
    /// How it gets there.
    via: &'static str,
}

/// What is printed: version 1 of this format.
#[derive(Debug, Serialize)]
struct Listing {
    version: u32,
    images: Vec<Row>,
}

/// A row for each image and destination, in the configuration's order.
fn rows(config: &Config, images: &[Image]) -> Vec<Row> {
    let of = |image: &Image| -> Vec<Row> {
        image.targets.iter().map(|target| row(config, image, target)).collect()
    };
    images.iter().flat_map(of).collect()
}

fn json(images: Vec<Row>) -> String {
    let listing = Listing { version: 1, images };
    serde_json::to_string_pretty(&listing).expect("strings and numbers are JSON") + "\n"
}

fn row(config: &Config, image: &Image, target: &Target) -> Row {
    let site = &config.destination(target.destination).registry;
    Row {
        name: image.name.clone(),
        source: image.origin.to_string(),
        destination: site.reference(&target.repository, &Pointer::Tag(target.tag.clone())),
        via: "mirrored",
    }
}

fn table(out: &mut dyn Write, rows: &[Row], width: Option<usize>) -> io::Result<()> {
    let line = |row: &Row| Line {
        cells: [&row.name, &row.source, &row.destination, row.via].map(Into::into).into(),
        notes: Vec::new(),
    };
    let lines: Vec<Line> = rows.iter().map(line).collect();
    table::grid(out, &["NAME", "SOURCE", "DESTINATION", "VIA"], &lines, width)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn listed() -> Vec<Row> {
        let text = "[[destination]]\nregistry = \"a.example\"\nprefix = \"mirror\"\n\
             [[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\nname = \"web\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        rows(&config, &config.images())
    }

    #[test]
    fn the_table_has_a_row_for_each_image_and_destination() {
        let mut written = anstream::StripStream::new(Vec::new());
        table(&mut written, &listed(), None).unwrap();
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
        let document: serde_json::Value = serde_json::from_str(&json(listed())).unwrap();
        assert_eq!(document["version"], 1);
        assert_eq!(document["images"].as_array().unwrap().len(), 3);
        assert_eq!(
            document["images"][2],
            serde_json::json!({
                "name": "a/b",
                "source": "quay.io/a/b:1",
                "destination": "b.example/a/b:1",
                "via": "mirrored",
            })
        );
    }
}
