//! Reads pipelines of GitLab: `image` and `services` of the defaults and of each job.
//!
//! Source: GitLab, "CI/CD YAML syntax reference", "Where variables can be used".

use std::collections::BTreeMap;

use super::{
    FileReader,
    forms::UseKind,
    variables::{Expansion, ExpansionRules, expand},
};
use crate::model::yaml::Node;

const RULES: ExpansionRules = ExpansionRules { escape: None, has_double_dollar: true };

/// The most variables inside variables.
const MOST_LEVELS: usize = 8;

/// Keys of the root that are no jobs.
const NO_JOBS: [&str; 5] = ["variables", "include", "workflow", "stages", "spec"];

/// Keys of a job.
const OF_JOBS: [&str; 5] = ["script", "extends", "trigger", "before_script", "stage"];

pub(super) fn is_pipeline(root: &Node) -> bool {
    let is_job = |node: &Node| OF_JOBS.iter().any(|key| node.get(key).is_some());
    root.fields().iter().any(|field| is_job(&field.value))
}

pub(super) fn read(reader: &mut FileReader<'_>, root: &Node) {
    let global = variables(root);
    read_job(reader, root, root, &global, "");
    for job in root.fields() {
        if NO_JOBS.contains(&job.key.as_str()) || !job.value.is_map() || job.key == "image" {
            continue;
        }
        let mut own = global.clone();
        own.extend(variables(&job.value));
        read_job(reader, root, &job.value, &own, &format!("{}.", job.key));
    }
}

fn variables(node: &Node) -> BTreeMap<String, String> {
    let fields = node.get("variables").map(Node::fields).unwrap_or_default();
    let value = |node: &Node| node.text().or_else(|| node.text_of("value")).map(ToOwned::to_owned);
    fields.iter().filter_map(|field| Some((field.key.clone(), value(&field.value)?))).collect()
}

fn read_job(
    reader: &mut FileReader<'_>,
    root: &Node,
    job: &Node,
    variables: &BTreeMap<String, String>,
    path: &str,
) {
    let rows = matrix(job);
    let own = |reader: &mut FileReader<'_>, node: &Node, found: &str| {
        for row in &rows {
            let all = [row, variables];
            let lookup = |name: &str| value(reader, &all, name, 0);
            let Some(text) = node.text() else { return };
            let expansion =
                expand(text, RULES, &lookup).unwrap_or_else(|_| Expansion::literal(text));
            reader.add_value(node, expansion, UseKind::Other, found.to_owned());
        }
    };
    if let Some(image) = job.get("image") {
        let image = referenced(root, image);
        own(reader, image.get("name").unwrap_or(image), &format!("{path}image"));
    }
    if let Some(services) = job.get("services") {
        for service in referenced(root, services).items() {
            own(reader, service.get("name").unwrap_or(service), &format!("{path}services"));
        }
    }
}

/// The node that `!reference [job, key]` names, or the node itself.
fn referenced<'a>(root: &'a Node, node: &'a Node) -> &'a Node {
    let path: Option<Vec<&str>> = node.items().iter().map(|item| item.text()).collect();
    let Some(path) = path.filter(|path| !path.is_empty()) else { return node };
    path.into_iter().try_fold(root, |node, key| node.get(key)).unwrap_or(node)
}

/// The rows of `parallel: matrix`; one empty row without it.
fn matrix(job: &Node) -> Vec<BTreeMap<String, String>> {
    let rows = job.get("parallel").and_then(|parallel| parallel.get("matrix"));
    let mut all = Vec::new();
    for item in rows.map(Node::items).unwrap_or_default().iter().take(64) {
        let mut product = vec![BTreeMap::new()];
        for field in item.fields() {
            let texts = field.value.texts();
            product = product
                .iter()
                .flat_map(|row: &BTreeMap<String, String>| {
                    texts.iter().map(move |(text, _)| {
                        let mut more = row.clone();
                        more.insert(field.key.clone(), (*text).to_owned());
                        more
                    })
                })
                .take(200)
                .collect();
        }
        all.extend(product);
    }
    if all.is_empty() { vec![BTreeMap::new()] } else { all }
}

/// The value of a variable; variables in it are expanded.
fn value(
    reader: &FileReader<'_>,
    variables: &[&BTreeMap<String, String>],
    name: &str,
    level: usize,
) -> Option<String> {
    let given = reader.options.build_args.get(name).cloned();
    let own = || {
        let text = variables.iter().find_map(|variables| variables.get(name))?;
        if level == MOST_LEVELS {
            return None;
        }
        let inner = |name: &str| value(reader, variables, name, level + 1);
        let expansion = expand(text, RULES, &inner).ok()?;
        expansion.missing.is_empty().then(|| expansion.text())
    };
    given.or_else(own).or_else(|| (reader.options.environment)(name))
}
