//! The verbs of `pull-through`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::exit;

/// What to do with ECR's own pull-through cache.
#[derive(Debug, Subcommand)]
pub enum PullThrough {
    /// Show what `apply` would change; writes nothing
    #[command(after_help = exit::pull_through_plan())]
    Plan(PlanArgs),
    /// Set up what the configuration writes: secrets, rules, templates, access
    #[command(after_help = exit::pull_through_apply())]
    Apply(ApplyArgs),
    /// Show each rule, and the repositories that it has made
    #[command(after_help = exit::pull_through_status())]
    Status(ListArgs),
    /// Let ECR try each rule: reach the upstream, read the secret, log in
    #[command(after_help = exit::pull_through_validate())]
    Validate(ListArgs),
    /// Pull the selected images through the cache once, so that the first node does not wait
    #[command(after_help = exit::pull_through_warm())]
    Warm(WarmArgs),
    /// Remove what the configuration names; cached repositories and images stay
    #[command(after_help = exit::pull_through_destroy())]
    Destroy(DestroyArgs),
    /// Write the same set-up for other tools
    #[command(after_help = exit::pull_through_export())]
    Export {
        /// For which.
        #[command(subcommand)]
        format: Export,
    },
}

/// Which registries.
#[derive(Debug, Clone, Default, Args)]
pub struct Where {
    /// Only at the destination of this name; repeatable [default: all that are ECR]
    #[arg(long = "destination", value_name = "NAME")]
    pub destinations: Vec<String>,
}

/// Arguments of `pull-through plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// Which registries.
    #[command(flatten)]
    pub at: Where,
    /// Print the changes as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Exit with 1 when something would change
    #[arg(long)]
    pub check: bool,
    /// Replace rules whose upstream is another than written, instead of reporting a conflict
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `pull-through apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// Which registries.
    #[command(flatten)]
    pub at: Where,
    /// Print the changes as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Replace rules whose upstream is another than written, instead of reporting a conflict
    #[arg(long)]
    pub replace: bool,
}

/// Arguments of `pull-through status` and `validate`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which registries.
    #[command(flatten)]
    pub at: Where,
    /// Print JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `pull-through warm`.
#[derive(Debug, Args)]
pub struct WarmArgs {
    /// Which registries.
    #[command(flatten)]
    pub at: Where,
    /// Warm only images whose name matches; repeatable [default: all that come through a cache]
    #[arg(long, value_name = "NAME|GLOB")]
    pub only: Vec<String>,
    /// Print the report as JSON on stdout instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `pull-through destroy`.
#[derive(Debug, Args)]
pub struct DestroyArgs {
    /// Which registries.
    #[command(flatten)]
    pub at: Where,
    /// Print the changes as JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Formats of `pull-through export`.
#[derive(Debug, Subcommand)]
pub enum Export {
    /// Print the set-up as Terraform configuration, with import blocks for what is there
    #[command(after_help = exit::pull_through_export())]
    Terraform {
        /// Which registries.
        #[command(flatten)]
        at: Where,
    },
    /// Write pull secrets for falling back to the upstreams, as a Kubernetes manifest
    #[command(after_help = exit::pull_through_export())]
    Kubernetes {
        /// The namespace to write them for; repeatable
        #[arg(long = "namespace", value_name = "NAMESPACE", required = true, num_args = 1..)]
        namespaces: Vec<String>,
        /// The file to write, which only its owner may read; it holds credentials
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}
