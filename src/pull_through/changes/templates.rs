//! Creation templates: what the repositories are like that ECR makes, on a pull through a cache or
//! on the first push.
//!
//! Guards that a template keeps whatever nobody wrote, and that one prefix has one template,
//! whoever asks for it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    Desired, OnPush, Resource, field, not_ours,
    statements::{self, PULL},
};
use crate::{
    ecr::settings::{is_encrypted_like, is_same_policy},
    model::{
        ecr_settings::{Encryption, RepositorySettings},
        pull_through::{Cache, Prefix},
        setting_change::{Action, Field, Subject},
    },
    pull_through::state::{
        CacheStep, Observed, ObservedTemplate, Planned, PolicyScope, WantedTemplate,
    },
};

/// The occasions, as the API names them.
const PULL_THROUGH: &str = "PULL_THROUGH_CACHE";
const ON_PUSH: &str = "CREATE_ON_PUSH";

/// What the configuration says about the template of a prefix.
#[derive(Default)]
pub(super) struct TemplateFields<'a> {
    /// The cache of this prefix, if there is one.
    cache: Option<&'a Cache>,
    /// The occasions it is to be used on; none where no template is asked for.
    occasions: BTreeSet<&'static str>,
    settings: RepositorySettings,
    role_arn: Option<String>,
    /// Statements of ours in its policy.
    grants: Vec<Value>,
}

impl<'a> TemplateFields<'a> {
    /// The cache whose repositories the template makes; what is only taken out of one is for none.
    pub(super) fn served(&self) -> Option<&'a Cache> {
        self.cache.filter(|_| self.occasions.contains(PULL_THROUGH))
    }
}

/// What is asked for, by prefix; a cache that asks for no template is in it, as one that is there
/// may still have statements of ours.
pub(super) fn asked<'a>(
    wanted: &Desired<'a>,
    scope: PolicyScope,
) -> Vec<(&'a Prefix, TemplateFields<'a>)> {
    let mut all: Vec<(&Prefix, TemplateFields<'_>)> =
        wanted.caches.iter().map(|cache| (&cache.prefix, of_cache(wanted, cache, scope))).collect();
    for OnPush { prefix, settings } in wanted.on_push {
        let at = all.iter().position(|(known, _)| *known == prefix).unwrap_or_else(|| {
            all.push((prefix, TemplateFields::default()));
            all.len() - 1
        });
        let (_, asked) = &mut all[at];
        asked.occasions.insert(ON_PUSH);
        fill(&mut asked.settings, settings);
    }
    all
}

fn of_cache<'a>(wanted: &Desired<'_>, cache: &'a Cache, scope: PolicyScope) -> TemplateFields<'a> {
    let mut asked = TemplateFields { cache: Some(cache), ..TemplateFields::default() };
    if let Some(template) = &cache.template {
        (asked.settings, asked.role_arn) = (template.settings.clone(), template.role_arn.clone());
    }
    if let (Some(access), PolicyScope::Importing) = (&cache.access, scope) {
        asked.grants = statements::grants((wanted.registry, &cache.prefix), access, &PULL, None);
    }
    if cache.template.is_some() || !asked.grants.is_empty() {
        asked.occasions.insert(PULL_THROUGH);
        // the longest prefix wins even if its template is for something else, and then makes nothing
        asked.occasions.extend((!wanted.on_push.is_empty()).then_some(ON_PUSH));
    }
    asked
}

/// Adds what is written in `more` and not yet in `settings`.
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

pub(super) fn changes(wanted: &Desired<'_>, actual: &Observed) -> Vec<Planned> {
    let all = asked(wanted, actual.scope);
    all.iter().filter_map(|(prefix, asked)| change(wanted, (prefix, asked), actual)).collect()
}

fn change(
    wanted: &Desired<'_>,
    (prefix, asked): (&Prefix, &TemplateFields<'_>),
    actual: &Observed,
) -> Option<Planned> {
    let name = prefix.to_string();
    let there = actual.templates.get(&name);
    if there.is_none() && asked.occasions.is_empty() {
        return None;
    }
    let (fields, template) = differences(prefix, asked, there);
    if fields.is_empty() {
        return None;
    }
    let thing = Resource { registry: wanted.registry, kind: Subject::Template, name: &name };
    if asked.served().is_some_and(|cache| wanted.is_blocked(cache, actual)) {
        return Some(thing.conflict(fields, not_ours(prefix)));
    }
    if template.policy.as_ref().is_some_and(statements::is_too_long) {
        return Some(thing.conflict(fields, statements::too_long()));
    }
    if needs_role(&template, there) {
        let hint = "ECR makes repositories with tags or a KMS key in the name of a role only: write the template's `role_arn`, or leave tags and key away";
        return Some(thing.conflict(fields, hint));
    }
    if there.is_some() {
        let update = thing.planned(Action::Update, fields, CacheStep::UpdateTemplate(template));
        let hint = "it is for repositories that are made from now on; those that are there stay";
        return Some(update.hint(hint));
    }
    let create = thing.planned(Action::Create, fields, CacheStep::CreateTemplate(template));
    Some(match wider(prefix, asked, actual) {
        Some(wider) => create.hint(format!(
            "the longest prefix wins: what the template `{}` says no longer counts below `{name}`",
            wider.prefix
        )),
        None => create,
    })
}

/// The template that has made the repositories below this prefix until now.
fn wider<'a>(
    prefix: &Prefix,
    asked: &TemplateFields<'_>,
    actual: &'a Observed,
) -> Option<&'a ObservedTemplate> {
    let name = prefix.to_string();
    let covers = |wider: &&ObservedTemplate| {
        let below = name.strip_prefix(&wider.prefix).is_some_and(|rest| rest.starts_with('/'));
        below || wider.prefix == "ROOT"
    };
    let serves = |wider: &&ObservedTemplate| {
        asked.occasions.iter().any(|&it| wider.applied_for.contains(it))
    };
    let found = actual.templates.values().filter(covers).filter(serves);
    found.max_by_key(|wider| if wider.prefix == "ROOT" { 0 } else { wider.prefix.len() })
}

