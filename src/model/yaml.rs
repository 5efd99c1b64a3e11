//! Reads YAML and JSON to a tree that keeps lines.
//!
//! A scalar keeps its text: `1.20` is no number. Size, depth and aliases are limited, so that no
//! document needs more memory or time than its length allows.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use granit_parser::{Event, Parser, ScalarStyle};

use super::{Error, Kind, Result, text::printable};

/// The longest document, in bytes.
const LONGEST: usize = 16 << 20;
/// The most nodes of a document; an alias counts as the nodes that it repeats.
const MOST_NODES: usize = 250_000;
/// The most nodes of all documents of a file.
const MOST_IN_ALL: usize = 2 * MOST_NODES;
/// The most levels of a document.
const MOST_LEVELS: usize = 64;

/// A node and its place.
#[derive(Debug)]
pub(crate) struct Node {
    /// The line in which it begins, from 1.
    pub(crate) line: usize,
    /// The place of its first byte in the text.
    pub(crate) start: usize,
    pub(crate) content: YamlContent,
    /// The nodes in it and itself, those of aliases as often as they are repeated.
    size: usize,
}

#[derive(Debug)]
pub(crate) enum YamlContent {
    Null,
    Scalar(String),
    List(Vec<Rc<Node>>),
    /// The entries in file order; merged ones (`<<`) follow.
    Map(Vec<YamlField>),
}

/// An entry of a map.
#[derive(Debug, Clone)]
pub(crate) struct YamlField {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) value: Rc<Node>,
}

impl Node {
    /// The entries of a map; empty for other nodes.
    pub(crate) fn fields(&self) -> &[YamlField] {
        if let YamlContent::Map(fields) = &self.content { fields } else { &[] }
    }

    /// The items of a list; empty for other nodes.
    pub(crate) fn items(&self) -> &[Rc<Node>] {
        if let YamlContent::List(items) = &self.content { items } else { &[] }
    }

    /// The value of the last entry with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.fields().iter().rfind(|field| field.key == key).map(|field| &*field.value)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        if let YamlContent::Scalar(text) = &self.content { Some(text) } else { None }
    }

    /// The text of the entry with this key.
    pub(crate) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    /// The texts of a list, or the one text of a scalar, each with its line.
    pub(crate) fn texts(&self) -> Vec<(&str, usize)> {
        let items = self.items().iter().filter_map(|item| Some((item.text()?, item.line)));
        items.chain(self.text().map(|text| (text, self.line))).collect()
    }

    pub(crate) fn is_true(&self) -> bool {
        self.text().is_some_and(|text| matches!(text, "true" | "True" | "TRUE" | "yes" | "on"))
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.content, YamlContent::Map(_))
    }
}

/// A collection whose end is still to come.
struct Open {
    line: usize,
    start: usize,
    anchor: usize,
    size: usize,
    content: YamlContent,
    /// The key whose value comes next.
    key: Option<(String, usize)>,
}

/// Reads the first document of a file. `name` is the file's name in errors.
///
/// # Errors
/// [`Kind::Configuration`] if the text is not YAML, or exceeds a limit.
pub(crate) fn read(name: &str, text: &str) -> Result<Rc<Node>> {
    let null = Node { line: 1, start: 0, content: YamlContent::Null, size: 1 };
    let first = read_all(name, text)?.into_iter().next();
    Ok(first.unwrap_or_else(|| Rc::new(null)))
}

/// Reads all documents of a file. `name` is the file's name in errors.
///
/// # Errors
/// [`Kind::Configuration`] if the text is not YAML, or exceeds a limit.
pub(crate) fn read_all(name: &str, text: &str) -> Result<Vec<Rc<Node>>> {
    let wrong = |line: usize, problem: &str| {
        let problem = printable(problem);
        Error::new(Kind::Configuration, format!("{name}:{line}: {problem}"))
    };
    if text.len() > LONGEST {
        return Err(wrong(1, &format!("the file is longer than {} MiB", LONGEST >> 20)));
    }
    let options = granit_parser::options! {
        flow_nesting_limit: MOST_LEVELS,
        block_nesting_limit: MOST_LEVELS,
    };
    // YAML accepts JSON, apart from tabs at the start of a line
    let is_json = text.trim_start().starts_with(['{', '[']);
    let text = if is_json { Cow::Owned(text.replace('\t', " ")) } else { Cow::Borrowed(text) };
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut open: Vec<Open> = Vec::new();
    let (mut documents, mut total) = (Vec::new(), 0_usize);
    for next in Parser::new_from_str_with_options(&text, options) {
        let (event, span) = next.map_err(|error| {
            wrong(error.marker().line(), &format!("is not YAML: {}", error.info()))
        })?;
        let line = span.start.line();
        let start = span.start.byte_offset().unwrap_or_default();
        let node = match event {
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let content = if is_null {
                    YamlContent::Null
                } else {
                    YamlContent::Scalar(text.into_owned())
                };
                let node = Rc::new(Node { line, start, content, size: 1 });
                if anchor > 0 {
                    anchors.insert(anchor, Rc::clone(&node));
                }
                node
            }
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).map(Rc::clone);
                node.ok_or_else(|| wrong(line, "an alias inside its own anchor"))?
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= MOST_LEVELS => {
                return Err(wrong(line, &format!("more than {MOST_LEVELS} levels")));
            }
            Event::SequenceStart(_, anchor, _) => {
                let content = YamlContent::List(Vec::new());
                open.push(Open { line, start, anchor, size: 1, content, key: None });
                continue;
            }
            Event::MappingStart(_, anchor, _) => {
                let content = YamlContent::Map(Vec::new());
                open.push(Open { line, start, anchor, size: 1, content, key: None });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { line, start, anchor, size, mut content, .. }) = open.pop() else {
                    return Err(wrong(line, "is not YAML"));
                };
                if let YamlContent::Map(fields) = &mut content {
                    merge(fields);
                }
                let node = Rc::new(Node { line, start, content, size });
                if anchor > 0 {
                    anchors.insert(anchor, Rc::clone(&node));
                }
                node
            }
            _ => continue,
        };
        let Some(parent) = open.last_mut() else {
            total = total.saturating_add(node.size);
            documents.push(node);
            if total > MOST_IN_ALL {
                return Err(wrong(line, &format!("more than {MOST_IN_ALL} values in all")));
            }
            continue;
        };
        parent.size = parent.size.saturating_add(node.size);
        if parent.size > MOST_NODES {
            return Err(wrong(line, &format!("more than {MOST_NODES} values, aliases repeated")));
        }
        match (&mut parent.content, parent.key.take()) {
            (YamlContent::List(items), _) => items.push(node),
            (YamlContent::Map(fields), Some((key, line))) => {
                fields.push(YamlField { key, line, value: node });
            }
            (_, None) => {
                let key = node.text().unwrap_or_default().to_owned();
                parent.key = Some((key, node.line));
            }
            _ => {}
        }
    }
    Ok(documents)
}

