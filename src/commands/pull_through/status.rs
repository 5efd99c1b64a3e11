//! `pull-through status`: shows each rule and the repositories that it has made.

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
    Err(Error::new(Kind::Unsupported, "`pull-through status` is not built yet"))
}
