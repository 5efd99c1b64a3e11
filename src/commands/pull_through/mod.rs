//! `pull-through`: plans, applies, inspects, warms, removes and exports ECR's pull-through cache.

mod apply_changes;
mod consent;
mod export;
mod plan;
mod rules;
mod show;
mod warm;

use self::consent::{ChangesRequest, Consent};
use crate::{
    cli::{Global, pull_through::PullThrough},
    model::Result,
    output::Screen,
    run::pull_through::preview::Goal,
};

pub(crate) async fn run(global: &Global, screen: &Screen, verb: PullThrough) -> Result<u8> {
    match verb {
        PullThrough::Plan(args) => plan::run(global, screen, &args).await,
        PullThrough::Apply(args) => {
            let request = ChangesRequest {
                destinations: &args.destinations.names,
                goal: Goal::set_up(args.replace, args.prune),
                as_json: args.json,
                consent: Consent::new(args.yes)?,
                question: "apply these changes? [y/N] ",
            };
            apply_changes::run(global, screen, &request).await
        }
        PullThrough::Status(args) => rules::status(global, screen, &args).await,
        PullThrough::Validate(args) => rules::validate(global, screen, &args).await,
        PullThrough::Warm(args) => warm::run(global, screen, args).await,
        PullThrough::Destroy(args) => {
            let request = ChangesRequest {
                destinations: &args.destinations.names,
                goal: Goal::removal(args.repositories, args.force),
                as_json: args.json,
                consent: Consent::new(args.yes)?,
                question: "remove all of this? [y/N] ",
            };
            apply_changes::run(global, screen, &request).await
        }
        PullThrough::Export { format } => export::run(global, screen, format).await,
    }
}
