//! Mirrors container images from any OCI registry into Amazon ECR: no daemon, no disk, skips
//! everything that the destination already has.
//!
//! The data flow, from the configuration to the exit status:
//!
//! ```text
//! mirror.toml ─config→ Config ─select→ [Image]            names only: source, target, tag, platforms
//!                                         │ plan          digests on both sides, in bulk
//!                                         ▼
//!                           UpToDate | Copy(Tree) | Drifted | Deferred        ◀── `plan` stops here
//!                                         │ copy          blobs → children → root → tag
//!                                         ▼
//!                                      Outcome → Report → table, JSON, exit status
//! ```
//!
//! Planning and copying overlap: an image is copied as soon as it is planned.
//!
//! # Modules
//!
//! - [`cli`]: arguments and `--help`.
//! - [`commands`]: one module per command: arguments → run → print → exit status.
//! - [`run`]: a run of a configuration. Selects the images, opens sources and destinations, mirrors,
//!   warms the pull-through cache, reports.
//! - `iam`: the IAM policies that a configuration needs.
//! - [`engine`]: plans and copies images. Uses `model` and `remote` only.
//! - [`remote`]: the seam between the engine and the registries: the traits [`remote::Source`] and
//!   [`remote::Destination`], verified bodies, retries and timeouts. No HTTP.
//! - [`registry`]: the OCI distribution protocol, and the differences of each public registry.
//! - [`ecr`]: Amazon ECR as a destination: identity, bulk queries, rate limits, repositories,
//!   settings.
//! - [`pull_through`]: ECR's pull-through cache: plan, apply, warm, validate, export.
//! - `layout`: OCI image layouts: a directory as source and as destination.
//! - [`config`]: parses every string of `mirror.toml` into its type, or returns an error that points
//!   at it.
//! - `output`: tables, JSON, progress, log and error messages.
//! - [`sandbox`]: embedded registries, upstream and ECR, for `--sandbox` and for the tests.
//! - [`model`]: the common types. Pure, no I/O.
//!
//! Dependencies point one way: `commands` → `run` → `engine`, `pull_through` → `ecr` → `registry` →
//! `remote` → `model`. Also `layout` → `remote`; `config` and `output` → `model`; `cli` → `model`,
//! `output`, `sandbox`.
//!
//! # Invariants
//!
//! - A manifest travels as the bytes that the source served.
//! - The tag is the commit: a tag is written last, in one request.
//! - The registries are the only state: no cache file, no database.
//! - Every byte is hashed in transit. Content with a wrong digest or length is never committed.
//! - Secrets have a type that cannot be printed.

pub mod cli;
pub mod commands;
pub mod config;
pub mod ecr;
pub mod engine;
pub(crate) mod iam;
pub(crate) mod layout;
pub mod model;
pub(crate) mod output;
pub mod pull_through;
pub mod registry;
pub mod remote;
pub mod run;
pub mod sandbox;
