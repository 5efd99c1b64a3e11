//! What is to be changed, so that what is written is there. Pure.

use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::state::{
    Actual, Content, Credential, Login, Planned, Registry, Step, WantedRule, WantedTemplate,
};
use crate::model::{
    Change,
    change::{Action, Field, Subject},
    ecr_settings::Settings,
    pull_through::{Cache, Credentials, Prefix},
};

/// What is written about a registry.
pub struct Wanted<'a> {
    /// The registry.
    pub registry: &'a Registry,
    /// Its caches.
    pub caches: &'a [&'a Cache],
    /// Its prefixes whose repositories are made on push.
    pub on_push: &'a [OnPush],
    /// What happens to rules that cannot be changed.
    pub replace: Replace,
}

/// Repositories below a prefix that ECR makes with the first push.
#[derive(Debug, Clone, PartialEq)]
pub struct OnPush {
    /// The prefix.
    pub prefix: Prefix,
    /// What they are like.
    pub settings: Settings,
}

/// What happens to rules that cannot be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// They are a conflict.
    Never,
    /// They are replaced.
    Differing,
}

/// The secrets that must be asked for.
pub fn secrets(caches: &[&Cache]) -> Vec<String> {
    let id = |cache: &&Cache| match &cache.credentials {
        Credentials::Written { .. } => Some(cache.secret_name()),
        Credentials::Secret(arn) => Some(arn.clone()),
        _ => None,
    };
    caches.iter().filter_map(id).collect()
}

/// What brings the registry to what is written.
pub fn changes(wanted: &Wanted<'_>, actual: &Actual) -> Vec<Planned> {
    let all = wanted.caches.iter();
    let mut planned: Vec<Planned> = all.clone().filter_map(|c| secret(wanted, c, actual)).collect();
    planned.extend(all.clone().filter_map(|cache| rule(wanted, cache, actual)));
    planned.extend(all.filter_map(|cache| template(wanted, cache, actual)));
    planned
}

/// What removes what is written.
pub fn removals(wanted: &Wanted<'_>, actual: &Actual) -> Vec<Planned> {
    let mut planned = Vec::new();
    let mut add = |kind, name: String, step| {
        planned.push(one(wanted, (Action::Delete, kind, &name), vec![], Some(step)));
    };
    for cache in wanted.caches {
        let prefix = cache.prefix.to_string();
        let is_ours = |rule: &&super::state::Rule| rule.url == cache.url;
        if actual.rules.get(&prefix).as_ref().is_some_and(is_ours) {
            add(Subject::Rule, prefix.clone(), Step::DeleteRule(prefix.clone()));
        }
        if cache.template.is_some() && actual.templates.contains_key(&prefix) {
            add(Subject::Template, prefix.clone(), Step::DeleteTemplate(prefix));
        }
        let there = actual.secrets.get(&cache.secret_name());
        if there.is_some_and(|secret| !matches!(secret.content, Content::Leaving)) {
            add(Subject::Secret, cache.secret_name(), Step::DeleteSecret(cache.secret_name()));
        }
    }
    planned
}

fn one(
    wanted: &Wanted<'_>,
    (action, kind, name): (Action, Subject, &str),
    fields: Vec<Field>,
    step: Option<Step>,
) -> Planned {
    let (destination, name) = (wanted.registry.host.to_string(), name.to_owned());
    Planned { change: Change { destination, action, kind, name, fields, hint: None }, step }
}

fn secret(wanted: &Wanted<'_>, cache: &Cache, actual: &Actual) -> Option<Planned> {
    let Credentials::Written { username, access_token } = &cache.credentials else { return None };
    let name = cache.secret_name();
    let login = Login { username: username.clone(), access_token: access_token.clone() };
    let content = actual.secrets.get(&name).map(|secret| &secret.content);
    let (action, step) = match content {
        None => (Action::Create, Step::CreateSecret { name: name.clone(), login }),
        Some(Content::Leaving) => {
            (Action::Create, Step::RestoreSecret { name: name.clone(), login })
        }
        Some(Content::Login(there))
            if there.username == *username
                && there.password.expose_secret() == access_token.expose_secret() =>
        {
            return None;
        }
        Some(_) => (Action::Update, Step::WriteSecret { name: name.clone(), login }),
    };
    Some(one(wanted, (action, Subject::Secret, &name), vec![], Some(step)))
}

fn rule(wanted: &Wanted<'_>, cache: &Cache, actual: &Actual) -> Option<Planned> {
    let prefix = cache.prefix.to_string();
    let rule = WantedRule {
        prefix: prefix.clone(),
        upstream: cache.upstream,
        url: cache.url.clone(),
        upstream_prefix: None,
        credential: match &cache.credentials {
            Credentials::Written { .. } => Some(Credential::Named(cache.secret_name())),
            Credentials::Secret(arn) => Some(Credential::Arn(arn.clone())),
            _ => None,
        },
        role_arn: None,
    };
    let url = |old: Value| vec![Field { name: "url".to_owned(), old, new: json!(rule.url) }];
    let named = |name: &String| actual.secrets.get(name).map(|secret| secret.arn.clone());
    let credential = rule.credential.as_ref().and_then(|credential| match credential {
        Credential::Arn(arn) => Some(arn.clone()),
        Credential::Named(name) => named(name),
    });
    let (action, fields, step) = match actual.rules.get(&prefix) {
        None => (Action::Create, url(Value::Null), Some(Step::CreateRule(rule))),
        Some(there) if there.url != rule.url => match wanted.replace {
            Replace::Never => (Action::Conflict, url(json!(there.url)), None),
            Replace::Differing => {
                (Action::Replace, url(json!(there.url)), Some(Step::ReplaceRule(rule)))
            }
        },
        Some(there) if there.credential_arn != credential => {
            (Action::Update, vec![], Some(Step::UpdateRule(rule)))
        }
        Some(_) => return None,
    };
    Some(one(wanted, (action, Subject::Rule, &prefix), fields, step))
}

fn template(wanted: &Wanted<'_>, cache: &Cache, actual: &Actual) -> Option<Planned> {
    let (prefix, written) = (cache.prefix.to_string(), &cache.template.as_ref()?.settings);
    if actual.templates.contains_key(&prefix) {
        return None;
    }
    let template = WantedTemplate {
        prefix: prefix.clone(),
        applied_for: Some(["PULL_THROUGH_CACHE".to_owned()].into()),
        mutability: written.mutability.clone(),
        lifecycle: written.lifecycle.clone(),
        ..WantedTemplate::default()
    };
    let step = Step::CreateTemplate(template);
    Some(one(wanted, (Action::Create, Subject::Template, &prefix), vec![], Some(step)))
}
