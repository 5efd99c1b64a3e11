//! Prints a form that makes a build use the mirror.

use crate::{
    discover::forms::EmittedForm,
    model::Result,
    output::{Screen, error},
};

/// Prints the form on stdout, and its notes and omitted images on stderr. Returns the number of
/// omitted images.
pub(super) fn print(screen: &Screen, form: &EmittedForm) -> Result<usize> {
    screen.print(|out| out.write_all(form.text().as_bytes()))?;
    screen.tell_lines(|out| form.notes.iter().try_for_each(|note| writeln!(out, "{note}")));
    for image in &form.left_out {
        error::warn(screen, &format!("the form omits an image: {image}"));
    }
    Ok(form.left_out.len())
}
