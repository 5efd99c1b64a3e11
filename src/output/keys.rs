//! The keys of `mirror.toml`, read from its JSON schema: for the manual page and `docs/keys.md`.
//!
//! Pure. The schema is the only source: a key without a row here is not in the schema.

use serde_json::Value;

/// A table of `mirror.toml`, in the order of the schema.
pub(crate) struct KeyTable {
    /// As it is written in the file, like `[[destination]]`.
    pub(crate) heading: String,
    pub(crate) purpose: String,
    pub(crate) keys: Vec<TableKey>,
}

pub(crate) struct TableKey {
    /// The name; keys of an inline table follow after a dot.
    pub(crate) name: String,
    pub(crate) form: String,
    pub(crate) purpose: String,
}

/// Reads every table and key of the schema.
pub(crate) fn tables(schema: &Value) -> Vec<KeyTable> {
    SchemaReader { schema }.read()
}

#[derive(Clone, Copy)]
struct SchemaReader<'a> {
    schema: &'a Value,
}

impl<'a> SchemaReader<'a> {
    fn read(self) -> Vec<KeyTable> {
        let mut tables = Vec::new();
        for (name, value) in members(&self.schema["properties"]) {
            let items = self.resolve(value);
            let (heading, table) = match (items.get("items"), items.get("additionalProperties")) {
                (Some(item), _) => (format!("[[{name}]]"), item),
                (None, Some(entry)) if entry.is_object() => {
                    let entry_name = if name == "images" { String::new() } else { example(name) };
                    (format!("[{name}{entry_name}]"), entry)
                }
                _ => (format!("[{name}]"), value),
            };
            let (keys, inner) = self.keys(table, |value| self.is_long(value));
            let path = heading.trim_matches(['[', ']']).to_owned();
            tables.push(KeyTable { heading, purpose: self.purpose(value), keys });
            for (name, value) in inner {
                let (keys, _) = self.keys(value, |_| false);
                let heading = format!("[{path}.{name}]");
                tables.push(KeyTable { heading, purpose: self.purpose(value), keys });
            }
        }
        tables
    }

