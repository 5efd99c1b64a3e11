//! Decides from what was seen. Pure.

use std::{
    fmt::Display,
    time::{Duration, SystemTime},
};

use globset::Glob;
use serde_json::Value;

use crate::{
    ecr::caller::CallerIdentity,
    model::{
        Error, Kind, Repository, Result, Tag,
        check_report::CheckResult,
        hints,
        outcome::{Outcome, Row},
        rule_report::{RuleVerdict, ValidationRow},
        text,
    },
    remote::Allowance,
};

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) result: CheckResult,
    /// The observation, in words.
    pub(super) text: String,
    pub(super) hint: Option<String>,
}

impl Finding {
    pub(super) fn ok(text: impl Into<String>) -> Self {
        Self { result: CheckResult::Ok, text: text.into(), hint: None }
    }

    pub(super) fn skip(text: impl Into<String>) -> Self {
        Self { result: CheckResult::Skip, text: text.into(), hint: None }
    }

    pub(super) fn warn(text: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { result: CheckResult::Warn, text: text.into(), hint: Some(hint.into()) }
    }

    /// A failure in the words of a run's row: all messages of the error, and its hint.
    pub(super) fn fail(error: &Error) -> Self {
        let hint = error.remedy().map(str::to_owned);
        Self { result: CheckResult::Fail, text: error.chain().join(": "), hint }
    }

    /// The same finding as a warning.
    pub(super) fn into_warning(self) -> Self {
        Self { result: CheckResult::Warn, ..self }
    }

    /// A success with this text, or the failure.
    pub(super) fn of<T>(seen: Result<T>, text: impl FnOnce(T) -> String) -> Self {
        seen.map_or_else(|error| Self::fail(&error), |seen| Self::ok(text(seen)))
    }
}

fn fails(kind: Kind, problem: impl Into<String>, hint: impl Into<String>) -> Finding {
    Finding::fail(&Error::new(kind, problem).hint(hint))
}

/// The first three of these, and the number of the others.
fn some(items: &[impl Display]) -> String {
    let shown: Vec<String> = items.iter().take(3).map(|item| format!("`{item}`")).collect();
    match items.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// AWS refuses signatures that are older.
///
/// Source: IAM user guide, "Elements of an AWS API request signature".
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);

/// A difference that is no accident of the network.
const SKEW: Duration = Duration::from_secs(60);

/// Compares this machine's time with AWS's.
pub(super) fn clock(ours: SystemTime, theirs: SystemTime) -> Finding {
    let (skew, word) = match theirs.duration_since(ours) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    };
    let seconds = Duration::from_secs(skew.as_secs());
    let text =
        format!("this machine's clock is {} {word} AWS's", humantime::format_duration(seconds));
    match skew {
        skew if skew >= SIGNATURE_LIFE => fails(Kind::Unauthorized, text, hints::CLOCK),
        skew if skew >= SKEW => Finding::warn(text, hints::CLOCK),
        _ => Finding::ok("this machine's clock agrees with AWS's"),
    }
}

/// Credentials that expire earlier do not last for a run.
const SHORT: Duration = Duration::from_secs(15 * 60);

/// `renews` is true if the session gets new credentials by itself.
pub(super) fn identity(seen: Result<CallerIdentity>, renews: bool, now: SystemTime) -> Finding {
    match seen {
        Ok(CallerIdentity { arn, expiry: None }) => Finding::ok(arn),
        Ok(CallerIdentity { arn, expiry: Some(at) }) => {
            let left = at.duration_since(now).unwrap_or_default();
            let minutes = Duration::from_secs(left.as_secs() / 60 * 60);
            let text = format!("{arn}, expires in {}", humantime::format_duration(minutes));
            match renews || left >= SHORT {
                true => Finding::ok(text),
                false => Finding::warn(text, "renew the credentials before a long run"),
            }
        }
        // a run needs STS only to assume a role
        Err(error) if error.kind() != Kind::Unauthorized => Finding::fail(&error).into_warning(),
        Err(error) => Finding::fail(&error),
    }
}

/// The credentials' account against the registry's.
pub(super) fn account(own: &str, wanted: &str) -> Finding {
    match own == wanted {
        true => Finding::ok(format!("the credentials are of the registry's account {own}")),
        false => Finding::warn(
            format!("the registry is in account {wanted}, the credentials are of account {own}"),
            format!(
                "set the destination's `role_arn` to a role in account {wanted}, or let the policies of account {wanted} allow {own} to push"
            ),
        ),
    }
}

