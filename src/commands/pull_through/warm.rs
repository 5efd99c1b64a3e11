//! `pull-through warm`: pulls the selected images through the cache once.

use crate::{
    cli::{Global, pull_through::WarmArgs},
    model::{Error, Kind, Result},
    output::Screen,
};

/// Not yet.
///
/// # Errors
/// Always.
pub(super) async fn run(_global: &Global, _screen: &Screen, _args: WarmArgs) -> Result<u8> {
    Err(Error::new(Kind::Unsupported, "`pull-through warm` is not built yet"))
}
