//! Shards: parts of a configuration that several processes mirror.

use std::{fmt, num::NonZeroU32, path::PathBuf, str::FromStr};

use super::{
    error::{Error, Kind, Result},
    names::NameError,
};

/// One of several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// From 1 to `of`.
    pub index: u32,
    /// The number of parts.
    pub of: NonZeroU32,
}

/// As many as AWS Batch starts for one job.
const MOST: u32 = 10_000;

impl Shard {
    fn new(index: u32, of: u32) -> Option<Self> {
        let of = NonZeroU32::new(of).filter(|of| of.get() <= MOST)?;
        (1..=of.get()).contains(&index).then_some(Self { index, of })
    }
}

impl Shard {
    /// The path with this shard's index for each `{shard}`: engines without a shell cannot name a file
    /// for each of their jobs.
    pub(crate) fn path(&self, path: PathBuf) -> PathBuf {
        match path.to_str() {
            Some(text) => text.replace("{shard}", &self.index.to_string()).into(),
            None => path,
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// A shard as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChoice {
    /// `I/N`.
    Given(Shard),
    /// `auto` or `auto/N`: the environment names the shard, and their number unless it is given.
    Auto(Option<NonZeroU32>),
}

/// The shards' use of Docker Hub's pull limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShardPulls {
    /// The shards have one address or account in common.
    #[default]
    Divided,
    /// Each shard has its own address or account.
    Own,
}

impl FromStr for ShardChoice {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || {
            NameError::new("is not a shard")
                .hint("write `I/N` with I from 1 to N and N up to 10,000, like `2/8`; `auto`; or `auto/N`")
        };
        if text == "auto" {
            return Ok(Self::Auto(None));
        }
        let (index, of) = text.split_once('/').ok_or_else(wrong)?;
        let of: NonZeroU32 = of.parse().map_err(|_| wrong())?;
        if index == "auto" {
            return Ok(Self::Auto(Some(of)));
        }
        let index = index.parse().map_err(|_| wrong())?;
        Shard::new(index, of.get()).map(Self::Given).ok_or_else(wrong)
    }
}

/// The variables in which an engine names the part of a job.
struct EngineVariables {
    index: &'static str,
    /// The variable of the number of parts, if there is one.
    of: Option<&'static str>,
    /// The first index.
    first: u32,
}

/// Sources: AWS Batch user guide, "Array jobs"; GitLab documentation, "Predefined CI/CD variables";
/// Buildkite documentation, "Environment variables"; CircleCI documentation, "Built-in environment
/// variables"; Kubernetes documentation, "Indexed Job".
const ENGINES: [EngineVariables; 5] = [
    engine("AWS_BATCH_JOB_ARRAY_INDEX", Some("AWS_BATCH_JOB_ARRAY_SIZE"), 0),
    engine("CI_NODE_INDEX", Some("CI_NODE_TOTAL"), 1),
    engine("BUILDKITE_PARALLEL_JOB", Some("BUILDKITE_PARALLEL_JOB_COUNT"), 0),
    engine("CIRCLE_NODE_INDEX", Some("CIRCLE_NODE_TOTAL"), 0),
    engine("JOB_COMPLETION_INDEX", None, 0),
];

const fn engine(index: &'static str, of: Option<&'static str>, first: u32) -> EngineVariables {
    EngineVariables { index, of, first }
}

