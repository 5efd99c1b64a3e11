//! The roles that planned changes rely on. `apply` does not create them: the command prints them.
//!
//! Pure. A role belongs to an account, not to a region: the needs of several registries of one
//! account are merged into one document.

use serde_json::{Value, json};

use super::preview::PlannedSite;
use crate::{
    model::{
        SettingChange,
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::changes::{Documents, Role, role_policy},
};

/// The documents of a role, and the setting that needs it.
pub(crate) struct NeededRole {
    /// Like `template docker-hub`.
    pub(crate) setting: String,
    account: String,
    pub(crate) documents: Documents,
}

/// The roles that the planned changes introduce, each once, in the order of the file.
pub(crate) fn needed_roles(sites: &[PlannedSite<'_>]) -> Vec<NeededRole> {
    let mut all: Vec<NeededRole> = Vec::new();
    for PlannedSite { site, planned, .. } in sites {
        for cache in &site.caches {
            for (kind, role) in roles(cache).into_iter().flatten() {
                let name = cache.prefix.to_string();
                let is_changed = |change: &SettingChange| {
                    change.kind == kind && change.name == name && introduces_role(change)
                };
                if !planned.iter().any(|planned| is_changed(&planned.change)) {
                    continue;
                }
                let setting = format!("{} {name}", kind.word());
                let account = site.registry.account.clone();
                let documents = role_policy(&site.registry, role);
                let is_same =
                    |role: &&mut NeededRole| (&role.setting, &role.account) == (&setting, &account);
                match all.iter_mut().find(is_same) {
                    Some(it) => widen(&mut it.documents.permissions, &documents.permissions),
                    None => all.push(NeededRole { setting, account, documents }),
                }
            }
        }
    }
    all
}

/// The roles that a cache has, each with the kind of setting that relies on it.
fn roles(cache: &Cache) -> [Option<(Subject, Role<'_>)>; 2] {
    let template = cache.template.as_ref().and_then(|template| {
        template.role_arn.as_ref()?;
        let encryption = template.settings.encryption.as_ref();
        Some((Subject::Template, Role::Template(&cache.prefix, encryption)))
    });
    let has_role = matches!(cache.credentials, UpstreamCredentials::Role(_));
    let rule = has_role.then_some((Subject::Rule, Role::Upstream(cache)));
    [template, rule]
}

/// Returns `true` if the change relies on a role that it did not need before.
fn introduces_role(change: &SettingChange) -> bool {
    let needs =
        |name: &str| ["role_arn", "encryption"].contains(&name) || name.starts_with("tags.");
    change.action != Action::Update || change.fields.iter().any(|field| needs(&field.name))
}

/// Adds the resources of the statements of `more` to the statements with the same `Sid`.
fn widen(policy: &mut Value, more: &Value) {
    let Some(statements) = policy["Statement"].as_array_mut() else { return };
    for new in more["Statement"].as_array().into_iter().flatten() {
        match statements.iter_mut().find(|known| known["Sid"] == new["Sid"]) {
            Some(known) => known["Resource"] = union(&known["Resource"], &new["Resource"]),
            None => statements.push(new.clone()),
        }
    }
}

/// The values of both without repeats: one value, or a list of several.
fn union(one: &Value, other: &Value) -> Value {
    let mut all: Vec<Value> = Vec::new();
    for value in [one, other] {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        all.extend(items.iter().filter(|item| !all.contains(item)).cloned().collect::<Vec<_>>());
    }
    if all.len() == 1 { all.remove(0) } else { json!(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_used_in_several_regions_is_one_document() {
        let policy = |resource: &str| {
            json!({ "Statement": [
                { "Sid": "LogIn", "Resource": "*" },
                { "Sid": "Read", "Resource": [resource, "upstream"] },
            ] })
        };
        let mut all = policy("eu");
        widen(&mut all, &policy("us"));
        let expected = json!({ "Statement": [
            { "Sid": "LogIn", "Resource": "*" },
            { "Sid": "Read", "Resource": ["eu", "upstream", "us"] },
        ] });
        assert_eq!(all, expected);
    }

    #[test]
    fn a_role_is_shown_with_the_changes_that_introduce_it() {
        let change = |action, field: &str| SettingChange {
            destination: String::new(),
            action,
            kind: Subject::Template,
            name: String::new(),
            fields: vec![crate::model::setting_change::Field {
                name: field.to_owned(),
                old: Value::Null,
                new: Value::Null,
            }],
            hint: None,
        };
        for (action, field, expected) in [
            (Action::Create, "lifecycle", true),
            (Action::Conflict, "lifecycle", true),
            (Action::Update, "lifecycle", false),
            (Action::Update, "tags.team", true),
            (Action::Update, "encryption", true),
            (Action::Update, "role_arn", true),
        ] {
            assert_eq!(introduces_role(&change(action, field)), expected, "{action:?} {field}");
        }
    }
}
