//! `pull-through destroy`: removes what the configuration sets up, and prints what AWS keeps.

use super::{
    apply_changes::apply_changes,
    consent::{ChangesRequest, Consent},
    show::ChangeFormat,
};
use crate::{
    cli::{Global, pull_through::DestroyArgs},
    model::Result,
    output::Screen,
    run::pull_through::preview::Goal,
};

pub(crate) async fn run(global: &Global, screen: &Screen, args: &DestroyArgs) -> Result<u8> {
    let request = ChangesRequest {
        destinations: &args.destinations.names,
        goal: Goal::Removal,
        format: ChangeFormat::new(args.json),
        consent: Consent::new(args.yes)?,
        question: "remove all of this? [y/N] ",
    };
    apply_changes(global, screen, &request).await
}
