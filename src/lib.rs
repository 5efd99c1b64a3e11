//! Mirrors container images from any OCI registry into Amazon ECR: no daemon, no disk,
//! many at once, and never twice.
//!
//! The whole walk, from the file a person writes to the status a script reads:
//!
//! ```text
//! mirror.toml ─config─▶ Config ─▶ [Image]             names only: from, to, tag, platforms
//!                                    │ survey, plan    what tags point to, asked in bulk on both sides
//!                                    ▼
//!                       UpToDate │ Copy(Tree) │ Drifted │ Deferred        ◀─ `plan` stops here
//!                                    │ copy            blobs → children → root → tag
//!                                    ▼
//!                                 Outcome ─▶ Report ─▶ table, JSON, exit status
//! ```
//!
//! Rooms, each using only those below it:
//!
//! - [`cli`] and [`commands`]: arguments in, exit status out; a file per verb.
//! - [`config`]: every string of `mirror.toml` becomes its type, or an error that points at it.
//! - [`engine`]: the mirror itself. It knows two traits, [`registry::Source`] and
//!   [`registry::Destination`], and no registry.
//! - [`ecr`]: all of Amazon ECR as one destination: identity, bulk questions, quotas, repositories.
//! - [`pull_through`]: ECR's own cache, where that can do the job: rules and all that belongs to
//!   them, planned, applied and warmed.
//! - [`registry`]: the OCI distribution protocol, and what each public registry does differently.
//! - [`layout`]: OCI image layouts: a directory as source and as destination.
//! - [`output`]: what a person and a machine read; views of events and of the report.
//! - [`sandbox`]: embedded registries, upstream and ECR, that `--sandbox` and all tests run against.
//! - [`model`]: the vocabulary; pure.
//!
//! What may not be lost: manifests travel as the bytes that were served; the tag is the commit;
//! the registries are the only state; every byte that passes is verified; secrets cannot be
//! printed.

pub mod cli;
pub mod commands;
pub mod config;
pub mod ecr;
pub mod engine;
pub(crate) mod layout;
pub mod model;
pub(crate) mod output;
pub mod pull_through;
pub mod registry;
pub mod remote;
pub mod run;
pub mod sandbox;
