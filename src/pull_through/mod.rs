//! ECR's pull-through cache: plans, applies and inspects the configured caches.
//!
//! ```text
//! [Cache] ───────────────┐
//!                        ├─changes─▶ [Planned] = SettingChange + CacheStep    ◀─ `plan` stops here
//! fetch_state ─▶ Observed┘                 │ apply
//!                        ▼ account → secrets → rules → templates → registry policy → repositories
//! ```
//!
//! Compares configured members only. [`changes()`](changes::changes) is pure; [`fetch_state`] reads,
//! [`apply`] writes. After an interruption a new plan continues from the current state. [`warm`]
//! pulls images through a cache, [`status`] and [`validate`] inspect the rules, [`terraform`] and
//! [`kubernetes`] export the configuration for other tools.

pub(crate) mod apply;
pub(crate) mod changes;
pub(crate) mod fetch_state;
pub mod kubernetes;
pub mod state;
pub(crate) mod status;
pub(crate) mod terraform;
pub(crate) mod validate;
pub(crate) mod warm;

pub(crate) use changes::OnPush;
pub(crate) use state::{EcrRegistry, Observed, Planned};

#[cfg(test)]
mod tests;