/// What is written and not so, with the members that say so.
fn differences(
    prefix: &Prefix,
    asked: &TemplateFields<'_>,
    there: Option<&ObservedTemplate>,
) -> (Vec<Field>, WantedTemplate) {
    let mut fields = Vec::new();
    let mut differing = WantedTemplate { prefix: prefix.to_string(), ..WantedTemplate::default() };
    let old = there.map(|it| &it.applied_for);
    let mut occasions = old.cloned().unwrap_or_default();
    occasions.extend(asked.occasions.iter().map(|&occasion| occasion.to_owned()));
    if old != Some(&occasions) {
        fields.push(field("applied_for", json!(old), json!(occasions)));
        differing.applied_for = Some(occasions);
    }
    let (settings, old) = (&asked.settings, there.map(|it| &it.mutability));
    if let Some(new) =
        settings.mutability.as_ref().filter(|new| !old.is_some_and(|old| new.is_equivalent(old)))
    {
        fields.push(field("tag_mutability", json!(old.map(ToString::to_string)), new.to_string()));
        differing.mutability = Some(new.clone());
    }
    let old = there.map(|it| &it.encryption);
    let is_new = |new: &&Encryption| !old.is_some_and(|old| is_encrypted_like(old, new));
    if let Some(new) = settings.encryption.as_ref().filter(is_new) {
        fields.push(field("encryption", json!(old.map(ToString::to_string)), new.to_string()));
        differing.encryption = Some(new.clone());
    }
    let old = there.map(|it| it.tags.clone()).unwrap_or_default();
    let mut tags = old.clone();
    for (key, new) in &settings.tags {
        if old.get(key) != Some(new) {
            fields.push(field(&format!("tags.{key}"), json!(old.get(key)), json!(new)));
            tags.insert(key.clone(), new.clone());
        }
    }
    differing.tags = (tags != old).then_some(tags);
    let old = there.and_then(|it| it.lifecycle.as_ref());
    if let Some(new) = settings.lifecycle.as_ref().filter(|new| !is_same(old, Some(new))) {
        fields.push(field("lifecycle", json!(old), new.clone()));
        differing.lifecycle = Some(new.clone());
    }
    let old = there.and_then(|it| it.policy.as_ref()).filter(|policy| !policy.is_null());
    let new = policy(prefix, asked, old);
    if !is_same(old, new.as_ref()) {
        fields.push(field("policy", json!(old), json!(new)));
        differing.policy = Some(json!(new));
    }
    let old = there.and_then(|it| it.role_arn.as_ref());
    if let Some(new) = asked.role_arn.as_ref().filter(|new| old != Some(new)) {
        fields.push(field("role_arn", json!(old), json!(new)));
        differing.role_arn = Some(new.clone());
    }
    (fields, differing)
}

