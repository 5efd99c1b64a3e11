//! `bootstrap --into`: adds the images that a file lacks to it.

use std::{fs, io::ErrorKind, path::Path};

use super::shared::read_config_with;
use crate::{
    cli::{BootstrapArgs, Global},
    config::{Config, DestinationConfig, edit::EditedFile},
    discover::Use,
    model::{Error, Kind, Location, RegistryPrefix, Result, text::count},
    output::{Screen, file},
    run::used_images::{destination_toml, lacking_images},
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
    global.config.push(path.clone());
    let name = path.display().to_string();
    let before = match (fs::read_to_string(path), &args.to) {
        (Ok(text), _) => Some(text),
        (Err(cause), Some(_)) if cause.kind() == ErrorKind::NotFound => None,
        (Err(cause), _) => return Err(unreadable(&name, cause)),
    };
    let (text, (config, images)) = match (&before, &args.to) {
        (Some(text), _) => {
            let read = |more: &mut dyn FnMut(&_) -> _| read_config_with(&global, more);
            (text.clone(), lacking_images(read, uses, &args.platforms)?)
        }
        (None, to) => {
            let text = to.as_ref().map(destination_toml).unwrap_or_default();
            let read = |more: &mut dyn FnMut(&_) -> _| {
                let config = parsed(&name, path, &text)?;
                more(&config);
                Ok(config)
            };
            let lacking = lacking_images(read, uses, &args.platforms)?;
            (text, lacking)
        }
    };
    if let Some(to) = args.to.as_ref().filter(|to| !has_destination(&config.destinations, to)) {
        let problem = format!("`{name}` does not have the destination of `--to`: `{}`", shown(to));
        return Err(Error::new(Kind::Configuration, problem)
            .hint("remove `--to`, or add a `[[destination]]`"));
    }
    let mut edited = EditedFile::parse(&name, &text)?;
    edited.add_used(&images)?;
    let after = edited.to_string();
    if before.as_ref() == Some(&after) {
        return Ok(global);
    }
    // a part of a configuration is invalid by itself
    if parsed(&name, path, &text).is_ok()
        && let Err(error) = parsed(&name, path, &after)
    {
        let problem = format!("cannot add the images to `{name}`: {error}");
        return Err(Error::new(Kind::Configuration, problem));
    }
    file::save(path, "configuration", |out| out.write_all(after.as_bytes()))?;
    if !global.quiet {
        let added = count(images.len() as u64, "image");
        screen.tell_lines(|out| writeln!(out, "{name}: {added} added"));
    }
    Ok(global)
}

/// The configuration of this text alone.
fn parsed(name: &str, path: &Path, text: &str) -> Result<Config> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let environment = |name: &str| std::env::var(name).ok();
    Config::parse(name, text, directory, &environment).map_err(|error| {
        let text = error.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    })
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
