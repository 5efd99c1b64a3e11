//! Pull-through cache rules: what may be one, and which credentials it needs.
//!
//! Rules are kept and checked; nothing is pulled through them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, Caller, repositories::with_next, secrets};
use crate::sandbox::ecr::{
    error::EcrError,
    model::{self, Input},
    registry::{Registry, now},
};

const RULES: &str = "pull-through-rules";
/// Rules a registry may have.
const MAX_RULES: usize = 50;

/// The upstreams, their URLs, and whether they need credentials.
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

/// What a rule brings to its upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Credentials {
    None,
    Secret,
    Role,
}

type Rules = BTreeMap<String, Value>;

fn invalid(text: impl Into<String>) -> EcrError {
    EcrError::new("ValidationException", text)
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

fn upstream(url: &str, said: Option<&str>) -> Result<(&'static str, Credentials), EcrError> {
    let unsupported = || {
        let text = format!("The upstream registry URL '{url}' is not supported");
        EcrError::new("UnsupportedUpstreamRegistryException", text)
    };
    let is_at = |place: &str| match place.strip_prefix('.') {
        Some(_) if place == ".amazonaws.com" => url.contains(".dkr.ecr.") && url.ends_with(place),
        Some(_) => url.ends_with(place) && url.len() > place.len(),
        None => url == place,
    };
    let found = UPSTREAMS.iter().find(|(_, place, _)| is_at(place)).ok_or_else(unsupported)?;
    match said {
        Some(said) if said != found.0 => Err(invalid(format!(
            "The upstream registry '{said}' does not match the upstream registry URL '{url}'"
        ))),
        _ => Ok((found.0, found.2)),
    }
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let prefix = prefix(input)?;
    let url = input.required("upstreamRegistryUrl", &model::FREE)?;
    let names: Vec<&'static str> = UPSTREAMS.iter().map(|(name, ..)| *name).collect();
    let said = input.one_of("upstreamRegistry", &names)?;
    let credential = input.text("credentialArn", &model::CREDENTIAL_ARN)?;
    let role = input.text("customRoleArn", &model::ROLE_ARN)?;
    let upstream_prefix = input.text("upstreamRepositoryPrefix", &model::RULE_PREFIX)?;
    let upstream_prefix = upstream_prefix.unwrap_or("ROOT");
    let registry = caller.registry(input)?;
    let (name, needs) = upstream(url, said)?;
    if prefix == "ROOT" && upstream_prefix != "ROOT" {
        return Err(invalid("upstreamRepositoryPrefix must be ROOT when ecrRepositoryPrefix is"));
    }
    check_credentials(&registry, needs, credential, role)?;
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
            "createdAt": now(),
            "registryId": account,
            "upstreamRepositoryPrefix": upstream_prefix,
            "upstreamRegistry": name,
        });
        set(&mut rule, "credentialArn", credential);
        set(&mut rule, "customRoleArn", role);
        rules.insert(prefix.to_owned(), rule.clone());
        Ok(rule)
    })
}

fn set(rule: &mut Value, member: &str, value: Option<&str>) {
    if let Some(value) = value {
        rule[member] = value.into();
    }
}

fn check_credentials(
    registry: &Registry,
    needs: Credentials,
    credential: Option<&str>,
    role: Option<&str>,
) -> Result<(), EcrError> {
    if role.is_some() && needs != Credentials::Role {
        return Err(invalid("customRoleArn is for ECR upstreams only"));
    }
    match (needs, credential) {
        (Credentials::Secret, None) => {
            Err(invalid("credentialArn is required for this upstream registry"))
        }
        (Credentials::Role, Some(_)) => Err(invalid("credentialArn is not for ECR upstreams")),
        (_, Some(arn)) => secrets::check_credentials(registry, arn),
        (_, None) => Ok(()),
    }
}