    /// The keys of a table, and the tables inside it that have a heading of their own.
    fn keys(
        self,
        table: &'a Value,
        has_heading: impl Fn(&'a Value) -> bool,
    ) -> (Vec<TableKey>, Vec<(&'a String, &'a Value)>) {
        let properties = self.properties(table).map(members).into_iter().flatten();
        let (inner, plain) = properties.partition::<Vec<_>, _>(|(_, value)| has_heading(value));
        let mut keys = Vec::new();
        for (name, value) in plain {
            self.add_key(name, value, &mut keys);
        }
        (keys, inner)
    }

    fn add_key(self, name: &str, value: &'a Value, keys: &mut Vec<TableKey>) {
        let purpose = self.purpose(value);
        keys.push(TableKey { name: name.to_owned(), form: self.form(value), purpose });
        if let Some(properties) = self.properties(value).filter(|_| self.is_only_a_table(value)) {
            for (inner, value) in members(properties) {
                self.add_key(&format!("{name}.{inner}"), value, keys);
            }
        }
    }

    /// Returns `true` for a value that has a table of its own rather than a line.
    fn is_long(self, value: &'a Value) -> bool {
        self.is_only_a_table(value)
            && self.properties(value).is_some_and(|keys| members(keys).count() > 2)
    }

    fn is_only_a_table(self, value: &'a Value) -> bool {
        self.resolve(value)["type"] == "object"
    }

    /// The value, then each definition that the one before refers to by `$ref` or `allOf`.
    fn chain(self, value: &'a Value) -> impl Iterator<Item = &'a Value> {
        std::iter::successors(Some(value), move |value| {
            let name = value["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
            name.map_or_else(|| value["allOf"].get(0), |name| self.schema.pointer(name))
        })
    }

    /// The definition at the end of the references.
    fn resolve(self, value: &'a Value) -> &'a Value {
        self.chain(value).last().expect("a chain has its first value")
    }

    /// The properties of a table, or of the table among alternatives.
    fn properties(self, value: &'a Value) -> Option<&'a Value> {
        let value = self.resolve(value);
        let alternatives = value["anyOf"].as_array().into_iter().flatten();
        value.get("properties").or_else(|| alternatives.filter_map(|it| self.properties(it)).next())
    }

    /// The description nearest to the key, and its default.
    fn purpose(self, value: &'a Value) -> String {
        let field = |name: &str| self.chain(value).find_map(|value| value.get(name));
        let text = field("description").and_then(Value::as_str).unwrap_or_default();
        match field("default") {
            Some(default) if !text.contains("Default:") => {
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                format!("{text} Default: {default}.")
            }
            _ => text.to_owned(),
        }
    }

    /// The types and words that a value may have.
    fn form(self, value: &'a Value) -> String {
        let value = self.resolve(value);
        if let Some(alternatives) = value["anyOf"].as_array().or(value["oneOf"].as_array()) {
            // a variable is a string in any place
            let is_variable = |it: &&Value| it["$ref"] != "#/definitions/variable";
            let forms = alternatives.iter().filter(is_variable).map(|it| self.form(it));
            return forms.collect::<Vec<_>>().join(", ");
        }
        if let Some(words) = value["enum"].as_array() {
            let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
            return words.collect::<Vec<_>>().join(", ");
        }
        match value["type"].as_str() {
            Some("array") => "list".to_owned(),
            Some("object") => "table".to_owned(),
            Some(name) => name.to_owned(),
            None => "string".to_owned(),
        }
    }
}

/// The name of an entry in the heading of a table with free names.
fn example(table: &str) -> String {
    let name = match table {
        "registry" => "HOST",
        "repository" => "GLOB",
        _ => "NAME",
    };
    format!(".\"{name}\"")
}

fn members(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::{env, fmt::Write as _, fs, path::Path};

    use super::*;

    const SCHEMA: &str = include_str!("../../docs/schema/config.json");
    const HEAD: &str = "# Keys of `mirror.toml`\n\n\
        [Configuration](configuration.md) explains them, and [`mirror.toml.example`](../mirror.toml.example)\n\
        shows them in use. A name with a dot is a key of an inline table. This page is generated from\n\
        [the schema](schema/config.json), as is the manual page `mirror.toml(5)`.\n";

    /// One Markdown table for each table of the file.
    fn markdown(tables: &[KeyTable]) -> String {
        let mut page = String::new();
        for table in tables {
            let _ = write!(page, "\n## `{}`\n\n", table.heading);
            if !table.purpose.is_empty() {
                let _ = write!(page, "{}\n\n", table.purpose);
            }
            page += "| key | form | meaning |\n|---|---|---|\n";
            for TableKey { name, form, purpose } in &table.keys {
                let purpose = purpose.replace('|', "\\|");
                let _ = writeln!(page, "| `{name}` | {form} | {purpose} |");
            }
        }
        page
    }

    /// Compares the page with the schema; with `ECR_MIRROR_BLESS` writes it.
    #[test]
    fn the_page_of_keys_has_every_key_of_the_schema() {
        let page = HEAD.to_owned() + &markdown(&tables(&serde_json::from_str(SCHEMA).unwrap()));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keys.md");
        if env::var_os("ECR_MIRROR_BLESS").is_some() {
            fs::write(&path, &page).unwrap();
        }
        assert_eq!(fs::read_to_string(path).unwrap_or_default(), page);
        for key in ["max_connections", "encryption.type", "pull_time_exclusion", "at_least"] {
            assert!(page.contains(&format!("| `{key}` |")), "{key}");
        }
        assert!(page.contains("## `[destination.repositories]`"), "{page}");
    }

    #[test]
    fn every_key_has_a_form_and_a_meaning() {
        for table in tables(&serde_json::from_str(SCHEMA).unwrap()) {
            assert!(!table.keys.is_empty(), "{}", table.heading);
            for key in table.keys {
                assert!(!key.form.is_empty(), "{} {}", table.heading, key.name);
                assert!(!key.purpose.is_empty(), "{} {}", table.heading, key.name);
            }
        }
    }
}
