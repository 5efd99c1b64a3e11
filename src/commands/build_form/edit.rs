//! Edits Dockerfiles in place after a run.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{DOCKERFILE, is_complete};
use crate::{
    cli::Global,
    discover::forms::{self, ImageMapping, rewrite, syntax_lines},
    model::{Error, Kind, Result, text::count},
    output::{Screen, error, file},
};

/// Edits the Dockerfiles, each once. Returns `false` if a reference cannot be replaced, or a file not
/// be written; the other files are edited.
pub(super) fn dockerfiles(global: &Global, screen: &Screen, mapping: &ImageMapping) -> bool {
    let mut done: BTreeSet<PathBuf> = BTreeSet::new();
    let mut is_whole = true;
    for path in forms::dockerfiles(mapping) {
        // two names of one file have the same references
        if fs::canonicalize(path).is_ok_and(|real| !done.insert(real)) {
            continue;
        }
        is_whole &= is_complete(screen, edit_file(global, screen, path, mapping));
    }
    if !global.quiet {
        let kept = syntax_lines(mapping);
        screen.tell_lines(|out| kept.iter().try_for_each(|line| writeln!(out, "{line}")));
    }
    is_whole
}

/// Edits one Dockerfile, and names each change. Returns the number of references that stay.
fn edit_file(
    global: &Global,
    screen: &Screen,
    path: &Path,
    mapping: &ImageMapping,
) -> Result<usize> {
    let shown = path.display();
    let bytes = fs::read(path).map_err(|cause| {
        Error::new(Kind::Unavailable, format!("cannot read `{shown}`")).because(cause)
    })?;
    let edited = rewrite(&bytes, path, mapping)?;
    if !edited.edits.is_empty() {
        file::replace(path, DOCKERFILE, &edited.bytes)?;
    }
    if !global.quiet && !edited.edits.is_empty() {
        screen.tell_lines(|out| {
            writeln!(out, "changed {} in {shown}", count(edited.edits.len(), "reference"))?;
            let mut edits = edited.edits.iter();
            edits.try_for_each(|it| writeln!(out, "  {shown}:{}: {} → {}", it.line, it.from, it.to))
        });
    }
    for image in &edited.omitted {
        error::warn(screen, &format!("not changed: {image}"));
    }
    Ok(edited.omitted.len())
}
