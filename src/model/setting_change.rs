//! What is changed besides images: settings of repositories and of the account around them, and
//! what belongs to the pull-through cache.
//!
//! A change is a value: a plan shows it, a run carries it out and says so. It never holds a secret.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// How much of a value is shown to a person in one line with others, in characters.
const SHOWN: usize = 100;

/// One thing that is brought to what the configuration writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingChange {
    /// The registry.
    pub destination: String,
    /// What becomes of it.
    pub action: Action,
    /// What it is.
    pub kind: Subject,
    /// Its name: a repository's, an account's.
    pub name: String,
    /// What differs; nothing where something goes as a whole.
    #[serde(serialize_with = "by_name")]
    pub fields: Vec<Field>,
    /// What a person can do about a conflict, or should know before it is carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is made.
    Create,
    /// It stays, with other settings.
    Update,
    /// It is removed and made anew: what differs cannot be changed.
    Replace,
    /// It is removed.
    Delete,
    /// Nothing, as it cannot be done or was not asked for.
    Conflict,
}

impl Action {
    /// The mark in front of a line, as in `terraform plan`.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Create => "+",
            Self::Update => "~",
            Self::Replace => "-/+",
            Self::Delete => "-",
            Self::Conflict => "!",
        }
    }
}

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A repository.
    Repository,
    /// An account in a region.
    Account,
    /// A pull-through cache rule.
    Rule,
    /// A secret of Secrets Manager.
    Secret,
    /// A repository creation template.
    Template,
    /// The policy of a registry.
    RegistryPolicy,
    /// A setting of an account in a region.
    AccountSetting,
}

impl Subject {
    /// In a word or two.
    pub fn word(self) -> &'static str {
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

/// A setting by its name in the configuration, as it is and as it is to be; `null` is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// The setting.
    pub name: String,
    /// What it is.
    pub old: Value,
    /// What it is to be.
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

impl SettingChange {
    /// What is changed, and how: `~ rule docker-hub of r.example`.
    pub fn heading(&self) -> String {
        let (mark, word) = (self.action.mark(), self.kind.word());
        match self.kind {
            Subject::Repository => format!("{mark} {word} {}/{}", self.destination, self.name),
            _ => format!("{mark} {word} {} of {}", self.name, self.destination),
        }
    }

    /// What differs, one by one, like `credential_arn: none → arn:…`; values are cut after `most`
    /// characters.
    pub fn details(&self, most: usize) -> Vec<String> {
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
    fn a_change_reads_as_a_line_and_as_data() {
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
