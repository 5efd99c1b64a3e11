//! `images`: lists every image and the reference to pull it from. Sends requests only for
//! selections and for `retag` with digests.

use futures::FutureExt;

use super::shared::{read_config, with_registries};
use crate::{
    cli::{Global, ImagesArgs},
    config::{Config, Entry},
    model::{Error, Kind, Result, outcome::Row},
    output::{
        Screen, error,
        images::{self, ImageRow},
        progress::ProgressView,
    },
    run::select_images::{SelectedItem, image_rows, select_images, select_offline},
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: &ImagesArgs) -> Result<u8> {
    let config = read_config(global)?;
    let entries = config.only(&args.only)?;
    let items = match select_offline(&entries) {
        Some(items) => items,
        None => select_online(global, screen, &config, &entries).await?,
    };
    let (rows, failures) = rows(&config, items);
    screen.print(|out| match args.json {
        true => images::json(out, &rows),
        false => images::table(out, &rows, screen.width()),
    })?;
    for error in &failures {
        error::print(screen, error);
    }
    Ok(u8::from(!failures.is_empty()))
}

async fn select_online<'a>(
    global: &Global,
    screen: &Screen,
    config: &Config,
    entries: &[&'a Entry],
) -> Result<Vec<SelectedItem<'a>>> {
    let select = async |registries: &_| {
        let progress = ProgressView::start(global.progress(), screen);
        select_images(registries, config, entries, &*progress.observer()).boxed().await
    };
    with_registries(global, config, select).await
}

/// The rows to print, and one error for each item that cannot be listed.
fn rows(config: &Config, items: Vec<SelectedItem<'_>>) -> (Vec<ImageRow>, Vec<Error>) {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectedItem::Image(item) => {
                let image = image_rows(config, &item.image, &item.source).into_iter();
                rows.extend(image.map(|row| image_row(row, "mirrored")));
            }
            SelectedItem::Cached(item) => rows.push(image_row(item.row(config), "pull-through")),
            SelectedItem::Rows(rows) => failures.extend(rows.into_iter().take(1).map(|row| {
                let error = Error::new(Kind::NotFound, format!("cannot list {}", row.source));
                let causes = row.error.map(|cause| Error::new(Kind::NotFound, cause)).into_iter();
                row.hint.into_iter().fold(causes.fold(error, Error::because), Error::hint)
            })),
        }
    }
    (rows, failures)
}

fn image_row(row: Row, via: &'static str) -> ImageRow {
    ImageRow { name: row.name, source: row.source, destination: row.destination, via }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::CacheTarget;

    #[test]
    fn an_image_has_a_row_for_each_destination() {
        let text = "[[destination]]\nregistry = \"a.example\"\nprefix = \"mirror\"\n\
             [[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\nname = \"web\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]\n";
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
        let entries: Vec<&Entry> = config.entries.iter().collect();
        let (rows, failures) = rows(&config, select_offline(&entries).unwrap());
        assert!(failures.is_empty());
        assert_eq!(rows, crate::output::images::tests::rows());
    }

    #[test]
    fn a_cached_image_is_pulled_by_tag_or_by_its_pinned_digest() {
        let pin = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            "[[destination]]\nregistry = \"a.example\"\n[[destination]]\nregistry = \"b.example\"\n\
             [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\", \"2\"]\nretag = \"v{{tag}}\"\n\
             [[image]]\nsource = \"quay.io/c@{pin}\"\ntag = \"x\"\n"
        );
        let mut config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        for (entry, mirrored) in config.entries.iter_mut().zip([1, 0]) {
            let cached = entry.mirrored.split_off(mirrored).into_iter().map(|target| CacheTarget {
                destination: target.destination,
                cache: 0,
                repository: format!("quay/{}", entry.repository).parse().unwrap(),
            });
            entry.cached = cached.collect();
        }
        let entries: Vec<&Entry> = config.entries.iter().collect();
        let (rows, failures) = rows(&config, select_offline(&entries).unwrap());
        assert!(failures.is_empty());
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
}
