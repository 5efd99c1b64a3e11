//! `pull-through plan`: shows what `apply` would change. Writes nothing.

use super::{
    CONNECTIONS,
    show::{ChangeFormat, show, show_failures},
};
use crate::{
    cli::{Global, pull_through::PullThroughPlanArgs},
    commands::shared::read_config_with_warnings,
    model::Result,
    output::Screen,
    pull_through::Replace,
    run::{
        pull_through::{
            preview::{Goal, Preview},
            sites::sites,
        },
        registries::Registries,
    },
};

pub(crate) async fn run(
    global: &Global,
    screen: &Screen,
    args: &PullThroughPlanArgs,
) -> Result<u8> {
    let config = read_config_with_warnings(global, screen)?;
    let sites = sites(&config, &args.destinations.names)?;
    let registries = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let goal = Goal::SetUp(if args.replace { Replace::Differing } else { Replace::Never });
    let preview = Preview::new(&registries, &sites, goal).await;
    registries.close().await;
    let status = show_failures(screen, &preview);
    show(screen, &preview, goal, ChangeFormat::new(args.json))?;
    let has_changes = preview.planned().next().is_some();
    Ok(status.max(u8::from(args.check && has_changes)))
}
