//! `bootstrap --into`: adds the images that a file lacks to it.

use std::{fs, io::ErrorKind, path::Path};

use super::shared::{read_config, read_edited_config};
use crate::{
    cli::{BootstrapArgs, Global},
    config::{DestinationConfig, edit::EditedFile},
    discover::Use,
    model::{Error, Kind, Location, RegistryPrefix, Result, text::count},
    output::{Screen, file},
    run::used_images::{UsedImages, destination_toml, lacking_images},
};

/// Adds the images to the file of `--into`, and returns the options with it as the configuration.
/// Without `--into`, returns the same options.
///
/// # Errors
/// [`Kind::Configuration`] if the file does not exist and `--to` names no destination for it, if it is
/// invalid, or if it does not have the destination of `--to`. It is unchanged after an error.
pub(super) fn add_images(
    global: &Global,
    screen: &Screen,
    args: &BootstrapArgs,
    uses: &[Use],
) -> Result<Global> {
    let mut global = global.clone();
    let Some(path) = &args.into else { return Ok(global) };
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
        (None, Some(to)) if !has_destination_of(&global, to) => destination_toml(to),
        (None, _) => String::new(),
    };
    let without = global.clone();
    global.config.push(path.clone());
    let read = |more: &mut dyn FnMut(&_) -> _| read_edited_config(&global, (path, &text), more);
    let (config, images) = lacking_images(read, uses, &args.platforms)?;
    if let Some(to) = args.to.as_ref().filter(|to| !has_destination(&config.destinations, to)) {
        let problem = format!("`{name}` does not have the destination of `--to`: `{}`", shown(to));
        return Err(Error::new(Kind::Configuration, problem)
            .hint("remove `--to`, or add a `[[destination]]`"));
    }
    let mut edited = EditedFile::parse(&name, &text)?;
    edited.add_used(&images)?;
    let after = edited.to_string();
    match &before {
        Some(before) if *before == after => return Ok(global),
        // the files of `-c` have everything
        None if after.is_empty() => return Ok(without),
        _ => {}
    }
    file::check_editable(path, "configuration")?;
    let read = |more: &mut dyn FnMut(&_) -> _| read_edited_config(&global, (path, &after), more);
    UsedImages::of_configuration(read, uses, &args.platforms).map_err(|error| {
        let problem = format!("cannot add the images to `{name}`: {}", error.chain().join(": "));
        let invalid = Error::new(Kind::Configuration, problem);
        error.remedy().into_iter().fold(invalid, Error::hint)
    })?;
    file::save_edited(path, "configuration", after.as_bytes())?;
    if !global.quiet {
        let added = count(images.len() as u64, "image");
        screen.tell_lines(|out| writeln!(out, "{name}: {added} added"));
    }
    Ok(global)
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
