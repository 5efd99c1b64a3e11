//! `pull-through validate`: lets ECR try each rule.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{CONNECTIONS, CacheSite, sites};
use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::configuration,
    ecr::{
        AwsSession,
        cache_api::{self, ObservedRule},
    },
    model::{Result, pull_through::Cache},
    output::{
        Screen, printable,
        table::{self, Line},
    },
    pull_through::{
        status::{RuleState, state},
        validate::{Validation, example, hint, validate},
    },
    run::registries::Registries,
};

/// What came of one rule.
#[derive(Debug)]
struct ValidationRow {
    destination: String,
    prefix: String,
    upstream: String,
    result: RuleVerdict,
    /// What went wrong, in AWS's words or ours.
    failure: Option<String>,
    hint: Option<String>,
    /// A repository below it, as an example of how images are called.
    pull: Option<String>,
}

/// What came of a rule, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RuleVerdict {
    /// It works.
    Valid,
    /// It does not.
    Invalid,
    /// It is written, and not there.
    Missing,
    /// It is there, and not written: it is not tried.
    Unwritten,
}

impl RuleVerdict {
    fn word(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Missing => "not there",
            Self::Unwritten => "not in the configuration",
        }
    }
}

/// Shows the results on stdout; 1 when a rule does not work or is not there.
///
/// # Errors
/// When the configuration is wrong, or AWS cannot be asked.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = configuration(global)?;
    let sites = sites(&config, &args.at)?;
    let world = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let tried = attempt_all(&world, &sites).await;
    world.close().await;
    let rows = tried?;
    screen.print(|out| match args.json {
        true => writeln!(out, "{:#}", document(&rows)),
        false => tables(out, &rows, screen.width()),
    })?;
    let fails =
        |row: &ValidationRow| matches!(row.result, RuleVerdict::Invalid | RuleVerdict::Missing);
    Ok(u8::from(rows.iter().any(fails)))
}

async fn attempt_all(world: &Registries, sites: &[CacheSite<'_>]) -> Result<Vec<ValidationRow>> {
    let mut rows = Vec::new();
    for site in sites {
        let session = site.session(world).await?;
        let mut rules = cache_api::rules(&session.api, None).await?;
        for cache in &site.caches {
            let rule = rules.remove(&cache.prefix.to_string());
            rows.push(try_one(site, &session, (cache, rule.as_ref())).await?);
        }
        rows.extend(rules.into_values().map(|rule| ValidationRow {
            destination: site.registry.host.to_string(),
            upstream: super::upstream(&rule.url, &rule.upstream_prefix),
            prefix: rule.prefix,
            result: RuleVerdict::Unwritten,
            failure: None,
            hint: None,
            pull: None,
        }));
    }
    Ok(rows)
}

async fn try_one(
    site: &CacheSite<'_>,
    session: &AwsSession,
    (cache, rule): (&Cache, Option<&ObservedRule>),
) -> Result<ValidationRow> {
    let row = |result, failure, hint| ValidationRow {
        destination: site.registry.host.to_string(),
        prefix: cache.prefix.to_string(),
        upstream: super::upstream(&cache.url, &cache.upstream_prefix.to_string()),
        result,
        failure,
        hint,
        pull: (result == RuleVerdict::Valid).then(|| example(cache)),
    };
    let plan = || Some("`ecr-mirror pull-through plan` tells what `apply` would do".to_owned());
    let Some(rule) = rule else { return Ok(row(RuleVerdict::Missing, None, plan())) };
    if state(cache, Some(rule)) == RuleState::Differs {
        let there = super::upstream(&rule.url, &rule.upstream_prefix);
        let failure = format!("the rule of this prefix caches `{there}`");
        return Ok(row(RuleVerdict::Invalid, Some(failure), plan()));
    }
    Ok(match validate(session, &rule.prefix).await? {
        Validation::Valid => row(RuleVerdict::Valid, None, None),
        Validation::Invalid(failure) => {
            let hint = hint(&site.registry, cache, rule, &failure);
            row(RuleVerdict::Invalid, Some(failure), hint)
        }
    })
}

fn tables(out: &mut dyn Write, rows: &[ValidationRow], width: Option<usize>) -> io::Result<()> {
    for (at, rows) in rows.chunk_by(|a, b| a.destination == b.destination).enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", rows[0].destination)?;
        let lines: Vec<Line> = rows.iter().map(line).collect();
        table::grid(out, &["RULE", "UPSTREAM", "RESULT", "PULL AS"], &lines, width)?;
    }
    Ok(())
}

fn line(row: &ValidationRow) -> Line {
    let pull = row.pull.as_deref().unwrap_or_default();
    let cells = [&row.prefix, &row.upstream, row.result.word(), pull];
    let failure = row.failure.iter().map(|failure| printable(failure).into_owned());
    let hint = row.hint.iter().map(|hint| format!("hint: {}", printable(hint)));
    Line { cells: cells.map(Into::into).into(), notes: failure.chain(hint).collect() }
}

/// Version 1 of this format.
fn document(rows: &[ValidationRow]) -> Value {
    let row = |row: &ValidationRow| {
        json!({
            "destination": row.destination,
            "prefix": row.prefix,
            "upstream": row.upstream,
            "result": row.result.word().replace(' ', "_"),
            "failure": row.failure,
            "hint": row.hint,
            "pull_as": row.pull,
        })
    };
    json!({ "version": 1, "rules": rows.iter().map(row).collect::<Vec<Value>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(prefix: &str, result: RuleVerdict, failure: Option<&str>) -> ValidationRow {
        ValidationRow {
            destination: "r.example".to_owned(),
            prefix: prefix.to_owned(),
            upstream: "ghcr.io".to_owned(),
            result,
            failure: failure.map(str::to_owned),
            hint: failure.map(|_| "use another token".to_owned()),
            pull: (result == RuleVerdict::Valid).then(|| "github/OWNER/NAME".to_owned()),
        }
    }

    #[test]
    fn a_failure_stands_below_its_rule_with_what_to_do() {
        let rows = [
            row("github", RuleVerdict::Valid, None),
            row("gh", RuleVerdict::Invalid, Some("401\u{1b}[2J")),
            row("x", RuleVerdict::Unwritten, None),
        ];
        let mut out = anstream::StripStream::new(Vec::new());
        tables(&mut out, &rows, None).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        let expected = "\
r.example
RULE    UPSTREAM  RESULT                    PULL AS
github  ghcr.io   valid                     github/OWNER/NAME
gh      ghcr.io   invalid
    401[2J
    hint: use another token
x       ghcr.io   not in the configuration
";
        assert_eq!(text, expected);
        assert_eq!(
            document(&rows)["rules"][1],
            json!({
                "destination": "r.example",
                "prefix": "gh",
                "upstream": "ghcr.io",
                "result": "invalid",
                "failure": "401\u{1b}[2J",
                "hint": "use another token",
                "pull_as": null,
            })
        );
    }
}
