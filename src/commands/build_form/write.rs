//! Writes the forms after a run.

use std::{fs, path::Path};

use super::{FORM, edit, is_appended, is_complete, print, warn_of_omitted};
use crate::{
    cli::Global,
    commands::shared::{print_report, print_report_on_stderr},
    discover::forms::{BuildForm, EmitTarget, EmittedForm, MissingImage, emit},
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, file},
    run::{lock_file::LockFile, used_mapping::UsedMapping},
};

/// The forms of a run, and the edits of its Dockerfiles, checked.
pub(in crate::commands) struct CheckedForms<'a> {
    pub(super) targets: &'a [EmitTarget],
    pub(super) edits_dockerfiles: bool,
    /// `None` without forms and edits.
    pub(super) mapping: Option<UsedMapping<'a>>,
}

impl CheckedForms<'_> {
    /// Prints the report of the run: on stderr, if a form goes to stdout.
    pub(in crate::commands) fn print_report(
        &self,
        global: &Global,
        screen: &Screen,
        report: &Report,
        as_json: bool,
    ) -> Result<()> {
        if self.targets.iter().all(|target| target.path.is_some()) {
            return print_report(global, screen, report, as_json);
        }
        print_report_on_stderr(global, screen, report);
        Ok(())
    }

    /// Writes the forms of the images that the destination has after the run, and names the others.
    /// Returns `false` if a form omits an image that the run did not fail or defer, or cannot be written;
    /// the other forms are written.
    pub(in crate::commands) fn write(
        &self,
        global: &Global,
        screen: &Screen,
        report: &Report,
        lock: &LockFile,
    ) -> bool {
        let Some(mapping) = &self.mapping else { return true };
        let mapping = mapping.after(report, lock);
        for MissingImage { source, is_sent, .. } in &mapping.missing {
            let problem = match is_sent {
                true => "the destination does not have it after this run",
                false => "the configuration mirrors it to other destinations only",
            };
            error::warn(screen, &format!("{source} is omitted: {problem}"));
        }
        // the exit status of the run counts an image that failed or is deferred
        let is_told = |image: &MissingImage| image.is_sent && report.exit != 0;
        let mut is_whole = mapping.missing.iter().all(is_told);
        for target in self.targets {
            let written = emit(target.form, &mapping).and_then(|form| match &target.path {
                None => print(global, screen, &form),
                Some(path) => save(global, screen, target.form, &form, path),
            });
            is_whole &= is_complete(screen, written);
        }
        if self.edits_dockerfiles {
            is_whole &= edit::dockerfiles(global, screen, &mapping);
        }
        is_whole
    }
}

/// Writes the files of a form. Returns the number of omitted images.
fn save(
    global: &Global,
    screen: &Screen,
    form: BuildForm,
    emitted: &EmittedForm,
    path: &Path,
) -> Result<usize> {
    for part in &emitted.files {
        let path = match &part.path {
            Some(below) => path.join(below),
            None => path.to_owned(),
        };
        if let (Some(_), Some(directory)) = (&part.path, path.parent()) {
            make_directory(directory)?;
        }
        match is_appended(form, &path) {
            true => file::append(&path, FORM, &part.text)?,
            false => file::save(&path, FORM, |out| out.write_all(part.text.as_bytes()))?,
        }
    }
    if !global.quiet {
        screen.tell_lines(|out| {
            writeln!(out, "wrote {form} to {}", path.display())?;
            emitted.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))
        });
    }
    Ok(warn_of_omitted(screen, emitted))
}

fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|cause| {
        let problem = format!("cannot make the directory `{}`", path.display());
        Error::new(Kind::Unavailable, problem).because(cause)
    })
}
