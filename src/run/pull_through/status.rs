//! Reads the status of every pull-through rule, and the repositories that it created.

use super::sites::CacheSite;
use crate::{
    model::{
        Result,
        rule_report::{CachedRepository, RuleStatusRow},
    },
    pull_through::{
        fetch_state,
        status::{CachedRepositories, RuleStatus, Status, repositories, status},
    },
    run::registries::Registries,
};

/// One row for each rule, registry by registry.
///
/// # Errors
/// If AWS refuses a request.
pub(crate) async fn rule_statuses(
    registries: &Registries,
    sites: &[CacheSite<'_>],
) -> Result<Vec<RuleStatusRow>> {
    let mut rows = Vec::new();
    for site in sites {
        let session = site.session(registries).await?;
        let (rules, repositories) =
            tokio::try_join!(fetch_state::rules(&session), repositories(&session))?;
        let host = site.registry.host.to_string();
        let statuses = status(&site.caches, &rules, &repositories);
        rows.extend(statuses.into_iter().map(|status| row(&host, status)));
    }
    Ok(rows)
}

fn row(host: &str, status: Status) -> RuleStatusRow {
    let repository = |CachedRepositories { name, created }| CachedRepository { name, created };
    let word = match status.standing {
        RuleStatus::There => "there",
        RuleStatus::Missing => "not there",
        RuleStatus::Differs => "differs",
        RuleStatus::Unwritten => "not in the configuration",
    };
    let note = "the configuration has another upstream: see `ecr-mirror pull-through plan`";
    RuleStatusRow {
        destination: host.to_owned(),
        prefix: status.prefix,
        upstream: status.upstream,
        upstream_prefix: status.upstream_prefix,
        status: word,
        is_failure: matches!(status.standing, RuleStatus::Missing | RuleStatus::Differs),
        note: (status.standing == RuleStatus::Differs).then_some(note),
        created: status.created,
        repositories: status.repositories.into_iter().map(repository).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_configured_rule_that_is_missing_or_differs_is_a_failure() {
        for (standing, expected) in [
            (RuleStatus::There, false),
            (RuleStatus::Unwritten, false),
            (RuleStatus::Missing, true),
            (RuleStatus::Differs, true),
        ] {
            let status = Status {
                prefix: "quay".to_owned(),
                upstream: "quay.io".to_owned(),
                upstream_prefix: "ROOT".to_owned(),
                standing,
                created: None,
                repositories: Vec::new(),
            };
            assert_eq!(row("r.example", status).is_failure, expected, "{standing:?}");
        }
    }
}
