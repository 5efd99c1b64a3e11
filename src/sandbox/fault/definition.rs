//! The faults, their text form, and the requests that they match.

use std::{fmt, str::FromStr};

use axum::http::{Method, StatusCode};

use super::behaviour::Behaviour;
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

            fn argument(self) -> ArgumentKind {
                match self { $(Name::$variant => $argument,)* }
            }
        }
    };
}

impl Arg {
    /// The status; 500 without one.
    pub(crate) fn status(&self) -> StatusCode {
        let status = self.number().and_then(|number| u16::try_from(number).ok());
        let status = status.and_then(|number| StatusCode::from_u16(number).ok());
        status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ArgumentKind {
    NoArgument,
    OptionalNumber(&'static str),
    RequiredNumber(&'static str),
    Word(&'static str),
    OneOf(&'static [&'static str]),
    /// One of many words: the text is their name in the help.
    Listed(&'static str, &'static [&'static str]),
    HttpStatus,
}

use ArgumentKind::{HttpStatus, Listed, NoArgument, OneOf, OptionalNumber, RequiredNumber, Word};

names! {
    Refuse = "refuse", NoArgument, "refuse connections; only plain and standing sandboxes distinguish sides";
    Silent = "silent", NoArgument, "never answer";
    Reset = "reset", NoArgument, "drop the connection before the response";
    Cut = "cut", OptionalNumber("BYTES"), "drop the connection after BYTES of a blob, up or down (default: half of it)";
    CutLast = "cut-last", NoArgument, "drop the connection before the last byte of a blob, up or down";
    Stall = "stall", OptionalNumber("BYTES"), "stop a blob, up or down, after BYTES and never resume (default: half of it)";
    Slow = "slow", RequiredNumber("BYTES_PER_S"), "send blobs at BYTES_PER_S";
    Status = "status", HttpStatus, "answer with STATUS (200 to 599) in place of the registry";
    StatusAfter = "status-after", HttpStatus, "answer with STATUS (200 to 599) after the registry acted, with its headers";
    ResetAfter = "reset-after", NoArgument, "drop the connection after the registry acted";
    Redirect = "redirect", HttpStatus, "redirect each request once, with STATUS, to the same path";
    MaxBody = "max-body", RequiredNumber("BYTES"), "answer 413 to a request with more than BYTES, unread";
    RefuseWhole = "refuse-whole", HttpStatus, "answer the PUT of a blob with content with STATUS";
    Throttle = "throttle", OptionalNumber("SECONDS"), "answer 429, with `Retry-After: SECONDS` if SECONDS are given";
    Corrupt = "corrupt", NoArgument, "change one byte of a blob";
    Short = "short", NoArgument, "omit the last byte of a blob, with a matching length";
    Long = "long", NoArgument, "append a byte to a blob, with a matching length";
    ExpireTokens = "expire-tokens", OptionalNumber("REQUESTS"), "expire all issued tokens after REQUESTS granted requests (default 0)";
    NoLocation = "no-location", NoArgument, "omit `Location` when an upload starts and when a manifest is pushed";
    WrongLocation = "wrong-location", NoArgument, "send the `Location` of an upload that does not exist";
    CrossHostLocation = "cross-host-location", NoArgument, "send the `Location` of an upload on another host";
    IgnoreMount = "ignore-mount", NoArgument, "answer a mount with an upload session";
    RelativeLocation = "relative-location", NoArgument, "send every `Location` as a path";
    IgnoreRange = "ignore-range", NoArgument, "answer a range request with the whole blob";
    Html = "html", NoArgument, "answer 200 with an HTML page";
    OmitDigest = "omit-digest", NoArgument, "omit `Docker-Content-Digest`";
    WrongDigest = "wrong-digest", NoArgument, "send the `Docker-Content-Digest` of other content";
    EmptyBlob = "empty-blob", OneOf(&["500", "drop"]), "answer an empty blob with 500, or accept and drop it";
    Vanish = "vanish", NoArgument, "remove a blob that was reported present and is in no image when its manifest is pushed";
    LateBlobs = "late-blobs", RequiredNumber("MILLISECONDS"), "hide a blob from manifests for MILLISECONDS after its upload";
    SwapMissingStatus = "swap-missing-status", NoArgument, "answer 400, not 404, to a manifest whose content is missing";
    MoveTag = "move-tag", NoArgument, "move a tag of the catalogue to a newer build after each read";
    PullLimit = "pull-limit", RequiredNumber("PULLS"), "limit Docker Hub to PULLS manifests per six hours";
    Translate = "translate", NoArgument, "serve a tag in another media type if `Accept` excludes its own";
    TokenLife = "token-life", RequiredNumber("SECONDS"), "expire tokens after SECONDS";
    Quotas = "quotas", NoArgument, "enforce ECR's published request rates";
    Limit = "limit", Word("ACTION"), "refuse this action with `LimitExceededException`";
    ImageQuota = "image-quota", RequiredNumber("IMAGES"), "refuse further images of a repository with IMAGES of them";
    Images = "images", RequiredNumber("IMAGES"), "list IMAGES images in each repository";
    ExpiredCredentials = "expired-credentials", NoArgument, "refuse AWS calls with `ExpiredTokenException`";
    OtherAccount = "other-account", NoArgument, "treat the caller of AWS as a user of another account";
    Clock = "clock", RequiredNumber("SECONDS"), "set AWS's clock SECONDS ahead, and refuse signatures older than 300 s";
    TemplateRole = "template-role", NoArgument, "refuse creation templates with tags and without a role";
    Deny = "deny", Word("ACTION"), "deny this action of ECR, STS or Secrets Manager";
    Accept = "accept", Word("ACTION"), "answer 200 to calls of this action that ECR refuses, without effect";
    Otherwise = "otherwise", Listed("BEHAVIOUR", Behaviour::WORDS), "let ECR behave otherwise than it is assumed to (docs/live.md)";
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
pub(crate) enum Often {
    #[default]
    Always,
    First(u64),
    /// N of 100 matching requests, the same ones in every run.
    Percent(u8),
}

/// The argument of a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arg {
    On,
    Number(u64),
    Word(String),
}

impl Arg {
    /// The number; `None` for another kind of argument.
    pub(crate) fn number(&self) -> Option<u64> {
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
    pub(crate) name: Name,
    pub(crate) arg: Arg,
    /// The side that it applies to.
    pub side: Side,
    pub(crate) method: Option<Method>,
    /// Limits the fault to requests whose path and query contain this text, or begin with this host
    /// and path if the text starts with `//`.
    pub(crate) path: Option<String>,
    pub(crate) often: Often,
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
        (NoArgument | OptionalNumber(_), None) => Ok(Arg::On),
        (NoArgument, Some(_)) => {
            Err(NameError::new(format!("has an argument, `{name}` takes none")))
        }
        (OptionalNumber(_) | RequiredNumber(_), Some(text)) if text.parse::<u64>().is_ok() => {
            Ok(given(text))
        }
        (OneOf(choices) | Listed(_, choices), Some(text)) if choices.contains(&text) => {
            Ok(given(text))
        }
        (HttpStatus, Some(text)) if text.parse().is_ok_and(|it: u16| (200..600).contains(&it)) => {
            Ok(given(text))
        }
        (Word(_), Some(text)) if !text.is_empty() => Ok(Arg::Word(text.to_owned())),
        (Word(what), _) => {
            Err(NameError::new("lacks its argument").hint(format!("write `{name}={what}`")))
        }
        (OptionalNumber(unit) | RequiredNumber(unit), _) => Err(NameError::new("lacks its number")
            .hint(format!("write `{name}={unit}`, a whole number"))),
        (HttpStatus, _) => Err(NameError::new("lacks its status")
            .hint(format!("write `{name}=503`, a status from 200 to 599"))),
        (OneOf(choices) | Listed(_, choices), _) => Err(NameError::new("lacks its argument")
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
            NoArgument => name.to_string(),
            OptionalNumber(unit) => format!("{name}[={unit}]"),
            RequiredNumber(unit) | Word(unit) | Listed(unit, _) => format!("{name}={unit}"),
            OneOf(choices) => format!("{name}={}", choices.join("|")),
            HttpStatus => format!("{name}=STATUS"),
        };
        format!("  {usage:<36}{}\n", name.help())
    };
    Name::ALL.iter().map(line).collect()
}

pub(in crate::sandbox) struct Target<'a> {
    pub(in crate::sandbox) side: Side,
    pub(in crate::sandbox) method: &'a Method,
    pub(in crate::sandbox) host: &'a str,
    pub(in crate::sandbox) path: &'a str,
}

impl Target<'_> {
    pub(super) fn matches(&self, fault: &Fault) -> bool {
        fault.method.as_ref().is_none_or(|method| method == self.method)
            && fault.path.as_ref().is_none_or(|path| match path.strip_prefix("//") {
                Some(from_host) => format!("{}{}", self.host, self.path).starts_with(from_host),
                None => self.path.contains(path.as_str()),
            })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Content {
    Blob,
    Other,
}
