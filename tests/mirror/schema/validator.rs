//! Validates JSON against a JSON schema, draft 7: the keywords that the schemas of this project use.

use regex::Regex;
use serde_json::Value;

/// Keywords that describe and do not restrict.
const ANNOTATIONS: [&str; 7] =
    ["$schema", "$id", "title", "description", "default", "definitions", "format"];

/// A schema document.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap())
    }

    /// The definition of this name; the whole schema for an empty one.
    pub(crate) fn definition(&self, name: &str) -> &Value {
        match name {
            "" => &self.0,
            _ => self.0["definitions"].get(name).unwrap_or_else(|| panic!("no definition {name}")),
        }
    }

    /// The names of the definitions that list the keys of a table.
    pub(crate) fn tables(&self) -> Vec<&str> {
        let definitions = self.0["definitions"].as_object().unwrap().iter();
        let tables = definitions.filter(|(_, schema)| schema.get("properties").is_some());
        tables.map(|(name, _)| name.as_str()).collect()
    }

    /// The schema behind a reference.
    fn resolve(&self, schema: &Value) -> &Value {
        let path = schema.as_str().and_then(|path| path.strip_prefix('#'));
        let found = path.and_then(|path| self.0.pointer(path));
        found.unwrap_or_else(|| panic!("not a definition: {schema}"))
    }

    /// The words that the schema lists as values.
    pub(crate) fn words<'a>(&'a self, schema: &'a Value) -> Vec<&'a str> {
        let own = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let own = own.map(|word| word.as_str().unwrap());
        let referenced = schema.get("$ref").map(|path| self.resolve(path)).into_iter();
        let parts = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        own.chain(referenced.chain(parts).flat_map(|part| self.words(part))).collect()
    }

    /// Returns the first place of `value` that the schema refuses, with the keyword.
    pub(crate) fn problem(&self, value: &Value) -> Option<String> {
        self.refused(&self.0, value, "")
    }

    fn refused(&self, schema: &Value, value: &Value, at: &str) -> Option<String> {
        let Value::Object(keywords) = schema else {
            return (schema != &Value::Bool(true)).then(|| format!("{at}: not allowed"));
        };
        keywords.iter().find_map(|(keyword, rule)| {
            match self.keyword(keyword, rule, schema, value, at) {
                Ok(()) => None,
                Err(inner) => {
                    Some(inner.unwrap_or_else(|| format!("{at}: {keyword} {rule}: {value}")))
                }
            }
        })
    }

    /// Checks one keyword. The error is that of an inner value, if there is one.
    fn keyword(
        &self,
        keyword: &str,
        rule: &Value,
        schema: &Value,
        value: &Value,
        at: &str,
    ) -> Result<(), Option<String>> {
        let holds = |holds: bool| if holds { Ok(()) } else { Err(None) };
        let inner = |problem: Option<String>| problem.map_or(Ok(()), |problem| Err(Some(problem)));
        let parts = || rule.as_array().unwrap().iter();
        let limit = || rule.as_f64().unwrap();
        let (object, array) = (value.as_object(), value.as_array());
        match keyword {
            "$ref" => inner(self.refused(self.resolve(rule), value, at)),
            "allOf" => inner(parts().find_map(|part| self.refused(part, value, at))),
            "anyOf" => holds(parts().any(|part| self.refused(part, value, at).is_none())),
            "oneOf" => {
                holds(parts().filter(|part| self.refused(part, value, at).is_none()).count() == 1)
            }
            "enum" => holds(parts().any(|word| word == value)),
            "const" => holds(rule == value),
            "type" if rule.is_array() => holds(parts().any(|kind| is_of_type(value, kind))),
            "type" => holds(is_of_type(value, rule)),
            "minimum" => holds(value.as_f64().is_none_or(|number| number >= limit())),
            "maximum" => holds(value.as_f64().is_none_or(|number| number <= limit())),
            "pattern" => {
                let pattern = Regex::new(rule.as_str().unwrap()).unwrap();
                holds(value.as_str().is_none_or(|text| pattern.is_match(text)))
            }
            "minItems" => holds(array.is_none_or(|items| items.len() as f64 >= limit())),
            "maxItems" => holds(array.is_none_or(|items| items.len() as f64 <= limit())),
            "minProperties" => holds(object.is_none_or(|keys| keys.len() as f64 >= limit())),
            "required" => holds(object.is_none_or(|object| {
                parts().all(|key| object.contains_key(key.as_str().unwrap()))
            })),
            "items" => {
                let items = array.into_iter().flatten().enumerate();
                let schema = |index: usize| match rule {
                    Value::Array(schemas) => schemas.get(index),
                    schema => Some(schema),
                };
                let mut checked = items.filter_map(|(index, item)| {
                    self.refused(schema(index)?, item, &format!("{at}/{index}"))
                });
                inner(checked.next())
            }
            "properties" => {
                let known = rule.as_object().unwrap().iter();
                let mut checked = known.filter_map(|(key, schema)| {
                    self.refused(schema, object?.get(key)?, &format!("{at}/{key}"))
                });
                inner(checked.next())
            }
            "patternProperties" => {
                let known = rule.as_object().unwrap().iter();
                let mut checked = known.flat_map(|(pattern, schema)| {
                    let pattern = Regex::new(pattern).unwrap();
                    let matching = object.into_iter().flatten();
                    let matching = matching.filter(move |(key, _)| pattern.is_match(key));
                    matching.filter_map(move |(key, item)| {
                        self.refused(schema, item, &format!("{at}/{key}"))
                    })
                });
                inner(checked.next())
            }
            "additionalProperties" => {
                let others = object.into_iter().flatten();
                let patterns = schema["patternProperties"].as_object().into_iter().flatten();
                let patterns: Vec<_> = patterns.map(|(it, _)| Regex::new(it).unwrap()).collect();
                let is_named = |key: &str| {
                    schema["properties"].get(key).is_some()
                        || patterns.iter().any(|pattern| pattern.is_match(key))
                };
                let mut others = others.filter(|(key, _)| !is_named(key));
                inner(
                    others.find_map(|(key, item)| self.refused(rule, item, &format!("{at}/{key}"))),
                )
            }
            other => {
                assert!(ANNOTATIONS.contains(&other), "the validator does not know `{other}`");
                Ok(())
            }
        }
    }

    /// The keys of `value` that the schema does not name, although it allows them.
    pub(crate) fn unnamed_keys(&self, value: &Value) -> Vec<String> {
        self.unnamed(&self.0, value)
    }

    fn unnamed(&self, schema: &Value, value: &Value) -> Vec<String> {
        if let Some(path) = schema.get("$ref") {
            return self.unnamed(self.resolve(path), value);
        }
        let parts = ["anyOf", "allOf"].iter().filter_map(|key| schema.get(key)?.as_array());
        let least = parts.flatten().map(|part| self.unnamed(part, value)).min_by_key(Vec::len);
        if let Some(least) = least {
            return least;
        }
        match value {
            Value::Array(items) => match schema.get("items") {
                Some(schema) => items.iter().flat_map(|item| self.unnamed(schema, item)).collect(),
                None => Vec::new(),
            },
            Value::Object(object) if schema.get("properties").is_some() => {
                let inner = |(key, item)| match schema["properties"].get(key) {
                    Some(schema) => self.unnamed(schema, item),
                    None => vec![String::clone(key)],
                };
                object.iter().flat_map(inner).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn is_of_type(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("not a type: {other}"),
    }
}
