//! Configurations and registries for the tests, and a model of a registry that applies steps.

mod convergence;
mod drift;
mod leftovers;
mod policies;
mod removals;
mod repositories;
mod roles;
mod rules;
mod secrets;
mod templates;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::{
    ecr::{
        cache_api::{ObservedRule, ObservedTemplate},
        settings::SettingUpdate,
    },
    model::{
        UserPassword,
        ecr_settings::{Encryption, RepositorySettings, TagMutability},
        pull_through::{
            Access, CredentialNeed, SecretSettings, TemplateSettings, Upstream, UpstreamCredentials,
        },
    },
    pull_through::state::{Content, Credential, DesiredRule, DesiredTemplate, PolicyScope, Secret},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/ecr";
const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/1";

fn registry() -> EcrRegistry {
    let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
    EcrRegistry::of(&host).unwrap()
}

/// A cache of this upstream with its required members only.
fn cache(upstream: Upstream) -> Cache {
    let own = match upstream {
        Upstream::Azure => "contoso.azurecr.io",
        _ => "210987654321.dkr.ecr.us-east-1.amazonaws.com",
    };
    let credentials = match upstream.needs() {
        CredentialNeed::Nothing => UpstreamCredentials::Nothing,
        CredentialNeed::Secret => written("user", "token"),
        CredentialNeed::Role => UpstreamCredentials::Role(ROLE.to_owned()),
    };
    Cache { url: upstream.url().unwrap_or(own).to_owned(), credentials, ..Cache::of(upstream) }
}

fn written(username: &str, token: &str) -> UpstreamCredentials {
    UpstreamCredentials::Written { username: username.to_owned(), access_token: token.into() }
}

fn access(organization: Option<&str>, accounts: &[&str]) -> Option<Access> {
    let accounts = accounts.iter().map(|&account| account.to_owned()).collect();
    let organization = organization.map(str::to_owned);
    Some(Access { organization, accounts, ..Access::default() })
}

/// A template with every member.
fn full_template() -> TemplateSettings {
    let settings = RepositorySettings {
        mutability: Some(TagMutability::ImmutableExcept(vec!["latest*".to_owned()])),
        scan_on_push: None,
        encryption: Some(Encryption::Kms(Some(KEY.to_owned()))),
        tags: tags(&[("team", "platform")]),
        lifecycle: Some(json!({ "rules": [{ "rulePriority": 1 }] })),
        policy: Some(policy(vec![theirs("Written")])),
    };
    let role_arn = Some(ROLE.to_owned());
    TemplateSettings { settings, role_arn, ..TemplateSettings::default() }
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn policy(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// Another party's statement.
fn theirs(id: &str) -> Value {
    json!({ "Sid": id, "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::1:role/x" }, "Action": "ecr:*" })
}

fn on_push(prefix: &str, settings: RepositorySettings) -> OnPush {
    OnPush { prefix: prefix.parse().unwrap(), settings }
}

/// A configuration of one registry.
#[derive(Clone)]
struct ChangesFixture {
    registry: EcrRegistry,
    caches: Vec<Cache>,
    on_push: Vec<OnPush>,
    replace: Replace,
    prune: bool,
    repositories: CachedRepositories,
}

impl ChangesFixture {
    fn of(caches: impl Into<Vec<Cache>>) -> Self {
        let registry = registry();
        let (caches, on_push, replace) = (caches.into(), Vec::new(), Replace::Never);
        let (prune, repositories) = (false, CachedRepositories::Keep);
        Self { registry, caches, on_push, replace, prune, repositories }
    }

    fn with<T>(&self, run: impl FnOnce(&Desired<'_>) -> T) -> T {
        let Self { registry, caches, on_push, replace, prune, repositories } = self;
        let caches: Vec<&Cache> = caches.iter().collect();
        let (caches, replace, prune) = (&caches[..], *replace, *prune);
        let repositories = *repositories;
        run(&Desired { registry, caches, on_push, replace, prune, repositories })
    }

    fn changes(&self, observed: &Observed) -> Vec<Planned> {
        self.with(|desired| changes(desired, observed))
    }

    fn removals(&self, observed: &Observed) -> Vec<Planned> {
        self.with(|desired| super::removals(desired, observed))
    }

    /// The state after applying all changes.
    fn applied(&self, observed: Observed) -> Observed {
        let planned = self.changes(&observed);
        carried_out(observed, &planned)
    }
}

fn lines(planned: &[Planned]) -> Vec<String> {
    let host = format!(" of {}", registry().host);
    planned.iter().map(|planned| planned.change.to_string().replace(&host, "")).collect()
}

fn hints(planned: &[Planned]) -> Vec<&str> {
    planned.iter().filter_map(|planned| planned.change.hint.as_deref()).collect()
}

fn scoped(scope: PolicyScope) -> Observed {
    Observed { scope, ..Observed::default() }
}

fn secret(name: &str, username: &str, token: &str) -> Secret {
    let password = token.into();
    let login = UserPassword { username: username.to_owned(), password };
    Secret::of(arn(name), Content::Login(login))
}

fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}-AbCdEf")
}

/// Applies the plan to the state of a registry.
fn carried_out(mut observed: Observed, planned: &[Planned]) -> Observed {
    for step in planned.iter().filter_map(|planned| planned.step.as_ref()) {
        carry_out(&mut observed, step);
    }
    observed
}

fn carry_out(observed: &mut Observed, step: &CacheStep) {
    match step {
        CacheStep::CreateSecret { name, login, description } => {
            assert!(!observed.secrets.contains_key(name), "{name} is there");
            let secret = Secret { description: description.clone(), ..kept(name, login) };
            observed.secrets.insert(name.clone(), secret);
            observed.created_secrets.insert(name.clone(), arn(name));
        }
        CacheStep::UpdateSecret { name, description, policy } => {
            let secret = observed.secrets.get_mut(name).unwrap();
            secret.description = description.clone().or(secret.description.take());
            secret.policy = policy.clone().or(secret.policy.take());
        }
        CacheStep::RestoreSecret { name, login } | CacheStep::WriteSecret { name, login } => {
            let old = observed.secrets.insert(name.clone(), kept(name, login)).unwrap();
            let restores = matches!(step, CacheStep::RestoreSecret { .. });
            assert_eq!(matches!(old.content, Content::PendingDeletion), restores, "{name}");
        }
        CacheStep::CreateRule(rule) => {
            assert!(!observed.rules.contains_key(&rule.prefix), "{} is there", rule.prefix);
            write_rule(observed, rule);
        }
        CacheStep::UpdateRule(rule) => {
            let there = observed.rules[&rule.prefix].clone();
            let upstream = rule.upstream_prefix.as_deref().unwrap_or("ROOT");
            assert_eq!((&*there.url, &*there.upstream_prefix), (&*rule.url, upstream));
            write_rule(observed, rule);
        }
        CacheStep::ReplaceRule(rule) => {
            observed.rules.remove(&rule.prefix).unwrap();
            write_rule(observed, rule);
        }
        CacheStep::CreateTemplate(template) => {
            assert!(!observed.templates.contains_key(&template.prefix));
            write_template(observed, template);
        }
        CacheStep::UpdateTemplate(template) => {
            assert!(observed.templates.contains_key(&template.prefix));
            write_template(observed, template);
        }
        CacheStep::PutRegistryPolicy(policy) => observed.registry_policy = Some(worded(policy)),
        CacheStep::DeleteRule(prefix) => drop(observed.rules.remove(prefix).unwrap()),
        CacheStep::DeleteTemplate(prefix) => drop(observed.templates.remove(prefix).unwrap()),
        CacheStep::DeleteSecret { name, .. } => {
            observed.created_secrets.remove(name);
            if let Some(secret) = observed.secrets.get_mut(name) {
                secret.content = Content::PendingDeletion;
            }
        }
        CacheStep::DeleteRegistryPolicy => drop(observed.registry_policy.take().unwrap()),
        CacheStep::SetAccount(_) => {}
        CacheStep::UpdateRepository { name, updates } => {
            let settings = &mut observed.repositories.get_mut(name).unwrap().settings;
            for update in updates.clone() {
                match update {
                    SettingUpdate::Mutability(new) => settings.mutability = new,
                    SettingUpdate::ScanOnPush(new) => settings.scan_on_push = new,
                    SettingUpdate::Tags(new) => settings.tags.extend(new),
                    SettingUpdate::Lifecycle(new) => settings.lifecycle = Some(new),
                    SettingUpdate::Policy(new) => {
                        settings.policy = Some(worded(&new)).filter(|it| !it.is_null());
                    }
                }
            }
        }
        CacheStep::DeleteRepository { name, .. } => {
            observed.repositories.remove(name).unwrap();
        }
    }
}

fn kept(name: &str, login: &UserPassword) -> Secret {
    let UserPassword { username, password: access_token } = login.clone();
    let content = Content::Login(UserPassword { username, password: access_token });
    Secret::of(arn(name), content)
}

/// Writes the rule as ECR does: its secret must exist, and a missing credential removes none.
fn write_rule(observed: &mut Observed, rule: &DesiredRule) {
    let credential = rule.credential.as_ref().map(|credential| match credential {
        Credential::Arn(arn) => arn.clone(),
        Credential::Named(name) => {
            let secret = &observed.secrets[name];
            assert!(matches!(secret.content, Content::Login(_)), "{name} cannot be used");
            secret.arn.clone()
        }
    });
    let there = observed.rules.entry(rule.prefix.clone()).or_default();
    there.prefix.clone_from(&rule.prefix);
    there.url.clone_from(&rule.url);
    there.upstream_prefix = rule.upstream_prefix.clone().unwrap_or_else(|| "ROOT".to_owned());
    there.credential_arn = credential.or(there.credential_arn.take());
    there.role_arn = rule.role_arn.clone().or(there.role_arn.take());
}

fn write_template(observed: &mut Observed, template: &DesiredTemplate) {
    let desired = template.clone();
    let there = observed.templates.entry(desired.prefix).or_insert_with_key(|prefix| blank(prefix));
    there.applied_for = desired.applied_for.unwrap_or(std::mem::take(&mut there.applied_for));
    there.mutability = desired.mutability.unwrap_or(there.mutability.clone());
    there.encryption = desired.encryption.unwrap_or(there.encryption.clone());
    there.tags = desired.tags.unwrap_or(std::mem::take(&mut there.tags));
    there.lifecycle = desired.lifecycle.or(there.lifecycle.take());
    there.policy = match desired.policy {
        Some(Value::Null) => None,
        Some(policy) => Some(worded(&policy)),
        None => there.policy.take(),
    };
    there.role_arn = desired.role_arn.or(there.role_arn.take());
    there.description = desired.description.or(there.description.take());
    assert!(!there.applied_for.is_empty(), "a template is for something");
    let asks = !there.tags.is_empty() || there.encryption != Encryption::Aes256;
    assert!(!asks || there.role_arn.is_some(), "tags and keys ask for a role");
}

fn blank(prefix: &str) -> ObservedTemplate {
    ObservedTemplate {
        prefix: prefix.to_owned(),
        applied_for: BTreeSet::new(),
        mutability: TagMutability::Mutable,
        encryption: Encryption::Aes256,
        tags: BTreeMap::new(),
        lifecycle: None,
        policy: None,
        role_arn: None,
        description: None,
    }
}

/// The policy as ECR returns it: lists in another order, a list of one as its item.
fn worded(policy: &Value) -> Value {
    match policy {
        Value::Object(members) => {
            members.iter().rev().map(|(name, value)| (name.clone(), worded(value))).collect()
        }
        Value::Array(items) if items.iter().all(Value::is_string) => match &items[..] {
            [one] => one.clone(),
            items => items.iter().rev().cloned().collect(),
        },
        Value::Array(items) => items.iter().map(worded).collect(),
        other => other.clone(),
    }
}
