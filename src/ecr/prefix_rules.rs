//! The pull-through rules and creation templates that apply to a repository's name.
//!
//! Both belong to prefixes; the longest matching prefix decides. Each is read at most once a run,
//! before the first write. Without the permission to read them the run continues: they protect
//! against a mistake only.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::OnceCell;

use super::{
    api::Api,
    cache_api::{self, ObservedRule, ObservedTemplate, ROOT},
};
use crate::model::{Error, Kind, Repository, Result};

/// The rules and templates of one registry, read on first use.
#[derive(Debug)]
pub(crate) struct PrefixRules {
    api: Arc<Api>,
    account: Option<String>,
    rules: OnceCell<BTreeMap<String, ObservedRule>>,
    templates: OnceCell<BTreeMap<String, ObservedTemplate>>,
}

impl PrefixRules {
    /// `account` is `None` for the caller's own.
    pub(crate) fn new(api: Arc<Api>, account: Option<String>) -> Self {
        Self { api, account, rules: OnceCell::new(), templates: OnceCell::new() }
    }

    /// Refuses a repository below a pull-through rule's prefix: ECR would replace the pushed tags
    /// with the upstream's.
    ///
    /// Only warns of a rule for `ROOT`, which covers every name: the upstream has few of them, and
    /// refusing would close the whole registry.
    pub(crate) async fn check_writable(&self, repository: &Repository) -> Result<()> {
        let rules = self.rules.get_or_init(|| self.read_rules()).await;
        let Some(prefix) = longest(rules.keys(), repository.as_str()).filter(|it| *it != ROOT)
        else {
            return Ok(());
        };
        let upstream = &rules[prefix].url;
        let problem = format!(
            "repository `{repository}` is inside `{prefix}/`, which a pull-through rule fills from `{upstream}`"
        );
        Err(Error::new(Kind::Configuration, problem).hint(format!(
            "mirror to another `prefix` or `repository`: ECR replaces tags below `{prefix}/` with those of `{upstream}`"
        )))
    }

    /// Returns `true` if a push to the missing repository creates it.
    pub(crate) async fn creates_on_push(&self, repository: &Repository) -> bool {
        let templates = self.templates.get_or_init(|| self.read_templates()).await;
        let on_push = templates.iter().filter(|(_, it)| it.applied_for.contains("CREATE_ON_PUSH"));
        longest(on_push.map(|(prefix, _)| prefix), repository.as_str()).is_some()
    }

    async fn read_rules(&self) -> BTreeMap<String, ObservedRule> {
        let found = cache_api::rules(&self.api, self.account.as_deref()).await;
        let rules = found.unwrap_or_else(|error| {
            tracing::debug!(?error, "cannot read the pull-through cache rules");
            BTreeMap::new()
        });
        if let Some(root) = rules.get(ROOT) {
            tracing::warn!(
                upstream = root.url,
                "a pull-through rule covers every repository: if its upstream has a repository of \
                 the same name, ECR replaces the mirrored tags"
            );
        }
        rules
    }

    async fn read_templates(&self) -> BTreeMap<String, ObservedTemplate> {
        let found = cache_api::templates(&self.api, self.account.as_deref()).await;
        found.unwrap_or_else(|error| {
            tracing::debug!(?error, "cannot read the repository creation templates");
            BTreeMap::new()
        })
    }
}

/// The longest of the prefixes that contain the repository; `ROOT` contains all and is the shortest.
pub(crate) fn longest<'a, P: AsRef<str>>(
    prefixes: impl IntoIterator<Item = &'a P>,
    repository: &str,
) -> Option<&'a P> {
    let contains = |prefix: &str| {
        prefix == ROOT || repository.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
    };
    let length = |prefix: &&P| if prefix.as_ref() == ROOT { 0 } else { prefix.as_ref().len() };
    prefixes.into_iter().filter(|prefix| contains(prefix.as_ref())).max_by_key(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_root_is_the_shortest() {
        let prefixes = ["hub", "hub/library", "quay", ROOT].map(str::to_owned);
        for (repository, all, expected) in [
            ("hub/library/nginx", &prefixes[..], Some("hub/library")),
            ("hub/nginx", &prefixes, Some("hub")),
            ("hub", &prefixes, Some(ROOT)),
            ("hubble/nginx", &prefixes, Some(ROOT)),
            ("hubble/nginx", &prefixes[..3], None),
            ("hub/library", &prefixes, Some("hub")),
        ] {
            let repository: Repository = repository.parse().unwrap();
            let found = longest(all, repository.as_str()).map(String::as_str);
            assert_eq!(found, expected, "{repository}");
        }
    }
}
