//! `pull-through plan`: shows what `apply` would change. Writes nothing.

use super::show::{show, show_failures};
use crate::{
    cli::{Global, pull_through::PullThroughPlanArgs},
    commands::shared::{read_config_with_warnings, with_registries},
    model::Result,
    output::Screen,
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
    let config = read_config_with_warnings(global, screen)?;
    let sites = sites(&config, &args.destinations.names)?;
    let goal = Goal::set_up(args.replace, args.prune);
    goal.check(&sites)?;
    let read = async |registries: &_| Ok(Preview::new(registries, &sites, goal).await);
    let preview = with_registries(global, &config, read).await?;
    let status = show_failures(screen, &preview);
    show(screen, &preview, goal, args.json)?;
    Ok(match (args.check, preview.failures.is_empty()) {
        (true, true) => u8::from(preview.planned().next().is_some()),
        // not an answer to the question whether anything would change
        (true, false) => 2,
        (false, _) => status,
    })
}
