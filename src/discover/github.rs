//! Reads GitHub workflows and actions: containers, services and `docker://` steps.
//!
//! Source: GitHub, "Workflow syntax", "Metadata syntax", "Contexts".

use std::collections::BTreeMap;

use super::{
    FileReader,
    forms::{SpellingPart, UseKind},
    variables::Expansion,
};
use crate::model::yaml::Node;

/// The most combinations of a matrix that are read.
const MOST_COMBINATIONS: usize = 256;

/// The scheme of a step that runs an image.
const SCHEME: &str = "docker://";

pub(super) fn read(reader: &mut FileReader<'_>, root: &Node) {
    for job in root.get("jobs").map(Node::fields).unwrap_or_default() {
        let (path, node) = (format!("jobs.{}", job.key), &job.value);
        let matrix = Matrix::read(node);
        if let Some(container) = node.get("container") {
            let image = container.get("image").unwrap_or(container);
            matrix.add(reader, image, &format!("{path}.container"));
        }
        for service in node.get("services").map(Node::fields).unwrap_or_default() {
            if let Some(image) = service.value.get("image") {
                matrix.add(reader, image, &format!("{path}.services.{}", service.key));
            }
        }
        read_steps(reader, node, &matrix, &path);
    }
    if let Some(runs) = root.get("runs") {
        let matrix = Matrix::default();
        if let Some(image) = runs.get("image").filter(|image| is_image(image)) {
            matrix.add(reader, image, "runs.image");
        }
        read_steps(reader, runs, &matrix, "runs");
    }
}

fn is_image(node: &Node) -> bool {
    node.text().is_some_and(|text| text.starts_with(SCHEME))
}

fn read_steps(reader: &mut FileReader<'_>, node: &Node, matrix: &Matrix, path: &str) {
    for step in node.get("steps").map(Node::items).unwrap_or_default() {
        if let Some(uses) = step.get("uses").filter(|uses| is_image(uses)) {
            matrix.add(reader, uses, &format!("{path}.steps uses"));
        }
    }
}

/// The values of a job's matrix.
#[derive(Default)]
struct Matrix {
    /// The values of each key.
    axes: BTreeMap<String, Vec<String>>,
    /// The combinations beside those.
    include: Vec<BTreeMap<String, String>>,
}

impl Matrix {
    fn read(job: &Node) -> Self {
        let mut matrix = Self::default();
        let written = job.get("strategy").and_then(|strategy| strategy.get("matrix"));
        for field in written.map(Node::fields).unwrap_or_default() {
            match field.key.as_str() {
                "exclude" => {}
                "include" => {
                    matrix.include = field.value.items().iter().map(|item| leaves(item)).collect();
                }
                key => {
                    let values = field.value.items().iter();
                    for value in values {
                        match value.text() {
                            Some(text) => {
                                let axis = matrix.axes.entry(key.to_owned()).or_default();
                                axis.push(text.to_owned());
                            }
                            None => {
                                for (inner, text) in leaves(value) {
                                    let axis = matrix.axes.entry(format!("{key}.{inner}"));
                                    axis.or_default().push(text);
                                }
                            }
                        }
                    }
                }
            }
        }
        matrix
    }

    /// The combinations of these keys.
    fn combinations(&self, keys: &[String]) -> Vec<BTreeMap<String, String>> {
        let mut all = vec![BTreeMap::new()];
        for key in keys {
            let values = self.axes.get(key).map(Vec::as_slice).unwrap_or_default();
            if values.is_empty() {
                all.clear();
            }
            let room = MOST_COMBINATIONS / values.len().max(1);
            all = all
                .into_iter()
                .take(room.max(1))
                .flat_map(|known: BTreeMap<String, String>| {
                    values.iter().map(move |value| {
                        let mut more = known.clone();
                        more.insert(key.clone(), value.clone());
                        more
                    })
                })
                .collect();
        }
        let whole = |row: &&BTreeMap<String, String>| keys.iter().all(|key| row.contains_key(key));
        if !keys.is_empty() {
            all.extend(self.include.iter().filter(whole).cloned());
        }
        if all.is_empty() { vec![BTreeMap::new()] } else { all }
    }

    /// Adds the image, once for each combination that it depends on.
    fn add(&self, reader: &mut FileReader<'_>, node: &Node, found: &str) {
        let Some(text) = node.text() else { return };
        let text = text.strip_prefix(SCHEME).unwrap_or(text);
        // a job without a container has an empty text
        if text.is_empty() {
            return;
        }
        let keys: Vec<String> = pieces(text)
            .into_iter()
            .filter_map(|piece| piece.expression?.strip_prefix("matrix.").map(ToOwned::to_owned))
            .collect();
        for row in self.combinations(&keys) {
            let value = |name: &str| {
                let own = name.strip_prefix("matrix.").and_then(|key| row.get(key).cloned());
                own.or_else(|| reader.options.build_args.get(name).cloned())
            };
            let expansion = expand_expressions(text, &value);
            if expansion.missing.is_empty() && expansion.text().trim().is_empty() {
                continue;
            }
            reader.add_value(node, expansion, UseKind::Other, found.to_owned());
        }
    }
}

/// The texts of a map, by their keys.
fn leaves(node: &Node) -> BTreeMap<String, String> {
    let leaf = |field: &crate::model::yaml::YamlField| {
        Some((field.key.clone(), field.value.text()?.to_owned()))
    };
    node.fields().iter().filter_map(leaf).collect()
}

/// A literal, or an expression with its text inside the braces.
struct Piece<'a> {
    written: &'a str,
    expression: Option<&'a str>,
}

/// Splits at `${{ … }}`.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(start) = rest.find("${{")
        && let Some(length) = rest[start..].find("}}")
    {
        let (before, tail) = rest.split_at(start);
        let (written, after) = tail.split_at(length + 2);
        let expression = Some(written[3..length].trim());
        pieces.extend([Piece { written: before, expression: None }, Piece { written, expression }]);
        rest = after;
    }
    pieces.push(Piece { written: rest, expression: None });
    pieces.retain(|piece| !piece.written.is_empty());
    pieces
}

fn expand_expressions(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Expansion {
    let mut expansion = Expansion::default();
    for Piece { written, expression } in pieces(text) {
        let expanded = match expression {
            None => written.to_owned(),
            Some(expression) => lookup(expression).unwrap_or_else(|| {
                expansion.missing.push(expression.to_owned());
                String::new()
            }),
        };
        let written = written.to_owned();
        expansion.parts.push(SpellingPart { written, expanded, argument: None });
    }
    expansion
}
