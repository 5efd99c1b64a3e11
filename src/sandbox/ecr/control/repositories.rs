//! Repositories and their settings: create, describe, delete, mutability, scanning, tags, policies.

use serde_json::{Map, Value, json};

use super::{ApiResult, Caller, empty};
use crate::sandbox::ecr::{
    error::EcrError,
    identity::{checksum, uuid},
    model::{self, Input, Text, missing},
    registry::{Registry, Settings},
};

const MAX_TAGS: usize = 50;
const MUTABILITY: &[&str] =
    &["MUTABLE", "IMMUTABLE", "IMMUTABLE_WITH_EXCLUSION", "MUTABLE_WITH_EXCLUSION"];

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let name = input.required("repositoryName", &model::REPOSITORY_NAME)?;
    let registry = caller.registry(input)?;
    let mut settings = Settings { tags: tags(input, "tags")?, ..Settings::default() };
    (settings.mutability, settings.exclusions) = mutability(input)?;
    if let Some(scanning) = input.structure("imageScanningConfiguration")? {
        settings.scan_on_push = scanning.flag("scanOnPush")?.unwrap_or(false);
    }
    if let Some(encryption) = encryption(input, &registry, &model::KMS_KEY)? {
        settings.encryption = encryption;
    }
    registry.create(name, settings)?;
    Ok(json!({ "repository": shown(&registry, name)? }))
}

pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let registry = caller.registry(input)?;
    let page = input.page(100, 1000, "repositoryNames")?;
    if let Some(names) = input.texts("repositoryNames", 1..=100, &model::REPOSITORY_NAME)? {
        // a missing repository fails the call
        let repositories: Vec<Value> =
            names.iter().map(|name| shown(&registry, name)).collect::<Result<_, _>>()?;
        return Ok(json!({ "repositories": repositories }));
    }
    let names =
        registry.store.repositories().into_iter().map(|name| (name.clone(), name)).collect();
    let (names, next) = page.cut(names);
    let repositories: Vec<Value> =
        names.iter().map(|name| shown(&registry, name)).collect::<Result<_, _>>()?;
    Ok(with_next(json!({ "repositories": repositories }), next))
}

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    let forced = input.flag("force")?.unwrap_or(false);
    if !forced && !registry.store.manifests(name).is_empty() {
        return Err(EcrError::new(
            "RepositoryNotEmptyException",
            format!(
                "The repository with name '{name}' in registry with id '{}' cannot be deleted because it still contains images",
                registry.account
            ),
        ));
    }
    let removed = shown(&registry, name)?;
    registry.delete(name)?;
    Ok(json!({ "repository": removed }))
}

pub(super) fn put_mutability(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    if input.value("imageTagMutability").is_none() {
        return Err(missing("imageTagMutability"));
    }
    let (mutability, exclusions) = mutability(input)?;
    registry.change_settings(name, |settings| {
        (settings.mutability, settings.exclusions) = (mutability, exclusions);
        let mut shown = json!({ "registryId": registry.account, "repositoryName": name });
        show_mutability(settings, &mut shown);
        Ok(shown)
    })
}

pub(super) fn put_scanning(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    let scanning = input.structure("imageScanningConfiguration")?;
    let scanning = scanning.ok_or_else(|| missing("imageScanningConfiguration"))?;
    let on_push = scanning.flag("scanOnPush")?.unwrap_or(false);
    registry.change_settings(name, |settings| {
        settings.scan_on_push = on_push;
        Ok(())
    })?;
    Ok(json!({
        "registryId": registry.account,
        "repositoryName": name,
        "imageScanningConfiguration": { "scanOnPush": on_push },
    }))
}

pub(super) fn tag(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.resource(input)?;
    let added = tags(input, "tags")?;
    if input.value("tags").is_none() {
        return Err(missing("tags"));
    }
    registry.change_settings(&name, |settings| {
        settings.tags.extend(added);
        if settings.tags.len() > MAX_TAGS {
            return Err(too_many_tags());
        }
        Ok(empty())
    })
}

pub(super) fn untag(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.resource(input)?;
    let keys = input.texts("tagKeys", 0..=200, &model::TAG_KEY)?;
    let keys = keys.ok_or_else(|| missing("tagKeys"))?;
    registry.change_settings(&name, |settings| {
        settings.tags.retain(|key, _| !keys.contains(&key.as_str()));
        Ok(empty())
    })
}

