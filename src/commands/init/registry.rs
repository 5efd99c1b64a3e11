//! Reads the registry from a flag, or from answers on a terminal.

use std::io::{self, BufRead, IsTerminal};

use crate::{
    model::{EcrHost, Error, Host, Kind, Result},
    output::{Screen, error},
};

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The host of an ECR registry, or of an account's registry in this region.
pub(super) fn host(text: &str, region: Option<&str>) -> Result<Host> {
    let hint = "write a registry like `123456789012.dkr.ecr.eu-west-1.amazonaws.com`";
    let whole = match (is_account(text), region) {
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
pub(super) fn ask_on_terminal(screen: &Screen, region: Option<String>) -> Result<Host> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "`--registry` is missing, and there is no terminal to ask for it";
        return Err(Error::new(Kind::Configuration, message)
            .hint("add `--registry 123456789012.dkr.ecr.eu-west-1.amazonaws.com`"));
    }
    let mut input = io::stdin().lock();
    let ask = |question: &str| {
        screen.tell(|out| {
            write!(out, "{question}: ")?;
            out.flush()
        });
        let mut answer = String::new();
        let read = input.read_line(&mut answer).map_err(|cause| {
            Error::new(Kind::Unavailable, "cannot read the answer").because(cause)
        })?;
        // 0 bytes: the input has ended
        Ok((read > 0).then(|| answer.trim().to_owned()))
    };
    registry(ask, |problem| error::warn(screen, problem), region)
}

/// The registry of the answers. Asks for the region of an account only if it is unknown, and again
/// after an answer that is not valid.
pub(super) fn registry(
    mut ask: impl FnMut(&str) -> Result<Option<String>>,
    mut warn: impl FnMut(&str),
    region: Option<String>,
) -> Result<Host> {
    loop {
        let ended = || Error::new(Kind::Configuration, "the input ended before an answer");
        let text = ask("AWS account, or host of an ECR registry")?.ok_or_else(ended)?;
        let region = match (is_account(&text), &region) {
            (true, None) => Some(ask("Region, such as eu-west-1")?.ok_or_else(ended)?),
            _ => region.clone(),
        };
        match host(&text, region.as_deref()) {
            Ok(host) => return Ok(host),
            Err(error) => warn(&error.to_string()),
        }
    }
}
