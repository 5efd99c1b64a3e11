//! `pull-through status`: each rule, and the repositories that it has made.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{CONNECTIONS, CacheSite, sites};
use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::configuration,
    ecr::cache_api,
    model::Result,
    output::{
        Screen,
        table::{self, Line},
    },
    pull_through::status::{CachedRepository, RuleState, RuleStatus, repositories, status},
    run::registries::Registries,
};

/// Repositories that are listed below a rule.
const LISTED: usize = 10;

/// The rules of one registry.
struct Found {
    host: String,
    rules: Vec<RuleStatus>,
}

/// Shows them on stdout; 1 when one that is written is not there.
///
/// # Errors
/// When the configuration is wrong, or AWS cannot be asked.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = configuration(global)?;
    let sites = sites(&config, &args.at)?;
    let world = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let asked = fetch_status(&world, &sites).await;
    world.close().await;
    let found = asked?;
    let now = SystemTime::now();
    screen.print(|out| match args.json {
        true => writeln!(out, "{:#}", document(&found)),
        false => tables(out, &found, (now, screen.width())),
    })?;
    Ok(exit(&found))
}

async fn fetch_status(world: &Registries, sites: &[CacheSite<'_>]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for site in sites {
        let session = site.session(world).await?;
        let (rules, made) =
            tokio::try_join!(cache_api::rules(&session.api, None), repositories(&session))?;
        let rules = status(&site.caches, &rules, &made);
        found.push(Found { host: site.registry.host.to_string(), rules });
    }
    Ok(found)
}

fn exit(found: &[Found]) -> u8 {
    let lacks = |rule: &RuleStatus| matches!(rule.state, RuleState::Missing | RuleState::Differs);
    u8::from(found.iter().flat_map(|found| &found.rules).any(lacks))
}

/// In a few words.
fn word(state: RuleState) -> &'static str {
    match state {
        RuleState::Existing => "there",
        RuleState::Missing => "not there",
        RuleState::Differs => "differs",
        RuleState::Unconfigured => "not in the configuration",
    }
}

fn tables(
    out: &mut dyn Write,
    found: &[Found],
    (now, width): (SystemTime, Option<usize>),
) -> io::Result<()> {
    for (at, Found { host, rules }) in found.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{host}")?;
        let lines: Vec<Line> = rules.iter().map(|rule| line(rule, now)).collect();
        let header = ["RULE", "UPSTREAM", "STATUS", "REPOSITORIES", "OLDEST", "NEWEST"];
        table::grid(out, &header, &lines, width)?;
    }
    Ok(())
}

fn line(rule: &RuleStatus, now: SystemTime) -> Line {
    let made = &rule.repositories;
    let mut times: Vec<SystemTime> = made.iter().filter_map(|made| made.created).collect();
    times.sort();
    let age = |at: Option<&SystemTime>| at.map(|at| age(*at, now)).unwrap_or_default();
    let cells = [
        rule.prefix.clone(),
        super::upstream(&rule.upstream, &rule.upstream_prefix),
        word(rule.state).to_owned(),
        made.len().to_string(),
        age(times.first()),
        age(times.last()),
    ];
    let mut notes = Vec::new();
    if rule.state == RuleState::Differs {
        notes.push(
            "the configuration has another upstream: see `ecr-mirror pull-through plan`".to_owned(),
        );
    }
    notes.extend(made.iter().take(LISTED).map(|made| match &made.created {
        Some(at) => format!("{} ({})", made.name, age(Some(at))),
        None => made.name.clone(),
    }));
    if made.len() > LISTED {
        notes.push(format!("… and {} more (`--json` lists them)", made.len() - LISTED));
    }
    Line { cells: cells.iter().map(Into::into).collect(), notes }
}

