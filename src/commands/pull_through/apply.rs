//! `pull-through apply`: creates and updates what the configuration sets up.

use super::{
    apply_changes::apply_changes,
    consent::{ChangesRequest, Consent},
    show::ChangeFormat,
};
use crate::{
    cli::{Global, pull_through::ApplyArgs},
    model::Result,
    output::Screen,
    run::pull_through::preview::Goal,
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: &ApplyArgs) -> Result<u8> {
    let request = ChangesRequest {
        destinations: &args.destinations.names,
        goal: Goal::set_up(args.replace),
        format: ChangeFormat::new(args.json),
        consent: Consent::new(args.yes)?,
        question: "apply these changes? [y/N] ",
    };
    apply_changes(global, screen, &request).await
}
