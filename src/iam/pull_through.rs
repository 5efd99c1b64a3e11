//! The policy of the role that runs `pull-through`.
//!
//! Source: service authorization reference, Amazon ECR: rules, templates and the registry's policy
//! are no resources; ECR user guide, "IAM permissions required to sync an upstream registry".

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    actions,
    grants::{EcrDestination, caches, ecr_destinations},
    mirror::warm_statements,
    pull::{first_pull_actions, purpose},
    statements::{Actions, Grants, allow, allow_if, document},
};
use crate::{
    config::Config,
    model::{
        Create, EcrHost,
        ecr_settings::{AccountSettings, Reconcile, RepositoryRules, RepositorySettings},
        pull_through::{Cache, Prefix, SECRET_PREFIX, UpstreamCredentials},
    },
};

/// One registry with caches, or with repositories that a push creates.
#[derive(Debug, Clone)]
struct CacheGrant<'a> {
    registry: EcrHost,
    caches: Vec<&'a Cache>,
    /// The caches that images are pulled through, so that `warm` uses them.
    warmed: Vec<&'a Cache>,
    /// The settings of the registry's account.
    account: AccountSettings,
    /// The settings of repositories that a push creates by a template.
    on_push: Option<&'a RepositorySettings>,
}

/// The actions that read and validate the setup.
///
/// `ListSecrets` finds the secrets of earlier configurations; it has no resource.
const READ: [&str; 8] = [
    "ecr:DescribePullThroughCacheRules",
    "ecr:DescribeRepositories",
    "ecr:DescribeRepositoryCreationTemplates",
    "ecr:GetAccountSetting",
    "ecr:GetAuthorizationToken",
    "ecr:GetRegistryPolicy",
    "ecr:ValidatePullThroughCacheRule",
    "secretsmanager:ListSecrets",
];

/// The actions of `apply --prune`, besides those of secrets. Leftovers are not in the configuration.
const PRUNE: [&str; 5] = [
    "ecr:DeletePullThroughCacheRule",
    "ecr:DeleteRegistryPolicy",
    "ecr:DeleteRepositoryCreationTemplate",
    "ecr:PutRegistryPolicy",
    "ecr:UpdateRepositoryCreationTemplate",
];

/// The actions of `destroy --repositories`.
const DELETE: [&str; 2] = ["ecr:DeleteRepository", "ecr:ListImages"];

const RULES: [&str; 3] = [
    "ecr:CreatePullThroughCacheRule",
    "ecr:DeletePullThroughCacheRule",
    "ecr:UpdatePullThroughCacheRule",
];

const TEMPLATES: [&str; 3] = [
    "ecr:CreateRepositoryCreationTemplate",
    "ecr:DeleteRepositoryCreationTemplate",
    "ecr:UpdateRepositoryCreationTemplate",
];

const POLICY: [&str; 2] = ["ecr:DeleteRegistryPolicy", "ecr:PutRegistryPolicy"];

/// The actions on secrets that `apply` writes. ECR reads a secret as the creator of its rule.
const SECRETS: [&str; 7] = [
    "secretsmanager:CreateSecret",
    "secretsmanager:DeleteSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:RestoreSecret",
    "secretsmanager:TagResource",
];

/// The actions on the resource policy of a secret.
const SECRET_POLICY: [&str; 2] =
    ["secretsmanager:GetResourcePolicy", "secretsmanager:PutResourcePolicy"];

/// The actions on secrets that `apply` only reads.
const EXTERNAL_SECRETS: [&str; 2] =
    ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"];

/// The service that creates repositories by templates. Source: ECR user guide, "Amazon ECR
/// service-linked role for repository creation templates".
const TEMPLATES_SERVICE: &str = "ecr.amazonaws.com";

/// The service that pulls by rules. Source: the same, "… for pull through cache".
const RULES_SERVICE: &str = "pullthroughcache.ecr.amazonaws.com";

