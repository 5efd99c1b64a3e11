//! What differs between what is written and what there is. Pure.

use super::state::{Actual, Planned, Registry};
use crate::model::{
    ecr_settings::Settings,
    pull_through::{Cache, Prefix},
};

/// What is wanted of one registry.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Its caches.
    pub caches: &'a [&'a Cache],
    /// Its repositories that a push makes.
    pub on_push: &'a [OnPush],
    /// What becomes of rules that differ.
    pub replace: Replace,
}

/// Repositories that a push makes.
#[derive(Debug, Clone)]
pub struct OnPush {
    /// What their names begin with.
    pub prefix: Prefix,
    /// What they are like.
    pub settings: Settings,
}

/// What becomes of rules whose upstream is another than written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// They stay.
    Never,
    /// They are replaced.
    Differing,
}

/// The steps from what there is to what is wanted.
pub fn changes(_wanted: &Wanted<'_>, _actual: &Actual) -> Vec<Planned> {
    Vec::new()
}

/// The names and ARNs of the secrets that the caches name.
pub fn secrets(caches: &[&Cache]) -> Vec<String> {
    caches.iter().map(|cache| cache.secret_name()).collect()
}
