//! Our statements in policies: their ids, their grants, and how they are merged into a policy.
//!
//! Keeps the statements of others. Grants nothing but pulls through one prefix. Never puts
//! `ecr:CreateRepository` into a repository's policy, where it has no effect.

use serde_json::{Map, Value, json};

use super::field;
use crate::{
    ecr::settings::is_same_policy,
    model::{
        Digest,
        pull_through::{Access, Prefix, Principals},
        setting_change::Field,
    },
    pull_through::state::EcrRegistry,
};

/// Limit for a policy, in characters. Source: ECR API model, `RegistryPolicyText`,
/// `RepositoryPolicyText`.
const MAX_LENGTH: usize = 10_240;

/// The actions that the first pull of an image needs besides [`PULL`].
/// Source: ECR user guide, "IAM permissions required to sync an upstream registry".
pub(crate) const IMPORT: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// The actions of a pull. The first one is a client's check for an existing blob.
pub(crate) const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The action that the first pull needs if its template sets resource tags.
pub(crate) const TAG: &str = "ecr:TagResource";

/// Hash digits that distinguish prefixes with the same letters.
const DIGITS: usize = 6;

/// The ids of this prefix's statements, one for each kind of principal in [`Access::KINDS`]. IAM
/// allows letters and digits only.
pub(super) fn ids(prefix: &Prefix) -> [String; 4] {
    let text = prefix.to_string();
    let word = |word: &str| -> String {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
    };
    let name: String = text.split(|c: char| !c.is_ascii_alphanumeric()).map(word).collect();
    let digest = Digest::of(text.as_bytes());
    let digits = &digest.hex()[..DIGITS];
    Access::KINDS.map(|who| format!("EcrMirror{name}{digits}{who}"))
}

/// The ids of our statements in the registry's policy for other prefixes than these.
///
/// A statement is ours only if its id is that of the prefix in its resource.
pub(super) fn leftover_ids(
    registry: &EcrRegistry,
    policy: Option<&Value>,
    configured: &[&Prefix],
) -> Vec<String> {
    let below = registry.repository_arn("");
    let leftover = |statement: &Value| {
        let id = id_of(statement)?;
        let resource = match &statement["Resource"] {
            Value::Array(one) if one.len() == 1 => one[0].as_str()?.to_owned(),
            resource => resource.as_str()?.to_owned(),
        };
        let prefix: Prefix = match resource.strip_prefix(&below)? {
            "*" => Prefix::Root,
            wildcard => wildcard.strip_suffix("/*")?.parse().ok()?,
        };
        let is_ours = ids(&prefix).iter().any(|ours| ours == id);
        (is_ours && !configured.contains(&&prefix)).then(|| id.to_owned())
    };
    policy.map(statements_of).unwrap_or_default().iter().filter_map(leftover).collect()
}

/// The statements that grant `actions` to the principals with access through this prefix.
///
/// A registry's policy names a resource, a repository's policy does not.
pub(super) fn grants(
    registry: &EcrRegistry,
    prefix: &Prefix,
    access: &Access,
    actions: &[&str],
    resource: Option<String>,
) -> Vec<Value> {
    let ids = ids(prefix);
    let statement = |Principals { kind, principal, condition }: Principals| {
        let id = ids.iter().find(|id| id.ends_with(kind)).expect("each kind has an id");
        let mut statement =
            json!({ "Sid": id, "Effect": "Allow", "Principal": principal, "Action": actions });
        if let Some(resource) = &resource {
            statement["Resource"] = json!(resource);
        }
        if let Some(condition) = condition {
            statement["Condition"] = condition;
        }
        statement
    };
    access.principals(Some(registry.partition)).into_iter().map(statement).collect()
}

/// A policy with our statements in it.
pub(super) struct Merged {
    /// `None` if no statement is left.
    pub(super) policy: Option<Value>,
    /// The statements that differ, by id.
    pub(super) fields: Vec<Field>,
}

/// Replaces the statements of `ids` by the desired ones. Other statements stay in place, and so do
/// our statements with the same meaning.
pub(super) fn merged(policy: Option<&Value>, ids: &[String], desired: &[Value]) -> Merged {
    let (mut statements, mut fields, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    for existing in policy.map(statements_of).unwrap_or_default() {
        let Some(id) = id_of(&existing).filter(|id| ids.iter().any(|ours| ours == id)) else {
            statements.push(existing);
            continue;
        };
        let id = id.to_owned();
        let new = desired.iter().find(|new| id_of(new) == Some(&id) && !placed.contains(&id));
        match new {
            Some(new) if is_same_policy(&existing, new) => statements.push(existing),
            Some(new) => {
                statements.push(new.clone());
                fields.push(field(&id, existing, new.clone()));
            }
            None => fields.push(field(&id, existing, Value::Null)),
        }
        placed.push(id);
    }
    for new in desired {
        let id = id_of(new).expect("ours have ids");
        if !placed.iter().any(|placed| placed == id) {
            statements.push(new.clone());
            fields.push(field(id, Value::Null, new.clone()));
        }
    }
    let policy = match (fields.is_empty(), statements.is_empty()) {
        (true, _) => policy.cloned(),
        (_, true) => None,
        _ => {
            let new = || Map::from_iter([("Version".to_owned(), json!("2012-10-17"))]);
            let mut policy = policy.and_then(Value::as_object).cloned().unwrap_or_else(new);
            policy.insert("Statement".to_owned(), Value::Array(statements));
            Some(Value::Object(policy))
        }
    };
    Merged { policy, fields }
}

pub(super) fn is_too_long(policy: &Value) -> bool {
    policy.to_string().chars().count() > MAX_LENGTH
}

/// The hint for a policy that is too long.
pub(super) fn too_long() -> String {
    format!(
        "the policy exceeds ECR's limit of {MAX_LENGTH} characters: use `organization` instead of `accounts`"
    )
}

/// The statements; a single one can stand without a list.
fn statements_of(policy: &Value) -> Vec<Value> {
    match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.clone(),
        Some(statement @ Value::Object(_)) => vec![statement.clone()],
        _ => Vec::new(),
    }
}

fn id_of(statement: &Value) -> Option<&str> {
    statement.get("Sid")?.as_str()
}
