//! `init`: writes a commented `mirror.toml` for one account.

use std::{
    env,
    fs::OpenOptions,
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use crate::{
    cli::InitArgs,
    model::{EcrHost, Error, Host, Kind, Repository, Result},
    output::Screen,
};

/// A configuration; `{{registry}}` and `{{prefix}}` are placeholders.
const TEMPLATE: &str = include_str!("init.toml");

pub(crate) fn run(screen: &Screen, args: &InitArgs) -> Result<u8> {
    let to_stdout = args.output == Path::new("-");
    if !to_stdout && args.output.exists() {
        return Err(exists(&args.output));
    }
    let registry = match &args.registry {
        Some(text) => text.clone(),
        None => ask(screen)?,
    };
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    let text = text(&host(registry.trim(), region.as_deref())?, &args.prefix);
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

/// The host of an ECR registry, or of an account's registry in this region.
fn host(text: &str, region: Option<&str>) -> Result<Host> {
    let hint = "write a registry like `123456789012.dkr.ecr.eu-west-1.amazonaws.com`";
    let is_account = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let whole = match (is_account, region) {
        (true, Some(region)) => format!("{text}.dkr.ecr.{region}.amazonaws.com"),
        (true, None) => {
            let message = format!("the region of account {text} is unknown: AWS_REGION is not set");
            return Err(Error::new(Kind::Configuration, message).hint(hint));
        }
        (false, _) => text.to_owned(),
    };
    let host = whole.parse::<Host>().ok().filter(|host| EcrHost::parse(host).is_some());
    host.ok_or_else(|| {
        Error::new(Kind::Configuration, format!("`{whole}` is not an ECR registry")).hint(hint)
    })
}

/// Asks for the registry on a terminal.
fn ask(screen: &Screen) -> Result<String> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "`--registry` is missing, and there is no terminal to ask for it";
        return Err(Error::new(Kind::Configuration, message)
            .hint("add `--registry 123456789012.dkr.ecr.eu-west-1.amazonaws.com`"));
    }
    screen.tell(|out| {
        write!(out, "ECR registry, or account in the region of AWS_REGION: ")?;
        out.flush()
    });
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|cause| Error::new(Kind::Unavailable, "cannot read the answer").because(cause))?;
    Ok(answer)
}

#[cfg(test)]
mod tests;
