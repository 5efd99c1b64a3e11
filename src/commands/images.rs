//! `ecr-mirror images`: every image and the reference to pull it from. Reads the network only
//! where tags are selected, or are made from digests.

use std::io::{self, Write};

use futures::FutureExt;
use serde::Serialize;

use super::{
    ends::World,
    expand::{Item, expand, is_offline},
    mirroring::configuration,
};
use crate::{
    cli::{Global, ImagesArgs},
    config::{Config, Entry},
    model::{Error, Image, Kind, Pointer, Result, Target},
    output::{
        Screen, failure,
        progress::Watch,
        table::{self, Line},
    },
};

/// Connections to a registry at once: tag lists come one page after the other.
const CONNECTIONS: usize = 8;

/// Lists on stdout.
///
/// # Errors
/// When the configuration is wrong, or `--only` names nothing in it.
pub async fn run(global: &Global, screen: &Screen, args: &ImagesArgs) -> Result<u8> {
    let config = configuration(global)?;
    let entries = config.only(&args.only)?;
    let (rows, failures) = match is_offline(&entries) {
        true => (offline(&config, &entries), Vec::new()),
        false => asked(global, screen, (&config, &entries)).await?,
    };
    screen.print(|out| match args.json {
        true => out.write_all(json(rows).as_bytes()),
        false => table(out, &rows, screen.width()),
    })?;
    for error in &failures {
        failure::print(screen, error);
    }
    Ok(if failures.is_empty() { 0 } else { 1 })
}

fn offline(config: &Config, entries: &[&Entry]) -> Vec<Row> {
    let images = entries.iter().filter_map(|entry| entry.images()).flatten();
    images.flat_map(|image| rows(config, &image, &image.origin.to_string())).collect()
}

/// The images once their tags are listed, and what cannot be.
async fn asked(
    global: &Global,
    screen: &Screen,
    (config, entries): (&Config, &[&Entry]),
) -> Result<(Vec<Row>, Vec<Error>)> {
    let world = World::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let watch = Watch::start(global.progress(), screen);
    let items = expand(&world, config, entries, &*watch.observer()).boxed().await;
    drop(watch);
    world.close().await;
    let (mut listed, mut failures) = (Vec::new(), Vec::new());
    for item in items? {
        match item {
            Item::Image(chosen) => listed.extend(rows(config, &chosen.image, &chosen.source)),
            Item::Rows(rows) => failures.extend(rows.into_iter().take(1).map(|row| {
                let error = Error::new(Kind::NotFound, format!("cannot list {}", row.source));
                let error = match row.error {
                    Some(cause) => error.because(Error::new(Kind::NotFound, cause)),
                    None => error,
                };
                row.hint.into_iter().fold(error, Error::hint)
            })),
        }
    }
    Ok((listed, failures))
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

/// A row for each destination of the image.
fn rows(config: &Config, image: &Image, source: &str) -> Vec<Row> {
    image.targets.iter().map(|target| row(config, (image, source), target)).collect()
}

fn json(images: Vec<Row>) -> String {
    let listing = Listing { version: 1, images };
    serde_json::to_string_pretty(&listing).expect("strings and numbers are JSON") + "\n"
}

fn row(config: &Config, (image, source): (&Image, &str), target: &Target) -> Row {
    let site = &config.destination(target.destination).registry;
    Row {
        name: image.name.clone(),
        source: source.to_owned(),
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
        let entries: Vec<&Entry> = config.entries.iter().collect();
        offline(&config, &entries)
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