/// Replaces the merge key `<<` by those entries of its maps that the map itself does not have.
fn merge(fields: &mut Vec<YamlField>) {
    let merged: Vec<Rc<Node>> = fields
        .extract_if(.., |field| field.key == "<<")
        .flat_map(|field| match &field.value.content {
            YamlContent::List(maps) => maps.clone(),
            _ => vec![field.value],
        })
        .collect();
    if merged.is_empty() {
        return;
    }
    let mut known: HashSet<String> = fields.iter().map(|field| field.key.clone()).collect();
    for map in merged {
        let new = map.fields().iter().filter(|field| known.insert(field.key.clone()));
        fields.extend(new.cloned().collect::<Vec<_>>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_one_by_one_and_limited_together() {
        let texts = |text: &str| {
            let documents = read_all("f.yml", text).unwrap();
            documents.iter().map(|it| it.text_of("a").map(ToOwned::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(texts("a: 1\n---\na: 2\n---\n"), [Some("1".into()), Some("2".into()), None]);
        let many = format!("[{}]\n---\n", "a, ".repeat(200_000)).repeat(3);
        let error = read_all("f.yml", &many).unwrap_err();
        assert!(error.to_string().contains("values in all"), "{error}");
    }

    #[test]
    fn scalars_keep_their_text_and_nodes_their_lines() {
        let text = "# c\na: 1.20\nb:\n  - \"x\"\n  - 'y'\n  - ~\nc: {d: [1, 2], e: on}\n";
        let root = read("f.yml", text).unwrap();
        assert_eq!(root.text_of("a"), Some("1.20"));
        assert_eq!(root.get("b").unwrap().texts(), [("x", 4), ("y", 5)]);
        assert_eq!(root.get("c").unwrap().get("d").unwrap().texts(), [("1", 7), ("2", 7)]);
        assert_eq!(root.get("b").unwrap().items()[0].start, 19);
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved() {
        let text = "x: &x {a: 1, b: 2}\ny: *x\nz:\n  <<: *x\n  b: 3\n";
        let root = read("f.yml", text).unwrap();
        assert_eq!(root.get("y").unwrap().text_of("b"), Some("2"));
        let z = root.get("z").unwrap();
        assert_eq!((z.text_of("a"), z.text_of("b")), (Some("1"), Some("3")));
    }

    #[test]
    fn json_with_tabs_is_read() {
        let root = read("f.json", "{\n\t\"a\": [\n\t\t\"b\",\n\t\t\"c\\/d\"\n\t]\n}\n").unwrap();
        assert_eq!(root.get("a").unwrap().texts(), [("b", 3), ("c/d", 4)]);
    }

    #[test]
    fn bombs_are_refused() {
        let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let before = level - 1;
            let nine = vec![format!("*a{before}"); 9].join(", ");
            aliases += &format!("a{level}: &a{level} [{nine}]\n");
        }
        let merges = "m: &m {a: 1, b: 2, c: 3}\n".to_owned() + &"n: {<<: *m}\n".repeat(40_000);
        for (bomb, expected) in [
            (aliases, "more than 250000 values"),
            (merges, "more than 250000 values"),
            ("[".repeat(10_000), ""),
            ("a:\n".to_owned() + &(1..90).map(|i| " ".repeat(i) + "a:\n").collect::<String>(), ""),
            ("- ".repeat(10_000), ""),
            ("a, ".repeat(6 << 20), "longer than 16 MiB"),
            (format!("[{}]", "a, ".repeat(260_000)), "more than 250000 values"),
            ("a: &a [*a]\n".to_owned(), "its own anchor"),
        ] {
            let error = read("bomb.yml", &bomb).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.to_string().starts_with("bomb.yml:"), "{error}");
        }
    }
}
