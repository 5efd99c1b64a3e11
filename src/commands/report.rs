//! `report merge`: joins the reports of shards.

use super::{
    run_files::{MetricsTarget, RunFiles},
    shared::{print_report, with_saved},
};
use crate::{
    cli::{Global, MergeArgs, ReportVerb},
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, file, github, json},
    run::{lock_file::LockFile, merge::ShardFiles},
};

pub(crate) fn run(global: &Global, screen: &Screen, verb: ReportVerb) -> Result<u8> {
    let ReportVerb::Merge(args) = verb;
    let metrics = MetricsTarget::new(args.metrics.as_deref(), args.metrics_format, args.json)?;
    let summary = args.summary.as_deref();
    let files = RunFiles::open("report merge", metrics, summary)?;
    let result = merge(global, screen, &args);
    files.finish(screen, result)
}

/// Merges, saves and prints. Returns the report and the exit status.
fn merge(global: &Global, screen: &Screen, args: &MergeArgs) -> Result<(Report, u8)> {
    let files = ShardFiles::read(&args.files)?;
    let (report, missing) = files.merge()?;
    let lock = args.lock.as_deref().map(|_| files.lock()).transpose()?;
    let save = |path| file::save(path, "report", |out| json::write(out, &report));
    let saved = args.report.as_deref().map(save).transpose();
    let locked = match (&lock, args.lock.as_deref()) {
        (Some(lock), Some(path)) if missing.is_empty() => {
            file::save(path, "lock file", |out| lock.write(out))
        }
        (Some(_), Some(path)) => Err(LockFile::unwritten(path)),
        _ => Ok(()),
    };
    // it has no configuration
    github::annotate_report(screen, &report, |_| None);
    let printed = print_report(global, screen, &report, args.json);
    for index in &missing {
        let problem = format!("shard {index} has no report");
        let error = Error::new(Kind::Unavailable, problem)
            .hint("run the shard again, and name its report, too");
        error::print(screen, &error);
    }
    let exit = with_saved(screen, with_saved(screen, report.exit, &printed), &saved);
    let exit = with_saved(screen, exit, &locked);
    Ok((report, exit))
}
