//! `pull-through`: plans, applies, inspects, warms, removes and exports ECR's pull-through cache.

mod apply_changes;
mod consent;
mod export;
mod plan;
mod rules;
mod show;
mod warm;

use self::consent::ChangesRequest;
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
            let goal = Goal::set_up(args.replace, args.prune);
            apply_changes::run(global, screen, &ChangesRequest::new(&args.change, goal)?).await
        }
        PullThrough::Status(args) => rules::status(global, screen, &args).await,
        PullThrough::Validate(args) => rules::validate(global, screen, &args).await,
        PullThrough::Warm(args) => warm::run(global, screen, args).await,
        PullThrough::Destroy(args) => {
            let goal = Goal::removal(args.repositories, args.force);
            apply_changes::run(global, screen, &ChangesRequest::new(&args.change, goal)?).await
        }
        PullThrough::Export { format } => export::run(global, screen, format).await,
    }
}