pub(super) fn list_tags(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.resource(input)?;
    let settings = registry.settings(&name)?;
    let shown = |(key, value): (&String, &String)| json!({ "Key": key, "Value": value });
    Ok(json!({ "tags": settings.tags.iter().map(shown).collect::<Vec<_>>() }))
}

pub(super) fn put_lifecycle(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("lifecyclePolicyText", &model::LIFECYCLE)?;
    let (registry, name) = caller.repository(input)?;
    is_lifecycle_policy(text)?;
    registry.change_settings(name, |settings| {
        settings.lifecycle = Some(text.to_owned());
        Ok(policy_answer(&registry, name, "lifecyclePolicyText", text))
    })
}

/// Checks a lifecycle policy with the rules of ECR.
pub(super) fn is_lifecycle_policy(text: &str) -> Result<(), EcrError> {
    let policy: Value = parsed("lifecyclePolicyText", text)?;
    crate::model::lifecycle::check(&policy).map_err(|violation| {
        let rule = format!(
            "Lifecycle policy validation failure: {} (at `{}`)",
            violation.problem, violation.pointer
        );
        EcrError::parameter("LifecyclePolicyText", rule)
    })
}

pub(super) fn lifecycle(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    let text = registry.settings(name)?.lifecycle.ok_or_else(|| no_lifecycle(&registry, name))?;
    Ok(policy_answer(&registry, name, "lifecyclePolicyText", &text))
}

pub(super) fn delete_lifecycle(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    registry.change_settings(name, |settings| {
        let text = settings.lifecycle.take().ok_or_else(|| no_lifecycle(&registry, name))?;
        Ok(policy_answer(&registry, name, "lifecyclePolicyText", &text))
    })
}

pub(super) fn set_policy(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("policyText", &model::POLICY)?;
    input.flag("force")?;
    let (registry, name) = caller.repository(input)?;
    policy_is_json(text)?;
    registry.change_settings(name, |settings| {
        settings.policy = Some(text.to_owned());
        Ok(policy_answer(&registry, name, "policyText", text))
    })
}

pub(super) fn policy(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    let text = registry.settings(name)?.policy.ok_or_else(|| no_policy(&registry, name))?;
    Ok(policy_answer(&registry, name, "policyText", &text))
}

pub(super) fn delete_policy(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let (registry, name) = caller.repository(input)?;
    registry.change_settings(name, |settings| {
        let text = settings.policy.take().ok_or_else(|| no_policy(&registry, name))?;
        Ok(policy_answer(&registry, name, "policyText", &text))
    })
}

pub(super) fn parsed(field: &str, text: &str) -> ApiResult {
    let policy: Option<Value> = serde_json::from_str(text).ok().filter(Value::is_object);
    policy.ok_or_else(|| EcrError::parameter(field, "Invalid JSON syntax"))
}

/// Checks that a repository policy is JSON; does not check its content.
fn policy_is_json(text: &str) -> Result<(), EcrError> {
    let refused = |_| EcrError::parameter("PolicyText", "Invalid repository policy provided");
    parsed("PolicyText", text).map(drop).map_err(refused)
}

fn policy_answer(registry: &Registry, name: &str, member: &str, text: &str) -> Value {
    json!({ "registryId": registry.account, "repositoryName": name, member: text })
}

fn no_lifecycle(registry: &Registry, name: &str) -> EcrError {
    no_policy_of_kind("LifecyclePolicyNotFoundException", "Lifecycle", registry, name)
}

fn no_policy(registry: &Registry, name: &str) -> EcrError {
    no_policy_of_kind("RepositoryPolicyNotFoundException", "Repository", registry, name)
}

fn no_policy_of_kind(code: &'static str, kind: &str, registry: &Registry, name: &str) -> EcrError {
    let account = &registry.account;
    let text = format!(
        "{kind} policy does not exist for the repository with name '{name}' in the registry with id '{account}'"
    );
    EcrError::new(code, text)
}

fn too_many_tags() -> EcrError {
    EcrError::new("TooManyTagsException", format!("a resource has at most {MAX_TAGS} tags"))
}

