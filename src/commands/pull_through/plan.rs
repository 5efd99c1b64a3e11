//! `pull-through plan`: shows what `apply` would change. Writes nothing.

use super::show::{section, show, show_failures};
use crate::{
    cli::{Global, pull_through::PullThroughPlanArgs},
    commands::{
        run_files::SummaryFile,
        shared::{read_config_with_warnings, with_registries, with_saved},
    },
    model::Result,
    output::{Screen, summary},
    run::pull_through::{
        preview::{Goal, Preview},
        sites::sites,
    },
};

pub(crate) async fn run(
    global: &Global,
    screen: &Screen,
    args: &PullThroughPlanArgs,
) -> Result<u8> {
    let summary = args.summary.as_deref().map(SummaryFile::open).transpose()?.flatten();
    let config = read_config_with_warnings(global, screen)?;
    let sites = sites(&config, &args.destinations.names)?;
    let goal = Goal::set_up(args.replace, args.prune);
    goal.check(&sites)?;
    let read = async |registries: &_| Ok(Preview::new(registries, &sites, goal).await);
    let preview = with_registries(global, &config, read).await?;
    let status = show_failures(screen, &preview);
    let exit = match (args.check, preview.failures.is_empty()) {
        (true, true) => u8::from(preview.planned().next().is_some()),
        // not an answer to the question whether anything would change
        (true, false) => 2,
        (false, _) => status,
    };
    let summarized = summary.map(|file| {
        let sections: Vec<_> = preview.sites.iter().map(section).collect();
        file.append(|limit| summary::of_changes(&sections, &preview.failures, exit, limit))
    });
    show(screen, &preview, goal, args.json)?;
    Ok(summarized.map_or(exit, |summarized| with_saved(screen, exit, &summarized)))
}
