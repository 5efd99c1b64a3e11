//! Our statements in policies: what they are called, what they grant, how they stand among others.
//!
//! Guards that a policy keeps whatever is not ours, that nobody is given more than pulling through
//! one prefix, and that `ecr:CreateRepository` is in no repository's policy, where it has no effect.

use serde_json::{Map, Value, json};

use super::field;
use crate::{
    ecr::settings::is_same_policy,
    model::{
        Digest,
        pull_through::{Access, Prefix},
        setting_change::Field,
    },
    pull_through::state::EcrRegistry,
};

/// How long a policy may be, in characters. Source: ECR API model, `RegistryPolicyText`,
/// `RepositoryPolicyText`.
const MOST: usize = 10_240;

/// What the first pull of an image takes, besides pulling.
/// Source: ECR user guide, "IAM permissions required to sync an upstream registry".
pub(crate) const IMPORT: [&str; 2] = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];

/// What pulling takes; the first is how clients ask whether a blob is there.
pub(crate) const PULL: [&str; 3] =
    ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// What the first pull takes where its template gives tags to the repository.
pub(crate) const TAG: &str = "ecr:TagResource";

/// Digits that keep apart prefixes whose letters are the same.
const DIGITS: usize = 6;

/// The ids of the statements for an organisation and for accounts that pull through this prefix:
/// letters and digits only, as IAM wants them.
pub(super) fn ids(prefix: &Prefix) -> [String; 2] {
    let text = prefix.to_string();
    let word = |word: &str| -> String {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters.map(|letter| letter.to_ascii_lowercase())).collect()
    };
    let name: String = text.split(|c: char| !c.is_ascii_alphanumeric()).map(word).collect();
    let digest = Digest::of(text.as_bytes());
    let digits = &digest.hex()[..DIGITS];
    ["Organization", "Accounts"].map(|who| format!("EcrMirror{name}{digits}{who}"))
}

/// The statements that grant `actions` to those who have access through this prefix, on the
/// resource that a registry's policy names and a repository's does not.
pub(super) fn grants(
    (registry, prefix): (&EcrRegistry, &Prefix),
    access: &Access,
    actions: &[&str],
    resource: Option<String>,
) -> Vec<Value> {
    let [organization, accounts] = ids(prefix);
    let statement = |id: &str, principal: Value| {
        let mut statement = json!({
            "Sid": id,
            "Effect": "Allow",
            "Principal": principal,
            "Action": actions,
        });
        if let Some(resource) = &resource {
            statement["Resource"] = json!(resource);
        }
        statement
    };
    let mut statements = Vec::new();
    if let Some(id) = &access.organization {
        let mut of_members = statement(&organization, json!("*"));
        of_members["Condition"] = json!({ "StringEquals": { "aws:PrincipalOrgID": id } });
        statements.push(of_members);
    }
    if !access.accounts.is_empty() {
        let partition = registry.partition;
        let root = |account: &String| format!("arn:{partition}:iam::{account}:root");
        let roots: Vec<String> = access.accounts.iter().map(root).collect();
        statements.push(statement(&accounts, json!({ "AWS": roots })));
    }
    statements
}

/// A policy with our statements in it.
pub(super) struct Merged {
    /// The policy; `None` when no statement is left.
    pub(super) policy: Option<Value>,
    /// The statements that differ, by id.
    pub(super) fields: Vec<Field>,
}

/// The policy with the statements of `ids` replaced by those of them that are wanted; everything
/// else stays where and as it is, and so does a statement of ours that means the same.
pub(super) fn merged(policy: Option<&Value>, ids: &[String], wanted: &[Value]) -> Merged {
    let (mut statements, mut fields, mut placed) = (Vec::new(), Vec::new(), Vec::new());
    for there in policy.map(statements_of).unwrap_or_default() {
        let Some(id) = id_of(&there).filter(|id| ids.iter().any(|ours| ours == id)) else {
            statements.push(there);
            continue;
        };
        let id = id.to_owned();
        let new = wanted.iter().find(|new| id_of(new) == Some(&id) && !placed.contains(&id));
        match new {
            Some(new) if is_same_policy(&there, new) => statements.push(there),
            Some(new) => {
                statements.push(new.clone());
                fields.push(field(&id, there, new.clone()));
            }
            None => fields.push(field(&id, there, Value::Null)),
        }
        placed.push(id);
    }
    for new in wanted {
        let id = id_of(new).expect("ours have ids");
        if !placed.iter().any(|placed| placed == id) {
            statements.push(new.clone());
            fields.push(field(id, Value::Null, new.clone()));
        }
    }
    let policy = match (fields.is_empty(), statements.is_empty()) {
        (true, _) => policy.cloned(),
        (_, true) => None,
        _ => Some(with_statements(policy, statements)),
    };
    Merged { policy, fields }
}

/// Whether the policy is longer than ECR takes.
pub(super) fn is_too_long(policy: &Value) -> bool {
    policy.to_string().chars().count() > MOST
}

/// What to do about that.
pub(super) fn too_long() -> String {
    format!(
        "the policy would have more than the {MOST} characters ECR takes: name an `organization` instead of `accounts`"
    )
}

/// A policy's only statement may stand without a list around it.
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

fn with_statements(policy: Option<&Value>, statements: Vec<Value>) -> Value {
    let new = || Map::from_iter([("Version".to_owned(), json!("2012-10-17"))]);
    let mut policy = policy.and_then(Value::as_object).cloned().unwrap_or_else(new);
    policy.insert("Statement".to_owned(), Value::Array(statements));
    Value::Object(policy)
}