pub(super) fn tags(
    input: &Input<'_>,
    field: &str,
) -> Result<std::collections::BTreeMap<String, String>, EcrError> {
    let given = input.structures(field, 0..=200)?.unwrap_or_default();
    if given.len() > MAX_TAGS {
        return Err(too_many_tags());
    }
    let mut tags = std::collections::BTreeMap::new();
    for tag in given {
        let key = tag.required("Key", &model::TAG_KEY)?;
        let value = tag.required("Value", &model::TAG_VALUE)?;
        if key.starts_with("aws:") {
            let text = "aws: prefixed tag key names are not allowed for external use.";
            return Err(EcrError::new("InvalidTagParameterException", text));
        }
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}

/// `imageTagMutability` with its exclusion filters, which are required exactly with
/// `…_WITH_EXCLUSION`.
pub(super) fn mutability(input: &Input<'_>) -> Result<(String, Vec<String>), EcrError> {
    const FILTERS: &str = "imageTagMutabilityExclusionFilters";
    let value = input.one_of("imageTagMutability", MUTABILITY)?.unwrap_or("MUTABLE");
    let filters = input.structures(FILTERS, 1..=5)?;
    let mut exclusions = Vec::new();
    for filter in filters.iter().flatten() {
        filter.one_of("filterType", &["WILDCARD"])?.ok_or_else(|| missing("filterType"))?;
        exclusions.push(filter.required("filter", &model::EXCLUSION)?.to_owned());
    }
    if value.ends_with("_WITH_EXCLUSION") != filters.is_some() {
        let rule = "Member must be given exactly when imageTagMutability ends in _WITH_EXCLUSION";
        return Err(EcrError::parameter(FILTERS, rule));
    }
    Ok((value.to_owned(), exclusions))
}

/// `encryptionConfiguration` as the API shows it, its key within `limits`. KMS without a key uses
/// the account's own.
pub(super) fn encryption(
    input: &Input<'_>,
    registry: &Registry,
    limits: &Text,
) -> Result<Option<Value>, EcrError> {
    let Some(encryption) = input.structure("encryptionConfiguration")? else { return Ok(None) };
    let kinds = &["AES256", "KMS", "KMS_DSSE"];
    let kind = encryption.one_of("encryptionType", kinds)?;
    let kind = kind.ok_or_else(|| missing("encryptionType"))?;
    let key = encryption.text("kmsKey", limits)?.filter(|key| !key.is_empty());
    // Source: user guide, encryption at rest
    if kind == "KMS_DSSE" && registry.partition() != "aws-us-gov" {
        let rule = "KMS_DSSE is available in the AWS GovCloud (US) Regions only";
        return Err(EcrError::parameter("encryptionType", rule));
    }
    if kind == "AES256" {
        return match key {
            Some(_) => Err(EcrError::parameter("kmsKey", "Member must not be given with AES256")),
            None => Ok(Some(json!({ "encryptionType": kind }))),
        };
    }
    let own = managed_key(registry);
    Ok(Some(json!({ "encryptionType": kind, "kmsKey": key.unwrap_or(&own) })))
}

/// The ARN of the account's own key for ECR, the same for all its repositories.
fn managed_key(registry: &Registry) -> String {
    let (account, region) = (&registry.account, &registry.region);
    let id = uuid(&checksum(&format!("{account} {region} aws/ecr")));
    format!("arn:{}:kms:{region}:{account}:key/{id}", registry.partition())
}

fn shown(registry: &Registry, name: &str) -> ApiResult {
    let settings = registry.settings(name)?;
    let mut shown = json!({
        "repositoryArn": registry.arn(name),
        "registryId": registry.account,
        "repositoryName": name,
        "repositoryUri": format!("{}/{name}", registry.host()),
        "createdAt": settings.created_at,
    });
    show_mutability(&settings, &mut shown);
    shown["imageScanningConfiguration"] = json!({ "scanOnPush": settings.scan_on_push });
    shown["encryptionConfiguration"] = settings.encryption;
    Ok(shown)
}

fn show_mutability(settings: &Settings, shown: &mut Value) {
    shown["imageTagMutability"] = settings.mutability.as_str().into();
    if !settings.exclusions.is_empty() {
        shown["imageTagMutabilityExclusionFilters"] = settings
            .exclusions
            .iter()
            .map(|filter| json!({ "filterType": "WILDCARD", "filter": filter }))
            .collect();
    }
}

/// Adds the token of the next page to `answer`, if there is one.
pub(super) fn with_next(mut answer: Value, next: Option<String>) -> Value {
    if let (Some(next), Some(members)) = (next, answer.as_object_mut() as Option<&mut Map<_, _>>) {
        members.insert("nextToken".to_owned(), next.into());
    }
    answer
}
