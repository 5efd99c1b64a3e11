//! Pull-through cache rules: their validation, and the credentials that upstreams need.
//!
//! Rules are stored and checked here; `cache` pulls through them.

use serde_json::{Value, json};

use super::{ApiResult, Caller, repositories::with_next};
use crate::sandbox::{
    ecr::{
        AwsHost, aws_host,
        cache::import_error,
        error::EcrError,
        model::{self, Input},
        registry::Registry,
        rules::{RULES, Rules},
        secrets,
    },
    fault::Behaviour,
};

const MAX_RULES: usize = 50;

/// The supported upstreams, their URLs and credentials.
///
/// Source: user guide, pull-through cache.
const UPSTREAMS: &[(&str, &str, Credentials)] = &[
    ("ecr-public", "public.ecr.aws", Credentials::None),
    ("k8s", "registry.k8s.io", Credentials::None),
    ("quay", "quay.io", Credentials::None),
    ("docker-hub", "registry-1.docker.io", Credentials::Secret),
    ("github-container-registry", "ghcr.io", Credentials::Secret),
    ("gitlab-container-registry", "registry.gitlab.com", Credentials::Secret),
    ("chainguard", "cgr.dev", Credentials::Secret),
    ("azure-container-registry", ".azurecr.io", Credentials::Secret),
    ("ecr", ".amazonaws.com", Credentials::Role),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    None,
    Secret,
    Role,
}

fn not_found(prefix: &str, account: &str) -> EcrError {
    let text = format!(
        "The pull through cache rule with prefix '{prefix}' does not exist in the registry with id '{account}'"
    );
    EcrError::new("PullThroughCacheRuleNotFoundException", text)
}

/// `docker-hub/` and `docker-hub` are the same prefix.
fn prefix<'a>(input: &Input<'a>) -> Result<&'a str, EcrError> {
    let prefix = input.required("ecrRepositoryPrefix", &model::RULE_PREFIX)?;
    Ok(prefix.strip_suffix('/').unwrap_or(prefix))
}

fn upstream(url: &str, claimed: Option<&str>) -> Result<(&'static str, Credentials), EcrError> {
    let unsupported = || {
        let text = format!("The upstream registry URL '{url}' is not supported");
        EcrError::new("UnsupportedUpstreamRegistryException", text)
    };
    let is_at = |known: &str| match known {
        ".azurecr.io" => url.strip_suffix(known).is_some_and(is_label),
        ".amazonaws.com" => {
            let is_plain = url.contains(".dkr.ecr.") && !url.contains(':');
            is_plain && matches!(aws_host(url), Some(AwsHost::Registry { .. }))
        }
        host => url == host,
    };
    let found = UPSTREAMS.iter().find(|(_, known, _)| is_at(known)).ok_or_else(unsupported)?;
    match claimed {
        Some(claimed) if claimed != found.0 => Err(EcrError::validation(format!(
            "The upstream registry '{claimed}' does not match the upstream registry URL '{url}'"
        ))),
        _ => Ok((found.0, found.2)),
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    let url = input.required("upstreamRegistryUrl", &model::FREE)?;
    let names: Vec<&'static str> = UPSTREAMS.iter().map(|(name, ..)| *name).collect();
    let claimed = input.one_of("upstreamRegistry", &names)?;
    let credential = input.text("credentialArn", &model::CREDENTIAL_ARN)?;
    let role = input.text("customRoleArn", &model::ROLE_ARN)?;
    let upstream_prefix = input.text("upstreamRepositoryPrefix", &model::RULE_PREFIX)?;
    let is_omitted = upstream_prefix.is_none();
    let upstream_prefix = upstream_prefix.unwrap_or("ROOT");
    let registry = caller.registry(input)?;
    let (name, needs) = upstream(url, claimed)?;
    if prefix == "ROOT" && upstream_prefix != "ROOT" {
        return Err(EcrError::validation(
            "upstreamRepositoryPrefix must be ROOT when ecrRepositoryPrefix is",
        ));
    }
    let credentials = RuleCredentials { url, needs, credential, role };
    credentials.check(caller, &registry)?;
    if registry.document::<Rules>(RULES).is_empty() {
        // the first rule creates the role that ECR imports with
        caller.authorize("iam", "CreateServiceLinkedRole", "*")?;
    }
    registry.change(RULES, |rules: &mut Rules| {
        let account = &registry.account;
        if rules.contains_key(prefix) {
            let text = format!(
                "The pull through cache rule with prefix '{prefix}' already exists in the registry with id '{account}'"
            );
            return Err(EcrError::new("PullThroughCacheRuleAlreadyExistsException", text));
        }
        if rules.len() >= MAX_RULES {
            let text = format!("a registry has at most {MAX_RULES} pull through cache rules");
            return Err(EcrError::new("LimitExceededException", text));
        }
        let mut rule = json!({
            "ecrRepositoryPrefix": prefix,
            "upstreamRegistryUrl": url,
            "createdAt": registry.now(),
            "registryId": account,
            "upstreamRepositoryPrefix": upstream_prefix,
            "upstreamRegistry": name,
        });
        set(&mut rule, "credentialArn", credential);
        set(&mut rule, "customRoleArn", role);
        if is_omitted && registry.faults.otherwise(Behaviour::NoUpstreamPrefix) {
            rule["upstreamRepositoryPrefix"].take();
        }
        rules.insert(prefix.to_owned(), rule.clone());
        Ok(rule)
    })
}

fn set(rule: &mut Value, member: &str, value: Option<&str>) {
    if let Some(value) = value {
        rule[member] = value.into();
    }
}

struct RuleCredentials<'a> {
    url: &'a str,
    needs: Credentials,
    credential: Option<&'a str>,
    role: Option<&'a str>,
}