/// How long ago, in the largest unit of which there is one.
fn age(at: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or(Duration::ZERO).as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

/// Version 1 of this format.
fn document(found: &[Found]) -> Value {
    let rows = found
        .iter()
        .flat_map(|Found { host, rules }| rules.iter().map(move |rule| row(host, rule)));
    json!({ "version": 1, "rules": rows.collect::<Vec<Value>>() })
}

fn row(host: &str, rule: &RuleStatus) -> Value {
    let time =
        |at: &Option<SystemTime>| at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let made = |CachedRepository { name, created }: &CachedRepository| json!({ "name": name, "created": time(created) });
    json!({
        "destination": host,
        "prefix": rule.prefix,
        "upstream": rule.upstream,
        "upstream_prefix": rule.upstream_prefix,
        "status": word(rule.state).replace(' ', "_"),
        "created": time(&rule.created),
        "repositories": rule.repositories.iter().map(made).collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(prefix: &str, state: RuleState, repositories: usize) -> RuleStatus {
        let made = |at: usize| CachedRepository {
            name: format!("{prefix}/{at:02}"),
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * at as u64)),
        };
        RuleStatus {
            prefix: prefix.to_owned(),
            upstream: "quay.io".to_owned(),
            upstream_prefix: if prefix == "b" { "team" } else { "ROOT" }.to_owned(),
            state,
            created: Some(SystemTime::UNIX_EPOCH),
            repositories: (0..repositories).map(made).collect(),
        }
    }

    fn found() -> Vec<Found> {
        let rules = vec![
            rule("a", RuleState::Existing, 12),
            rule("b", RuleState::Differs, 1),
            rule("c", RuleState::Unconfigured, 0),
        ];
        vec![Found { host: "r.example".to_owned(), rules }]
    }

    #[test]
    fn the_table_lists_a_rule_a_row_and_its_repositories_below() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3 * 86_400);
        let mut out = anstream::StripStream::new(Vec::new());
        tables(&mut out, &found(), (now, None)).unwrap();
        let text = String::from_utf8(out.into_inner()).unwrap();
        let expected = "\
r.example
RULE  UPSTREAM      STATUS                    REPOSITORIES  OLDEST  NEWEST
a     quay.io       there                     12            3 d     2 d
    a/00 (3 d)
    a/01 (2 d)
    a/02 (2 d)
    a/03 (2 d)
    a/04 (2 d)
    a/05 (2 d)
    a/06 (2 d)
    a/07 (2 d)
    a/08 (2 d)
    a/09 (2 d)
    … and 2 more (`--json` lists them)
b     quay.io/team  differs                   1             3 d     3 d
    the configuration has another upstream: see `ecr-mirror pull-through plan`
    b/00 (3 d)
c     quay.io       not in the configuration  0
";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_document_has_every_repository() {
        let document = document(&found());
        assert_eq!(document["rules"][0]["repositories"].as_array().unwrap().len(), 12);
        assert_eq!(
            document["rules"][1],
            json!({
                "destination": "r.example",
                "prefix": "b",
                "upstream": "quay.io",
                "upstream_prefix": "team",
                "status": "differs",
                "created": "1970-01-01T00:00:00Z",
                "repositories": [{ "name": "b/00", "created": "1970-01-01T00:00:00Z" }],
            })
        );
    }

    #[test]
    fn only_a_written_rule_that_is_not_there_fails() {
        for (state, expected) in [
            (RuleState::Existing, 0),
            (RuleState::Unconfigured, 0),
            (RuleState::Missing, 1),
            (RuleState::Differs, 1),
        ] {
            let rules = vec![rule("a", RuleState::Existing, 0), rule("b", state, 0)];
            assert_eq!(exit(&[Found { host: String::new(), rules }]), expected, "{state:?}");
        }
    }

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        for (seconds, expected) in
            [(0, "0 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (86_400, "1 d")]
        {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(age(SystemTime::UNIX_EPOCH, now), expected);
        }
        let before = SystemTime::UNIX_EPOCH;
        assert_eq!(age(before + Duration::from_secs(9), before), "0 min", "a clock that is off");
    }
}
