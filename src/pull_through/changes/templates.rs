//! Plans repository creation templates: the settings of the repositories that ECR creates on a pull
//! through a cache or on the first push.
//!
//! A template keeps members that are not configured. Each prefix has one template.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Desired, OnPush, Resource, field, other_upstream,
    statements::{self, PULL},
};
use crate::{
    ecr::{
        cache_api::ObservedTemplate,
        prefix_rules::longest,
        settings::{is_encrypted_like, is_same_policy},
    },
    model::{
        ecr_settings::{Encryption, RepositorySettings, TagMutability},
        pull_through::{Cache, Prefix, TEMPLATE_DESCRIPTION},
        setting_change::{Action, Field, Subject},
    },
    pull_through::state::{CacheStep, DesiredTemplate, Observed, Planned, PolicyScope},
};

/// The occasions that use a template, as the API names them.
pub(super) const PULL_THROUGH: &str = "PULL_THROUGH_CACHE";
const ON_PUSH: &str = "CREATE_ON_PUSH";
/// The occasions that a configuration can have.
pub(super) const OCCASIONS: [&str; 2] = [PULL_THROUGH, ON_PUSH];

/// The configuration of a prefix's template.
pub(super) struct ConfiguredTemplate<'a> {
    pub(super) prefix: &'a Prefix,
    /// The cache of this prefix, if it has one.
    cache: Option<&'a Cache>,
    /// The occasions that use the template; none if no template is configured.
    occasions: BTreeSet<&'static str>,
    pub(super) settings: RepositorySettings,
    role_arn: Option<String>,
    /// The configured description.
    description: Option<String>,
    /// Our statements in its policy.
    pub(super) grants: Vec<Value>,
}

impl<'a> ConfiguredTemplate<'a> {
    fn new(prefix: &'a Prefix, cache: Option<&'a Cache>) -> Self {
        let (settings, occasions) = (RepositorySettings::default(), BTreeSet::new());
        let (role_arn, description, grants) = Default::default();
        Self { prefix, cache, occasions, settings, role_arn, description, grants }
    }

    /// Returns `true` if the configuration has a template of this prefix.
    pub(super) fn is_used(&self) -> bool {
        !self.occasions.is_empty()
    }

    /// The cache whose repositories the template configures.
    pub(super) fn served(&self) -> Option<&'a Cache> {
        self.cache.filter(|_| self.occasions.contains(PULL_THROUGH))
    }

    /// The ids of our statements in its policy.
    pub(super) fn statement_ids(&self) -> Vec<String> {
        self.cache.map(|_| statements::ids(self.prefix).to_vec()).unwrap_or_default()
    }
}

/// The template of each prefix. Contains caches without a template: an existing one can still have
/// our statements.
pub(super) fn configured<'a>(
    desired: &Desired<'a>,
    scope: PolicyScope,
) -> Vec<ConfiguredTemplate<'a>> {
    let caches = desired.caches.iter();
    let mut all: Vec<_> = caches.map(|cache| template_of(desired, cache, scope)).collect();
    for OnPush { prefix, settings } in desired.on_push {
        let at = all.iter().position(|template| template.prefix == prefix).unwrap_or_else(|| {
            all.push(ConfiguredTemplate::new(prefix, None));
            all.len() - 1
        });
        all[at].occasions.insert(ON_PUSH);
        fill(&mut all[at].settings, settings);
    }
    all
}

fn template_of<'a>(
    desired: &Desired<'_>,
    cache: &'a Cache,
    scope: PolicyScope,
) -> ConfiguredTemplate<'a> {
    let mut template = ConfiguredTemplate::new(&cache.prefix, Some(cache));
    if let Some(written) = &cache.template {
        template.settings = written.settings.clone();
        template.role_arn.clone_from(&written.role_arn);
        template.description.clone_from(&written.description);
    }
    if let (Some(access), PolicyScope::Importing) = (&cache.access, scope) {
        template.grants = statements::grants(desired.registry, &cache.prefix, access, &PULL, None);
    }
    if cache.template.is_some() || !template.grants.is_empty() {
        template.occasions.insert(PULL_THROUGH);
        // ECR uses only the template of the longest prefix, even for another occasion
        template.occasions.extend((!desired.on_push.is_empty()).then_some(ON_PUSH));
    }
    template
}

