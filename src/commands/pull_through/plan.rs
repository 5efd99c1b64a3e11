//! `pull-through plan`: shows what `apply` would change. Writes nothing.

use super::apply_changes::{ChangeFormat, Goal, Request, preview};
use crate::{
    cli::{Global, pull_through::PlanArgs},
    model::Result,
    output::Screen,
    pull_through::changes::Replace,
};

/// Prints the changes on stdout.
///
/// # Errors
/// When the configuration is wrong, or nothing can be printed.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &PlanArgs) -> Result<u8> {
    let aim = Goal::SetUp(if args.replace { Replace::Differing } else { Replace::Never });
    let order = Request { at: &args.at, aim, format: ChangeFormat::of(args.json) };
    let looked = preview(global, screen, &order).await?;
    let differs = u8::from(args.check && looked.changes > 0);
    Ok(looked.status.max(differs))
}
