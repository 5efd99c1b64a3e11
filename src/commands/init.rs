//! `init`: writes a commented `mirror.toml` for one account.

mod registry;

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
};

use self::registry::{ask_on_terminal, host};
use crate::{
    cli::InitArgs,
    model::{Error, Host, Kind, Repository, Result},
    output::Screen,
};

/// A configuration; `{{registry}}` and `{{prefix}}` are placeholders.
const TEMPLATE: &str = include_str!("init.toml");

pub(crate) fn run(screen: &Screen, args: &InitArgs) -> Result<u8> {
    let to_stdout = args.output == Path::new("-");
    if !to_stdout && args.output.exists() {
        return Err(exists(&args.output));
    }
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let registry = match &args.registry {
        Some(text) => host(text.trim(), region.as_deref())?,
        None => ask_on_terminal(screen, region)?,
    };
    let text = text(&registry, &args.prefix);
    if to_stdout {
        screen.print(|out| out.write_all(text.as_bytes()))?;
        return Ok(0);
    }
    let created = OpenOptions::new().write(true).create_new(true).open(&args.output);
    created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|cause| {
        match cause.kind() {
            io::ErrorKind::AlreadyExists => exists(&args.output),
            _ => {
                let message = format!("cannot write `{}`", args.output.display());
                Error::new(Kind::Unavailable, message).because(cause)
            }
        }
    })?;
    let path = args.output.display();
    screen.print(|out| {
        writeln!(out, "{path} is written; try it: ecr-mirror plan -c {path} --sandbox")
    })?;
    Ok(0)
}

fn text(registry: &Host, prefix: &Repository) -> String {
    let text = TEMPLATE.replace("{{registry}}", registry.as_str());
    text.replace("{{prefix}}", prefix.as_str())
}

fn exists(path: &Path) -> Error {
    Error::new(Kind::Configuration, format!("`{}` exists and is not overwritten", path.display()))
        .hint("name another file with `--output FILE`, or remove it")
}

#[cfg(test)]
mod tests;
