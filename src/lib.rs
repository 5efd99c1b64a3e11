//! Mirrors container images from any OCI registry into Amazon ECR.

pub mod cli;
pub mod commands;
pub mod config;
pub mod ecr;
pub mod engine;
pub mod model;
pub mod output;
pub mod registry;
pub mod sandbox;
