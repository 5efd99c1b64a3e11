//! `images`: lists every image and the reference to pull it from. Sends requests only for
//! selections, for `retag` with digests, and for pinned images whose filter changes the digest.

use futures::FutureExt;

use super::shared::{read_expanded_config, with_registries};
use crate::{
    cli::{Global, ImagesArgs},
    config::{Config, Entry},
    model::{Digest, Error, Kind, Result, outcome::Row},
    output::{
        Screen, error,
        images::{self, ImageRow},
        progress::ProgressView,
    },
    run::select_images::{
        MirrorItem, SelectedItem, image_rows, pinned_digest, select_images, select_offline,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: &ImagesArgs) -> Result<u8> {
    let config = read_expanded_config(global).await?;
    let entries = config.only(&args.only)?;
    // the sandbox replaces pins that it cannot make up
    let is_sandbox = global.sandbox.is_some();
    let changes_pin = |item: &SelectedItem<'_>| match item {
        SelectedItem::Image(item) => {
            item.changes_pin() || (is_sandbox && item.entry.pin().is_some())
        }
        SelectedItem::Cached(_) | SelectedItem::Rows(_) => false,
    };
    let offline = select_offline(&config, &entries).filter(|items| !items.iter().any(changes_pin));
    let (rows, failures) = match offline {
        Some(items) => rows(&config, items, async |item| Ok(item.entry.pin().cloned())).await,
        None => select_online(global, screen, &config, &entries).await?,
    };
    screen.print(|out| match args.json {
        true => images::json(out, &rows),
        false => images::table(out, &rows, screen.width()),
    })?;
    for error in &failures {
        error::print(screen, error);
    }
    Ok(u8::from(!failures.is_empty()))
}

async fn select_online(
    global: &Global,
    screen: &Screen,
    config: &Config,
    entries: &[&Entry],
) -> Result<(Vec<ImageRow>, Vec<Error>)> {
    let select = async |registries: &_| {
        let progress = ProgressView::start(global.progress(), screen);
        let items =
            select_images(registries, config, entries, &*progress.observer()).boxed().await?;
        Ok(rows(config, items, async |item| pinned_digest(registries, config, item).boxed().await)
            .await)
    };
    with_registries(global, config, select).await
}

/// The rows to print, and one error for each item that cannot be listed.
async fn rows<'a>(
    config: &Config,
    items: Vec<SelectedItem<'a>>,
    digest: impl AsyncFn(&MirrorItem<'a>) -> Result<Option<Digest>>,
) -> (Vec<ImageRow>, Vec<Error>) {
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for item in items {
        match item {
            SelectedItem::Image(item) => {
                let digest = digest(&item).await.unwrap_or_else(|error| {
                    failures.push(error);
                    None
                });
                let image = image_rows(config, &item.image, &item.source).into_iter();
                rows.extend(image.map(|row| image_row(row, digest.clone(), "mirrored")));
            }
            SelectedItem::Cached(item) => {
                let digest = item.entry.pin().cloned();
                rows.push(image_row(item.row(config), digest, "pull-through"));
            }
            SelectedItem::Rows(rows) => failures.extend(rows.into_iter().take(1).map(|row| {
                let error = Error::new(Kind::NotFound, format!("cannot list {}", row.source));
                let causes = row.error.map(|cause| Error::new(Kind::NotFound, cause)).into_iter();
                row.hint.into_iter().fold(causes.fold(error, Error::because), Error::hint)
            })),
        }
    }
    (rows, failures)
}

fn image_row(row: Row, digest: Option<Digest>, via: &'static str) -> ImageRow {
    ImageRow { name: row.name, source: row.source, destination: row.destination, digest, via }
}

#[cfg(test)]
mod tests;
