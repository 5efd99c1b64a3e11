//! `ecr-mirror images`: every image and the reference to pull it from. Reads the network only
//! where tags are selected, or are made from digests.

use std::io::{self, Write};

use futures::FutureExt;
use serde::Serialize;

use super::configuration;
use crate::{
    cli::{Global, ImagesArgs},
    config::{Config, Entry},
    model::{Error, Image, Kind, Result, TagOrDigest},
    output::{
        Screen, error,
        progress::ProgressView,
        table::{self, Line},
    },
    run::{
        registries::Registries,
        select_images::{CacheItem, SelectedItem, offline, select_images},
    },
};

/// Connections to a registry at once: tag lists come one page after the other.
const CONNECTIONS: usize = 8;

/// Lists on stdout.
///
/// # Errors
/// When the configuration is wrong, or `--only` names nothing in it.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ImagesArgs) -> Result<u8> {
    let config = configuration(global)?;
    let entries = config.only(&args.only)?;
    let items = match offline(&entries) {
        Some(items) => items,
        None => select_online(global, screen, (&config, &entries)).await?,
    };
    let (rows, failures) = listed(&config, items);
    screen.print(|out| match args.json {
        true => out.write_all(json(rows).as_bytes()),
        false => table(out, &rows, screen.width()),
    })?;
    for error in &failures {
        error::print(screen, error);
    }
    Ok(if failures.is_empty() { 0 } else { 1 })
}

/// What the entries come to once their tags are listed.
async fn select_online<'a>(
    global: &Global,
    screen: &Screen,
    (config, entries): (&Config, &[&'a Entry]),
) -> Result<Vec<SelectedItem<'a>>> {
    let world = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let watch = ProgressView::start(global.progress(), screen);
    let items = select_images(&world, config, entries, &*watch.observer()).boxed().await;
    drop(watch);
    world.close().await;
    items
}

/// The images, and what cannot be listed.
fn listed(config: &Config, items: Vec<SelectedItem<'_>>) -> (Vec<ImageRow>, Vec<Error>) {
    let (mut listed, mut failures) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectedItem::Image(chosen) => {
                listed.extend(rows(config, &chosen.image, &chosen.source))
            }
            SelectedItem::Cached(cached) => listed.push(cached_row(config, cached)),
            SelectedItem::Rows(rows) => failures.extend(rows.into_iter().take(1).map(|row| {
                let error = Error::new(Kind::NotFound, format!("cannot list {}", row.source));
                let error = match row.error {
                    Some(cause) => error.because(Error::new(Kind::NotFound, cause)),
                    None => error,
                };
                row.hint.into_iter().fold(error, Error::hint)
            })),
        }
    }
    (listed, failures)
}

/// One image at one destination.
#[derive(Debug, Serialize)]
struct ImageRow {
    name: String,
    source: String,
    /// The reference to pull.
    destination: String,
    /// How it gets there.
    via: &'static str,
}

/// What is printed: version 1 of this format.
#[derive(Debug, Serialize)]
struct ImagesDocument {
    version: u32,
    images: Vec<ImageRow>,
}

/// A row for each destination of the image.
fn rows(config: &Config, image: &Image, source: &str) -> Vec<ImageRow> {
    let row = |target: &crate::model::Target| ImageRow {
        name: image.name.clone(),
        source: source.to_owned(),
        destination: (config.destination(target.destination).registry)
            .reference(&target.repository, &TagOrDigest::Tag(target.tag.clone())),
        via: "mirrored",
    };
    image.targets.iter().map(row).collect()
}

fn cached_row(config: &Config, cached: CacheItem<'_>) -> ImageRow {
    ImageRow {
        name: cached.entry.name.clone(),
        destination: cached.reference(config),
        source: cached.source,
        via: "pull-through",
    }
}

fn json(images: Vec<ImageRow>) -> String {
    let listing = ImagesDocument { version: 1, images };
    serde_json::to_string_pretty(&listing).expect("strings and numbers are JSON") + "\n"
}

