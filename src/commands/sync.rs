//! `sync`: mirrors everything that the configuration selects.

use std::path::Path;

use tokio::time::Instant;

use super::{
    run_files::RunFiles,
    shared::{
        annotate, divide, mirror_within, print_report, read_config, resolve_shard, with_lock,
        with_saved,
    },
};
use crate::{
    cli::{Global, PlanArgs, SyncArgs},
    engine::{Check, Options},
    model::{
        Result,
        outcome::{ExitCodes, Report},
    },
    output::{Screen, file},
    remote::MaxWait,
    run::{
        lock_file::LockFile,
        sync::{ImagesToSync, ReportImages, SyncRequest},
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, mut args: SyncArgs) -> Result<u8> {
    let SyncArgs { sharding, output, lock, metrics, .. } = &mut args;
    resolve_shard(sharding, &mut [&mut output.report, lock, &mut metrics.metrics])?;
    let exit_codes = ExitCodes { deferred: args.deferred_exit_code, drift: args.drift_exit_code };
    if args.dry_run {
        let plan = PlanArgs {
            only: args.only,
            output: args.output,
            locked: args.locked,
            resolve: false,
            deep: args.deep,
            max_wait: Some(args.max_wait),
            exit_codes,
            sharding: args.sharding,
        };
        return super::plan::run(global, screen, plan).await;
    }
    let files = RunFiles::open("sync", &args.output, Some(&args.metrics))?;
    let result = mirror_images(global, screen, args, exit_codes, &files).await;
    files.finish(screen, result)
}

/// Mirrors, saves and prints. Returns the report and the exit status.
async fn mirror_images(
    global: &Global,
    screen: &Screen,
    args: SyncArgs,
    exit_codes: ExitCodes,
    files: &RunFiles,
) -> Result<(Report, u8)> {
    let deadline = args.deadline.and_then(|after| Instant::now().checked_add(after));
    let config = read_config(global)?;
    let (config, part) = divide(global, config, &args.only, &args.sharding).await?;
    let only = if part.is_some() { &[][..] } else { &args.only };
    let images = ImagesToSync::read(&config, only, args.locked.as_deref())?;
    args.lock.as_deref().map(|path| file::check_writable(path, "lock file")).transpose()?;
    let check = if args.deep { Check::Deep } else { Check::Tags };
    let options = Options { check, transfers: args.concurrency, ..Options::default() };
    let request = SyncRequest { config: &config, images, options };
    let max_wait = MaxWait { limit: args.max_wait, deadline };
    let (report, images) = mirror_within(global, screen, request, max_wait).await?;
    let report = Report { shard: part.map(|part| part.shard), ..report };
    let report = report.with_exit_codes(exit_codes);
    annotate(screen, &config, &report);
    let saved = files.save_report(&report);
    let locked = args.lock.as_deref().map_or(Ok(()), |path| save_lock(path, &images, &report));
    let printed = print_report(global, screen, &report, args.output.json);
    let exit = with_lock(screen, report.exit, &report, &locked);
    let exit = with_saved(screen, with_saved(screen, exit, &printed), &saved);
    Ok((report, exit))
}

/// Saves the lock file if every image succeeded.
fn save_lock(path: &Path, images: &ReportImages<'_>, report: &Report) -> Result<()> {
    if LockFile::covers(report) {
        let lock = images.lock_file(report);
        return file::save(path, "lock file", |out| lock.write(out));
    }
    Err(LockFile::unwritten(path))
}
