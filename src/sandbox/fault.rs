//! Faults that the sandbox injects on request.
//!
//! A fault is data: an effect, the requests that it applies to, and a frequency. The server applies
//! the faults that any registry can have. Each backend queries those within its own semantics with
//! [`Faults::active`].

pub(super) mod apply;
mod board;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use axum::http::Method;

pub use self::board::Faults;
use crate::model::NameError;

/// Declares each fault's name, argument and help in one table.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $argument:expr, $help:literal;)*) => {
        /// The effect of a fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $help] $variant,)*
        }

        impl Name {
            /// All names, in the order of the help.
            pub const ALL: &[Name] = &[$(Name::$variant),*];

            /// The name in a fault's text form.
            pub fn as_str(self) -> &'static str {
                match self { $(Name::$variant => $text,)* }
            }

            /// The description in `--help`.
            pub fn help(self) -> &'static str {
                match self { $(Name::$variant => $help,)* }
            }

            fn argument(self) -> Argument {
                match self { $(Name::$variant => $argument,)* }
            }
        }
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    No,
    May(&'static str),
    Must(&'static str),
    Word(&'static str),
    OneOf(&'static [&'static str]),
}

use Argument::{May, Must, No, OneOf, Word};

names! {
    Refuse = "refuse", No, "refuse connections; only plain and standing sandboxes distinguish sides";
    Silent = "silent", No, "never answer";
    Reset = "reset", No, "drop the connection before the response";
    Cut = "cut", May("BYTES"), "drop the connection after BYTES of a blob, up or down (default: half of it)";
    CutLast = "cut-last", No, "drop the connection before the last byte of a blob, up or down";
    Stall = "stall", May("BYTES"), "stop a blob, up or down, after BYTES and never resume (default: half of it)";
    Slow = "slow", Must("BYTES_PER_S"), "send blobs at BYTES_PER_S";
    Status = "status", OneOf(&["408", "429", "500", "502", "503", "504"]), "answer with this status";
    Throttle = "throttle", May("SECONDS"), "answer 429, with `Retry-After: SECONDS` if SECONDS are given";
    Corrupt = "corrupt", No, "change one byte of a blob";
    Short = "short", No, "omit the last byte of a blob, with a matching length";
    Long = "long", No, "append a byte to a blob, with a matching length";
    ExpireTokens = "expire-tokens", May("REQUESTS"), "expire all issued tokens after REQUESTS granted requests (default 0)";
    NoLocation = "no-location", No, "omit `Location` when an upload starts and when a manifest is pushed";
    WrongLocation = "wrong-location", No, "send the `Location` of an upload that does not exist";
    CrossHostLocation = "cross-host-location", No, "send the `Location` of an upload on another host";
    RelativeLocation = "relative-location", No, "send every `Location` as a path";
    IgnoreRange = "ignore-range", No, "answer a range request with the whole blob";
    Html = "html", No, "answer 200 with an HTML page";
    OmitDigest = "omit-digest", No, "omit `Docker-Content-Digest`";
    EmptyBlob = "empty-blob", OneOf(&["500", "drop"]), "answer an empty blob with 500, or accept and drop it";
    Vanish = "vanish", No, "remove a blob that was reported present and is in no image when its manifest is pushed";
    LateBlobs = "late-blobs", Must("MILLISECONDS"), "hide a blob from manifests for MILLISECONDS after its upload";
    SwapMissingStatus = "swap-missing-status", No, "answer 400, not 404, to a manifest whose content is missing";
    MoveTag = "move-tag", No, "move a tag of the catalogue to a newer build after each read";
    PullLimit = "pull-limit", Must("PULLS"), "limit Docker Hub to PULLS manifests per six hours";
    Translate = "translate", No, "serve a tag in another media type if `Accept` excludes its own";
    TokenLife = "token-life", Must("SECONDS"), "expire tokens after SECONDS";
    Quotas = "quotas", No, "enforce ECR's published request rates";
    Limit = "limit", Word("ACTION"), "refuse this action with `LimitExceededException`";
    Deny = "deny", Word("ACTION"), "deny this action of ECR, STS or Secrets Manager";
}

/// The part of the sandbox that a fault applies to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// The registries that images come from.
    Upstream,
    /// ECR with its AWS services, and the plain registry.
    Ecr,
    /// Both.
    #[default]
    Any,
}

/// The share of the matching requests that a fault applies to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Often {
    /// All matching requests.
    #[default]
    Always,
    /// The first N matching requests.
    First(u64),
    /// N of 100 matching requests, the same ones in every run.
    Percent(u8),
}

/// The argument of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// No argument.
    On,
    /// A number, in the unit that the help names.
    Number(u64),
    /// A word, such as the name of an AWS action.
    Word(String),
}

impl Arg {
    /// The number; `None` for another kind of argument.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// A fault: `NAME[=ARG][@SIDE[:METHOD][/PATH]][*N|%P]`, like `status=503@ecr:PUT/manifests/*2` or
/// `reset@upstream//quay.io/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The effect.
    pub name: Name,
    /// The effect's argument.
    pub arg: Arg,
    /// The side that it applies to.
    pub side: Side,
    /// Limits the fault to requests with this method.
    pub method: Option<Method>,
    /// Limits the fault to requests whose path and query contain this text, or begin with this host
    /// and path if the text starts with `//`.
    pub path: Option<String>,
    /// The share of matching requests that it applies to.
    pub often: Often,
}

