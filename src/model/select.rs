//! Selects the tags of a repository that an image entry asks for.
//!
//! Pure: the same tags, selection and time give the same answer, newest first. A [`Selector`] reads
//! the list page by page and keeps only the tags that can still be selected.
//!
//! Keys are combined with AND, the entries of a list with OR. Without `glob` and `regex` only plain
//! versions are selected. A variant needs a pattern, or a range that spells it out. Another name needs
//! a pattern. A pre-release needs a pattern that spells out its word, or a range that names it. A tag
//! without a push time is skipped if the selection needs the time; it is never guessed.

mod pattern;
mod range;
mod reason;
mod selection;
mod selector;
mod version;

pub(crate) use self::pattern::RegexEnds;
pub use self::{
    pattern::{TagGlob, TagRegex},
    range::{Named, Range},
    reason::{SkippedTag, TagSelection},
    selection::{Listed, Selection, SortKey, TagQuery},
    selector::{SelectedTags, Selector},
    version::{Pre, Version},
};