impl RuleCredentials<'_> {
    /// Checks that the credentials fit the upstream, and that the caller may use them.
    ///
    /// Source: user guide, pull-through cache; the missing secret: ack-community#2589. The
    /// exception for unneeded credentials is not documented.
    fn check(&self, caller: &Caller<'_>, registry: &Registry) -> Result<(), EcrError> {
        let Self { url, needs, credential, role } = *self;
        if let Some(role) = role {
            check_role(caller, registry, needs, role)?;
        }
        match (needs, credential) {
            (Credentials::Secret, None) => Err(EcrError::new(
                "UnsupportedUpstreamRegistryException",
                "The specified upstream registry requires authentication. Specify a valid Secrets Manager ARN",
            )),
            (Credentials::Secret, Some(arn)) => {
                // ECR reads the secret in the caller's name
                caller.authorize("secretsmanager", "GetSecretValue", arn).map_err(|_| {
                    let text = "The secret is unable to be accessed. Verify the resource permissions for the secret and try again.";
                    EcrError::new("UnableToAccessSecretException", text)
                })?;
                secrets::access_token(registry, arn).map(drop)
            }
            (Credentials::None | Credentials::Role, Some(_)) => {
                Err(EcrError::validation("credentialArn is not for this upstream registry"))
            }
            (Credentials::Role, None) => match aws_host(url) {
                Some(AwsHost::Registry { account, .. })
                    if account != registry.account && role.is_none() =>
                {
                    Err(EcrError::validation(
                        "customRoleArn is required for a registry of another account",
                    ))
                }
                _ => Ok(()),
            },
            (Credentials::None, None) => Ok(()),
        }
    }
}

/// Source: API model, "must be in the same account as the registry that you are configuring".
fn check_role(
    caller: &Caller<'_>,
    registry: &Registry,
    needs: Credentials,
    role: &str,
) -> Result<(), EcrError> {
    if needs != Credentials::Role {
        return Err(EcrError::validation("customRoleArn is for ECR upstreams only"));
    }
    if !role.starts_with(&format!("arn:{}:iam::{}:role/", registry.partition(), registry.account)) {
        return Err(EcrError::validation("customRoleArn must be a role of the registry's account"));
    }
    caller.authorize("iam", "PassRole", role)
}