impl Fault {
    /// A fault without argument that applies to every request.
    pub fn new(name: Name) -> Fault {
        let (arg, side, often) = (Arg::On, Side::Any, Often::Always);
        Fault { name, arg, side, method: None, path: None, often }
    }
}

impl FromStr for Fault {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Fault, NameError> {
        let (rest, often) = often(text)?;
        let (what, scope) = match rest.split_once('@') {
            Some((what, scope)) => (what, Some(scope)),
            None => (rest, None),
        };
        let (name, arg) = match what.split_once('=') {
            Some((name, arg)) => (name, Some(arg)),
            None => (what, None),
        };
        let name =
            Name::ALL.iter().copied().find(|known| known.as_str() == name).ok_or_else(|| {
                let all: Vec<&str> = Name::ALL.iter().map(|name| name.as_str()).collect();
                NameError::new("is not a fault").hint(format!("there are {}", all.join(", ")))
            })?;
        let mut fault = Fault { arg: argument(name, arg)?, often, ..Fault::new(name) };
        if let Some(scope) = scope {
            fault.narrow(scope)?;
        }
        Ok(fault)
    }
}

impl Fault {
    /// Parses `SIDE[:METHOD][/PATH]`.
    fn narrow(&mut self, scope: &str) -> Result<(), NameError> {
        let (rest, path) = match scope.find('/') {
            Some(at) => (&scope[..at], Some(scope[at..].to_owned())),
            None => (scope, None),
        };
        let (side, method) = match rest.split_once(':') {
            Some((side, method)) => (side, Some(method)),
            None => (rest, None),
        };
        self.side = match side {
            "upstream" => Side::Upstream,
            "ecr" => Side::Ecr,
            "any" => Side::Any,
            _ => {
                return Err(NameError::new("names no side of the sandbox")
                    .hint("write `@upstream`, `@ecr` or `@any`"));
            }
        };
        let wrong = |_| NameError::new("names no HTTP method").hint("write `@ecr:PUT`");
        self.method = method.map(|method| method.parse().map_err(wrong)).transpose()?;
        self.path = path;
        Ok(())
    }
}

fn often(text: &str) -> Result<(&str, Often), NameError> {
    let wrong = || {
        NameError::new("says no number of requests")
            .hint("write `*2` for the first two, `%10` for ten of a hundred")
    };
    match text.rfind(['*', '%']) {
        Some(at) if text[at..].starts_with('*') => {
            Ok((&text[..at], Often::First(text[at + 1..].parse().map_err(|_| wrong())?)))
        }
        Some(at) => {
            let percent = text[at + 1..].parse().map_err(|_| wrong())?;
            if percent > 100 { Err(wrong()) } else { Ok((&text[..at], Often::Percent(percent))) }
        }
        None => Ok((text, Often::Always)),
    }
}

fn argument(name: Name, text: Option<&str>) -> Result<Arg, NameError> {
    let given = |text: &str| match text.parse() {
        Ok(number) => Arg::Number(number),
        Err(_) => Arg::Word(text.to_owned()),
    };
    match (name.argument(), text) {
        (No | May(_), None) => Ok(Arg::On),
        (No, Some(_)) => Err(NameError::new(format!("has an argument, `{name}` takes none"))),
        (May(_) | Must(_), Some(text)) if text.parse::<u64>().is_ok() => Ok(given(text)),
        (OneOf(choices), Some(text)) if choices.contains(&text) => Ok(given(text)),
        (Word(_), Some(text)) if !text.is_empty() => Ok(Arg::Word(text.to_owned())),
        (Word(what), _) => {
            Err(NameError::new("lacks its argument").hint(format!("write `{name}={what}`")))
        }
        (May(unit) | Must(unit), _) => Err(NameError::new("lacks its number")
            .hint(format!("write `{name}={unit}`, a whole number"))),
        (OneOf(choices), _) => Err(NameError::new("lacks its argument")
            .hint(format!("write `{name}=` and one of {}", choices.join(", ")))),
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The list of faults for `--help`, one per line.
pub fn help() -> String {
    let line = |name: &Name| {
        let usage = match name.argument() {
            No => name.to_string(),
            May(unit) => format!("{name}[={unit}]"),
            Must(unit) | Word(unit) => format!("{name}={unit}"),
            OneOf(choices) => format!("{name}={}", choices.join("|")),
        };
        format!("  {usage:<36}{}\n", name.help())
    };
    Name::ALL.iter().map(line).collect()
}

/// The parts of a request that faults match on.
pub(super) struct Target<'a> {
    pub(super) side: Side,
    pub(super) method: &'a Method,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

impl Target<'_> {
    fn is_meant_by(&self, fault: &Fault) -> bool {
        fault.method.as_ref().is_none_or(|method| method == self.method)
            && fault.path.as_ref().is_none_or(|path| match path.strip_prefix("//") {
                Some(from_host) => format!("{}{}", self.host, self.path).starts_with(from_host),
                None => self.path.contains(path.as_str()),
            })
    }
}

/// The kind of a response body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Blob,
    Other,
}