/// A reference that is shortened cannot be pulled: where there is no room for it in a row, it has a
/// line of its own.
fn table(out: &mut dyn Write, rows: &[ImageRow], width: Option<usize>) -> io::Result<()> {
    let header = ["NAME", "SOURCE", "DESTINATION", "VIA"];
    if width.is_none_or(|width| widest(rows, &header) <= width) {
        let line =
            |row: &ImageRow| Line { cells: cells(row).map(Into::into).into(), notes: Vec::new() };
        let lines: Vec<Line> = rows.iter().map(line).collect();
        return table::grid(out, &header, &lines, None);
    }
    let line = |row: &ImageRow| Line {
        cells: [&row.name, &row.source, row.via].map(Into::into).into(),
        notes: vec![row.destination.clone()],
    };
    let lines: Vec<Line> = rows.iter().map(line).collect();
    table::grid(out, &["NAME", "SOURCE", "VIA"], &lines, width)
}

fn cells(row: &ImageRow) -> [&str; 4] {
    [&row.name, &row.source, &row.destination, row.via]
}

/// How wide the table is with everything in it.
fn widest(rows: &[ImageRow], header: &[&str; 4]) -> usize {
    let column = |at: usize| {
        let texts = rows.iter().map(|row| cells(row)[at]).chain([header[at]]);
        texts.map(|text| text.chars().count()).max().unwrap_or_default()
    };
    (0..header.len()).map(column).sum::<usize>() + table::GAP * (header.len() - 1)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::CacheTarget;

    fn rows_of(config: &Config) -> Vec<ImageRow> {
        let entries: Vec<&Entry> = config.entries.iter().collect();
        let (rows, failures) = listed(config, offline(&entries).unwrap());
        assert!(failures.is_empty());
        rows
    }

    fn mirrored() -> Vec<ImageRow> {
        let text = "[[destination]]\nregistry = \"a.example\"\nprefix = \"mirror\"\n\
             [[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\nname = \"web\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]\n";
        rows_of(&Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap())
    }

    #[test]
    fn a_reference_is_whole_however_narrow_the_terminal_is() {
        let rows = mirrored();
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
    fn what_is_cached_is_pulled_by_tag_or_by_the_pinned_digest() {
        let pin = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "[[destination]]\nregistry = \"a.example\"\n[[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\", \"2\"]\nretag = \"v{{tag}}\"\n\
             [[image]]\nsource = \"quay.io/c@{pin}\"\ntag = \"x\"\n"
        );
        let mut config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        for (entry, mirrored) in config.entries.iter_mut().zip([1, 0]) {
            let cached = entry.mirrored.split_off(mirrored).into_iter().map(|place| CacheTarget {
                destination: place.destination,
                cache: 0,
                repository: format!("quay/{}", entry.repository).parse().unwrap(),
            });
            entry.cached = cached.collect();
        }
        let rows = rows_of(&config);
        let lines =
            rows.iter().map(|row| format!("{} {} {}", row.source, row.destination, row.via));
        assert_eq!(
            lines.collect::<Vec<_>>(),
            [
                "quay.io/a/b:1 a.example/a/b:v1 mirrored".to_owned(),
                "quay.io/a/b:1 b.example/quay/a/b:1 pull-through".to_owned(),
                "quay.io/a/b:2 a.example/a/b:v2 mirrored".to_owned(),
                "quay.io/a/b:2 b.example/quay/a/b:2 pull-through".to_owned(),
                format!("quay.io/c@{pin} a.example/quay/c@{pin} pull-through"),
                format!("quay.io/c@{pin} b.example/quay/c@{pin} pull-through"),
            ]
        );
    }

    #[test]
    fn the_table_has_a_row_for_each_image_and_destination() {
        let mut written = anstream::StripStream::new(Vec::new());
        table(&mut written, &mirrored(), None).unwrap();
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
        let document: serde_json::Value = serde_json::from_str(&json(mirrored())).unwrap();
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
