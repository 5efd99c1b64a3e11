//! `ecr-mirror images`: every image and the reference to pull it from. Reads no network.

use serde::Serialize;

use crate::{
    config::Config,
    model::{Image, Target},
};

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

/// How the listing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns with a heading, for people.
    Table,
    /// One JSON document.
    Json,
}

/// The listing of these images, for stdout: a row for each image and destination,
/// in the configuration's order.
pub fn run(config: &Config, images: &[Image], format: Format) -> String {
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| image.targets.iter().map(|target| row(config, image, target)))
        .collect();
    match format {
        Format::Table => table(&rows),
        Format::Json => {
            let listing = Listing { version: 1, images: rows };
            let json = serde_json::to_string_pretty(&listing);
            json.expect("strings and numbers are JSON") + "\n"
        }
    }
}

fn row(config: &Config, image: &Image, target: &Target) -> Row {
    let registry = &config.destination(target.destination).registry;
    Row {
        name: image.name.clone(),
        source: image.origin.to_string(),
        destination: format!("{registry}/{}:{}", target.repository, target.tag),
        via: "mirrored",
    }
}

fn table(rows: &[Row]) -> String {
    let heading = ["NAME", "SOURCE", "DESTINATION", "VIA"];
    fn cells(row: &Row) -> [&str; 4] {
        [&row.name, &row.source, &row.destination, row.via]
    }
    let lines: Vec<[&str; 4]> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let line = |[name, source, destination, via]: &[&str; 4]| {
        let [w0, w1, w2] = widths;
        format!("{name:w0$}  {source:w1$}  {destination:w2$}  {via}\n")
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn listed(format: Format) -> String {
        let text = "[[destination]]\nregistry = \"a.example\"\nprefix = \"mirror\"\n\
             [[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\nname = \"web\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        run(&config, &config.images(), format)
    }

    #[test]
    fn the_table_has_a_row_for_each_image_and_destination() {
        assert_eq!(
            listed(Format::Table),
            "NAME  SOURCE                        DESTINATION                          VIA\n\
             web   docker.io/library/nginx:1.27  a.example/mirror/library/nginx:1.27  mirrored\n\
             web   docker.io/library/nginx:1.27  b.example/library/nginx:1.27         mirrored\n\
             a/b   quay.io/a/b:1                 b.example/a/b:1                      mirrored\n"
        );
    }

    #[test]
    fn the_document_has_the_same_rows() {
        let document: serde_json::Value = serde_json::from_str(&listed(Format::Json)).unwrap();
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
