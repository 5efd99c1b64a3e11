//! Runs of `pull-through` over the ECR registries of a configuration.

pub(crate) mod preview;
pub(crate) mod roles;
pub(crate) mod rules;
pub(crate) mod secrets;
pub(crate) mod sites;
