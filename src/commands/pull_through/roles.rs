//! What the roles must be that changes bring in: they are not made here, so a person is told.
//!
//! Pure. A role is of an account and of no region: what several registries need of it is one
//! document.

use serde_json::{Value, json};

use super::CacheSite;
use crate::{
    model::{
        SettingChange,
        ecr_settings::Encryption,
        pull_through::{Cache, UpstreamCredentials},
        setting_change::{Action, Subject},
    },
    pull_through::{
        Planned,
        changes::{Documents, Role, role_policy},
    },
};

/// What needs a role, and what that role must be, each once, in the order of the file.
pub(crate) fn needed<'a>(
    proposed: impl Iterator<Item = (&'a CacheSite<'a>, &'a [Planned])>,
) -> Vec<(String, Documents)> {
    let mut all: Vec<((String, String), Documents)> = Vec::new();
    for (site, planned) in proposed {
        for cache in &site.caches {
            for (kind, role) in roles(cache).into_iter().flatten() {
                let name = cache.prefix.to_string();
                let is_of_it = |change: &SettingChange| change.kind == kind && change.name == name;
                if !planned.iter().any(|it| is_of_it(&it.change) && brings_role(&it.change)) {
                    continue;
                }
                let known = (format!("{} {name}", kind.word()), site.registry.account.clone());
                let documents = role_policy(&site.registry, role);
                match all.iter_mut().find(|(other, _)| *other == known) {
                    Some((_, there)) => widen(&mut there.permissions, &documents.permissions),
                    None => all.push((known, documents)),
                }
            }
        }
    }
    all.into_iter().map(|((what, _), documents)| (what, documents)).collect()
}

/// The roles that a cache needs, and which change relies on each.
fn roles(cache: &Cache) -> [Option<(Subject, Role<'_>)>; 2] {
    let of_template = cache.template.as_ref().and_then(|template| {
        let encryption = template.settings.encryption.as_ref();
        let is_needed = template.role_arn.is_some()
            || !template.settings.tags.is_empty()
            || encryption.is_some_and(|encryption| *encryption != Encryption::Aes256);
        is_needed.then_some((Subject::Template, Role::Template(&cache.prefix, encryption)))
    });
    let of_rule = match cache.credentials {
        UpstreamCredentials::Role(_) => Some((Subject::Rule, Role::Upstream(cache))),
        _ => None,
    };
    [of_template, of_rule]
}

/// Whether a change relies on a role that was not relied on before, or not for this.
fn brings_role(change: &SettingChange) -> bool {
    let asks = |name: &str| ["role_arn", "encryption"].contains(&name) || name.starts_with("tags.");
    change.action != Action::Update || change.fields.iter().any(|field| asks(&field.name))
}

/// Adds the resources of the statements of `more` to those of the same id.
fn widen(policy: &mut Value, more: &Value) {
    let Some(statements) = policy["Statement"].as_array_mut() else { return };
    for new in more["Statement"].as_array().into_iter().flatten() {
        match statements.iter_mut().find(|known| known["Sid"] == new["Sid"]) {
            Some(known) => known["Resource"] = both(&known["Resource"], &new["Resource"]),
            None => statements.push(new.clone()),
        }
    }
}

/// Both without repeats, as a list where there are several.
fn both(one: &Value, other: &Value) -> Value {
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
    fn what_several_regions_need_of_a_role_is_one_document() {
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
    fn a_role_is_told_where_it_comes_in_and_not_with_every_change() {
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
            assert_eq!(brings_role(&change(action, field)), expected, "{action:?} {field}");
        }
    }
}
