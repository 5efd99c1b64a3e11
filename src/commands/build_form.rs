//! Prints and writes the forms that make a build use the mirror, and edits its Dockerfiles.

mod check;
mod edit;
mod write;

use std::{env, path::Path};

pub(super) use self::check::BuildForms;
use self::write::CheckedForms;
use crate::{
    cli::Global,
    discover::forms::{BuildForm, EmittedForm},
    model::Result,
    output::{Screen, error},
};

/// The variables of GitHub Actions that name a file to which steps append.
const GITHUB_FILES: [&str; 2] = ["GITHUB_ENV", "GITHUB_OUTPUT"];

/// The names of the files in errors.
const FORM: &str = "form";
const DOCKERFILE: &str = "Dockerfile";

/// Prints the form on stdout, and its notes and omitted images on stderr. Returns the number of
/// omitted images.
pub(super) fn print(global: &Global, screen: &Screen, form: &EmittedForm) -> Result<usize> {
    screen.print(|out| out.write_all(form.text().as_bytes()))?;
    if !global.quiet {
        screen.tell_lines(|out| form.notes.iter().try_for_each(|note| writeln!(out, "{note}")));
    }
    Ok(warn_of_omitted(screen, form))
}

fn warn_of_omitted(screen: &Screen, form: &EmittedForm) -> usize {
    for image in &form.omitted {
        error::warn(screen, &format!("the form omits an image: {image}"));
    }
    form.omitted.len()
}

/// Returns `true` for a file to which the steps of GitHub Actions append.
fn is_appended(form: BuildForm, path: &Path) -> bool {
    let is_path = |name| env::var_os(name).is_some_and(|it| Path::new(&it) == path);
    form == BuildForm::Env && GITHUB_FILES.into_iter().any(is_path)
}

/// Returns `true` for a success without omitted images. Prints an error.
fn is_complete(screen: &Screen, written: Result<usize>) -> bool {
    match written {
        Ok(omitted) => omitted == 0,
        Err(failure) => {
            error::print(screen, &failure);
            false
        }
    }
}