/// The policy for `pull-through`, as one document.
pub(crate) fn pull_through_policy(config: &Config) -> Value {
    let grant = |destination: EcrDestination<'_>| -> CacheGrant<'_> {
        let targets = config.entries.iter().flat_map(|entry| &entry.cached);
        let targets = targets.filter(|target| target.destination == destination.id);
        let used: BTreeSet<usize> = targets.map(|target| target.cache).collect();
        let warmed = caches(config, destination.id).filter(|(index, _)| used.contains(index));
        let repositories = &config.destination(destination.id).repositories;
        CacheGrant {
            registry: destination.registry,
            caches: caches(config, destination.id).map(|(_, cache)| cache).collect(),
            warmed: warmed.map(|(_, cache)| cache).collect(),
            // only `sync` excludes its identity
            account: AccountSettings {
                pull_time_exclusion: None,
                ..destination.config.account.clone()
            },
            on_push: (repositories.create == Create::OnPush).then_some(&repositories.settings),
        }
    };
    let grants = ecr_destinations(config).map(grant);
    let needed = grants.filter(|grant| !grant.caches.is_empty() || grant.on_push.is_some());
    let mut document = pull_through(&needed.collect::<Vec<_>>());
    if let Some(statements) = document["Statement"].as_array_mut() {
        statements.extend(warm_statements(config));
    }
    document
}

