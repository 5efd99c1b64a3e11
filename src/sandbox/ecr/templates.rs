//! The stored repository creation templates, and the settings that they give new repositories.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    error::EcrError,
    registry::{Registry, Settings},
};

pub(super) const TEMPLATES: &str = "repository-creation-templates";

pub(super) type Templates = BTreeMap<String, Value>;

/// Creates a repository for a push if a template allows that.
///
/// Errors: `RepositoryNotFoundException` without such a template.
pub(super) fn create_on_push(registry: &Registry, repository: &str) -> Result<(), EcrError> {
    let settings = settings_for(registry, repository, "CREATE_ON_PUSH");
    let settings =
        settings.ok_or_else(|| EcrError::repository_not_found(repository, &registry.account))?;
    let made = registry.create(repository, settings);
    // a concurrent push may have created it
    match made {
        Err(refusal) if refusal.name != "RepositoryAlreadyExistsException" => Err(refusal),
        _ => Ok(()),
    }
}

/// The settings of a repository that the pull-through cache creates: its template's, or ECR's
/// defaults.
pub(super) fn cached_settings(registry: &Registry, repository: &str) -> Settings {
    settings_for(registry, repository, "PULL_THROUGH_CACHE").unwrap_or_default()
}

/// The settings of the template that applies for this reason; the longest prefix wins.
fn settings_for(registry: &Registry, repository: &str, reason: &str) -> Option<Settings> {
    let templates: Templates = registry.document(TEMPLATES);
    let matches = |prefix: &str, template: &Value| {
        let below = repository.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        let mut reasons = template["appliedFor"].as_array().into_iter().flatten();
        (prefix == "ROOT" || below) && reasons.any(|applied| applied == reason)
    };
    let length = |prefix: &str| if prefix == "ROOT" { 0 } else { prefix.len() };
    let template = templates
        .iter()
        .filter(|(prefix, template)| matches(prefix, template))
        .max_by_key(|(prefix, _)| length(prefix))?;
    Some(from_template(template.1))
}

fn from_template(template: &Value) -> Settings {
    let text = |field: &str| template[field].as_str().filter(|text| !text.is_empty());
    let list = |field: &str| template[field].as_array().into_iter().flatten();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Settings {
        mutability: text("imageTagMutability").unwrap_or("MUTABLE").to_owned(),
        exclusions: list("imageTagMutabilityExclusionFilters")
            .map(|f| word(&f["filter"]))
            .collect(),
        encryption: template["encryptionConfiguration"].clone(),
        tags: list("resourceTags").map(|tag| (word(&tag["Key"]), word(&tag["Value"]))).collect(),
        policy: text("repositoryPolicy").map(str::to_owned),
        lifecycle: text("lifecyclePolicy").map(str::to_owned),
        ..Settings::default()
    }
}
