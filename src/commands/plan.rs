//! `plan`: what `sync` would do and what it would cost. Writes nothing.

use super::{configuration, mirror, warn};
use crate::{
    cli::{Global, PlanArgs},
    engine::{Mode, Options},
    model::Result,
    output::{Screen, file, json, table},
    run::sync::{Selected, SyncRequest},
};

/// Blobs that a plan transfers at once: it transfers none, this bounds the images looked at.
const TRANSFERS: usize = 32;

/// Plans, and prints the plan on stdout.
///
/// # Errors
/// When nothing was attempted, or the plan cannot be written.
pub(crate) async fn run(global: &Global, screen: &Screen, args: PlanArgs) -> Result<u8> {
    let config = configuration(global)?;
    warn(screen, &config);
    let wanted = Selected::read(&config, &args.only, args.locked.as_deref())?;
    args.report.as_deref().map(|path| file::check_writable(path, "report")).transpose()?;
    let intent = if args.resolve { Mode::Plan } else { Mode::PlanWithoutPulls };
    let options = Options { mode: intent, transfers: TRANSFERS };
    let work = SyncRequest { config: &config, wanted, options };
    let (report, _) = mirror(global, screen, work, None).await?;
    let save = |path| file::save(path, "report", |out| json::write(out, &report));
    let saved = args.report.as_deref().map(save).transpose();
    screen.print(|out| match args.json {
        true => json::write(out, &report),
        false => table::plan(out, &report, screen.width()),
    })?;
    saved.map(|_| report.exit)
}