impl ShardChoice {
    /// The shard. `environment` returns the value of a variable.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if `auto` finds no shard: a process never mirrors everything by
    /// mistake.
    pub fn resolve(self, environment: impl Fn(&str) -> Option<String>) -> Result<Shard> {
        let count = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Auto(count) => count,
        };
        let variable = |name: &str| environment(name).filter(|value| !value.is_empty());
        let found = ENGINES.iter().find_map(|it| Some((it, variable(it.index)?)));
        let Some((engine, index)) = found else {
            let names: Vec<String> = ENGINES.iter().map(|it| format!("`{}`", it.index)).collect();
            let problem = "`--shard auto` finds no shard: no variable of an engine is set";
            let hint = format!("set one of {}, or write `--shard I/N`", names.join(", "));
            return Err(Error::new(Kind::Configuration, problem).hint(hint));
        };
        let invalid = |name: &str, value: &str| {
            let problem =
                format!("`--shard auto`: `{name}` is `{value}`, which is no valid number");
            Error::new(Kind::Configuration, problem).hint("write `--shard I/N`")
        };
        let own = engine.of.and_then(|name| Some((name, variable(name)?)));
        let of = match (count, own) {
            (None, None) => {
                let problem =
                    format!("`--shard auto` finds no number of shards beside `{}`", engine.index);
                let hint = "write the number, like `--shard auto/8`";
                return Err(Error::new(Kind::Configuration, problem).hint(hint));
            }
            (Some(count), None) => count.get(),
            (count, Some((name, value))) => {
                let own: u32 = value.parse().map_err(|_| invalid(name, &value))?;
                if count.is_some_and(|count| count.get() != own) {
                    let problem = format!("`--shard {self}` and `{name}={value}` differ");
                    let hint = "write `--shard auto`, or the same number";
                    return Err(Error::new(Kind::Configuration, problem).hint(hint));
                }
                own
            }
        };
        let number: Option<u32> = index.parse().ok();
        let number = number.and_then(|it| it.checked_sub(engine.first)?.checked_add(1));
        let shard = number.and_then(|number| Shard::new(number, of));
        shard.ok_or_else(|| {
            let problem = format!("`{}={index}` names no shard of {of}", engine.index);
            let first = engine.first;
            let last = u64::from(first) + u64::from(of.saturating_sub(1));
            let hint =
                format!("the engine must count from {first} to {last}; or write `--shard I/N`");
            Error::new(Kind::Configuration, problem).hint(hint)
        })
    }
}

impl fmt::Display for ShardChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(shard) => shard.fmt(f),
            Self::Auto(None) => f.write_str("auto"),
            Self::Auto(Some(of)) => write!(f, "auto/{of}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_read_as_it_is_written_and_anything_else_is_refused() {
        for text in ["1/1", "2/8", "8/8", "auto", "auto/8"] {
            assert_eq!(text.parse::<ShardChoice>().unwrap().to_string(), text);
        }
        for text in
            ["", "0/8", "9/8", "1/0", "8", "1/10001", "a/b", "auto/", "auto/0", "-1/8", "1/8/2"]
        {
            assert!(text.parse::<ShardChoice>().unwrap_err().hint.is_some(), "{text}");
        }
    }

    #[test]
    fn auto_reads_the_variables_of_every_engine_and_is_an_error_without_them() {
        for (choice, variables, expected) in [
            ("2/8", "AWS_BATCH_JOB_ARRAY_INDEX=5", Ok("2/8")),
            ("auto", "AWS_BATCH_JOB_ARRAY_INDEX=0 AWS_BATCH_JOB_ARRAY_SIZE=8", Ok("1/8")),
            ("auto", "CI_NODE_INDEX=8 CI_NODE_TOTAL=8", Ok("8/8")),
            ("auto", "BUILDKITE_PARALLEL_JOB=1 BUILDKITE_PARALLEL_JOB_COUNT=2", Ok("2/2")),
            ("auto", "CIRCLE_NODE_INDEX=0 CIRCLE_NODE_TOTAL=1", Ok("1/1")),
            ("auto/4", "JOB_COMPLETION_INDEX=3", Ok("4/4")),
            ("auto/8", "CI_NODE_INDEX=1 CI_NODE_TOTAL=8", Ok("1/8")),
            ("auto/4", "CI_NODE_INDEX=1 CI_NODE_TOTAL=8", Err("`CI_NODE_TOTAL=8` differ")),
            ("auto", "JOB_COMPLETION_INDEX=3", Err("finds no number of shards")),
            ("auto/3", "JOB_COMPLETION_INDEX=3", Err("names no shard of 3")),
            ("auto", "CI_NODE_INDEX=0 CI_NODE_TOTAL=8", Err("names no shard of 8")),
            ("auto", "CI_NODE_INDEX=x CI_NODE_TOTAL=8", Err("names no shard of 8")),
            ("auto", "CI_NODE_INDEX=1 CI_NODE_TOTAL=x", Err("is `x`, which is no valid number")),
            // set in every job of GitLab
            ("auto", "CI_NODE_TOTAL=1", Err("finds no shard")),
            ("auto/8", "", Err("finds no shard")),
        ] {
            let variable = |name: &str| {
                let pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
            };
            let choice: ShardChoice = choice.parse().unwrap();
            match (choice.resolve(variable), expected) {
                (Ok(shard), Ok(expected)) => assert_eq!(shard.to_string(), expected),
                (Err(error), Err(expected)) => {
                    assert_eq!(error.kind(), Kind::Configuration);
                    assert!(error.to_string().contains(expected), "{variables}: {error}");
                    assert!(error.remedy().is_some());
                }
                (result, _) => panic!("{choice} {variables}: {result:?}"),
            }
        }
    }
}
