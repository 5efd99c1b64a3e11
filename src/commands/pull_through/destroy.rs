//! `pull-through destroy`: removes what the configuration names.

use crate::{
    cli::{Global, pull_through::DestroyArgs},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: &DestroyArgs) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through destroy` is not built yet"))
}
