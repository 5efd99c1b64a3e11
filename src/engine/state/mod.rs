//! State that the images of a run share: sources, repositories and the pull budget.

pub(crate) mod pull_budget;
pub(crate) mod repository;
pub(crate) mod source;
