//! The rows of uses.

use crate::{
    discover::{Resolution, Unreadable, Use},
    output::uses::{UnreadableRow, UseRow},
};

pub(super) fn row(one: &Use) -> UseRow {
    let (reference, missing, problem) = match &one.image {
        Resolution::Image(reference) => (Some(reference.to_string()), Vec::new(), None),
        Resolution::Missing(names) => (None, names.clone(), None),
        Resolution::Invalid(problem) => (None, Vec::new(), Some(problem.clone())),
    };
    UseRow {
        file: one.place.file.display().to_string(),
        line: one.place.line,
        written: one.place.spelling.written(),
        reference,
        found: one.found.clone(),
        platform: one.platform.as_ref().map(ToString::to_string),
        maybe: one.is_maybe,
        missing,
        problem,
    }
}

pub(super) fn unreadable_row(one: &Unreadable) -> UnreadableRow {
    let (file, problem) = (one.file.display().to_string(), one.problem.clone());
    UnreadableRow { file, line: one.line, problem }
}
