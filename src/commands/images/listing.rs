//! The rows and the targets of selected items.

use crate::{
    config::Config,
    model::{Digest, Error, Kind, Result, outcome::Row},
    output::images::ImageRow,
    run::{
        image_mapping::MappedTarget,
        select_images::{MirrorItem, SelectedItem, image_rows},
    },
};

/// The selected images, as rows and as targets of a form.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) rows: Vec<ImageRow>,
    pub(super) targets: Vec<MappedTarget>,
    /// One for each item that cannot be listed.
    pub(super) failures: Vec<Error>,
}

pub(super) async fn list<'a>(
    config: &Config,
    items: Vec<SelectedItem<'a>>,
    digest: impl AsyncFn(&MirrorItem<'a>) -> Result<Option<Digest>>,
) -> Listing {
    let mut listing = Listing::default();
    for item in items {
        match item {
            SelectedItem::Image(item) => {
                let digest = digest(&item).await;
                let image = image_rows(config, &item.image, &item.source()).into_iter();
                let known = digest.as_ref().ok().cloned().flatten();
                let row = |row| image_row(row, known.clone(), "mirrored");
                listing.rows.extend(image.map(row));
                match digest {
                    Ok(digest) => listing.targets.extend(item.mapped(config, digest.as_ref())),
                    Err(error) => listing.failures.push(error),
                }
            }
            SelectedItem::Cached(item) => {
                let digest = item.entry.pin().cloned();
                listing.rows.push(image_row(item.row(config), digest, "pull-through"));
                listing.targets.push(item.mapped(config));
            }
            SelectedItem::Rows(rows) => {
                listing.failures.extend(rows.into_iter().take(1).map(failure))
            }
        }
    }
    listing
}

fn failure(row: Row) -> Error {
    let error = Error::new(Kind::NotFound, format!("cannot list {}", row.source));
    let causes = row.error.map(|cause| Error::new(Kind::NotFound, cause)).into_iter();
    row.hint.into_iter().fold(causes.fold(error, Error::because), Error::hint)
}

fn image_row(row: Row, digest: Option<Digest>, via: &'static str) -> ImageRow {
    ImageRow { name: row.name, source: row.source, destination: row.destination, digest, via }
}
