//! `pull-through`: plans, applies, inspects, warms, removes and exports ECR's pull-through cache.

mod apply;
mod apply_changes;
mod consent;
mod destroy;
mod export;
mod plan;
mod show;
mod status;
mod validate;
mod warm;

use crate::{
    cli::{Global, pull_through::PullThrough},
    model::Result,
    output::Screen,
};

pub(crate) async fn run(global: &Global, screen: &Screen, verb: PullThrough) -> Result<u8> {
    match verb {
        PullThrough::Plan(args) => plan::run(global, screen, &args).await,
        PullThrough::Apply(args) => apply::run(global, screen, &args).await,
        PullThrough::Status(args) => status::run(global, screen, &args).await,
        PullThrough::Validate(args) => validate::run(global, screen, &args).await,
        PullThrough::Warm(args) => warm::run(global, screen, args).await,
        PullThrough::Destroy(args) => destroy::run(global, screen, &args).await,
        PullThrough::Export { format } => export::run(global, screen, format).await,
    }
}
