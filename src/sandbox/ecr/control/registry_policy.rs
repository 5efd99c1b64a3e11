//! The registry policy, validated by the account's policy scope.
//!
//! Only the shape is checked: faults, not policies, decide permissions.

use serde_json::{Value, json};

use super::{ApiResult, Caller, repositories::parsed};
use crate::sandbox::{
    ecr::{
        error::EcrError,
        model::{self, Input},
        registry::Registry,
    },
    fault::Behaviour,
};

const POLICY: &str = "registry-policy";
/// The actions that a policy of scope V1 can grant.
///
/// Source: user guide, private registry permissions: others are an error, `ecr:*` is possible.
const V1_ACTIONS: &[&str] =
    &["ecr:replicateimage", "ecr:batchimportupstreamimage", "ecr:createrepository", "ecr:*"];

fn no_policy(registry: &Registry) -> EcrError {
    let text =
        format!("Registry policy does not exist in the registry with id '{}'", registry.account);
    EcrError::new("RegistryPolicyNotFoundException", text)
}

pub(super) fn read(caller: &Caller<'_>, _input: &Input<'_>) -> ApiResult {
    let registry = caller.own_registry()?;
    let text = registry.document::<Option<String>>(POLICY).ok_or_else(|| no_policy(&registry))?;
    Ok(json!({ "registryId": registry.account, "policyText": text }))
}

/// # Errors
/// `InvalidParameterException` with the text that AWS was seen to send (re:Post
/// QUotxPDrRVT2ikDhEV92zQwA, also moto's). The API model also has a `ValidationException`, for
/// which no evidence was found.
pub(super) fn put(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let text = input.required("policyText", &model::POLICY)?;
    let registry = caller.own_registry()?;
    let scope = registry.account_setting("REGISTRY_POLICY_SCOPE");
    let refused = || EcrError::parameter("PolicyText", "Invalid registry policy provided");
    let mut policy = parsed("PolicyText", text).map_err(|_| refused())?;
    if !statements(&policy).is_some_and(|all| all.iter().all(|one| is_statement(one, &scope))) {
        return Err(refused());
    }
    let mut text = text.to_owned();
    if registry.faults.otherwise(Behaviour::PolicySids) {
        let statements = policy["Statement"].as_array_mut().into_iter().flatten();
        statements.filter_map(Value::as_object_mut).for_each(|one| drop(one.remove("Sid")));
        text = policy.to_string();
    }
    registry.change(POLICY, |policy: &mut Option<String>| {
        *policy = Some(text.clone());
        Ok(json!({ "registryId": registry.account, "policyText": text }))
    })
}

pub(super) fn delete(caller: &Caller<'_>, _input: &Input<'_>) -> ApiResult {
    let registry = caller.own_registry()?;
    registry.change(POLICY, |policy: &mut Option<String>| {
        let text = policy.take().ok_or_else(|| no_policy(&registry))?;
        Ok(json!({ "registryId": registry.account, "policyText": text }))
    })
}

/// A policy's statements, at least one.
fn statements(policy: &Value) -> Option<&[Value]> {
    match policy.get("Statement")? {
        Value::Array(all) if !all.is_empty() => Some(all),
        one @ Value::Object(_) => Some(std::slice::from_ref(one)),
        _ => None,
    }
}

/// True if the statement has an effect, principal, action and resource that the scope allows.
fn is_statement(statement: &Value, scope: &str) -> bool {
    let has = |member: &str| statement.get(member).is_some_and(|value| !value.is_null());
    let is_effect = matches!(statement["Effect"].as_str(), Some("Allow" | "Deny"));
    is_effect
        && (has("Principal") || has("NotPrincipal"))
        && has("Resource")
        && texts(&statement["Action"])
            .is_some_and(|actions| actions.iter().all(|action| may_be_granted(action, scope)))
}

/// A string, or a non-empty list of strings.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(all) if !all.is_empty() => all.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn may_be_granted(action: &str, scope: &str) -> bool {
    let action = action.to_ascii_lowercase();
    match scope {
        "V1" => V1_ACTIONS.contains(&action.as_str()),
        _ => action.starts_with("ecr:"),
    }
}
