//! Writes the parts of Terraform's language that an export needs.
//!
//! Escapes quotes and templates in every text. The layout is that of `terraform fmt`.

use std::fmt;

use serde::Serialize;
use serde_json::{Value, json};

/// Limit for a list on one line, in characters.
const LINE: usize = 88;

/// A document, written from top to bottom.
#[derive(Debug, Default)]
pub(super) struct HclDocument {
    lines: Vec<HclLine>,
    depth: usize,
}

#[derive(Debug)]
struct HclLine {
    depth: usize,
    text: String,
    /// The value of an attribute that fits on one line.
    value: Option<String>,
}

impl HclDocument {
    /// Comments every line of the text.
    pub(super) fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(format!("# {line}").trim_end().to_owned(), None);
        }
    }

    /// An empty line.
    pub(super) fn gap(&mut self) {
        self.line(String::new(), None);
    }

    /// A block under this head, like `resource "type" "name"`.
    pub(super) fn block(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.line(format!("{head} {{"), None);
        self.depth += 1;
        body(self);
        self.depth -= 1;
        self.line("}".to_owned(), None);
    }

    /// An empty line and a block.
    pub(super) fn section(&mut self, head: &str, body: impl FnOnce(&mut Self)) {
        self.gap();
        self.block(head, body);
    }

    /// An attribute whose value is data.
    pub(super) fn set(&mut self, name: &str, value: impl Serialize) {
        self.value(Some(name), "", &json!(value), "");
    }

    pub(super) fn set_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// An attribute whose value is this data as JSON text.
    pub(super) fn set_json(&mut self, name: &str, value: &Value) {
        self.value(Some(name), "jsonencode(", value, ")");
    }

    /// An attribute whose value is an expression.
    pub(super) fn set_expression(&mut self, name: &str, expression: &str) {
        self.line(name.to_owned(), Some(expression.to_owned()));
    }

    /// An attribute whose value is the call of a function with an object of expressions.
    pub(super) fn set_call(&mut self, name: &str, function: &str, members: &[(&str, &str)]) {
        self.expressions(&format!("{name} = {function}("), members, ")");
    }

    /// An attribute whose value is an object of expressions.
    pub(super) fn set_object(&mut self, name: &str, members: &[(&str, &str)]) {
        self.expressions(&format!("{name} = "), members, "");
    }

    fn expressions(&mut self, lead: &str, members: &[(&str, &str)], tail: &str) {
        self.line(format!("{lead}{{"), None);
        self.depth += 1;
        for (name, expression) in members {
            self.set_expression(name, expression);
        }
        self.depth -= 1;
        self.line(format!("}}{tail}"), None);
    }

    /// A value with its name, or an element of a list, between `lead` and `tail`.
    fn value(&mut self, name: Option<&str>, lead: &str, value: &Value, tail: &str) {
        if let Some(inline) = inline(value) {
            let text = format!("{lead}{inline}{tail}");
            return match name {
                Some(name) => self.set_expression(name, &text),
                None => self.line(text, None),
            };
        }
        let head = name.map(|name| format!("{name} = ")).unwrap_or_default();
        let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
        self.line(format!("{head}{lead}{open}"), None);
        self.depth += 1;
        for element in value.as_array().into_iter().flatten() {
            self.value(None, "", element, ",");
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            self.value(Some(&key(name)), "", member, "");
        }
        self.depth -= 1;
        self.line(format!("{close}{tail}"), None);
    }

    fn line(&mut self, text: String, value: Option<String>) {
        self.lines.push(HclLine { depth: self.depth, text, value });
    }
}

