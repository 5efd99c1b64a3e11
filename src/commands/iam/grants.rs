//! What is done to which repositories, gathered into statements.
//!
//! Pure. Guards that a document names each repository once, which keeps it below the size that IAM
//! takes, and that no two statements have one name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::model::EcrHost;

/// Actions as IAM names them, like `ecr:PutImage`.
pub(crate) type Actions = BTreeSet<&'static str>;

/// A registry: its account, its region, its partition.
type ResourceKey = (String, String, &'static str);

/// The actions on each repository of each registry.
#[derive(Debug, Default)]
pub(crate) struct Grants(BTreeMap<ResourceKey, BTreeMap<String, Actions>>);

impl Grants {
    /// Grants these actions on the repositories that this name or wildcard matches.
    pub(crate) fn add(&mut self, registry: &EcrHost, repository: &str, actions: &Actions) {
        let place =
            (registry.account().to_owned(), registry.region().to_owned(), registry.partition());
        let of_registry = self.0.entry(place).or_default();
        of_registry.entry(repository.to_owned()).or_default().extend(actions);
    }

    /// A statement for each registry and set of actions; `purpose` begins its name.
    pub(crate) fn statements(self, purpose: impl Fn(&Actions) -> String) -> Vec<Value> {
        let mut names: Vec<String> = Vec::new();
        let mut statements = Vec::new();
        for ((account, region, partition), repositories) in self.0 {
            let mut by_actions: BTreeMap<Actions, Vec<String>> = BTreeMap::new();
            for (repository, actions) in repositories {
                let arn = format!("arn:{partition}:ecr:{region}:{account}:repository/{repository}");
                by_actions.entry(actions).or_default().push(arn);
            }
            for (actions, arns) in by_actions {
                let name = format!("{}{account}{}", purpose(&actions), camel(&region));
                let alike = names.iter().filter(|sid| sid.starts_with(&name)).count();
                // a Sid stands once in a document
                let sid = if alike == 0 { name } else { format!("{name}No{}", alike + 1) };
                statements.push(allow(&sid, &actions, json!(arns)));
                names.push(sid);
            }
        }
        statements
    }
}

/// A statement that allows these actions on this resource or these.
pub(crate) fn allow(sid: &str, actions: &Actions, resource: Value) -> Value {
    json!({ "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource })
}

/// The statements as a document.
pub(crate) fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// `eu-west-1` as `EuWest1`: a Sid has letters and digits only.
fn camel(region: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    };
    region.split('-').map(capital).collect()
}