/// Adds the settings of `more` that `settings` lacks.
fn fill(settings: &mut RepositorySettings, more: &RepositorySettings) {
    let RepositorySettings { mutability, scan_on_push: _, encryption, tags, lifecycle, policy } =
        more.clone();
    settings.mutability = settings.mutability.take().or(mutability);
    settings.encryption = settings.encryption.take().or(encryption);
    settings.lifecycle = settings.lifecycle.take().or(lifecycle);
    settings.policy = settings.policy.take().or(policy);
    for (key, value) in tags {
        settings.tags.entry(key).or_insert(value);
    }
}

pub(super) fn changes(desired: &Desired<'_>, observed: &Observed) -> Vec<Planned> {
    let all = configured(desired, observed.scope);
    all.iter().filter_map(|template| change(desired, template, observed)).collect()
}

fn change(
    desired: &Desired<'_>,
    template: &ConfiguredTemplate<'_>,
    observed: &Observed,
) -> Option<Planned> {
    let name = template.prefix.to_string();
    let existing = observed.templates.get(&name);
    if existing.is_none() && template.occasions.is_empty() {
        return None;
    }
    let (fields, update) = differences(template, existing);
    if fields.is_empty() {
        return None;
    }
    let resource = Resource { registry: desired.registry, kind: Subject::Template, name: &name };
    if template.served().is_some_and(|cache| desired.is_blocked(cache, observed)) {
        return Some(resource.conflict(fields, other_upstream(template.prefix)));
    }
    if update.policy.as_ref().is_some_and(statements::is_too_long) {
        return Some(resource.conflict(fields, statements::too_long()));
    }
    if needs_role(&update, existing) {
        let hint = "set the template's `role_arn`, or remove its key: ECR needs a role to create repositories with a KMS key";
        return Some(resource.conflict(fields, hint));
    }
    if existing.is_some() {
        let update = resource.planned(Action::Update, fields, CacheStep::UpdateTemplate(update));
        let cache = template.served().and_then(|cache| cache.template.as_ref());
        return Some(match cache.is_some_and(|template| template.reconcile) {
            true => update,
            false => update
                .hint("it applies to new repositories only: `reconcile = true` updates the others"),
        });
    }
    let create = resource.planned(Action::Create, fields, CacheStep::CreateTemplate(update));
    Some(match shadowed(&name, template, observed) {
        Some(prefix) => create.hint(format!(
            "the longest prefix wins: the template `{prefix}` no longer applies below `{name}`"
        )),
        None => create,
    })
}

/// The prefix of the template that applies below this prefix until now.
fn shadowed<'a>(
    name: &str,
    template: &ConfiguredTemplate<'_>,
    observed: &'a Observed,
) -> Option<&'a String> {
    let serves = |existing: &ObservedTemplate| {
        template.occasions.iter().any(|&occasion| existing.applied_for.contains(occasion))
    };
    let serving = observed.templates.iter().filter(|(_, existing)| serves(existing));
    longest(serving.map(|(prefix, _)| prefix), name)
}

