//! `[destination.account]`: settings of a whole account and region, untouched unless written.

use super::{
    AccountSettings,
    document::{Keys, Table, Text},
    problem::Problem,
};
use crate::model::{
    NameError,
    ecr_settings::{ScanKind, Scanning},
};

const KEYS: Keys = Keys {
    title: "`[destination.account]`",
    names: &["blob_mounting", "pull_time_exclusion", "scanning"],
};

const SCANNING: Keys = Keys {
    title: "`scanning = { type = \"enhanced\", continuous = [\"…\"], on_push = [\"…\"] }`",
    names: &["type", "continuous", "on_push"],
};

/// Wildcards of one frequency, at most. Source: ECR API model.
const MAX_WILDCARDS: usize = 100;

/// Reads the table inside a destination.
pub(super) fn read(destination: &Table<'_>) -> Result<AccountSettings, Problem> {
    let Some(table) = destination.table("account", &KEYS)? else {
        return Ok(AccountSettings::default());
    };
    let switch = |key| Ok(table.switch(key)?.map(|(on, _)| on));
    Ok(AccountSettings {
        blob_mounting: switch("blob_mounting")?,
        pull_time_exclusion: switch("pull_time_exclusion")?,
        scanning: scanning(&table)?,
    })
}

fn scanning(table: &Table<'_>) -> Result<Option<Scanning>, Problem> {
    let Some(table) = table.table("scanning", &SCANNING)? else { return Ok(None) };
    let kinds = [("basic", ScanKind::Basic), ("enhanced", ScanKind::Enhanced)];
    let Some(kind) = table.choice("type", &kinds)? else {
        return Err(Problem::at(&table.span, "has no `type`").hint("write `type = \"basic\"`"));
    };
    if let (ScanKind::Basic, Some(span)) = (kind, table.place("continuous")) {
        return Err(Problem::at(&span, "only `enhanced` scanning is continuous")
            .hint("write `type = \"enhanced\"`, or `on_push` instead"));
    }
    Ok(Some(Scanning {
        kind,
        continuous: wildcards(&table, "continuous")?,
        on_push: wildcards(&table, "on_push")?,
    }))
}

fn wildcards(table: &Table<'_>, key: &str) -> Result<Vec<String>, Problem> {
    let Some((texts, span)) = table.list(key)? else { return Ok(Vec::new()) };
    if texts.len() > MAX_WILDCARDS {
        let label = format!("more than the {MAX_WILDCARDS} wildcards ECR takes");
        return Err(Problem::at(&span, label));
    }
    let mut wildcards = texts.iter().map(wildcard).collect::<Result<Vec<_>, _>>()?;
    wildcards.sort();
    wildcards.dedup();
    Ok(wildcards)
}

/// Source: ECR API model, `ScanningRepositoryFilterValue`.
fn wildcard(text: &Text) -> Result<String, Problem> {
    let is_ours = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-/*".contains(&b);
    if (1..=256).contains(&text.len()) && text.bytes().all(is_ours) {
        return Ok(text.to_string());
    }
    Err(text.wrong(
        NameError::new("is not a wildcard of repositories")
            .hint("a repository's name, with `*` for anything, like `prod-*`"),
    ))
}