/// The policy as it is to be: what is written, otherwise what is there, with our statements.
fn policy(prefix: &Prefix, asked: &TemplateFields<'_>, there: Option<&Value>) -> Option<Value> {
    let base = asked.settings.policy.as_ref().or(there);
    let ids = asked.cache.map(|_| statements::ids(prefix)).unwrap_or_default();
    statements::merged(base, &ids, &asked.grants).policy
}

fn is_same(one: Option<&Value>, other: Option<&Value>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => is_same_policy(one, other),
        (one, other) => one == other,
    }
}

/// Whether the template lacks the role that its tags or its key ask for.
///
/// Source: ECR API reference, `customRoleArn`.
fn needs_role(differing: &WantedTemplate, there: Option<&ObservedTemplate>) -> bool {
    let tags = differing.tags.as_ref().or(there.map(|it| &it.tags));
    let encryption = differing.encryption.as_ref().or(there.map(|it| &it.encryption));
    let role = differing.role_arn.as_ref().or(there.and_then(|it| it.role_arn.as_ref()));
    let asks = tags.is_some_and(|tags| !tags.is_empty())
        || encryption.is_some_and(|encryption| *encryption != Encryption::Aes256);
    asks && role.is_none()
}

/// What becomes of a template when the configuration's part of it goes.
pub(super) fn removal(
    wanted: &Desired<'_>,
    (prefix, asked): (&Prefix, &TemplateFields<'_>),
    there: &ObservedTemplate,
) -> Option<Planned> {
    let name = prefix.to_string();
    let thing = Resource { registry: wanted.registry, kind: Subject::Template, name: &name };
    let is_other = |occasion: &&String| !asked.occasions.contains(occasion.as_str());
    let others: BTreeSet<String> = there.applied_for.iter().filter(is_other).cloned().collect();
    let had = there.applied_for.len() != others.len();
    if had && others.is_empty() {
        return Some(thing.planned(
            Action::Delete,
            Vec::new(),
            CacheStep::DeleteTemplate(name.clone()),
        ));
    }
    let mut fields = Vec::new();
    let mut rest = WantedTemplate { prefix: name.clone(), ..WantedTemplate::default() };
    if had {
        fields.push(field("applied_for", json!(there.applied_for), json!(others)));
        rest.applied_for = Some(others);
    }
    let ids = asked.cache.map(|_| statements::ids(prefix)).unwrap_or_default();
    let merged = statements::merged(there.policy.as_ref(), &ids, &[]);
    if !merged.fields.is_empty() {
        fields.push(field("policy", json!(there.policy), json!(merged.policy)));
        rest.policy = Some(json!(merged.policy));
    }
    (!fields.is_empty())
        .then(|| thing.planned(Action::Update, fields, CacheStep::UpdateTemplate(rest)))
}
