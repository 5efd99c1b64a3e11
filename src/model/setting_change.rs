//! Changes of settings: of repositories, of accounts, and of the pull-through cache.
//!
//! A change is a value: a plan shows it, a run applies and reports it. It never contains a secret.

use std::fmt;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// The characters of a value that one line shows.
const SHOWN: usize = 100;

/// A change of one resource towards the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct SettingChange {
    pub destination: String,
    pub action: Action,
    pub kind: Subject,
    pub name: String,
    /// The settings that differ; can be empty for a deletion.
    #[serde(serialize_with = "by_name", deserialize_with = "from_names")]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, [Value; 2]>"))]
    pub fields: Vec<Field>,
    /// The fix of a conflict, or a consequence to know before the change is applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    /// Deletes and creates it, because the settings cannot be changed.
    Replace,
    Delete,
    /// No action: the change is impossible or was not requested.
    Conflict,
}

impl Action {
    /// The mark of `terraform plan`.
    pub(crate) fn mark(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
            Self::Conflict => "!",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    Repository,
    Account,
    Rule,
    Secret,
    Template,
    RegistryPolicy,
    AccountSetting,
}

impl Subject {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Account => "account",
            Self::Rule => "rule",
            Self::Secret => "secret",
            Self::Template => "template",
            Self::RegistryPolicy => "registry policy",
            Self::AccountSetting => "account setting",
        }
    }
}

/// A setting with its old and new value; `null` if it is not set.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    pub name: String,
    pub old: Value,
    pub new: Value,
}

/// `{ "scan_on_push": [false, true] }`
fn by_name<S: Serializer>(fields: &[Field], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(fields.len()))?;
    for Field { name, old, new } in fields {
        map.serialize_entry(name, &[old, new])?;
    }
    map.end()
}

fn from_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Field>, D::Error> {
    let fields = serde_json::Map::<String, Value>::deserialize(deserializer)?;
    let fields = fields.into_iter().map(|(name, values)| {
        let [old, new] = serde_json::from_value(values).map_err(serde::de::Error::custom)?;
        Ok(Field { name, old, new })
    });
    fields.collect()
}

impl SettingChange {
    /// The action and the resource: `~ rule docker-hub of r.example`.
    pub(crate) fn heading(&self) -> String {
        let (mark, word) = (self.action.mark(), self.kind.word());
        match self.kind {
            Subject::Repository => format!("{mark} {word} {}/{}", self.destination, self.name),
            _ => format!("{mark} {word} {} of {}", self.name, self.destination),
        }
    }

    /// The settings that differ, like `credential_arn: none → arn:…`. Values are cut after `most`
    /// characters.
    pub(crate) fn details(&self, most: usize) -> Vec<String> {
        let detail = |Field { name, old, new }: &Field| match self.action {
            Action::Create => format!("{name}: {}", shown(new, most)),
            Action::Delete => format!("{name}: {}", shown(old, most)),
            _ => format!("{name}: {} → {}", shown(old, most), shown(new, most)),
        };
        self.fields.iter().map(detail).collect()
    }
}

impl fmt::Display for SettingChange {
    /// One line, like `~ rule docker-hub of r.example (credential_arn: none → arn:…)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.heading())?;
        match &self.details(SHOWN)[..] {
            [] => Ok(()),
            details => write!(f, " ({})", details.join(", ")),
        }
    }
}

fn shown(value: &Value, most: usize) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_written_as_a_line_and_as_json() {
        let field = |name: &str, old: Value, new: Value| Field { name: name.to_owned(), old, new };
        let change = SettingChange {
            destination: "r.example".to_owned(),
            action: Action::Update,
            kind: Subject::Repository,
            name: "mirror/nginx".to_owned(),
            fields: vec![
                field("scan_on_push", json!(false), json!(true)),
                field("lifecycle", Value::Null, json!({ "rules": "x".repeat(200) })),
            ],
            hint: None,
        };
        let line = change.to_string();
        let start = "~ repository r.example/mirror/nginx (scan_on_push: false → true, lifecycle: none → {\"rules\":\"xxx";
        assert!(line.starts_with(start) && line.ends_with("x…)"), "{line}");
        let data = serde_json::to_value(&change).unwrap();
        assert_eq!(data["fields"]["scan_on_push"], json!([false, true]));
        assert_eq!((&data["action"], &data["kind"]), (&json!("update"), &json!("repository")));
        assert_eq!(data.get("hint"), None);
        let kept = vec![field("url", Value::Null, json!("quay.io"))];
        let rule =
            SettingChange { action: Action::Create, kind: Subject::Rule, fields: kept, ..change };
        assert_eq!(rule.to_string(), "+ rule mirror/nginx of r.example (url: quay.io)");
        let gone = SettingChange { action: Action::Delete, fields: Vec::new(), ..rule };
        assert_eq!(gone.to_string(), "- rule mirror/nginx of r.example");
    }
}
