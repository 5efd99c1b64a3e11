//! Plans the repositories that caches created: their settings with `reconcile`, and their deletion.
//!
//! Compares a repository with the template's configuration, as a new repository would get it. Tags
//! that are not configured stay. ECR cannot change the encryption of a repository: it is not compared.

use serde_json::json;

use super::{Desired, Resource, field, statements, templates};
use crate::{
    ecr::{
        cache_api::ObservedRule,
        prefix_rules::longest,
        settings::{self, CurrentSettings, SettingUpdate, is_same_policy},
    },
    model::{
        ecr_settings::RepositorySettings,
        setting_change::{Action, Subject},
    },
    pull_through::{
        changes::templates::ConfiguredTemplate,
        state::{CacheStep, Observed, ObservedRepository, Planned},
    },
};

/// The treatment of the repositories of removed caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum CachedRepositories {
    #[default]
    Keep,
    /// Delete those without images; the others are conflicts.
    DeleteEmpty,
    DeleteAll,
}

/// The updates of existing repositories.
pub(super) fn changes(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let all = templates::configured(desired, observed.scope);
    let change = |name: &String, repository: &ObservedRepository| {
        let template = template_of(&all, observed, name)?;
        let cache = template.served()?;
        let reconciles = cache.template.as_ref().is_some_and(|template| template.reconcile);
        if !reconciles || desired.is_blocked(cache, observed) {
            return None;
        }
        let resource = Resource { registry: desired.registry, kind: Subject::Repository, name };
        let (fields, updates) = differences(template, &repository.settings);
        let step = CacheStep::UpdateRepository { name: name.clone(), updates };
        (!fields.is_empty()).then(|| resource.planned(Action::Update, fields, step))
    };
    let all = observed.repositories.iter();
    all.filter_map(|(name, repository)| change(name, repository)).collect()
}

/// The configured template that applies to the repository; `None` if a longer one of others does.
fn template_of<'t, 'a>(
    all: &'t [ConfiguredTemplate<'a>],
    observed: &Observed,
    repository: &str,
) -> Option<&'t ConfiguredTemplate<'a>> {
    let prefixes: Vec<String> = all.iter().map(|template| template.prefix.to_string()).collect();
    let existing = observed.templates.iter();
    let existing = existing.filter(|(_, it)| it.applied_for.contains(templates::PULL_THROUGH));
    let longest = longest(prefixes.iter().chain(existing.map(|(prefix, _)| prefix)), repository)?;
    all.iter().find(|template| template.prefix.to_string() == *longest)
}

fn differences(
    template: &ConfiguredTemplate<'_>,
    current: &CurrentSettings,
) -> (Vec<crate::model::setting_change::Field>, Vec<SettingUpdate>) {
    let wanted = RepositorySettings { encryption: None, policy: None, ..template.settings.clone() };
    let settings::Differences { mut fields, mut updates, .. } =
        settings::differences(&wanted, current);
    let old = current.policy.as_ref();
    let base = template.settings.policy.as_ref().or(old);
    let new = statements::merged(base, &template.statement_ids(), &template.grants).policy;
    let is_same = match (old, &new) {
        (Some(old), Some(new)) => is_same_policy(old, new),
        (old, new) => old == new.as_ref(),
    };
    if !is_same {
        fields.push(field("policy", json!(old), json!(new)));
        updates.push(SettingUpdate::Policy(json!(new)));
    }
    (fields, updates)
}

/// Checks that the rule can have created the repository. Fails with what speaks against it.
fn check_origin(
    repository: &ObservedRepository,
    rule: Option<&ObservedRule>,
) -> Result<(), &'static str> {
    let Some(rule) = rule else {
        return Err("no rule has this prefix: a cache may not have created it; delete it yourself");
    };
    match (repository.created, rule.created) {
        (Some(repository), Some(rule)) if repository >= rule => Ok(()),
        (Some(_), Some(_)) => {
            Err("it is older than the rule: the cache did not create it; delete it yourself")
        }
        _ => Err(
            "ECR does not say when it or the rule was created: a cache may not have created it; delete it yourself",
        ),
    }
}

/// The deletions of the repositories of removed caches.
pub(super) fn removals(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    if desired.repositories == CachedRepositories::Keep {
        return Vec::new();
    }
    let force = desired.repositories == CachedRepositories::DeleteAll;
    let prefixes: Vec<String> =
        desired.caches.iter().map(|cache| cache.prefix.to_string()).collect();
    let removal = |name: &String, repository: &ObservedRepository| {
        let prefix = longest(&prefixes, name)?;
        let cache = desired.caches.iter().find(|cache| cache.prefix.to_string() == *prefix)?;
        let resource = Resource { registry: desired.registry, kind: Subject::Repository, name };
        if desired.is_blocked(cache, observed) {
            return Some(resource.conflict(Vec::new(), super::other_upstream(&cache.prefix)));
        }
        if let Err(reason) = check_origin(repository, observed.rules.get(prefix)) {
            return Some(resource.conflict(Vec::new(), reason));
        }
        let has_images = repository.has_images != Some(false);
        if has_images && !force {
            return Some(
                resource.conflict(Vec::new(), "it has images: use `--force` in the same run to delete them, because later no rule shows that a cache created it"),
            );
        }
        let step = CacheStep::DeleteRepository { name: name.clone(), force };
        let planned = resource.planned(Action::Delete, Vec::new(), step);
        Some(if has_images { planned.hint("its images are deleted, too") } else { planned })
    };
    let all = observed.repositories.iter();
    all.filter_map(|(name, repository)| removal(name, repository)).collect()
}
