//! Turns the files of other tools into `mirror.toml`.
//!
//! Each reader turns one format into [`Wish`](wish::Wish)es: which tags of a repository go where. A
//! pure step finds naming rules and groups in them, and [`edit`](crate::config::edit) writes them.
//! A part of an input without an equivalent becomes a comment with its file and line. A password is
//! never repeated.

mod dregsy;
mod image_syncer;
mod list;
mod naming;
mod patterns;
mod plan;
mod ranges;
mod regsync;
mod skopeo;
#[cfg(test)]
mod tests;
mod wish;

use std::path::Path;

use crate::{
    config::{Config, edit::EditedFile},
    model::{Error, Kind, RegistryPrefix, Result, text::printable_line, yaml},
};
use wish::{Findings, Input};

/// The parts of a run that the inputs do not contain.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// The destination of inputs that name none.
    pub to: Option<RegistryPrefix>,
    /// `true` if the names at the destination have the source's registry and path, as with
    /// `skopeo sync --scoped`.
    pub scoped: bool,
}

/// An input and its name in messages.
#[derive(Debug, Clone)]
pub struct InputFile {
    pub name: String,
    pub text: String,
}

/// The result of an import.
#[derive(Debug)]
pub struct Imported {
    /// The whole configuration.
    pub text: String,
    /// The parts that need a hand; the text has them as comments.
    pub open: Vec<String>,
}

impl Imported {
    /// The first mistake of a configuration without other files. The inputs can contradict each other,
    /// such as with two images for one tag.
    pub fn mistake(&self) -> Option<String> {
        let set = |_: &str| Some("set".to_owned());
        let error =
            Config::parse("mirror.toml", &self.text, Path::new(""), &set).err()?.to_string();
        let first = error.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let first = printable_line(&first, 300);
        Some(format!("the result has a mistake, run `ecr-mirror check`: {first}"))
    }
}

/// The configuration of these inputs; with `into`, that file and the inputs.
///
/// # Errors
/// [`Kind::Configuration`] if an input has no known format, or if `into` is not TOML.
pub fn import(
    files: &[InputFile],
    options: &ImportOptions,
    into: Option<&InputFile>,
) -> Result<Imported> {
    let mut found = Findings::default();
    for file in files {
        let read = read(file, options)?;
        found.wishes.extend(read.wishes);
        for (host, keys) in read.registries {
            found.registries.entry(host).or_default().extend(keys);
        }
        found.notes.append(read.notes);
    }
    if found.wishes.is_empty() && found.registries.is_empty() {
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let message = format!("no image is found in {}", names.join(", "));
        let error = Error::new(Kind::Configuration, message);
        return Err(match found.notes.open().into_iter().next() {
            Some(note) => error.hint(note),
            None => {
                error.hint("name files of regsync, skopeo sync, dregsy, image-syncer, or a list")
            }
        });
    }
    let mut draft = match into {
        Some(file) => EditedFile::parse(&file.name, &file.text)?,
        None => EditedFile::default(),
    };
    let (additions, open) = plan::additions(found, &draft.known());
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    draft.add(&names.join(", "), &additions)?;
    Ok(Imported { text: draft.to_string(), open })
}

/// Reads one input, in the format of its content.
fn read(file: &InputFile, options: &ImportOptions) -> Result<Findings> {
    let name = file.name.as_str();
    let mut input = Input { file: name.into(), options, found: Findings::default() };
    if list::is_list(&file.text) {
        list::read(&file.text, &mut input);
        return Ok(input.found);
    }
    let root = yaml::read(name, &file.text)?;
    if !root.is_map() {
        // a list whose references YAML accepts as one text
        list::read(&file.text, &mut input);
        return Ok(input.found);
    }
    let reader = if regsync::is_regsync(&root) {
        regsync::read
    } else if dregsy::is_dregsy(&root) {
        dregsy::read
    } else if image_syncer::is_image_syncer(&root) {
        image_syncer::read
    } else if skopeo::is_skopeo(&root) {
        skopeo::read
    } else {
        let message = format!("{name} has no known format");
        let hint =
            "name files of regsync, skopeo sync, dregsy, image-syncer, or a list of references";
        return Err(Error::new(Kind::Configuration, message).hint(hint));
    };
    reader(&root, &mut input);
    Ok(input.found)
}
