//! `pull-through plan`: shows what `apply` would change.

use crate::{
    cli::{Global, pull_through::PlanArgs},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: &PlanArgs) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through plan` is not built yet"))
}
