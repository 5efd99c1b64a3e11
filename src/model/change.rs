//! What a run changes besides images: settings of repositories and of the account around them.
//!
//! A change is a value: `plan` shows it, `sync` carries it out and says so.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;

/// How much of a value is shown to a person, in characters.
const SHOWN: usize = 100;

/// One thing that is brought to what the configuration writes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The registry.
    pub destination: String,
    /// What becomes of it.
    pub action: Action,
    /// What it is.
    pub kind: Subject,
    /// Its name: a repository's, an account's.
    pub name: String,
    /// What differs, never nothing.
    #[serde(serialize_with = "by_name")]
    pub fields: Vec<Field>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays, with other settings.
    Update,
}

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A repository.
    Repository,
    /// An account in a region.
    Account,
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

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Subject::Repository => write!(f, "~ repository {}/{}: ", self.destination, self.name)?,
            Subject::Account => write!(f, "~ account {} of {}: ", self.name, self.destination)?,
        }
        for (at, Field { name, old, new }) in self.fields.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {} → {}", shown(old), shown(new))?;
        }
        Ok(())
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN) {
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
        let change = Change {
            destination: "r.example".to_owned(),
            action: Action::Update,
            kind: Subject::Repository,
            name: "mirror/nginx".to_owned(),
            fields: vec![
                field("scan_on_push", json!(false), json!(true)),
                field("lifecycle", Value::Null, json!({ "rules": "x".repeat(200) })),
            ],
        };
        let line = change.to_string();
        let start = "~ repository r.example/mirror/nginx: scan_on_push false → true, lifecycle none → {\"rules\":\"xxx";
        assert!(line.starts_with(start) && line.ends_with("x…"), "{line}");
        let data = serde_json::to_value(&change).unwrap();
        assert_eq!(data["fields"]["scan_on_push"], json!([false, true]));
        assert_eq!((&data["action"], &data["kind"]), (&json!("update"), &json!("repository")));
    }
}
