//! `plan`: shows what `sync` would do and cost. Writes nothing.

use super::{
    run_files::RunFiles,
    shared::{
        annotate, divide, mirror_within, print_warnings, read_config, resolve_shard, with_saved,
    },
};
use crate::{
    cli::{Global, PlanArgs},
    engine::{Check, Mode, Options},
    model::{Result, outcome::Report},
    output::{Screen, json, table},
    remote::MaxWait,
    run::sync::{ImagesToSync, SyncRequest},
};

pub(crate) async fn run(global: &Global, screen: &Screen, mut args: PlanArgs) -> Result<u8> {
    resolve_shard(&mut args.sharding, &mut [&mut args.output.report])?;
    let files = RunFiles::open("plan", &args.output, None)?;
    let result = plan_images(global, screen, args, &files).await;
    files.finish(screen, result)
}

/// Plans, saves and prints. Returns the plan and the exit status.
async fn plan_images(
    global: &Global,
    screen: &Screen,
    args: PlanArgs,
    files: &RunFiles,
) -> Result<(Report, u8)> {
    let config = read_config(global)?;
    let (config, part) = divide(global, config, &args.only, &args.sharding).await?;
    print_warnings(global, screen, &config);
    let only = if part.is_some() { &[][..] } else { &args.only };
    let images = ImagesToSync::read(&config, only, args.locked.as_deref())?;
    let mode = if args.resolve { Mode::Plan } else { Mode::PlanWithoutPulls };
    let check = if args.deep { Check::Deep } else { Check::Tags };
    let options = Options { mode, check, ..Options::default() };
    let request = SyncRequest { config: &config, images, options };
    let max_wait = args.max_wait.map(|limit| MaxWait { limit, deadline: None }).unwrap_or_default();
    let (report, _) = mirror_within(global, screen, request, max_wait).await?;
    let description = part.as_ref().map(|part| part.description.clone());
    let report = Report { shard: part.map(|part| part.shard), ..report };
    let report = report.with_exit_codes(args.exit_codes);
    annotate(screen, &config, &report);
    let saved = files.save_report(&report);
    let printed = screen.print(|out| match args.output.json {
        true => json::write(out, &report),
        false => {
            let view = screen.view(global.verbose > 0);
            description
                .iter()
                .filter(|_| view.lists_all)
                .try_for_each(|it| writeln!(out, "{it}"))?;
            table::plan(out, &report, &view)
        }
    });
    let exit = with_saved(screen, with_saved(screen, report.exit, &printed), &saved);
    Ok((report, exit))
}
