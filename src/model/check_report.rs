//! The checks that `doctor` reports.

use serde::Serialize;

/// The result of a check, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// A run would fail, or leave images out.
    Fail,
    /// A run can succeed, and something is likely to be wrong.
    Warn,
    /// Not asked, or not answered in a way that tells.
    Skip,
    Ok,
}

impl CheckResult {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Skip => "skip",
            Self::Ok => "ok",
        }
    }
}

/// The part of the setup that a check belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckGroup {
    Configuration,
    Machine,
    Identity,
    Ecr,
    /// The IAM actions of `iam mirror`.
    Permissions,
    Destinations,
    Sources,
    PullThrough,
}

impl CheckGroup {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Machine => "machine",
            Self::Identity => "identity",
            Self::Ecr => "ecr",
            Self::Permissions => "permissions",
            Self::Destinations => "destinations",
            Self::Sources => "sources",
            Self::PullThrough => "pull-through",
        }
    }
}

/// One check with its result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckRow {
    /// The name for `--only`, like `clock` or `ecr:PutImage`.
    pub id: &'static str,
    pub group: CheckGroup,
    /// The destination, source or cache; `null` for this machine.
    pub subject: Option<String>,
    pub result: CheckResult,
    /// The observation, in words.
    pub text: String,
    /// The fix, as an imperative.
    pub hint: Option<String>,
}

/// A check that `doctor --list` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedCheck {
    pub id: &'static str,
    pub group: CheckGroup,
    /// The destinations, sources or caches.
    pub subjects: Vec<String>,
    /// The question, and why it changes nothing.
    pub asks: &'static str,
}

/// The exit status: 1 if a check failed, with `strict` also after a warning.
pub(crate) fn exit_status(rows: &[CheckRow], strict: bool) -> u8 {
    let is_failure = |row: &CheckRow| match row.result {
        CheckResult::Fail => true,
        CheckResult::Warn => strict,
        CheckResult::Skip | CheckResult::Ok => false,
    };
    u8::from(rows.iter().any(is_failure))
}
