//! Mirrors container images from any OCI registry into Amazon ECR.

pub mod commands;
pub mod config;
pub mod engine;
pub mod model;
pub mod registry;
pub mod sandbox;
