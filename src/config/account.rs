//! `[destination.account]`: settings of an account in a region. Absent keys are left unchanged.

use super::{
    AccountSettings,
    document::{Keys, Table, Text},
    problem::Problem,
};
use crate::model::ecr_settings::{ScanKind, Scanning};

const KEYS: Keys =
    Keys { title: "`[destination.account]`", names: "blob_mounting pull_time_exclusion scanning" };

const SCANNING: Keys = Keys {
    title: "`scanning = { type = \"enhanced\", continuous = [\"…\"], on_push = [\"…\"] }`",
    names: "type continuous on_push",
};

/// Wildcards of one frequency. Source: ECR API model.
const MAX_WILDCARDS: usize = 100;

pub(super) fn read(destination: &Table<'_>) -> Result<AccountSettings, Problem> {
    let Some(table) = destination.table("account", &KEYS)? else {
        return Ok(AccountSettings::default());
    };
    Ok(AccountSettings {
        blob_mounting: table.switch("blob_mounting")?,
        pull_time_exclusion: table.switch("pull_time_exclusion")?,
        scanning: scanning(&table)?,
    })
}

fn scanning(table: &Table<'_>) -> Result<Option<Scanning>, Problem> {
    let Some(table) = table.table("scanning", &SCANNING)? else { return Ok(None) };
    let kinds = [("basic", ScanKind::Basic), ("enhanced", ScanKind::Enhanced)];
    let hint = "add `type = \"basic\"` or `type = \"enhanced\"`";
    let kind = table.choice("type", &kinds)?.ok_or_else(|| table.missing("type", hint))?;
    if let (ScanKind::Basic, Some(span)) = (kind, table.span_of("continuous")) {
        return Err(Problem::at(&span, "`continuous` requires enhanced scanning")
            .hint("write `type = \"enhanced\"`, or `on_push` instead of `continuous`"));
    }
    Ok(Some(Scanning {
        kind,
        continuous: wildcards(&table, "continuous")?,
        on_push: wildcards(&table, "on_push")?,
    }))
}

fn wildcards(table: &Table<'_>, key: &str) -> Result<Vec<String>, Problem> {
    let texts = table.list_up_to(key, MAX_WILDCARDS, "wildcards")?.unwrap_or_default();
    let mut wildcards = texts.iter().map(wildcard).collect::<Result<Vec<_>, _>>()?;
    wildcards.sort();
    wildcards.dedup();
    Ok(wildcards)
}

/// Source: ECR API model, `ScanningRepositoryFilterValue`.
fn wildcard(text: &Text) -> Result<String, Problem> {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'*';
    let mut words = text.split(|c| "._-/".contains(c));
    text.checked(
        text.len() <= 256 && words.all(|word| !word.is_empty() && word.bytes().all(is_word)),
        "is not a valid repository wildcard",
        "write a repository name, with `*` for any text, like `prod-*`",
    )
}
