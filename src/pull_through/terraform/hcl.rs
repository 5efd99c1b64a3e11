//! Terraform's language, as much of it as is written here.
//!
//! Guards that no text breaks out of its quotes or is taken for a template, and that the layout is
//! that of `terraform fmt`.

use std::fmt;

use serde_json::Value;

/// How long a list may be to stand on one line, in characters.
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
    /// What follows the equals sign, where the line is an attribute as a whole.
    value: Option<String>,
}

impl HclDocument {
    /// A comment; every line of the text is one.
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

    /// An attribute whose value is data.
    pub(super) fn set(&mut self, name: &str, value: &Value) {
        self.value(Some(name), ("", ""), value);
    }

    /// An attribute whose value is the JSON text of this data.
    pub(super) fn set_json(&mut self, name: &str, value: &Value) {
        self.value(Some(name), ("jsonencode(", ")"), value);
    }

    /// An attribute whose value is an expression, written as it is.
    pub(super) fn set_expression(&mut self, name: &str, expression: &str) {
        self.line(name.to_owned(), Some(expression.to_owned()));
    }

    /// An attribute whose value is the JSON text of an object of expressions.
    pub(super) fn set_call(&mut self, name: &str, members: &[(&str, &str)]) {
        self.object(&format!("{name} = jsonencode({{"), members, "})");
    }

    /// An attribute whose value is the type of an object of texts.
    pub(super) fn set_type(&mut self, name: &str, members: &[&str]) {
        let members: Vec<(&str, &str)> = members.iter().map(|member| (*member, "string")).collect();
        self.object(&format!("{name} = object({{"), &members, "})");
    }

    fn object(&mut self, head: &str, members: &[(&str, &str)], end: &str) {
        self.line(head.to_owned(), None);
        self.depth += 1;
        for (name, expression) in members {
            self.set_expression(name, expression);
        }
        self.depth -= 1;
        self.line(end.to_owned(), None);
    }

    /// A value after its name, or as an element of a list, between a lead and a tail.
    fn value(&mut self, name: Option<&str>, (lead, tail): (&str, &str), value: &Value) {
        if let Some(inline) = inline(value) {
            let text = format!("{lead}{inline}{tail}");
            return match name {
                Some(name) => self.line(name.to_owned(), Some(text)),
                None => self.line(text, None),
            };
        }
        let head = name.map(|name| format!("{name} = ")).unwrap_or_default();
        let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
        self.line(format!("{head}{lead}{open}"), None);
        self.depth += 1;
        for element in value.as_array().into_iter().flatten() {
            self.value(None, ("", ","), element);
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            self.value(Some(&key(name)), ("", ""), member);
        }
        self.depth -= 1;
        self.line(format!("{close}{tail}"), None);
    }

    fn line(&mut self, text: String, value: Option<String>) {
        self.lines.push(HclLine { depth: self.depth, text, value });
    }
}

impl fmt::Display for HclDocument {
    /// Equals signs of attributes that follow each other stand below each other.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let together = |a: &HclLine, b: &HclLine| a.value.is_some() && b.value.is_some();
        for chain in self.lines.chunk_by(together) {
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

/// The value on one line; `None` where it is better read on several.
fn inline(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some("null".to_owned()),
        Value::Bool(is) => Some(is.to_string()),
        Value::Number(number) => Some(number.to_string()),
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

/// The name of an object's member: quoted, unless it is a word that means nothing else.
fn key(name: &str) -> String {
    const WORDS: [&str; 5] = ["for", "if", "null", "true", "false"];
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_word = name.starts_with(is_letter)
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit())
        && !WORDS.contains(&name);
    if is_word { name.to_owned() } else { quoted(name) }
}

/// The text in quotes, none of it a template.
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

/// A name that Terraform takes for a thing: letters, digits and underscores, not a digit first.
pub(super) fn label(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let label: String = text.chars().map(plain).collect();
    match label.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => label,
        false => format!("_{label}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_text_leaves_its_quotes_or_becomes_a_template() {
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
    fn labels_are_names_that_terraform_takes() {
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
    fn data_is_laid_out_as_terraform_fmt_does_it() {
        let mut document = HclDocument::default();
        document.comment("one\n\ntwo");
        document.block("resource \"a\" \"b\"", |block| {
            block.set("a", &json!("x"));
            block.set("longer", &json!(["x", 1, true, null]));
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
            block.set("tags", &json!({ "a b": "c" }));
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
