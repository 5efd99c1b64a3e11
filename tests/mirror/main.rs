//! End-to-end tests over real sockets: check the promises to users against the embedded registries,
//! and read the result with independent clients.
//!
//! [`world`] sets up registries on loopback, a configuration, and runs between them. [`process`]
//! starts the program in its own process, for tests that need one.

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

mod process;
mod scripted;
mod world;

mod archived;
mod bad_input;
mod bootstrap;
mod bootstrap_forms;
mod budget;
mod cached;
mod canary;
mod command_line;
mod commands;
mod content;
mod deep;
mod dependencies;
mod deploy;
mod doctor;
mod example;
mod failures;
mod faults;
mod filters;
mod forecast;
mod guarantees;
mod hostile;
mod iam_proxy;
mod immutable;
mod import;
mod interruption;
mod logins;
mod memory;
mod metrics;
mod offline;
mod open_files;
mod profiles;
mod pull_through;
mod pull_through_drift;
mod pull_through_exports;
mod pull_through_presets;
mod pull_through_upkeep;
mod reading;
mod reading_back;
mod readme;
mod registries;
mod report;
mod requests;
mod sandbox_runs;
mod schema;
mod screen;
mod security;
mod selection;
mod settings;
mod shards;
mod sharing;
mod shorthand;
mod signals;
mod signatures;
mod soak;
mod terraform_module;
mod tls;
