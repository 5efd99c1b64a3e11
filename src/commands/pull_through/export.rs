//! `pull-through export`: writes the same set-up for other tools.

use crate::{
    cli::{Global, pull_through::Export},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: Export) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through export` is not built yet"))
}
