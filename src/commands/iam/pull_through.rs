//! The policy of who runs `pull-through`: what its verbs ask of AWS for this configuration.
//!
//! Pure: the same caches give the same document, whatever order they come in.
//!
//! Source: service authorization reference, Amazon ECR: rules, templates and the registry's policy
//! are no resources; ECR user guide, "IAM permissions required to sync an upstream registry".

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    grants::{Actions, Grants, allow, document},
    pull::{purpose, through},
};
use crate::model::{
    EcrHost,
    ecr_settings::RepositorySettings,
    pull_through::{Cache, UpstreamCredentials},
};

/// What one registry is to cache, or to make by itself.
#[derive(Debug, Clone)]
pub(crate) struct Caching<'a> {
    /// The registry.
    pub(crate) registry: EcrHost,
    /// Its caches.
    pub(crate) caches: Vec<&'a Cache>,
    /// Those of them that images come through, so that they are warmed.
    pub(crate) warmed: Vec<&'a Cache>,
    /// What its repositories are like that a push makes, by a template.
    pub(crate) on_push: Option<&'a RepositorySettings>,
}

/// What looking at the set-up takes, and trying it.
const LOOK: [&str; 7] = [
    "ecr:DescribePullThroughCacheRules",
    "ecr:DescribeRepositories",
    "ecr:DescribeRepositoryCreationTemplates",
    "ecr:GetAccountSetting",
    "ecr:GetAuthorizationToken",
    "ecr:GetRegistryPolicy",
    "ecr:ValidatePullThroughCacheRule",
];

/// What setting up a rule takes, changing and removing it.
const RULES: [&str; 3] = [
    "ecr:CreatePullThroughCacheRule",
    "ecr:DeletePullThroughCacheRule",
    "ecr:UpdatePullThroughCacheRule",
];

/// The same for templates.
const TEMPLATES: [&str; 3] = [
    "ecr:CreateRepositoryCreationTemplate",
    "ecr:DeleteRepositoryCreationTemplate",
    "ecr:UpdateRepositoryCreationTemplate",
];

/// The same for the policy of a registry.
const POLICY: [&str; 2] = ["ecr:DeleteRegistryPolicy", "ecr:PutRegistryPolicy"];

/// The same for secrets; ECR reads one in the name of who makes its rule.
const SECRETS: [&str; 7] = [
    "secretsmanager:CreateSecret",
    "secretsmanager:DeleteSecret",
    "secretsmanager:DescribeSecret",
    "secretsmanager:GetSecretValue",
    "secretsmanager:PutSecretValue",
    "secretsmanager:RestoreSecret",
    "secretsmanager:TagResource",
];

/// What a secret takes that somebody else keeps.
const KEPT: [&str; 2] = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"];

/// Who makes repositories by templates. Source: ECR user guide, "Amazon ECR service-linked role for
/// repository creation templates".
const TEMPLATES_SERVICE: &str = "ecr.amazonaws.com";

/// Who pulls by rules. Source: the same, "… for pull through cache".
const RULES_SERVICE: &str = "pullthroughcache.ecr.amazonaws.com";