/// The answers of one action, by repository. Only a refused permission fails.
pub(super) fn action(asked: Vec<Result<()>>, all: usize) -> Finding {
    let count = asked.len();
    let mut unclear = None;
    for error in asked.into_iter().filter_map(Result::err) {
        match error.kind() {
            Kind::NotFound | Kind::RepositoryMissing | Kind::ContentMissing => {}
            Kind::Denied
            | Kind::Unauthorized
            | Kind::Unavailable
            | Kind::Stalled
            | Kind::Throttled => return Finding::fail(&error),
            _ => unclear = Some(error),
        }
    }
    match (unclear, count == all) {
        (Some(error), _) => {
            Finding::skip(format!("the answer does not tell: {}", error.chain().join(": ")))
        }
        (None, true) => Finding::ok("allowed"),
        (None, false) => {
            Finding::ok(format!("allowed in {count} of {}", text::count(all, "repository")))
        }
    }
}

/// The tags of a repository that a configuration selects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RepositoryTags {
    pub(super) known: Vec<Tag>,
    /// Tags of selections with `newest`, whose names are unknown.
    pub(super) unknown: usize,
}

/// The rule of a lifecycle policy that deletes selected images, and how; `None` if there is none.
///
/// Source: ECR user guide, "Lifecycle policy evaluation rules".
fn deleting_rule(policy: &Value, tags: &RepositoryTags) -> Option<(CheckResult, String)> {
    let rules = policy.get("rules").and_then(Value::as_array).into_iter().flatten();
    let mut worst = None;
    for rule in rules.filter(|rule| rule["action"]["type"] == "expire") {
        let selection = &rule["selection"];
        let matched = matched(selection, tags);
        let number = selection["countNumber"].as_u64().unwrap_or(u64::MAX);
        let priority = &rule["rulePriority"];
        let found = match selection["countType"].as_str() {
            _ if matched == 0 => continue,
            Some("imageCountMoreThan") if matched as u64 > number => {
                let images = text::count(matched, "selected image");
                (CheckResult::Fail, format!("rule {priority} keeps {number} of {images}"))
            }
            Some("sinceImagePushed") => (
                CheckResult::Warn,
                format!("rule {priority} deletes selected images {number} days after their push"),
            ),
            _ => continue,
        };
        worst = worst.into_iter().chain([found]).min_by_key(|(result, _)| *result);
    }
    worst
}

/// The number of selected tags that a rule applies to. A rule for all tags applies to unknown ones.
fn matched(selection: &Value, tags: &RepositoryTags) -> usize {
    if selection["tagStatus"] == "any" {
        return tags.known.len() + tags.unknown;
    }
    let texts = |name: &str| -> Option<Vec<&str>> {
        selection[name].as_array().map(|items| items.iter().filter_map(Value::as_str).collect())
    };
    // an image is selected if it has a tag for each of them
    match (texts("tagPatternList"), texts("tagPrefixList")) {
        (Some(patterns), _) => {
            let is_all = patterns.iter().all(|pattern| *pattern == "*");
            let globs: Vec<_> = patterns.iter().filter_map(|it| Glob::new(it).ok()).collect();
            let globs: Vec<_> = globs.iter().map(Glob::compile_matcher).collect();
            let is_matched = |tag: &&Tag| globs.iter().all(|glob| glob.is_match(tag.as_str()));
            tags.known.iter().filter(is_matched).count() + if is_all { tags.unknown } else { 0 }
        }
        (None, Some(prefixes)) => {
            let is_matched = |tag: &&Tag| prefixes.iter().all(|it| tag.as_str().starts_with(it));
            tags.known.iter().filter(is_matched).count()
        }
        (None, None) => 0,
    }
}

/// The lifecycle policies of repositories, against the tags that are selected for them.
pub(super) fn lifecycle(policies: &[(Repository, Option<Value>, RepositoryTags)]) -> Finding {
    let found = policies.iter().filter_map(|(repository, policy, tags)| {
        let (result, text) = deleting_rule(policy.as_ref()?, tags)?;
        Some((result, format!("the lifecycle policy of `{repository}`: {text}")))
    });
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(result, _)| *result);
    match found.split_first() {
        None => Finding::ok("no lifecycle policy deletes selected images"),
        Some(((result, text), others)) => {
            let others = match others.len() {
                0 => String::new(),
                more => format!("; {more} more"),
            };
            let hint = "let the policy keep the selected tags, or select fewer";
            let finding = fails(Kind::Configuration, format!("{text}{others}"), hint);
            Finding { result: *result, ..finding }
        }
    }
}

