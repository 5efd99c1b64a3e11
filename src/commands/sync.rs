//! `sync`: mirrors everything that the configuration selects.

use tokio::time::Instant;

use super::{configuration, mirror};
use crate::{
    cli::{Global, PlanArgs, SyncArgs},
    engine::{Mode, Options},
    model::{Error, Kind, Result},
    output::{Screen, error, file, json, table},
    run::sync::{Selected, SyncRequest},
};

/// Mirrors, and reports on stdout, and into a file where one is named.
///
/// # Errors
/// When nothing was attempted, or the report cannot be written.
pub(crate) async fn run(global: &Global, screen: &Screen, args: SyncArgs) -> Result<u8> {
    let deadline = args.deadline.and_then(|after| Instant::now().checked_add(after));
    if args.dry_run {
        let plan = PlanArgs {
            only: args.only,
            json: args.json,
            report: args.report,
            locked: args.locked,
            resolve: false,
        };
        return super::plan::run(global, screen, plan).await;
    }
    let config = configuration(global)?;
    let wanted = Selected::read(&config, &args.only, args.locked.as_deref())?;
    args.lock.as_deref().map(|path| file::check_writable(path, "lock file")).transpose()?;
    args.report.as_deref().map(|path| file::check_writable(path, "report")).transpose()?;
    let options = Options { mode: Mode::Mirror, transfers: args.concurrency };
    let work = SyncRequest { config: &config, wanted, options };
    let (report, lock) = mirror(global, screen, work, deadline).await?;
    let save = |path| file::save(path, "report", |out| json::write(out, &report));
    let saved = args.report.as_deref().map(save).transpose();
    let totals = &report.totals;
    let save = |path| match totals.copied + totals.up_to_date + totals.warmed {
        all if all == report.images.len() as u64 => {
            file::save(path, "lock file", |out| lock.write(out))
        }
        _ => Err(Error::new(Kind::Unavailable, format!("`{}` is not written", path.display()))
            .hint("a lock is of everything that is selected, and not all of it is mirrored")),
    };
    let locked = args.lock.as_deref().map(save).transpose();
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::sync(out, &report, screen.width()),
    })?;
    if let Err(error) = &locked {
        error::print(screen, error);
    }
    saved.map(|_| report.exit.max(u8::from(locked.is_err())))
}