/// The policy for whom `pull-through` works, as one document; what does not occur has no statement.
pub(crate) fn pull_through(registries: &[Caching<'_>]) -> Value {
    if registries.is_empty() {
        return document(Vec::new());
    }
    let mut warming = Grants::default();
    let mut writing = Grants::default();
    for Caching { registry, warmed, .. } in registries {
        for cache in warmed {
            warming.add(registry, &cache.prefix.wildcard(), &through(cache));
        }
    }
    for caching in registries {
        let checked = checked(caching);
        if !checked.is_empty() {
            // which repositories a template is for is not told when it is checked
            writing.add(&caching.registry, "*", &checked);
        }
    }
    let mut statements = vec![
        allow("LookAtCaches", &Actions::from(LOOK), json!("*")),
        allow("SetUpCaches", &set_up(registries), json!("*")),
    ];
    statements.extend(warming.statements(purpose));
    statements.extend(writing.statements(|_| "WriteTemplates".to_owned()));
    statements.extend(secrets(registries));
    statements.extend(roles(registries));
    statements.push(linked_roles(registries));
    document(statements)
}

/// Every cache of every registry.
fn caches<'a>(registries: &'a [Caching<'a>]) -> impl Iterator<Item = &'a Cache> {
    registries.iter().flat_map(|caching| caching.caches.iter().copied())
}

/// What the templates of a registry hold that are written.
fn templates<'a>(caching: &'a Caching<'a>) -> impl Iterator<Item = &'a RepositorySettings> {
    let of_caches = caching.caches.iter().filter_map(|cache| cache.template.as_ref());
    of_caches.map(|template| &template.settings).chain(caching.on_push)
}

/// Where the registry's policy cannot grant pulling, access is by a template's policy.
fn has_access(caching: &Caching<'_>) -> bool {
    caching.caches.iter().any(|cache| cache.access.is_some())
}

fn has_templates(registries: &[Caching<'_>]) -> bool {
    registries.iter().any(|caching| templates(caching).next().is_some() || has_access(caching))
}

fn set_up(registries: &[Caching<'_>]) -> Actions {
    let mut actions = Actions::new();
    if caches(registries).next().is_some() {
        actions.extend(RULES);
    }
    if has_templates(registries) {
        actions.extend(TEMPLATES);
    }
    if registries.iter().any(has_access) {
        actions.extend(POLICY);
    }
    actions
}

/// What ECR asks of who writes the registry's templates, as if they made the repositories.
fn checked(caching: &Caching<'_>) -> Actions {
    let mut actions = Actions::new();
    for settings in templates(caching) {
        actions.insert("ecr:CreateRepository");
        if settings.lifecycle.is_some() {
            actions.insert("ecr:PutLifecyclePolicy");
        }
        if settings.policy.is_some() {
            actions.insert("ecr:SetRepositoryPolicy");
        }
    }
    if has_access(caching) {
        actions.extend(["ecr:CreateRepository", "ecr:SetRepositoryPolicy"]);
    }
    actions
}

fn secrets(registries: &[Caching<'_>]) -> Vec<Value> {
    let (mut written, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for Caching { registry, caches, .. } in registries {
        for cache in caches {
            match &cache.credentials {
                UpstreamCredentials::Written { .. } => {
                    written.insert(secret(registry, cache));
                }
                UpstreamCredentials::Secret(arn) => {
                    kept.insert(arn.clone());
                }
                UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => {}
            }
        }
    }
    let statement = |sid: &str, actions: Actions, arns: BTreeSet<String>| {
        (!arns.is_empty()).then(|| allow(sid, &actions, json!(arns)))
    };
    let written = statement("KeepSecrets", Actions::from(SECRETS), written);
    let kept = statement("ReadSecrets", Actions::from(KEPT), kept);
    written.into_iter().chain(kept).collect()
}

/// The ARN of the cache's secret, which ends in characters that Secrets Manager chooses.
fn secret(registry: &EcrHost, cache: &Cache) -> String {
    let (partition, region, account) =
        (registry.partition(), registry.region(), registry.account());
    format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{}-*", cache.secret_name())
}

/// What handing roles to ECR takes; the role of a rule is taken by another name of the service.
fn roles(registries: &[Caching<'_>]) -> Option<Value> {
    let of_cache = |cache: &Cache| {
        let of_rule = match &cache.credentials {
            UpstreamCredentials::Role(arn) => Some(arn.clone()),
            _ => None,
        };
        let of_template = cache.template.as_ref().and_then(|template| template.role_arn.clone());
        of_rule.into_iter().chain(of_template)
    };
    let arns: BTreeSet<String> = caches(registries).flat_map(of_cache).collect();
    (!arns.is_empty()).then(|| {
        let mut statement = allow("PassRoles", &Actions::from(["iam:PassRole"]), json!(arns));
        let services = json!({ "iam:PassedToService": [TEMPLATES_SERVICE, RULES_SERVICE] });
        statement["Condition"] = json!({ "StringEquals": services });
        statement
    })
}

/// ECR's own roles are made with the first rule and the first template of an account.
fn linked_roles(registries: &[Caching<'_>]) -> Value {
    let mut services = BTreeSet::new();
    if has_templates(registries) {
        services.insert(TEMPLATES_SERVICE);
    }
    if caches(registries).next().is_some() {
        services.insert(RULES_SERVICE);
    }
    let create = Actions::from(["iam:CreateServiceLinkedRole"]);
    let mut statement = allow("EcrsRoles", &create, json!("*"));
    let names = json!({ "iam:AWSServiceName": services });
    statement["Condition"] = json!({ "StringEquals": names });
    statement
}

#[cfg(test)]
pub(crate) mod tests;
