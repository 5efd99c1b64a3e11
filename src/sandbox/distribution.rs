//! The distribution protocol, as far as all registries here speak it alike.
//!
//! Parts, not a framework: a registry reads the [`Route`], decides, and answers with what is here.
//! What it does differently stays in its own room. Source: OCI distribution specification 1.1.

mod answer;
mod content;
mod listing;
mod range;
mod refusal;
mod route;
mod upload;

pub(crate) use answer::{manifest, no_body, read_manifest, referrers};
pub(crate) use content::{Blob, blob, file_body};
pub(crate) use listing::{link, page};
pub(crate) use range::{Wanted, wanted};
pub(crate) use refusal::{Refusal, json};
pub(crate) use route::{Misrouted, Place, Route, query};
pub(crate) use upload::{append, close, progress};
