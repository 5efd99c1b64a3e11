//! Decides as IAM does for a role with these documents only: everything that no statement allows is
//! refused.
//!
//! Knows the operators of the printed documents. Another operator, or a `Deny`, is a failed test.
//!
//! Source: IAM user guide, "Policy evaluation logic", "IAM JSON policy elements: Condition operators".

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// One use of a permission.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Access {
    /// The action, like `ecr:PutImage`.
    pub(super) action: String,
    /// The ARN of the resource; `*` for an action without one.
    pub(super) resource: String,
    /// The condition keys of the request.
    pub(super) context: BTreeMap<&'static str, String>,
}

impl Access {
    pub(super) fn new(action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), context: BTreeMap::new() }
    }

    /// The same access with a condition key.
    pub(super) fn with(mut self, key: &'static str, value: &str) -> Self {
        self.context.insert(key, value.to_owned());
        self
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.action, self.resource)?;
        self.context.iter().try_for_each(|(key, value)| write!(f, " with {key} = {value}"))
    }
}

/// The statements of one or more documents.
#[derive(Debug, Clone)]
pub(super) struct Policy(Vec<Value>);

impl Policy {
    /// Reads a document, or an array of documents as `--split` prints it.
    pub(super) fn parse(text: &str) -> Self {
        let printed: Value = serde_json::from_str(text).unwrap();
        let statements = |document: &Value| document["Statement"].as_array().unwrap().clone();
        Self(list(&printed).into_iter().flat_map(statements).collect())
    }

    /// The same policy without the statements that grant this action.
    pub(super) fn without(mut self, action: &str) -> Self {
        let before = self.0.len();
        self.0.retain(|statement| !list(&statement["Action"]).iter().any(|it| *it == action));
        assert!(self.0.len() < before, "no statement grants {action}");
        self
    }

    /// The policy with all other actions.
    pub(super) fn without_action(mut self, action: &str) -> Self {
        for actions in self.0.iter_mut().filter_map(|it| it["Action"].as_array_mut()) {
            actions.retain(|it| it != action);
        }
        self
    }

    pub(super) fn allows(&self, access: &Access) -> bool {
        self.0.iter().any(|statement| {
            assert_eq!(statement["Effect"], "Allow", "{statement}");
            let covers = |element: &str, text: &str| {
                list(&statement[element]).iter().any(|pattern| matches(pattern.as_str(), text))
            };
            covers("Action", &access.action)
                && covers("Resource", &access.resource)
                && holds(&statement["Condition"], access)
        })
    }
}

/// Returns `true` if every key of every operator has one of its values.
fn holds(condition: &Value, access: &Access) -> bool {
    let mut operators = condition.as_object().into_iter().flatten();
    operators.all(|(operator, keys)| {
        let is_equal = match operator.as_str() {
            "StringEquals" | "ForAnyValue:StringEquals" => |a: &str, b: &str| a == b,
            "StringLike" | "ForAnyValue:StringLike" => |a: &str, b: &str| matches(Some(a), b),
            other => panic!("the operator {other} is unknown"),
        };
        keys.as_object().unwrap().iter().all(|(key, values)| {
            let Some(actual) = access.context.get(key.as_str()) else { return false };
            list(values).iter().any(|value| is_equal(value.as_str().unwrap(), actual))
        })
    })
}

/// The elements of a list; a single value is a list of one.
fn list(value: &Value) -> Vec<&Value> {
    value.as_array().map_or_else(|| vec![value], |list| list.iter().collect())
}

/// Returns `true` if the pattern matches the whole text: `*` any text, `?` one character.
fn matches(pattern: Option<&str>, text: &str) -> bool {
    fn is_match(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                (0..=text.len()).any(|skipped| is_match(rest, &text[skipped..]))
            }
            ([b'?', pattern @ ..], [_, text @ ..]) => is_match(pattern, text),
            ([a, pattern @ ..], [b, text @ ..]) => a == b && is_match(pattern, text),
            _ => false,
        }
    }
    pattern.is_some_and(|pattern| is_match(pattern.as_bytes(), text.as_bytes()))
}

#[test]
fn a_policy_allows_what_a_statement_covers_with_action_resource_and_condition() {
    let policy = Policy::parse(
        r#"{ "Statement": [
            { "Effect": "Allow", "Action": ["ecr:PutImage"], "Resource": ["arn:aws:ecr:r:1:repository/a/*"] },
            { "Effect": "Allow", "Action": "ecr:PutAccountSetting", "Resource": "*",
              "Condition": { "StringEquals": { "ecr:AccountSetting": ["BLOB_MOUNTING"] } } }
        ] }"#,
    );
    let put = |repository: &str| {
        Access::new("ecr:PutImage", format!("arn:aws:ecr:r:1:repository/{repository}"))
    };
    let set = Access::new("ecr:PutAccountSetting", "*");
    for (access, expected) in [
        (put("a/b"), true),
        (put("ab"), false),
        (put("b/a/c"), false),
        (Access { action: "ecr:GetImage".to_owned(), ..put("a/b") }, false),
        (set.clone().with("ecr:AccountSetting", "BLOB_MOUNTING"), true),
        (set.clone().with("ecr:AccountSetting", "REGISTRY_POLICY_SCOPE"), false),
        (set, false),
    ] {
        assert_eq!(policy.allows(&access), expected, "{access}");
    }
}
