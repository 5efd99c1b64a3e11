//! Runs of `pull-through` over the ECR registries of a configuration.

pub(crate) mod preview;
pub(crate) mod roles;
pub(crate) mod sites;
pub(crate) mod status;
pub(crate) mod validate;
