//! The pull-through rules of registries: their status and their validation, as tables and as JSON.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::{
    changes::LEFT_OVER,
    printable,
    table::{Column, Line, Note, grid},
    text::wrapped,
};
use crate::model::{
    SettingChange,
    rule_report::{
        RegistryRules, RepositoryRow, RuleState, RuleStatusRow, ValidationRow, upstream,
    },
};

/// Repositories that the table lists below a rule.
const LISTED: usize = 10;

/// Writes a table for each registry.
pub(crate) fn status_tables(
    out: &mut dyn Write,
    registries: &[RegistryRules],
    now: SystemTime,
    width: Option<usize>,
) -> io::Result<()> {
    let header = [
        Column::Left("RULE"),
        Column::Left("UPSTREAM"),
        Column::Left("STATUS"),
        Column::Right("REPOSITORIES"),
        Column::Right("OLDEST"),
        Column::Right("NEWEST"),
    ];
    for (index, registry) in registries.iter().enumerate() {
        let RegistryRules { destination, rules, leftovers } = registry;
        write_title(out, index, destination)?;
        let lines: Vec<Line> = rules.iter().map(|row| status_line(row, now)).collect();
        grid(out, &header, &lines, width)?;
        if !leftovers.is_empty() {
            writeln!(out, "\n{}", wrapped(LEFT_OVER, width, 0, 0))?;
        }
        for SettingChange { kind, name, .. } in leftovers {
            writeln!(out, "{} {}", kind.word(), printable(name))?;
        }
    }
    Ok(())
}

/// Writes a table for each registry.
pub(crate) fn validation_tables(
    out: &mut dyn Write,
    rows: &[ValidationRow],
    width: Option<usize>,
) -> io::Result<()> {
    for (index, rows) in rows.chunk_by(|a, b| a.destination == b.destination).enumerate() {
        write_title(out, index, &rows[0].destination)?;
        let lines: Vec<Line> = rows.iter().map(validation_line).collect();
        let header = ["RULE", "UPSTREAM", "RESULT", "PULL AS"].map(Column::Left);
        grid(out, &header, &lines, width)?;
    }
    Ok(())
}

/// Writes the registry's name, with an empty line before all but the first.
fn write_title(out: &mut dyn Write, index: usize, registry: &str) -> io::Result<()> {
    if index > 0 {
        writeln!(out)?;
    }
    writeln!(out, "{registry}")
}

fn status_line(row: &RuleStatusRow, now: SystemTime) -> Line {
    let repositories = &row.repositories;
    let times = || repositories.iter().filter_map(|repository| repository.created);
    let age = |at: Option<SystemTime>| at.map(|at| age(at, now)).unwrap_or_default();
    let cells = [
        row.prefix.clone(),
        upstream(&row.upstream, &row.upstream_prefix),
        row.state.word().to_owned(),
        repositories.len().to_string(),
        age(times().min()),
        age(times().max()),
    ];
    let note = "the configuration has another upstream: see `ecr-mirror pull-through plan`";
    let note = (row.state == RuleState::Differs).then(|| note.to_owned());
    let mut notes = Vec::from_iter(note);
    notes.extend(repositories.iter().take(LISTED).map(|repository| match repository.created {
        Some(at) => format!("{} ({})", repository.name, age(Some(at))),
        None => repository.name.clone(),
    }));
    if repositories.len() > LISTED {
        notes.push(format!("… and {} more (`--json` lists them)", repositories.len() - LISTED));
    }
    Line {
        cells: cells.iter().map(Into::into).collect(),
        notes: notes.iter().map(Note::from).collect(),
    }
}

fn validation_line(row: &ValidationRow) -> Line {
    let pull_as = row.pull_as.as_deref().unwrap_or_default();
    let cells = [&row.prefix, &row.upstream, row.verdict.word(), pull_as];
    let failure = row.failure.iter().map(Note::from);
    let hint = row.hint.iter().map(|hint| Note::hint(hint));
    Line { cells: cells.map(Into::into).into(), notes: failure.chain(hint).collect() }
}

