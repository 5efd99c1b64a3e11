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

pub use answer::{MANIFEST_LIMIT, manifest, no_body, read_manifest, referrers};
pub use content::{Blob, blob, file_body};
pub use listing::{Page, link, page};
pub use range::{Wanted, wanted};
pub use refusal::{Refusal, json};
pub use route::{Misrouted, Place, Route, query};
pub use upload::{append, close, progress};
