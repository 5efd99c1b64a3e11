//! What can go wrong, as switches.
//!
//! A fault is data: what happens, to which requests, how often. The server carries out those that
//! any registry can suffer; a room asks for those within its own semantics with [`Faults::active`].

pub(super) mod apply;
mod board;

#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr};

use axum::http::Method;

pub use self::board::Faults;
use crate::model::NameError;

/// Gives the switches their names, arguments and help in one table.
macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $argument:expr, $help:literal;)*) => {
        /// What happens.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name {
            $(#[doc = $help] $variant,)*
        }

        impl Name {
            /// All of them, in the order help lists them.
            pub const ALL: &[Name] = &[$(Name::$variant),*];

            /// The switch's name.
            pub fn as_str(self) -> &'static str {
                match self { $(Name::$variant => $text,)* }
            }

            /// What it does, in a few words.
            pub fn help(self) -> &'static str {
                match self { $(Name::$variant => $help,)* }
            }

            fn argument(self) -> Argument {
                match self { $(Name::$variant => $argument,)* }
            }
        }
    };
}

/// Which argument a switch takes.
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
    Refuse = "refuse", No, "a listener takes no connections; plain and standing sandboxes tell sides apart";
    Silent = "silent", No, "no answer ever comes";
    Reset = "reset", No, "the connection is dropped before an answer";
    Cut = "cut", May("BYTES"), "the connection is dropped after BYTES of a blob, up or down, or half of it";
    CutLast = "cut-last", No, "the connection is dropped before a blob's last byte, up or down";
    Stall = "stall", May("BYTES"), "a blob, up or down, stops for ever after BYTES, or half of it";
    Slow = "slow", Must("BYTES_PER_S"), "a blob trickles";
    Status = "status", OneOf(&["408", "429", "500", "502", "503", "504"]), "the answer is this status";
    Throttle = "throttle", May("SECONDS"), "the answer is 429, with `Retry-After` where SECONDS are given";
    Corrupt = "corrupt", No, "one byte of a blob is another";
    Short = "short", No, "a blob lacks its last byte, and the length says so";
    Long = "long", No, "a blob has a byte too many, and the length says so";
    ExpireTokens = "expire-tokens", May("REQUESTS"), "tokens handed out until REQUESTS were let in (default 0) are refused";
    NoLocation = "no-location", No, "starting an upload and putting a manifest give no `Location`";
    WrongLocation = "wrong-location", No, "starting an upload gives the `Location` of one that is not there";
    CrossHostLocation = "cross-host-location", No, "starting an upload gives a `Location` on another host";
    RelativeLocation = "relative-location", No, "every `Location` is a path";
    IgnoreRange = "ignore-range", No, "a range is answered with everything";
    Html = "html", No, "the answer is 200 with a page of HTML";
    OmitDigest = "omit-digest", No, "no answer has `Docker-Content-Digest`";
    EmptyBlob = "empty-blob", OneOf(&["500", "drop"]), "a blob of no bytes gives 500, or is accepted and forgotten";
    Vanish = "vanish", No, "a blob of no image that was reported present is missing when the manifest comes";
    LateBlobs = "late-blobs", Must("MILLISECONDS"), "a blob counts for manifests only after MILLISECONDS";
    SwapMissingStatus = "swap-missing-status", No, "400 and 404 change places where content is missing";
    MoveTag = "move-tag", No, "a tag of the catalogue moves to a newer build once it was asked for";
    PullLimit = "pull-limit", Must("PULLS"), "Docker Hub gives away PULLS manifests in six hours";
    Translate = "translate", No, "a manifest by tag comes in another type when `Accept` is narrow";
    TokenLife = "token-life", Must("SECONDS"), "a token is good for SECONDS";
    Quotas = "quotas", No, "ECR's published request rates are enforced";
    Limit = "limit", Word("ACTION"), "a quota of the account refuses this action with `LimitExceededException`";
    Deny = "deny", Word("ACTION"), "the caller may not do this action of ECR, STS or Secrets Manager";
}

/// Whom a fault strikes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Side {
    /// The registries images come from.
    Upstream,
    /// ECR and what belongs to it, and the plain registry.
    Ecr,
    /// All.
    #[default]
    Any,
}

/// How often a fault strikes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Often {
    /// Every matching request.
    #[default]
    Always,
    /// The first so many.
    First(u64),
    /// So many of a hundred, the same ones in every run.
    Percent(u8),
}

/// What a switch is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arg {
    /// It is on.
    On,
    /// A number, in the unit its name says.
    Number(u64),
    /// A word.
    Word(String),
}

impl Arg {
    /// The number, where it is one.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

/// A fault: `NAME[=ARG][@SIDE[:METHOD][/PATH]][*N|%P]`, like `status=503@ecr:PUT/manifests/*2`
/// or `reset@upstream//quay.io/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What happens.
    pub name: Name,
    /// To what extent.
    pub arg: Arg,
    /// To whom.
    pub side: Side,
    /// Only to requests of this method.
    pub method: Option<Method>,
    /// Only to requests whose path and query contain this, or, after `//`, that begin with this
    /// host and path.
    pub path: Option<String>,
    /// How often.
    pub often: Often,
}

impl Fault {
    /// The fault at its simplest: to everyone, always.
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
    /// Reads `SIDE[:METHOD][/PATH]`.
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

/// The list of faults for `--help`, a line each.
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

/// A request, as far as faults care.
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

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A blob.
    Blob,
    /// Anything else.
    Other,
}