/// The age in the largest unit of which it has at least one.
fn age(at: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(at).unwrap_or(Duration::ZERO).as_secs();
    match (seconds / 86_400, seconds / 3600, seconds / 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

/// Writes the document of `status`, format version 1.
pub(crate) fn status_json(out: &mut dyn Write, registries: &[RegistryRules]) -> io::Result<()> {
    let time =
        |at: &Option<SystemTime>| at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
    let repository = |RepositoryRow { name, created }: &RepositoryRow| json!({ "name": name, "created": time(created) });
    let row = |destination: &str, row: &RuleStatusRow| {
        json!({
            "destination": destination,
            "prefix": row.prefix,
            "upstream": row.upstream,
            "upstream_prefix": row.upstream_prefix,
            "status": row.state.word().replace(' ', "_"),
            "created": time(&row.created),
            "repositories": row.repositories.iter().map(repository).collect::<Vec<Value>>(),
        })
    };
    let rows = |it: &RegistryRules| -> Vec<Value> {
        it.rules.iter().map(|rule| row(&it.destination, rule)).collect()
    };
    let leftovers = registries.iter().flat_map(|it| &it.leftovers).map(|change| json!(change));
    document(out, registries.iter().flat_map(rows), leftovers.collect())
}

/// Writes the document of `validate`, format version 1.
pub(crate) fn validation_json(out: &mut dyn Write, rows: &[ValidationRow]) -> io::Result<()> {
    let row = |row: &ValidationRow| {
        json!({
            "destination": row.destination,
            "prefix": row.prefix,
            "upstream": row.upstream,
            "result": row.verdict.word().replace(' ', "_"),
            "failure": row.failure,
            "hint": row.hint,
            "pull_as": row.pull_as,
        })
    };
    document(out, rows.iter().map(row), Vec::new())
}

fn document(
    out: &mut dyn Write,
    rules: impl Iterator<Item = Value>,
    leftovers: Vec<Value>,
) -> io::Result<()> {
    let mut document = json!({ "version": 1, "rules": rules.collect::<Vec<Value>>() });
    if !leftovers.is_empty() {
        document["leftovers"] = leftovers.into();
    }
    writeln!(out, "{document:#}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::rule_report::RuleVerdict;

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        write(&mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    fn status_row(prefix: &str, state: RuleState, repositories: usize) -> RuleStatusRow {
        let repository = |index: usize| RepositoryRow {
            name: format!("{prefix}/{index:02}"),
            created: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * index as u64)),
        };
        RuleStatusRow {
            prefix: prefix.to_owned(),
            upstream: "quay.io".to_owned(),
            upstream_prefix: if prefix == "b" { "team" } else { "ROOT" }.to_owned(),
            state,
            created: Some(SystemTime::UNIX_EPOCH),
            repositories: (0..repositories).map(repository).collect(),
        }
    }

    fn registries() -> [RegistryRules; 1] {
        let rules = vec![
            status_row("a", RuleState::Existing, 12),
            status_row("b", RuleState::Differs, 1),
            status_row("c", RuleState::Unconfigured, 0),
        ];
        [RegistryRules { destination: "r.example".to_owned(), rules, leftovers: Vec::new() }]
    }

    #[test]
    fn the_status_table_has_a_row_for_each_rule_and_its_repositories_below() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(3 * 86_400);
        let expected = "\
r.example
RULE  UPSTREAM      STATUS                    REPOSITORIES  OLDEST  NEWEST
a     quay.io       there                               12     3 d     2 d
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
b     quay.io/team  differs                              1     3 d     3 d
    the configuration has another upstream: see `ecr-mirror pull-through plan`
    b/00 (3 d)
c     quay.io       not in the configuration             0
";
        assert_eq!(text(|out| status_tables(out, &registries(), now, None)), expected);
    }

    #[test]
    fn the_status_document_has_every_repository() {
        let text = text(|out| status_json(out, &registries()));
        let document: Value = serde_json::from_str(&text).unwrap();
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
    fn an_age_has_its_largest_unit() {
        for (seconds, expected) in
            [(0, "0 min"), (3599, "59 min"), (3600, "1 h"), (86_399, "23 h"), (86_400, "1 d")]
        {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(age(SystemTime::UNIX_EPOCH, now), expected);
        }
        let before = SystemTime::UNIX_EPOCH;
        assert_eq!(age(before + Duration::from_secs(9), before), "0 min", "a clock that is off");
    }

    fn validation_row(prefix: &str, verdict: RuleVerdict, failure: Option<&str>) -> ValidationRow {
        ValidationRow {
            destination: "r.example".to_owned(),
            prefix: prefix.to_owned(),
            upstream: "ghcr.io".to_owned(),
            verdict,
            failure: failure.map(str::to_owned),
            hint: failure.map(|_| "use another token".to_owned()),
            pull_as: (verdict == RuleVerdict::Valid).then(|| "github/OWNER/NAME".to_owned()),
        }
    }

    #[test]
    fn a_validation_failure_stands_below_its_rule_with_a_hint() {
        let rows = [
            validation_row("github", RuleVerdict::Valid, None),
            validation_row("gh", RuleVerdict::Invalid, Some("401\u{1b}[2J")),
            validation_row("x", RuleVerdict::Unconfigured, None),
        ];
        let expected = "\
r.example
RULE    UPSTREAM  RESULT                    PULL AS
github  ghcr.io   valid                     github/OWNER/NAME
gh      ghcr.io   invalid
    401[2J
    hint: use another token
x       ghcr.io   not in the configuration
";
        assert_eq!(text(|out| validation_tables(out, &rows, None)), expected);
        let text = text(|out| validation_json(out, &rows));
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            document["rules"][1],
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
