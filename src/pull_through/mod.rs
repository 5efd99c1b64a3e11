//! ECR's own pull-through cache: all that a configuration writes about it, as a plan that is shown
//! and then applied.
//!
//! ```text
//! [Cache] ──┐
//!           ├─changes─▶ [Planned]  = Change (shown) + Step (carried out)    ◀─ `plan` stops here
//! ask ─▶ Actual                        │ apply
//!                                      ▼ secrets → rules → templates → registry policy
//! ```
//!
//! What is compared is what is written: what nobody asked for is left alone. [`changes()`] is pure;
//! [`ask`] and [`apply`] are the only ones here that change or read anything. A plan that breaks
//! off anywhere is planned again from what is there. [`warm`] pulls images through what is set up,
//! [`status`] and [`validate`] look at what has come of it, [`terraform`] and [`kubernetes`] write
//! the same set-up for other tools.

pub(crate) mod apply;
pub(crate) mod changes;
pub(crate) mod fetch_state;
pub mod kubernetes;
pub mod state;
pub(crate) mod status;
pub(crate) mod terraform;
pub(crate) mod validate;
pub(crate) mod warm;

pub use changes::{Desired, OnPush, Replace, changes, removals};
pub use state::{CacheStep, EcrRegistry, Observed, Planned};

#[cfg(test)]
mod tests;
