//! Faults that the sandbox injects on request.
//!
//! A fault is data: an effect, the requests that it applies to, and a frequency. The server applies
//! the faults that any registry can have. Each backend queries those within its own semantics with
//! [`Faults::active`].

pub(super) mod apply;
mod behaviour;
mod definition;
mod state;

#[cfg(test)]
mod tests;

pub(crate) use behaviour::Behaviour;
pub(crate) use definition::Arg;
#[cfg(test)]
use definition::Often;
pub(super) use definition::{Content, Target};
pub use definition::{Fault, Name, Side, help};
pub use state::Faults;
