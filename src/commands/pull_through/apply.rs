//! `pull-through apply`: sets up what the configuration writes.

use super::{
    apply_changes::{ChangeFormat, Goal, Request, carry_out},
    consent::Consent,
};
use crate::{
    cli::{Global, pull_through::ApplyArgs},
    model::Result,
    output::Screen,
    pull_through::changes::Replace,
};

/// Prints the changes on stdout, has them agreed to, and makes them.
///
/// # Errors
/// When nothing was attempted: what is wrong with a change is told as it fails.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ApplyArgs) -> Result<u8> {
    let consent = Consent::of(args.yes)?;
    let aim = Goal::SetUp(if args.replace { Replace::Differing } else { Replace::Never });
    let order = Request { at: &args.at, aim, format: ChangeFormat::of(args.json) };
    carry_out(global, screen, &order, consent).await
}
