//! The parts of the distribution protocol that all registries here share.
//!
//! A registry parses the [`Route`], decides, and builds its response with these functions. Its
//! differences stay in its own module. Source: OCI distribution specification 1.1.

mod answer;
mod content;
mod listing;
mod range;
mod refusal;
mod route;
mod upload;

pub(crate) use answer::{MANIFEST_LIMIT, manifest, no_body, read_manifest, referrers};
pub(crate) use content::{Blob, blob, file_body};
pub(crate) use listing::{Page, json_page, page};
pub(crate) use range::{ByteRange, byte_range};
pub(crate) use refusal::{Refusal, json};
pub(crate) use route::{Resource, Route, RouteError, query};
pub(crate) use upload::{append, close, range_header};
