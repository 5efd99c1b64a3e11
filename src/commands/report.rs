//! `report merge`: joins the reports of shards.

use super::{
    run_files::RunFiles,
    shared::{print_report, with_lock, with_saved},
};
use crate::{
    cli::{Global, MergeArgs, ReportVerb},
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, file, github},
    run::{lock_file::LockFile, merge::ShardFiles},
};

pub(crate) fn run(global: &Global, screen: &Screen, verb: ReportVerb) -> Result<u8> {
    let ReportVerb::Merge(args) = verb;
    let files = RunFiles::open("report merge", &args.output, Some(&args.metrics))?;
    let result = merge(global, screen, &args, &files);
    files.finish(screen, result)
}

/// Merges, saves and prints. Returns the report and the exit status.
fn merge(
    global: &Global,
    screen: &Screen,
    args: &MergeArgs,
    files: &RunFiles,
) -> Result<(Report, u8)> {
    let written = [args.output.report.as_deref(), args.lock.as_deref()];
    let shards = ShardFiles::read(&args.files, &Vec::from_iter(written.into_iter().flatten()))?;
    let (report, missing) = shards.merge()?;
    let saved = files.save_report(&report);
    let locked = match args.lock.as_deref() {
        Some(path) if missing.is_empty() && LockFile::covers(&report) => {
            shards.lock().and_then(|lock| file::save(path, "lock file", |out| lock.write(out)))
        }
        Some(path) => Err(LockFile::unwritten(path)),
        None => Ok(()),
    };
    // it has no configuration
    github::annotate_report(screen, &report, |_| None);
    let printed = print_report(global, screen, &report, args.output.json);
    for index in &missing {
        let problem = format!("shard {index} has no report");
        let error = Error::new(Kind::Unavailable, problem)
            .hint("run the shard again, and name its report, too");
        error::print(screen, &error);
    }
    let exit = with_saved(screen, with_saved(screen, report.exit, &printed), &saved);
    let exit = with_lock(screen, exit, &report, &locked);
    Ok((report, exit))
}
