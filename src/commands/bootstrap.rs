//! `bootstrap`: finds the images that a build uses, lists them, or mirrors exactly these. Writes the
//! forms that make the build use the mirror.

mod rows;

use futures::FutureExt;

use self::rows::{row, unreadable_row};
use super::{
    build_form::BuildForms,
    into::add_images,
    shared::{mirror, read_config, read_config_with, with_failure},
};
use crate::{
    cli::{BootstrapArgs, Global},
    discover::{DiscoverOptions, FoundUses, Resolution, Use, files},
    engine::{Options, WithoutSource},
    model::Result,
    output::{
        Screen, error,
        uses::{self, UnreadableRow, UseRow},
    },
    run::{
        sync::{ImagesToSync, SyncRequest},
        used_images::UsedImages,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: BootstrapArgs) -> Result<u8> {
    let forms = BuildForms::new(&args)?;
    let environment = |name: &str| std::env::var(name).ok();
    let options = DiscoverOptions {
        build_args: args.build_args(&environment),
        target: args.target.clone(),
        platforms: args.platforms.clone(),
        environment,
        ..DiscoverOptions::default()
    };
    let found = files::find(&args.paths, &options)?;
    let rows: Vec<UseRow> = found.uses.iter().map(row).collect();
    if found.uses.is_empty() && found.unreadable.is_empty() {
        let hint = "name a directory with a Dockerfile, a compose file or manifests";
        error::warn(screen, &format!("no file uses an image\nhint: {hint}"));
    }
    let unresolved = unresolved(&found);
    let is_open = unresolved > 0 && !args.ignore_unresolved;
    forms.check_files(global, args.into.as_deref())?;
    let global = &add_images(global, screen, &args, &found.uses)?;
    if args.list {
        list(screen, &found, &rows, args.json)?;
        return Ok(u8::from(is_open));
    }
    print_unresolved(screen, &found, &rows);
    let platforms = &args.platforms[..];
    let used = match &args.to {
        // a file of `--into` has the destination
        Some(place) if args.into.is_none() => {
            let file = (!global.config.is_empty()).then(|| read_config(global)).transpose()?;
            UsedImages::at(place, file, &found.uses, platforms)?
        }
        _ => {
            let read = |more: &mut dyn FnMut(&_) -> _| read_config_with(global, more);
            UsedImages::of_configuration(read, &found.uses, platforms)?
        }
    };
    forms.check(&used, &found)?;
    if args.write && global.sandbox.is_some() {
        error::warn(
            screen,
            "`--write` edits the Dockerfiles, with digests of the sandbox's own images",
        );
    }
    let without_source = if args.offline_ok { WithoutSource::Keep } else { WithoutSource::Fail };
    let request = SyncRequest {
        config: &used.config,
        images: ImagesToSync::Entries(used.entries.iter().collect()),
        options: Options { without_source, ..Options::default() },
    };
    let (report, images) = mirror(global, screen, request, None).boxed().await?;
    let lock = images.lock_file(&report);
    let run = (report, lock);
    forms.print_report(global, screen, &run.0, args.json)?;
    let is_written = forms.write(global, screen, &used, &found, &run)?;
    Ok(with_failure(run.0.exit, is_open || !is_written))
}

/// The number of uses without a reference, and of files that cannot be read.
fn unresolved(found: &FoundUses) -> usize {
    let is_known = |one: &&Use| matches!(one.image, Resolution::Image(_));
    found.uses.len() - found.uses.iter().filter(is_known).count() + found.unreadable.len()
}

fn list(screen: &Screen, found: &FoundUses, rows: &[UseRow], is_json: bool) -> Result<()> {
    if is_json {
        let unreadable: Vec<UnreadableRow> = found.unreadable.iter().map(unreadable_row).collect();
        return screen.print(|out| uses::json(out, rows, &unreadable));
    }
    screen.print(|out| uses::table(out, rows, screen.width()))?;
    found.unreadable.iter().for_each(|one| error::warn(screen, &one.to_string()));
    Ok(())
}

/// Warns of the images that are not mirrored, because their references are not known.
fn print_unresolved(screen: &Screen, found: &FoundUses, rows: &[UseRow]) {
    for row in rows.iter().filter(|row| row.reference.is_none()) {
        let advice = row.advice().unwrap_or_default();
        let place = format!("{}:{}", row.file, row.line);
        error::warn(screen, &format!("{place}: `{}` is not mirrored: {advice}", row.written));
    }
    found.unreadable.iter().for_each(|one| error::warn(screen, &one.to_string()));
}
