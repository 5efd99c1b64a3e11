//! Mirrors container images from any OCI registry into Amazon ECR: no daemon, no disk, skips
//! everything that the destination already has.
//!
//! The data flow, from the configuration to the exit status:
//!
//! ```text
//! mirror.toml ─config→ Config ─select→ [Image]            names only: source, target, tag, platforms
//!                                         │ plan          digests on both sides, in bulk
//!                                         ▼
//!                           UpToDate | Archived | Copy(Tree) | Drifted | Failed  ◀── `plan` stops here
//!                                         │ copy          blobs → children → root → tag
//!                                         ▼
//!                                      Outcome → Report → table, JSON, exit status
//! ```
//!
//! Planning and copying overlap: an image is copied as soon as it is planned.
//!
//! # Use as a library
//!
//! The supported interface is this page: load a [`Config`], run [`sync()`], read the [`Report`]. The
//! modules are public for the program, its tests and its benchmarks only, and may change at any time.
//!
//! ```no_run
//! use ecr_mirror::{Config, SyncOptions, sync};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::load(&["mirror.toml"], &|name| std::env::var(name).ok())?;
//! let report = sync(&config, &SyncOptions::default()).await?;
//! println!("{} copied, {} failed", report.totals.copied, report.totals.failed);
//! # Ok(())
//! # }
//! ```
//!
//! # Modules
//!
//! - `cli`: arguments and `--help`.
//! - `commands`: one module per command: arguments → run → print → exit status.
//! - `run`: a run of a configuration. Selects the images, opens sources and destinations, mirrors,
//!   warms the pull-through cache, reports.
//! - `doctor`: the checks before a run.
//! - `iam`: the IAM policies that a configuration needs.
//! - `engine`: plans and copies images. Uses `model` and `remote` only.
//! - `remote`: the seam between the engine and the registries: the traits `Source` and
//!   `Destination`, verified bodies, retries and timeouts. No HTTP.
//! - `registry`: the OCI distribution protocol, and the differences of each public registry.
//! - `ecr`: Amazon ECR as a destination: identity, bulk queries, rate limits, repositories,
//!   settings.
//! - `pull_through`: ECR's pull-through cache: plan, apply, warm, validate, export.
//! - `layout`: OCI image layouts: a directory as source and as destination.
//! - `config`: parses every string of `mirror.toml` into its type, or returns an error that points
//!   at it.
//! - `output`: tables, JSON, progress, log and error messages.
//! - `sandbox`: embedded registries, upstream and ECR, for `--sandbox` and for the tests.
//! - `model`: the common types. Pure, no I/O.
//!
//! Dependencies point one way: `commands` → `doctor` → `run`, `iam` → `engine`, `pull_through` → `ecr` →
//! `registry` → `remote` → `model`. Also `layout` → `remote`; `config` and `output` → `model`; `cli`
//! → `model`, `output`, `sandbox`.
//!
//! # Invariants
//!
//! - A manifest travels as the bytes that the source served.
//! - The tag is the commit: a tag is written last, in one request.
//! - The registries are the only state: no cache file, no database.
//! - Every byte is hashed in transit. Content with a wrong digest or length is never committed.
//! - Secrets have a type that cannot be printed.

#![allow(rustdoc::private_intra_doc_links, reason = "readers of the source follow these links")]

#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod commands;
#[doc(hidden)]
pub mod config;
#[doc(hidden)]
pub mod doctor;
#[doc(hidden)]
pub mod ecr;
#[doc(hidden)]
pub mod engine;
pub(crate) mod iam;
pub(crate) mod layout;
#[doc(hidden)]
pub mod model;
pub(crate) mod output;
#[doc(hidden)]
pub mod pull_through;
#[doc(hidden)]
pub mod registry;
#[doc(hidden)]
pub mod remote;
#[doc(hidden)]
pub mod run;
#[doc(hidden)]
pub mod sandbox;

pub use config::{Config, ConfigError};
pub use model::{
    Error, Kind,
    outcome::{Blobs, Bytes, Outcome, Pulls, Report, Requests, Row, Tool, Totals},
};
pub use run::sync::{SyncOptions, sync};
