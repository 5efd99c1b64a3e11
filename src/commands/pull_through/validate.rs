//! `pull-through validate`: lets ECR try each rule.

use crate::{
    cli::{Global, pull_through::ListArgs},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: &ListArgs) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through validate` is not built yet"))
}
