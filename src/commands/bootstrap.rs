//! `bootstrap`: finds the images that a build uses, lists them, or mirrors exactly these. Writes the
//! forms that make the build use the mirror.

mod rows;

use std::path::Path;

use futures::FutureExt;

use super::{
    build_form::BuildForms,
    into::IntoFile,
    run_files::RunFiles,
    shared::{annotate, mirror, read_config, read_config_with, with_failure, with_saved},
};
use crate::{
    cli::{BootstrapArgs, Global},
    discover::{DiscoverOptions, FoundUses, Use, files},
    engine::{Options, Questions, WithoutSource},
    model::{Result, outcome::Report},
    output::{Screen, error},
    run::{
        sync::{ImagesToSync, SyncRequest},
        used_images::UsedImages,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: BootstrapArgs) -> Result<u8> {
    let forms = BuildForms::new(&args)?;
    if args.list {
        return list(global, screen, &args);
    }
    let mut files = RunFiles::open("bootstrap", &args.output, Some(&args.metrics))?;
    let found = find(screen, &args);
    if let Ok(found) = &found {
        // before a file is written, also that of a failed run
        forms.check_outputs(global, found)?;
        files.notes = rows::unresolved(found);
    }
    let run = async {
        let found = found?;
        let into = IntoFile::plan(global, &args, &found.uses)?;
        let used = match into {
            Some(ref into) => &into.used,
            None => &used_images(global, &args, &found.uses)?,
        };
        let forms = forms.check(global, used, &found)?;
        into.as_ref().map(|into| into.save(global, screen)).transpose()?;
        files.notes.iter().for_each(|note| error::warn(screen, note));
        if args.write && global.sandbox.is_some() {
            error::warn(
                screen,
                "`--write` edits the Dockerfiles, with digests of the sandbox's own images",
            );
        }
        let without_source =
            if args.offline_ok { WithoutSource::Keep } else { WithoutSource::Fail };
        let request = SyncRequest {
            config: &used.config,
            images: ImagesToSync::Entries(used.entries.iter().collect()),
            options: Options { without_source, questions: Questions::AtOnce, ..Options::default() },
        };
        let (mut report, images) = mirror(global, screen, request, None).boxed().await?;
        annotate(screen, &used.config, &report);
        let lock = images.lock_file(&report);
        let is_whole = forms.write(global, screen, &report, &lock);
        report.exit = with_failure(report.exit, !is_whole || rows::is_open(&args, &found));
        let saved = files.save_report(&report);
        let printed = forms.print_report(global, screen, &report, args.output.json);
        let exit = with_saved(screen, with_saved(screen, report.exit, &printed), &saved);
        Ok((report, exit))
    };
    let result: Result<(Report, u8)> = run.boxed_local().await;
    files.finish(screen, result)
}

/// The uses in the files. Warns if there are none.
fn find(screen: &Screen, args: &BootstrapArgs) -> Result<FoundUses> {
    let environment = |name: &str| std::env::var(name).ok();
    let options = DiscoverOptions {
        build_args: args.build_args(&environment),
        target: args.target.clone(),
        platforms: args.platforms.clone(),
        environment,
        ..DiscoverOptions::default()
    };
    let mut found = files::find(&args.paths, &options)?;
    found.uses.extend(args.sbom.then(Use::sbom_scanner));
    if found.uses.is_empty() && found.unreadable.is_empty() {
        let hint = "name a directory with a Dockerfile, a compose file or manifests";
        error::warn(screen, &format!("no file uses an image\nhint: {hint}"));
    }
    Ok(found)
}

/// The images of a run without `--into`.
fn used_images(global: &Global, args: &BootstrapArgs, uses: &[Use]) -> Result<UsedImages> {
    let platforms = &args.platforms[..];
    if let Some(place) = &args.to {
        let file = (!global.config.is_empty()).then(|| read_config(global)).transpose()?;
        return UsedImages::at(place, file, uses, platforms);
    }
    let read = |more: &mut dyn FnMut(&_) -> _| read_config_with(global, more);
    let used = UsedImages::of_configuration(read, uses, platforms);
    let is_missing = global.config_files().iter().any(|path| path == Path::new("mirror.toml"))
        && !Path::new("mirror.toml").exists();
    used.map_err(|error| match is_missing {
        true => error.hint("or name the destination: `--to REGISTRY[/PREFIX]`"),
        false => error,
    })
}

/// Lists the uses, after the images that the file of `--into` lacks are added to it.
fn list(global: &Global, screen: &Screen, args: &BootstrapArgs) -> Result<u8> {
    let found = find(screen, args)?;
    IntoFile::plan(global, args, &found.uses)?.map(|into| into.save(global, screen)).transpose()?;
    rows::print(screen, &found, args.output.json)?;
    Ok(u8::from(rows::is_open(args, &found)))
}
