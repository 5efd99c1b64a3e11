//! Prints the uses, each in a row.

use crate::{
    cli::BootstrapArgs,
    discover::{FoundUses, Resolution, Unreadable, Use},
    model::Result,
    output::{
        Screen, error,
        uses::{self, UnreadableRow, UseRow},
    },
};

pub(super) fn print(screen: &Screen, found: &FoundUses, as_json: bool) -> Result<()> {
    let rows: Vec<UseRow> = found.uses.iter().map(row).collect();
    if as_json {
        let unreadable: Vec<UnreadableRow> = found.unreadable.iter().map(unreadable_row).collect();
        return screen.print(|out| uses::json(out, &rows, &unreadable));
    }
    screen.print(|out| uses::table(out, &rows, screen.width()))?;
    found.unreadable.iter().for_each(|one| error::warn(screen, &one.to_string()));
    Ok(())
}

/// The images that are not mirrored, because their references are not known, and the unreadable files.
pub(super) fn unresolved(found: &FoundUses) -> Vec<String> {
    let rows = found.uses.iter().map(row).filter(|row| row.reference.is_none());
    let rows = rows.map(|row| {
        let advice = row.advice().unwrap_or_default();
        format!("{}:{}: `{}` is not mirrored: {advice}", row.file, row.line, row.written)
    });
    rows.chain(found.unreadable.iter().map(ToString::to_string)).collect()
}

fn row(one: &Use) -> UseRow {
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

fn unreadable_row(one: &Unreadable) -> UnreadableRow {
    let (file, problem) = (one.file.display().to_string(), one.problem.clone());
    UnreadableRow { file, line: one.line, problem }
}

/// Returns `true` if the exit status counts a use without a reference, or an unreadable file.
pub(super) fn is_open(args: &BootstrapArgs, found: &FoundUses) -> bool {
    let is_known = |one: &Use| matches!(one.image, Resolution::Image(_));
    let is_whole = found.uses.iter().all(is_known) && found.unreadable.is_empty();
    !is_whole && !args.ignore_unresolved
}