impl fmt::Display for HclDocument {
    /// Aligns the equals signs of consecutive attributes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let consecutive = |a: &HclLine, b: &HclLine| a.value.is_some() && b.value.is_some();
        for chain in self.lines.chunk_by(consecutive) {
            let names = chain.iter().map(|line| line.text.chars().count());
            let width = names.max().unwrap_or_default();
            for HclLine { depth, text, value } in chain {
                let indent = if text.is_empty() { 0 } else { 2 * depth };
                match value {
                    Some(value) => writeln!(f, "{:indent$}{text:<width$} = {value}", "")?,
                    None => writeln!(f, "{:indent$}{text}", "")?,
                }
            }
        }
        Ok(())
    }
}

/// The value on one line; `None` if it needs several.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => Some(quoted(text)),
        Value::Object(members) => members.is_empty().then(|| "{}".to_owned()),
        Value::Array(elements) => {
            let is_nested = |it: &Value| it.is_array() || it.is_object();
            if elements.iter().any(is_nested) {
                return None;
            }
            let elements: Vec<String> = elements.iter().filter_map(inline).collect();
            let list = format!("[{}]", elements.join(", "));
            (elements.len() < 2 || list.chars().count() <= LINE).then_some(list)
        }
    }
}

/// The name of an object's member: quoted, unless it is an identifier and not a keyword.
fn key(name: &str) -> String {
    const KEYWORDS: [&str; 5] = ["for", "if", "null", "true", "false"];
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_word = name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
        && !KEYWORDS.contains(&name);
    if is_word { name.to_owned() } else { quoted(name) }
}

/// The text in quotes, with templates escaped.
///
/// Source: HCL native syntax specification, "Template Expressions".
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '$' | '%' if rest.peek() == Some(&'{') => quoted.extend([c, c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A resource name: letters, digits and underscores, without a leading digit.
pub(super) fn label(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let label: String = text.chars().map(plain).collect();
    if label.starts_with(|c: char| c.is_ascii_alphabetic()) { label } else { format!("_{label}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_templates_are_escaped() {
        for (text, expected) in [
            ("plain", r#""plain""#),
            (r#"a "b" \c"#, r#""a \"b\" \\c""#),
            ("a\nb\tc\rd", r#""a\nb\tc\rd""#),
            ("${aws:username} %{if}", r#""$${aws:username} %%{if}""#),
            ("$5 50% $$ {", r#""$5 50% $$ {""#),
            ("$${", r#""$$${""#),
            ("\u{1b}", r#""\u001b""#),
            ("é…", "\"é…\""),
        ] {
            assert_eq!(quoted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn labels_are_valid_resource_names() {
        for (text, expected) in [
            ("docker-hub", "docker_hub"),
            ("ROOT", "root"),
            ("a/b.c", "a_b_c"),
            ("1password", "_1password"),
            ("", "_"),
        ] {
            assert_eq!(label(text), expected, "{text}");
        }
    }

    #[test]
    fn data_has_the_layout_of_terraform_fmt() {
        let mut document = HclDocument::default();
        document.comment("one\n\ntwo");
        document.block("resource \"a\" \"b\"", |block| {
            block.set("a", "x");
            block.set("longer", json!(["x", 1, true, null]));
            block.set_expression("role", "aws_x.y.arn");
            block.gap();
            block.set_json(
                "policy",
                &json!({
                    "Version": "1",
                    "for": {},
                    "Statement": [{ "aws:Id": ["${x}"] }, [[]]],
                    "Action": vec!["0123456789"; 8],
                }),
            );
            block.set("tags", json!({ "a b": "c" }));
        });
        let expected = r#"# one
#
# two
resource "a" "b" {
  a      = "x"
  longer = ["x", 1, true, null]
  role   = aws_x.y.arn

  policy = jsonencode({
    Version = "1"
    "for"   = {}
    Statement = [
      {
        "aws:Id" = ["$${x}"]
      },
      [
        [],
      ],
    ]
    Action = [
      "0123456789",
      "0123456789",
      "0123456789",
      "0123456789",
      "0123456789",
      "0123456789",
      "0123456789",
      "0123456789",
    ]
  })
  tags = {
    "a b" = "c"
  }
}
"#;
        assert_eq!(document.to_string(), expected);
    }
}
