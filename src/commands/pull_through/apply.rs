//! `pull-through apply`: sets up what the configuration writes.

use crate::{
    cli::{Global, pull_through::ApplyArgs},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: &ApplyArgs) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through apply` is not built yet"))
}
