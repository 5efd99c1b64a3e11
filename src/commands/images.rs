//! `images`: lists every image and the reference to pull it from, or writes a form of them. Sends
//! requests only for selections, for `retag` with digests, and for pinned images whose filter changes
//! the digest.

mod listing;

use futures::FutureExt;

use self::listing::{Listing, list};
use super::{
    build_form,
    shared::{read_expanded_config, with_registries},
};
use crate::{
    cli::{Global, ImagesArgs},
    config::{Config, Entry},
    discover::forms::emit,
    model::Result,
    output::{Screen, error, images, progress::ProgressView},
    run::{
        image_mapping::image_mapping,
        select_images::{SelectedItem, pinned_digest, select_images, select_offline},
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
    let listing = match offline {
        Some(items) => list(&config, items, async |item| Ok(item.entry.pin().cloned())).await,
        None => list_online(global, screen, &config, &entries).await?,
    };
    let Listing { rows, targets, failures } = listing;
    let omitted = match args.format {
        Some(form) => {
            let mapping = image_mapping(&config, targets, args.destination.as_deref())?;
            build_form::print(global, screen, &emit(form, &mapping)?)?
        }
        None => {
            screen.print(|out| match args.json {
                true => images::json(out, &rows),
                false => images::table(out, &rows, screen.width()),
            })?;
            0
        }
    };
    for error in &failures {
        error::print(screen, error);
    }
    Ok(u8::from(!failures.is_empty() || omitted > 0))
}

async fn list_online(
    global: &Global,
    screen: &Screen,
    config: &Config,
    entries: &[&Entry],
) -> Result<Listing> {
    let select = async |registries: &_| {
        let progress = ProgressView::start(global.progress(), screen);
        let items =
            select_images(registries, config, entries, &*progress.observer()).boxed().await?;
        Ok(list(config, items, async |item| pinned_digest(registries, config, item).boxed().await)
            .await)
    };
    with_registries(global, config, select).await
}

#[cfg(test)]
mod tests;