fn pull_through(grants: &[CacheGrant<'_>]) -> Value {
    if grants.is_empty() {
        return document(Vec::new());
    }
    let (mut warming, mut writing) = (Grants::default(), Grants::default());
    let (mut deleting, mut keeping) = (Grants::default(), Grants::default());
    for grant in grants {
        // a cache at `ROOT` covers repositories of others: they are never changed
        for cache in grant.caches.iter().filter(|cache| cache.prefix != Prefix::Root) {
            let wildcard = cache.prefix.wildcard();
            deleting.add(&grant.registry, &wildcard, &Actions::from(DELETE));
            if let Some(actions) = reconcile_actions(cache) {
                keeping.add(&grant.registry, &wildcard, &actions);
            }
        }
        for cache in &grant.warmed {
            let actions = first_pull_actions(cache.gives_tags());
            warming.add(&grant.registry, &cache.prefix.wildcard(), &actions);
        }
        let actions = template_actions(grant);
        if !actions.is_empty() {
            // ECR checks them without naming the repositories of the template
            writing.add(&grant.registry, "*", &actions);
        }
    }
    let mut look = Actions::from(READ);
    look.extend(grants.iter().flat_map(|grant| actions::account_actions(&grant.account)));
    let mut statements = vec![
        allow("LookAtCaches", &look, json!("*")),
        allow("SetUpCaches", &setup_actions(grants), json!("*")),
    ];
    statements.extend(warming.statements(purpose));
    statements.extend(deleting.statements(|_| "DeleteRepositories".to_owned()));
    statements.extend(keeping.statements(|_| "KeepRepositories".to_owned()));
    statements.extend(writing.statements(|_| "WriteTemplates".to_owned()));
    statements.extend(secrets(grants));
    statements.extend(passed_roles(grants));
    statements.push(service_linked_roles(grants));
    let accounts: Vec<_> = grants.iter().map(|grant| &grant.account).collect();
    statements.extend(actions::account_statements(&accounts));
    statements.push(allow("PruneLeftovers", &Actions::from(PRUNE), json!("*")));
    let secrets: BTreeSet<String> = grants.iter().map(|it| any_secret(&it.registry)).collect();
    let delete = Actions::from(["secretsmanager:DeleteSecret"]);
    statements.push(allow("PruneSecrets", &delete, json!(secrets)));
    document(statements)
}

/// The actions that bring the repositories of the cache to its template; `None` without `reconcile`.
fn reconcile_actions(cache: &Cache) -> Option<Actions> {
    let template = cache.template.as_ref().filter(|it| it.reconcile)?;
    let settings = RepositorySettings {
        // our statements are reconciled in any case
        policy: Some(json!({})),
        ..template.settings.clone()
    };
    let (create, reconcile) = (Create::Never, Reconcile::Always);
    let rules = RepositoryRules { create, reconcile, settings, ..RepositoryRules::default() };
    let mut actions = actions::repository_actions(&rules);
    actions.insert("ecr:DeleteRepositoryPolicy");
    Some(actions)
}

fn all_caches<'a>(grants: &'a [CacheGrant<'a>]) -> impl Iterator<Item = &'a Cache> {
    grants.iter().flat_map(|grant| grant.caches.iter().copied())
}

/// The settings of the templates that the registry gets.
fn templates<'a>(grant: &'a CacheGrant<'a>) -> impl Iterator<Item = &'a RepositorySettings> {
    let templates = grant.caches.iter().filter_map(|cache| cache.template.as_ref());
    templates.map(|template| &template.settings).chain(grant.on_push)
}

/// A template grants access where the registry's policy cannot.
fn has_access(grant: &CacheGrant<'_>) -> bool {
    grant.caches.iter().any(|cache| cache.access.is_some())
}

fn has_templates(grants: &[CacheGrant<'_>]) -> bool {
    grants.iter().any(|grant| templates(grant).next().is_some() || has_access(grant))
}

fn setup_actions(grants: &[CacheGrant<'_>]) -> Actions {
    let mut actions = Actions::new();
    if all_caches(grants).next().is_some() {
        actions.extend(RULES);
    }
    if has_templates(grants) {
        actions.extend(TEMPLATES);
    }
    if grants.iter().any(has_access) {
        actions.extend(POLICY);
    }
    actions
}

/// The actions that ECR requires of the writer of a template, as if it created the repositories.
fn template_actions(grant: &CacheGrant<'_>) -> Actions {
    let mut actions = Actions::new();
    for settings in templates(grant) {
        actions.insert("ecr:CreateRepository");
        if settings.lifecycle.is_some() {
            actions.insert("ecr:PutLifecyclePolicy");
        }
        if settings.policy.is_some() {
            actions.insert("ecr:SetRepositoryPolicy");
        }
    }
    if has_access(grant) {
        actions.extend(["ecr:CreateRepository", "ecr:SetRepositoryPolicy"]);
    }
    actions
}

fn secrets(grants: &[CacheGrant<'_>]) -> Vec<Value> {
    let (mut written, mut external) = (BTreeSet::new(), BTreeSet::new());
    let mut updated = Actions::new();
    for CacheGrant { registry, caches, .. } in grants {
        for cache in caches {
            match &cache.credentials {
                UpstreamCredentials::Written { .. } => {
                    written.insert(secret_arn(registry, &cache.secret_name()));
                    if cache.secret.description.is_some() {
                        updated.insert("secretsmanager:UpdateSecret");
                    }
                    if cache.secret.policy.is_some() {
                        updated.extend(SECRET_POLICY);
                    }
                }
                UpstreamCredentials::Secret(arn) if arn.starts_with("arn:") => {
                    external.insert(arn.clone());
                }
                UpstreamCredentials::Secret(name) => {
                    external.insert(secret_arn(registry, name));
                }
                UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => {}
            }
        }
    }
    let statement = |sid: &str, actions: Actions, arns: BTreeSet<String>| {
        (!arns.is_empty()).then(|| allow(sid, &actions, json!(arns)))
    };
    updated.extend(SECRETS);
    let written = statement("KeepSecrets", updated, written);
    let external = statement("ReadSecrets", Actions::from(EXTERNAL_SECRETS), external);
    written.into_iter().chain(external).collect()
}

/// The ARN of the secret of this name; Secrets Manager chooses the last characters.
fn secret_arn(registry: &EcrHost, name: &str) -> String {
    let (partition, region) = (registry.partition(), registry.region());
    let account = registry.account();
    format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-*")
}

/// The ARN of every secret that ECR can read.
fn any_secret(registry: &EcrHost) -> String {
    let (partition, region) = (registry.partition(), registry.region());
    let account = registry.account();
    format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{SECRET_PREFIX}*")
}

/// The statement that passes roles to ECR. Rules and templates belong to different services.
fn passed_roles(grants: &[CacheGrant<'_>]) -> Option<Value> {
    let roles = |cache: &Cache| {
        let rule = match &cache.credentials {
            UpstreamCredentials::Role(arn) => Some(arn.clone()),
            _ => None,
        };
        let template = cache.template.as_ref().and_then(|template| template.role_arn.clone());
        rule.into_iter().chain(template)
    };
    let arns: BTreeSet<String> = all_caches(grants).flat_map(roles).collect();
    let services = json!({ "iam:PassedToService": [TEMPLATES_SERVICE, RULES_SERVICE] });
    let condition = json!({ "StringEquals": services });
    let actions = Actions::from(["iam:PassRole"]);
    (!arns.is_empty()).then(|| allow_if("PassRoles", &actions, json!(arns), condition))
}

/// ECR creates its own roles with the first rule and the first template of an account.
fn service_linked_roles(grants: &[CacheGrant<'_>]) -> Value {
    let mut services = BTreeSet::new();
    if has_templates(grants) {
        services.insert(TEMPLATES_SERVICE);
    }
    if all_caches(grants).next().is_some() {
        services.insert(RULES_SERVICE);
    }
    let condition = json!({ "StringEquals": { "iam:AWSServiceName": services } });
    let actions = Actions::from(["iam:CreateServiceLinkedRole"]);
    allow_if("EcrsRoles", &actions, json!("*"), condition)
}

#[cfg(test)]
pub(crate) mod tests;
