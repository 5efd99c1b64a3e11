//! Checks credentials, network, permissions, limits and settings before a run.
//!
//! A check is data: a row of [`specs::SPECS`] with its id, its group and the checks that it depends
//! on, for one subject. [`queries`] asks and writes nothing, apart from what `--write` allows;
//! [`judge`] decides from what was seen. All checks run in parallel, each as soon as those that it
//! depends on are done, and each within its own time limit. A check that depends on a failed one is
//! skipped.
//!
//! A failure is the error of a run: it comes from the same function, or has the same words of
//! [`hints`].

mod judge;
mod queries;
mod specs;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures::{
    FutureExt,
    future::{LocalBoxFuture, Shared, join_all},
};
use tokio::time::timeout;

use self::{
    judge::Finding,
    queries::Queries,
    specs::{PlannedCheck, Question, SPECS},
};
use crate::{
    config::Config,
    model::{
        Error, Kind, Result,
        check_report::{CheckResult, CheckRow, ListedCheck},
        hints,
    },
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
    run::registries::Registries,
};

/// The options of [`examine`].
#[derive(Debug, Clone)]
pub struct DoctorOptions {
    /// Only the checks with these ids or of these groups, and those that they depend on.
    pub only: Vec<String>,
    /// Also make the calls that leave something behind.
    pub writes: bool,
    /// The time limit of each check.
    pub timeout: Duration,
}

/// The retry policy of a check: a second attempt, so that one lost answer is no failure, and no more,
/// so that the error of a host that is down comes before the time limit.
pub fn retry_policy() -> RetryPolicy {
    let first = Duration::from_millis(200);
    let retry = Retry { attempts: 2, first, longest: first };
    RetryPolicy::new(retry, StallTimeouts::default(), OutagePolicy::default())
}

/// The checks of this configuration, in the order of [`SPECS`]. Sends nothing.
pub fn list(config: &Config) -> Vec<ListedCheck> {
    let checks = specs::checks(config);
    let listed = SPECS.iter().map(|spec| {
        let of_spec = checks.iter().filter(|check| check.spec.id == spec.id);
        let subjects = of_spec.clone().filter_map(|check| check.subject.name());
        let is_listed = of_spec.count() > 0;
        let (id, group, asks) = (spec.id, spec.group, spec.asks);
        is_listed.then(|| ListedCheck { id, group, asks, subjects: subjects.collect() })
    });
    listed.flatten().collect()
}

/// Runs the checks and returns a row for each, worst first. `connections` is the error of a machine
/// whose proxy or CA bundle cannot be used: nothing is sent then.
///
/// # Errors
/// [`Kind::Configuration`] if `only` names no check.
pub async fn examine(
    registries: &Registries,
    connections: Result<()>,
    config: &Config,
    options: &DoctorOptions,
) -> Result<Vec<CheckRow>> {
    let checks = specs::checks(config);
    let shown = selection(&checks, &options.only)?;
    let queries = Queries { registries, connections, config, writes: options.writes };
    let started = start(&checks, options.timeout, |check| queries.ask(check));
    let needed = with_dependencies(&checks, &shown);
    let findings = join_all(needed.iter().map(|index| started[*index].clone())).await;
    let rows = needed.iter().zip(findings).map(|(index, finding)| row(&checks[*index], finding));
    let mut rows: Vec<(bool, CheckRow)> =
        needed.iter().map(|index| shown.contains(index)).zip(rows).collect();
    // a check that only others need is shown if it is the reason why they are skipped
    rows.retain(|(is_shown, row)| *is_shown || row.result == CheckResult::Fail);
    let mut rows: Vec<CheckRow> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_by_key(|row| row.result);
    Ok(rows)
}

fn row(check: &PlannedCheck<'_>, finding: Finding) -> CheckRow {
    let Finding { result, text, hint } = finding;
    let (id, group, subject) = (check.spec.id, check.spec.group, check.subject.name());
    CheckRow { id, group, subject, result, text, hint }
}

/// The indexes of the checks that `only` names by id or by group; all without names.
fn selection(checks: &[PlannedCheck<'_>], only: &[String]) -> Result<Vec<usize>> {
    let is_named = |check: &PlannedCheck<'_>, name: &String| {
        check.spec.id == name || check.spec.group.word() == name
    };
    for name in only {
        if !checks.iter().any(|check| is_named(check, name)) {
            let mut ids: Vec<&str> = checks.iter().map(|check| check.spec.id).collect();
            ids.dedup();
            let problem = format!("no check of this configuration is named `{name}`");
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("write one of {}, or a group (`doctor --list`)", ids.join(", "))));
        }
    }
    let is_selected =
        |check: &PlannedCheck<'_>| only.is_empty() || only.iter().any(|name| is_named(check, name));
    Ok((0..checks.len()).filter(|index| is_selected(&checks[*index])).collect())
}

/// These checks and all that they depend on, in their order.
fn with_dependencies(checks: &[PlannedCheck<'_>], selected: &[usize]) -> Vec<usize> {
    let mut is_needed = vec![false; checks.len()];
    // a check only depends on earlier ones
    for index in (0..checks.len()).rev() {
        if selected.contains(&index) || is_needed[index] {
            is_needed[index] = true;
            checks[index].depends_on.iter().for_each(|earlier| is_needed[*earlier] = true);
        }
    }
    (0..checks.len()).filter(|index| is_needed[*index]).collect()
}

type PendingFinding<'a> = Shared<LocalBoxFuture<'a, Finding>>;

/// One future for each check. A future that is never polled sends nothing.
fn start<'a, F>(
    checks: &'a [PlannedCheck<'a>],
    limit: Duration,
    ask: impl Fn(&'a PlannedCheck<'a>) -> F,
) -> Vec<PendingFinding<'a>>
where
    F: Future<Output = Finding> + 'a,
{
    let mut started: Vec<PendingFinding<'a>> = Vec::with_capacity(checks.len());
    for check in checks {
        let earlier: Vec<(&str, PendingFinding<'a>)> = check
            .depends_on
            .iter()
            .map(|index| (checks[*index].spec.id, started[*index].clone()))
            .collect();
        let asked = ask(check);
        let run = async move {
            for (id, earlier) in earlier {
                let finding = earlier.await;
                match finding.result {
                    CheckResult::Fail => return Finding::skip(format!("`{id}` failed")),
                    CheckResult::Skip => return Finding::skip(finding.text),
                    CheckResult::Warn | CheckResult::Ok => {}
                }
            }
            let unanswered = |_| match check.spec.question {
                // a run needs neither the answer of STS nor the storage of layers
                Question::Identity | Question::Storage => {
                    Finding::fail(&unanswered(limit)).into_warning()
                }
                _ => Finding::fail(&unanswered(limit)),
            };
            timeout(limit, asked).await.unwrap_or_else(unanswered)
        };
        started.push(run.boxed_local().shared());
    }
    started
}

/// The error of a check that reached its time limit.
fn unanswered(limit: Duration) -> Error {
    let limit = humantime::format_duration(limit);
    Error::new(Kind::Stalled, format!("no answer within {limit}")).hint(hints::NETWORK)
}