/// The images that a repository may hold unless AWS has granted more.
///
/// Source: ECR user guide, "Service quotas".
const IMAGES: usize = 100_000;

/// The numbers of images of repositories.
pub(super) fn image_quota(counts: &[(&Repository, usize)]) -> Finding {
    let full: Vec<_> = counts.iter().filter(|(_, count)| *count >= IMAGES / 10 * 9).collect();
    let Some((repository, count)) = full.first() else {
        let most = counts.iter().map(|(_, count)| *count).max().unwrap_or_default();
        return Finding::ok(format!("no repository has more than {}", text::count(most, "image")));
    };
    let others = match full.len() - 1 {
        0 => String::new(),
        more => format!("; {more} more like it"),
    };
    let text = format!(
        "`{repository}` holds {count} images; {} is {IMAGES} unless AWS has granted more{others}",
        hints::IMAGE_QUOTA
    );
    Finding::warn(text, hints::FEWER_IMAGES)
}

/// The pulls that a limit leaves, against the configured tags of the source.
pub(super) fn pull_limit(allowance: Option<Allowance>, reserved: u64, tags: usize) -> Finding {
    let Some(Allowance { limit, remaining, window }) = allowance else {
        return Finding::ok("the registry states no pull limit");
    };
    let window = humantime::format_duration(window);
    let left = format!("{remaining} of {limit} pulls per {window} are left");
    match remaining.saturating_sub(reserved) {
        0 => {
            let kept = match reserved {
                0 => String::new(),
                reserved => format!(", and `reserve_pulls` keeps {reserved}"),
            };
            fails(Kind::PullLimit, format!("{left}{kept}"), hints::PULLS_SPENT)
        }
        free if free < tags as u64 => Finding::warn(
            format!("{left}; a first run of {} needs more", text::count(tags, "tag")),
            hints::PULLS_SPENT,
        ),
        _ => Finding::ok(left),
    }
}

/// The rows of a plan for immutable repositories.
pub(super) fn immutability(rows: &[Row], immutable: usize) -> Finding {
    let drifted: Vec<&Row> = rows.iter().filter(|row| row.outcome == Outcome::Drifted).collect();
    match drifted.split_first() {
        Some((row, others)) => {
            let others = match others.len() {
                0 => String::new(),
                more => format!(" (and {} more)", text::count(more, "tag")),
            };
            let error = row.error.as_deref().unwrap_or_default();
            let text = format!("{}{others}: {error}", row.destination);
            Finding { hint: row.hint.clone(), ..fails(Kind::TagImmutable, text, "") }
        }
        None if immutable == 0 => Finding::ok("no repository has immutable tags"),
        None => Finding::ok(format!(
            "{} with immutable tags, and no tag differs from its source",
            text::count(immutable, "repository")
        )),
    }
}

/// The validation of a cache's rule.
pub(super) fn cache_rule(seen: Result<ValidationRow>) -> Finding {
    let row = match seen {
        Ok(row) => row,
        // a permission of `iam pull-through`, which a role that only mirrors lacks
        Err(error) if error.kind() == Kind::Denied => return Finding::fail(&error).into_warning(),
        Err(error) => return Finding::fail(&error),
    };
    let upstream = &row.upstream;
    match row.verdict {
        RuleVerdict::Valid => Finding::ok(format!("ECR reaches `{upstream}`")),
        verdict => {
            let text = match &row.failure {
                Some(failure) => format!("the rule of `{upstream}`: {failure}"),
                None => format!("the rule of `{upstream}` is {}", verdict.word()),
            };
            Finding { hint: row.hint, ..fails(Kind::Configuration, text, "") }
        }
    }
}

/// The first failure among repositories.
pub(super) fn repositories(checked: Vec<Result<()>>, text: &str) -> Finding {
    let count = checked.len();
    match checked.into_iter().find_map(Result::err) {
        Some(error) => Finding::fail(&error),
        None => Finding::ok(format!("{}: {text}", text::count(count, "repository"))),
    }
}

/// The host names that do not resolve.
pub(super) fn names(unresolved: &[(String, String)], all: usize) -> Finding {
    let Some((_, cause)) = unresolved.first() else {
        return Finding::ok(format!("{} resolved", text::count(all, "name")));
    };
    let names: Vec<&String> = unresolved.iter().map(|(name, _)| name).collect();
    let text = format!("cannot resolve {}: {cause}", some(&names));
    fails(Kind::Unavailable, text, hints::NETWORK)
}
