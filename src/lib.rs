//! Mirrors container images from any OCI registry into Amazon ECR.

pub mod engine;
pub mod model;
pub mod registry;
pub mod sandbox;
