//! IAM's limit on the length of a policy, and documents that keep it.

use serde_json::{Value, json};

use super::{
    grants::{EcrDestination, ecr_destinations},
    statements::document,
};
use crate::config::Config;

/// The length of a managed policy, in characters that are no white space.
///
/// Source: IAM user guide, "IAM and AWS STS quotas".
pub(crate) const LIMIT: usize = 6144;

/// Returns `true` if a managed policy can hold the document.
pub(crate) fn fits(document: &Value) -> bool {
    document.to_string().chars().filter(|c| !c.is_whitespace()).count() <= LIMIT
}

/// The document with a pattern instead of the repositories below the prefix of a destination:
/// those are this program's own.
pub(crate) fn by_prefix(mut whole: Value, config: &Config) -> Value {
    let prefixes = ecr_destinations(config).filter_map(|destination| {
        let EcrDestination { config, registry, .. } = destination;
        let (partition, region) = (registry.partition(), registry.region());
        let scope = format!("arn:{partition}:ecr:{region}:{}", registry.account());
        Some(format!("{scope}:repository/{}/", config.prefix.as_ref()?))
    });
    let prefixes: Vec<String> = prefixes.collect();
    for statement in whole["Statement"].as_array_mut().into_iter().flatten() {
        let Some(resources) = statement["Resource"].as_array_mut() else { continue };
        for resource in resources.iter_mut() {
            let arn = resource.as_str().unwrap_or_default();
            let prefix = prefixes.iter().find(|prefix| arn.starts_with(*prefix));
            if let Some(pattern) = prefix.map(|prefix| format!("{prefix}*")) {
                *resource = pattern.into();
            }
        }
        // they are sorted
        resources.dedup();
    }
    whole
}

/// Splits a document into documents that fit and together grant the same. Cuts lists of resources
/// only.
pub(crate) fn split(whole: &Value) -> Vec<Value> {
    let mut documents: Vec<Vec<Value>> = vec![Vec::new()];
    for statement in whole["Statement"].as_array().into_iter().flatten() {
        let resources: Vec<Value> = match &statement["Resource"] {
            Value::Array(resources) => resources.clone(),
            _ => {
                place(&mut documents, statement.clone());
                continue;
            }
        };
        let mut is_begun = false;
        for resource in resources {
            let last = documents.last_mut().expect("never empty");
            if is_begun && extend(last, &resource) {
                continue;
            }
            let mut part = statement.clone();
            part["Resource"] = json!([resource]);
            place(&mut documents, part);
            is_begun = true;
        }
    }
    documents.into_iter().map(document).collect()
}

/// Adds the statement to the last document, or to a new one if it does not fit.
fn place(documents: &mut Vec<Vec<Value>>, statement: Value) {
    let last = documents.last_mut().expect("never empty");
    last.push(statement);
    if last.len() > 1 && !fits(&document(last.clone())) {
        let statement = last.pop().into_iter().collect();
        documents.push(statement);
    }
}

/// Adds the resource to the last statement, if the document still fits.
fn extend(statements: &mut [Value], resource: &Value) -> bool {
    let last = statements.len() - 1;
    if let Some(list) = statements[last]["Resource"].as_array_mut() {
        list.push(resource.clone());
    }
    if fits(&document(statements.to_vec())) {
        return true;
    }
    statements[last]["Resource"].as_array_mut().map(Vec::pop);
    false
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::iam::{mirror_policy, pull_policy};

    /// A configuration with this prefix and 500 images, each in its own repository.
    fn config(prefix: &str) -> Config {
        let images: String = (0..500)
            .map(|index| {
                format!("[[image]]\nsource = \"quay.io/team/app-{index}\"\ntags = [\"1\"]\n")
            })
            .collect();
        let text = format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n{prefix}{images}"
        );
        Config::parse("mirror.toml", &text, std::path::Path::new("."), &|_| None).unwrap()
    }

    /// Every action on every resource, with its condition.
    fn grants(document: &Value) -> BTreeSet<String> {
        let statements = document["Statement"].as_array().unwrap();
        let all = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        let granted = statements.iter().flat_map(|it| {
            let (actions, condition) = (all(&it["Action"]), &it["Condition"]);
            let pairs = actions.into_iter().flat_map(move |action| {
                let resources = all(&it["Resource"]).into_iter();
                resources.map(move |resource| format!("{action} {resource} {condition}"))
            });
            pairs.collect::<Vec<_>>()
        });
        granted.collect()
    }

    #[test]
    fn the_split_documents_of_500_repositories_grant_exactly_what_the_whole_would() {
        let config = config("");
        for whole in [mirror_policy(&config), pull_policy(&config)] {
            assert!(!fits(&whole));
            let documents = split(&whole);
            assert!((2..=10).contains(&documents.len()), "{} documents", documents.len());
            for document in &documents {
                assert!(fits(document), "{document}");
                let statements = document["Statement"].as_array().unwrap();
                let sids: BTreeSet<_> = statements.iter().map(|it| it["Sid"].as_str()).collect();
                assert_eq!(sids.len(), statements.len(), "a `Sid` twice in {document}");
            }
            let union: BTreeSet<String> = documents.iter().flat_map(grants).collect();
            assert_eq!(union, grants(&whole));
        }
    }

    #[test]
    fn repositories_below_the_prefix_become_a_pattern_that_fits() {
        let config = config("prefix = \"mirror\"\n");
        for policy in [mirror_policy, pull_policy] {
            let whole = policy(&config);
            let short = by_prefix(whole.clone(), &config);
            assert!(!fits(&whole) && fits(&short));
            let pattern = "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/*";
            assert_eq!(short["Statement"][1]["Resource"], json!([pattern]));
        }
    }

    #[test]
    fn a_document_that_fits_is_not_split() {
        let whole = document(vec![json!({ "Sid": "Login", "Resource": "*" })]);
        assert_eq!(split(&whole), [whole]);
    }
}