pub(super) fn update(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let prefix = prefix(input)?;
    let credential = input.text("credentialArn", &model::CREDENTIAL_ARN)?;
    let role = input.text("customRoleArn", &model::ROLE_ARN)?;
    let registry = caller.registry(input)?;
    let rule = one(&registry, prefix)?;
    let (_, needs) = upstream(rule["upstreamRegistryUrl"].as_str().unwrap_or_default(), None)?;
    if credential.is_none() && role.is_none() {
        return Err(invalid("credentialArn or customRoleArn is required"));
    }
    check_credentials(&registry, needs, credential, role)?;
    registry.change(RULES, |rules: &mut Rules| {
        let missing = || not_found(prefix, &registry.account);
        let rule = rules.get_mut(prefix).ok_or_else(missing)?;
        set(rule, "credentialArn", credential);
        set(rule, "customRoleArn", role);
        rule["updatedAt"] = now().into();
        let shown =
            ["ecrRepositoryPrefix", "registryId", "updatedAt", "credentialArn", "customRoleArn"];
        Ok(part(rule, &[&shown[..], &["upstreamRepositoryPrefix"]].concat()))
    })
}

/// Those members of a rule that are there.
fn part(rule: &Value, members: &[&str]) -> Value {
    let kept =
        members.iter().filter_map(|name| Some(((*name).to_owned(), rule.get(*name)?.clone())));
    Value::Object(kept.collect())
}

fn one(registry: &Registry, prefix: &str) -> Answer {
    let mut rules: Rules = registry.document(RULES);
    rules.remove(prefix).ok_or_else(|| not_found(prefix, &registry.account))
}

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let prefix = prefix(input)?;
    let registry = caller.registry(input)?;
    registry.change(RULES, |rules: &mut Rules| {
        let mut gone = rules.remove(prefix).ok_or_else(|| not_found(prefix, &registry.account))?;
        let members = gone.as_object_mut().expect("rules are objects");
        members.retain(|name, _| name != "upstreamRegistry" && name != "updatedAt");
        Ok(gone)
    })
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    const PREFIXES: &str = "ecrRepositoryPrefixes";
    let page = input.page(100, 1000, PREFIXES)?;
    let registry = caller.registry(input)?;
    if let Some(prefixes) = input.texts(PREFIXES, 1..=100, &model::RULE_PREFIX)? {
        let trimmed = prefixes.iter().map(|prefix| prefix.strip_suffix('/').unwrap_or(prefix));
        let rules: Vec<Value> =
            trimmed.map(|prefix| one(&registry, prefix)).collect::<Result<_, _>>()?;
        return Ok(json!({ "pullThroughCacheRules": rules }));
    }
    let rules: Rules = registry.document(RULES);
    let (rules, next) = page.cut(rules.into_iter().collect());
    Ok(with_next(json!({ "pullThroughCacheRules": rules }), next))
}

pub(super) fn validate(caller: &Caller<'_>, input: &Input<'_>) -> Answer {
    let prefix = prefix(input)?;
    let registry = caller.registry(input)?;
    let mut rule = one(&registry, prefix)?;
    let members = rule.as_object_mut().expect("rules are objects");
    members
        .retain(|name, _| !matches!(name.as_str(), "createdAt" | "updatedAt" | "upstreamRegistry"));
    let refusal = match members.get("credentialArn").and_then(Value::as_str) {
        Some(arn) => secrets::check_credentials(&registry, arn).err(),
        None => None,
    };
    rule["isValid"] = refusal.is_none().into();
    if let Some(refusal) = refusal {
        rule["failure"] = refusal.message.into();
    }
    Ok(rule)
}

/// Whether a repository of this name belongs to a pull-through cache rule.
pub(in crate::sandbox::ecr) fn covers(registry: &Registry, repository: &str) -> bool {
    let rules: Rules = registry.document(RULES);
    rules.keys().any(|prefix| {
        prefix == "ROOT"
            || repository.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
    })
}