/// The fields that differ, and the template with these members only.
fn differences(
    template: &ConfiguredTemplate<'_>,
    existing: Option<&ObservedTemplate>,
) -> (Vec<Field>, DesiredTemplate) {
    let mut fields = Vec::new();
    let prefix = template.prefix.to_string();
    let mut update = DesiredTemplate { prefix, ..DesiredTemplate::default() };
    let old = existing.map(|it| &it.applied_for);
    let mut occasions = old.cloned().unwrap_or_default();
    occasions.extend(template.occasions.iter().map(|&occasion| occasion.to_owned()));
    if old != Some(&occasions) {
        fields.push(field("applied_for", json!(old), json!(occasions)));
        update.applied_for = Some(occasions);
    }
    let (settings, old) = (&template.settings, existing.map(|it| &it.mutability));
    let is_new = |new: &&TagMutability| !old.is_some_and(|old| new.is_equivalent(old));
    if let Some(new) = settings.mutability.as_ref().filter(is_new) {
        fields.push(field("tag_mutability", json!(old.map(ToString::to_string)), new.to_string()));
        update.mutability = Some(new.clone());
    }
    let old = existing.map(|it| &it.encryption);
    let is_new = |new: &&Encryption| !old.is_some_and(|old| is_encrypted_like(old, new));
    if let Some(new) = settings.encryption.as_ref().filter(is_new) {
        fields.push(field("encryption", json!(old.map(ToString::to_string)), new.to_string()));
        update.encryption = Some(new.clone());
    }
    let old = existing.map(|it| it.tags.clone()).unwrap_or_default();
    let mut tags = old.clone();
    for (key, new) in &settings.tags {
        if old.get(key) != Some(new) {
            fields.push(field(&format!("tags.{key}"), json!(old.get(key)), json!(new)));
            tags.insert(key.clone(), new.clone());
        }
    }
    update.tags = (tags != old).then_some(tags);
    let old = existing.and_then(|it| it.lifecycle.as_ref());
    if let Some(new) = settings.lifecycle.as_ref().filter(|new| !is_same(old, Some(new))) {
        fields.push(field("lifecycle", json!(old), new.clone()));
        update.lifecycle = Some(new.clone());
    }
    let old = existing.and_then(|it| it.policy.as_ref()).filter(|policy| !policy.is_null());
    // the configured policy, else the existing one, with our statements
    let base = settings.policy.as_ref().or(old);
    let new = statements::merged(base, &template.statement_ids(), &template.grants).policy;
    if !is_same(old, new.as_ref()) {
        fields.push(field("policy", json!(old), json!(new)));
        update.policy = Some(json!(new));
    }
    let old = existing.and_then(|it| it.role_arn.as_ref());
    if let Some(new) = template.role_arn.as_ref().filter(|new| old != Some(new)) {
        fields.push(field("role_arn", json!(old), json!(new)));
        update.role_arn = Some(new.clone());
    }
    let old = existing.and_then(|it| it.description.as_ref());
    if let Some(new) = template.description.as_ref().filter(|new| old != Some(new)) {
        fields.push(field("description", json!(old), json!(new)));
        update.description = Some(new.clone());
    } else if existing.is_none() {
        // by it a later run recognizes the template as ours
        update.description = Some(TEMPLATE_DESCRIPTION.to_owned());
    }
    (fields, update)
}

fn is_same(policy: Option<&Value>, other: Option<&Value>) -> bool {
    match (policy, other) {
        (Some(policy), Some(other)) => is_same_policy(policy, other),
        _ => policy == other,
    }
}

/// Returns `true` if the template lacks a role and its key needs one. ECR accepts tags without a
/// role.
///
/// Source: ECR API reference, `customRoleArn`; hashicorp/terraform-provider-aws, the test "basic" of
/// the resource.
fn needs_role(update: &DesiredTemplate, existing: Option<&ObservedTemplate>) -> bool {
    let encryption = update.encryption.as_ref().or(existing.map(|it| &it.encryption));
    let role = update.role_arn.as_ref().or(existing.and_then(|it| it.role_arn.as_ref()));
    encryption.is_some_and(|encryption| *encryption != Encryption::Aes256) && role.is_none()
}

/// Removes the configured occasions and our statements; deletes a template without occasions.
pub(super) fn removal(
    desired: &Desired<'_>,
    template: &ConfiguredTemplate<'_>,
    existing: &ObservedTemplate,
) -> Option<Planned> {
    without(desired, existing, &template.occasions, &template.statement_ids())
}

/// Removes these occasions and statements; deletes a template without occasions.
pub(super) fn without(
    desired: &Desired<'_>,
    existing: &ObservedTemplate,
    occasions: &BTreeSet<&str>,
    statement_ids: &[String],
) -> Option<Planned> {
    let name = existing.prefix.clone();
    let resource = Resource { registry: desired.registry, kind: Subject::Template, name: &name };
    let is_other = |occasion: &&String| !occasions.contains(occasion.as_str());
    let others: BTreeSet<String> = existing.applied_for.iter().filter(is_other).cloned().collect();
    let had = existing.applied_for.len() != others.len();
    if had && others.is_empty() {
        let step = CacheStep::DeleteTemplate(name.clone());
        return Some(resource.planned(Action::Delete, Vec::new(), step));
    }
    let mut fields = Vec::new();
    let mut rest = DesiredTemplate { prefix: name.clone(), ..DesiredTemplate::default() };
    if had {
        fields.push(field("applied_for", json!(existing.applied_for), json!(others)));
        rest.applied_for = Some(others);
    }
    let merged = statements::merged(existing.policy.as_ref(), statement_ids, &[]);
    if !merged.fields.is_empty() {
        fields.push(field("policy", json!(existing.policy), json!(merged.policy)));
        rest.policy = Some(json!(merged.policy));
    }
    let step = CacheStep::UpdateTemplate(rest);
    (!fields.is_empty()).then(|| resource.planned(Action::Update, fields, step))
}
