//! The stored pull-through cache rules, and the look-up of the rule that covers a repository.

use std::collections::BTreeMap;

use serde_json::Value;

use super::registry::Registry;

pub(super) const RULES: &str = "pull-through-rules";

pub(super) type Rules = BTreeMap<String, Value>;

pub(super) struct MatchedRule {
    /// The upstream, without a scheme.
    pub url: String,
    /// The repository's name there.
    pub repository: String,
    /// The ARN of the rule's secret.
    pub credential: Option<String>,
}

/// The rule that covers a repository: the one with the longest prefix.
///
/// Source: documented for templates, assumed for rules.
pub(super) fn matching_rule(registry: &Registry, repository: &str) -> Option<MatchedRule> {
    let rules: Rules = registry.document(RULES);
    let below = |prefix: &str, rule: &Value| {
        let rest = match prefix {
            "ROOT" => Some(repository),
            prefix => repository.strip_prefix(prefix)?.strip_prefix('/'),
        };
        let length = if prefix == "ROOT" { 0 } else { prefix.len() };
        Some((length, rest?.to_owned(), rule.clone()))
    };
    let rules = rules.iter().filter_map(|(prefix, rule)| below(prefix, rule));
    let (_, rest, rule) = rules.max_by_key(|(length, ..)| *length)?;
    let text = |member: &str| rule[member].as_str().map(str::to_owned);
    let repository = match rule["upstreamRepositoryPrefix"].as_str() {
        None | Some("ROOT") => rest,
        Some(prefix) => format!("{prefix}/{rest}"),
    };
    let url = text("upstreamRegistryUrl").unwrap_or_default();
    Some(MatchedRule { url, repository, credential: text("credentialArn") })
}
