//! `bootstrap --into`: adds the images that a file lacks to it.

use std::{collections::BTreeSet, fs, io::ErrorKind, path::Path};

use super::shared::{read_config, read_edited_config};
use crate::{
    cli::{BootstrapArgs, Global},
    config::{
        Config, DestinationConfig, MoreToRead,
        edit::{EditedFile, LackingImage},
    },
    discover::Use,
    model::{Error, Kind, Location, RegistryPrefix, Result, text::count},
    output::{Screen, file},
    run::used_images::{UsedImages, destination_toml, lacking_images},
};

/// The file of `--into` with the images that it lacks, and the images of the run by the configuration
/// with this file.
pub(super) struct IntoFile<'a> {
    pub(super) used: UsedImages,
    path: &'a Path,
    change: Option<FileChange>,
}

struct FileChange {
    text: String,
    tags: usize,
    repositories: usize,
}

impl<'a> IntoFile<'a> {
    /// Reads the file and plans its change; `None` without `--into`. Writes nothing.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if the file does not exist and `--to` names no destination for it, if it
    /// is invalid or cannot be written, or if it does not have the destination of `--to`.
    pub(super) fn plan(
        global: &Global,
        args: &'a BootstrapArgs,
        uses: &[Use],
    ) -> Result<Option<Self>> {
        let Some(path) = args.into.as_deref() else { return Ok(None) };
        if global.config.iter().any(|file| file == Path::new("-")) {
            let problem = "`-c -` can be read once, and `--into` reads the configuration twice";
            return Err(Error::new(Kind::Configuration, problem).hint("save it to a file"));
        }
        let name = path.display().to_string();
        let before = match (fs::read_to_string(path), &args.to) {
            (Ok(text), _) => Some(text),
            (Err(cause), Some(_)) if cause.kind() == ErrorKind::NotFound => None,
            (Err(cause), _) => return Err(unreadable(&name, cause)),
        };
        let text = match (&before, &args.to) {
            (Some(text), _) => text.clone(),
            // the files of `-c` can have the destination
            (None, Some(to)) if !has_destination_of(global, to) => destination_toml(to),
            (None, _) => String::new(),
        };
        let mut with_file = global.clone();
        with_file.config.push(path.to_owned());
        let read = |text: &str, more: &mut dyn FnMut(&Config) -> MoreToRead| {
            read_edited_config(&with_file, (path, text), more)
        };
        let (config, images) = lacking_images(|more| read(&text, more), uses, &args.platforms)?;
        if let Some(to) = args.to.as_ref().filter(|to| !has_destination(&config.destinations, to)) {
            let to = shown(to);
            let problem = format!("`{name}` does not have the destination of `--to`: `{to}`");
            return Err(Error::new(Kind::Configuration, problem)
                .hint("remove `--to`, or add a `[[destination]]`"));
        }
        let mut edited = EditedFile::parse(&name, &text)?;
        edited.add_used(&images)?;
        let text = edited.to_string();
        // a missing file stays missing if the files of `-c` have everything
        let is_changed = before.unwrap_or_default() != text;
        let used = |more: &mut dyn FnMut(&Config) -> MoreToRead| read(&text, more);
        let used = UsedImages::of_configuration(used, uses, &args.platforms);
        let used = used.map_err(|error| {
            if !is_changed {
                return error;
            }
            let problem =
                format!("cannot add the images to `{name}`: {}", error.chain().join(": "));
            let invalid = Error::new(Kind::Configuration, problem);
            error.remedy().into_iter().fold(invalid, Error::hint)
        })?;
        if !is_changed {
            return Ok(Some(Self { used, path, change: None }));
        }
        file::check_editable(path, "configuration")?;
        let of = |image: &LackingImage| (image.entry.host.clone(), image.entry.repository.clone());
        let repositories = images.iter().map(of).collect::<BTreeSet<_>>().len();
        let change = FileChange { text, tags: images.len(), repositories };
        Ok(Some(Self { used, path, change: Some(change) }))
    }

    /// Writes the change, and says how much it adds.
    pub(super) fn save(&self, global: &Global, screen: &Screen) -> Result<()> {
        let Some(FileChange { text, tags, repositories }) = &self.change else { return Ok(()) };
        file::save_edited(self.path, "configuration", text.as_bytes())?;
        if !global.quiet {
            let (tags, of) = (count(*tags, "tag"), count(*repositories, "repository"));
            let name = self.path.display();
            screen.tell_lines(|out| writeln!(out, "{name}: added {tags} of {of}"));
        }
        Ok(())
    }
}

/// Returns `true` if the files of `-c` are a configuration with this destination.
fn has_destination_of(global: &Global, to: &RegistryPrefix) -> bool {
    !global.config.is_empty()
        && read_config(global).is_ok_and(|config| has_destination(&config.destinations, to))
}

fn has_destination(known: &[DestinationConfig], to: &RegistryPrefix) -> bool {
    let registry = Location::from(to.host.clone());
    known.iter().any(|it| it.registry == registry && it.prefix == to.prefix)
}

fn shown(to: &RegistryPrefix) -> String {
    match &to.prefix {
        Some(prefix) => format!("{}/{prefix}", to.host),
        None => to.host.to_string(),
    }
}

fn unreadable(name: &str, cause: std::io::Error) -> Error {
    let is_missing = cause.kind() == ErrorKind::NotFound;
    let error = Error::new(Kind::Configuration, format!("cannot read `{name}`")).because(cause);
    match is_missing {
        true => error.hint(format!(
            "run `ecr-mirror init --output {name}` first, or name the destination: `--to REGISTRY[/PREFIX]`"
        )),
        false => error,
    }
}
