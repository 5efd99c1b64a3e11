//! `pull-through destroy`: removes what the configuration names, and says what AWS keeps.

use super::{
    apply_changes::{ChangeFormat, Goal, Request, carry_out},
    consent::Consent,
};
use crate::{
    cli::{Global, pull_through::DestroyArgs},
    model::Result,
    output::Screen,
};

/// Prints what goes on stdout, has it agreed to, and removes it.
///
/// # Errors
/// When nothing was attempted: what is wrong with a removal is told as it fails.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &DestroyArgs) -> Result<u8> {
    let consent = Consent::of(args.yes)?;
    let order = Request { at: &args.at, aim: Goal::Removal, format: ChangeFormat::of(args.json) };
    carry_out(global, screen, &order, consent).await
}
