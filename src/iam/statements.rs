//! Statements of IAM documents, built from actions on repositories.
//!
//! Guards that a document names each repository once and that each `Sid` is unique.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::EcrHost;

/// Actions as IAM names them, like `ecr:PutImage`.
pub(super) type Actions = BTreeSet<&'static str>;

/// Account, region and partition of a registry.
type ResourceKey = (String, String, &'static str);

/// The actions on each repository of each registry.
#[derive(Debug, Default)]
pub(super) struct Grants(BTreeMap<ResourceKey, BTreeMap<String, Actions>>);

impl Grants {
    /// Grants these actions on the repositories that this name or wildcard matches.
    pub(super) fn add(&mut self, registry: &EcrHost, repository: &str, actions: &Actions) {
        let key =
            (registry.account().to_owned(), registry.region().to_owned(), registry.partition());
        let repositories = self.0.entry(key).or_default();
        repositories.entry(repository.to_owned()).or_default().extend(actions);
    }

    /// One statement for each registry and set of actions. Its `Sid` starts with `purpose`.
    pub(super) fn statements(self, purpose: impl Fn(&Actions) -> String) -> Vec<Value> {
        let mut sids: Vec<String> = Vec::new();
        let mut statements = Vec::new();
        for ((account, region, partition), repositories) in self.0 {
            let mut by_actions: BTreeMap<Actions, Vec<String>> = BTreeMap::new();
            for (repository, actions) in repositories {
                let arn = format!("arn:{partition}:ecr:{region}:{account}:repository/{repository}");
                by_actions.entry(actions).or_default().push(arn);
            }
            for (actions, arns) in by_actions {
                let name = format!("{}{account}{}", purpose(&actions), camel_case(&region));
                let repeats = sids.iter().filter(|sid| sid.starts_with(&name)).count();
                let sid = if repeats == 0 { name } else { format!("{name}No{}", repeats + 1) };
                statements.push(allow(&sid, &actions, json!(arns)));
                sids.push(sid);
            }
        }
        statements
    }
}

pub(super) fn allow(sid: &str, actions: &Actions, resource: Value) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource })
}

pub(super) fn allow_if(sid: &str, actions: &Actions, resource: Value, condition: Value) -> Value {
    let mut statement = allow(sid, actions, resource);
    statement["Condition"] = condition;
    statement
}

pub(super) fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// `eu-west-1` as `EuWest1`: a `Sid` consists of letters and digits.
fn camel_case(region: &str) -> String {
    let capitalize = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    };
    region.split('-').map(capitalize).collect()
}