pub(super) fn update(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    let credential = input.text("credentialArn", &model::CREDENTIAL_ARN)?;
    let role = input.text("customRoleArn", &model::ROLE_ARN)?;
    let registry = caller.registry(input)?;
    let rule = find_rule(&registry, prefix)?;
    let url = rule["upstreamRegistryUrl"].as_str().unwrap_or_default();
    let (_, needs) = upstream(url, None)?;
    if credential.is_none() && role.is_none() {
        return Err(EcrError::validation("credentialArn or customRoleArn is required"));
    }
    let credentials = RuleCredentials { url, needs, credential, role };
    credentials.check(caller, &registry)?;
    registry.change(RULES, |rules: &mut Rules| {
        let missing = || not_found(prefix, &registry.account);
        let rule = rules.get_mut(prefix).ok_or_else(missing)?;
        set(rule, "credentialArn", credential);
        set(rule, "customRoleArn", role);
        rule["updatedAt"] = registry.now().into();
        let shown =
            ["ecrRepositoryPrefix", "registryId", "updatedAt", "credentialArn", "customRoleArn"];
        Ok(select_members(rule, &[&shown[..], &["upstreamRepositoryPrefix"]].concat()))
    })
}

fn select_members(rule: &Value, members: &[&str]) -> Value {
    let kept =
        members.iter().filter_map(|name| Some(((*name).to_owned(), rule.get(*name)?.clone())));
    Value::Object(kept.collect())
}

fn find_rule(registry: &Registry, prefix: &str) -> ApiResult {
    let mut rules: Rules = registry.document(RULES);
    rules.remove(prefix).ok_or_else(|| not_found(prefix, &registry.account))
}

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    let registry = caller.registry(input)?;
    registry.change(RULES, |rules: &mut Rules| {
        let mut removed =
            rules.remove(prefix).ok_or_else(|| not_found(prefix, &registry.account))?;
        let members = removed.as_object_mut().expect("rules are objects");
        members.retain(|name, _| name != "upstreamRegistry" && name != "updatedAt");
        Ok(removed)
    })
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    const PREFIXES: &str = "ecrRepositoryPrefixes";
    let page = input.page(100, 1000, PREFIXES)?;
    let registry = caller.registry(input)?;
    if let Some(prefixes) = input.texts(PREFIXES, 1..=100, &model::RULE_PREFIX)? {
        let trimmed = prefixes.iter().map(|prefix| prefix.strip_suffix('/').unwrap_or(prefix));
        let rules: Vec<Value> =
            trimmed.map(|prefix| find_rule(&registry, prefix)).collect::<Result<_, _>>()?;
        return Ok(json!({ "pullThroughCacheRules": rules }));
    }
    let rules: Rules = registry.document(RULES);
    let (rules, next) = page.cut(rules.into_iter().collect());
    Ok(with_next(json!({ "pullThroughCacheRules": rules }), next))
}

/// Checks that the rule's secret can be read and that its upstream responds and accepts it.
/// Upstream faults apply here too.
pub(super) fn validate(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    let registry = caller.registry(input)?;
    let mut rule = find_rule(&registry, prefix)?;
    let members = rule.as_object_mut().expect("rules are objects");
    members
        .retain(|name, _| !matches!(name.as_str(), "createdAt" | "updatedAt" | "upstreamRegistry"));
    let credential = members.get("credentialArn").and_then(Value::as_str);
    let token = credential.map(|arn| secrets::access_token(&registry, arn)).transpose();
    let url = members.get("upstreamRegistryUrl").and_then(Value::as_str).unwrap_or_default();
    let checked = token.and_then(|token| match aws_host(url) {
        Some(_) => Ok(()),
        None => caller.ecr.upstream.check_credentials(url, token.as_deref()).map_err(import_error),
    });
    rule["isValid"] = checked.is_ok().into();
    if let Err(refusal) = checked {
        rule["failure"] = refusal.message.into();
    }
    Ok(rule)
}
