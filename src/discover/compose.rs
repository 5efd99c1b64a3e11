//! Reads compose files.
//!
//! Source: Compose file reference, "Services", "Compose Build Specification", "Interpolation".

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BuildFile, FileReader,
    forms::UseKind,
    variables::{Expansion, ExpansionRules, expand},
};
use crate::model::{Platform, yaml::Node};

const RULES: ExpansionRules = ExpansionRules { escape: None, has_double_dollar: true };

/// The scheme of an image in the place of a directory.
pub(super) const IMAGE_CONTEXT: &str = "docker-image://";

pub(super) fn read(reader: &mut FileReader<'_>, root: &Node) {
    for service in root.get("services").map(Node::fields).unwrap_or_default() {
        let (name, path) = (&service.key, format!("services.{}", service.key));
        let node = &service.value;
        let build = node.get("build").filter(|build| build.is_map() || build.text().is_some());
        // with `build`, `image` names the result
        if let (Some(image), None) = (node.get("image"), build) {
            let kind = UseKind::Compose { service: name.clone() };
            let first = reader.found.uses.len();
            add(reader, image, kind, format!("{path}.image"));
            let platform = node.text_of("platform").and_then(|name| name.parse::<Platform>().ok());
            reader.found.uses[first..].iter_mut().for_each(|one| one.platform = platform.clone());
        }
        for volume in node.get("volumes").map(Node::items).unwrap_or_default() {
            if volume.text_of("type") == Some("image")
                && let Some(source) = volume.get("source")
            {
                add(reader, source, UseKind::Other, format!("{path}.volumes"));
            }
        }
        if let Some(build) = build {
            read_build(reader, build, &path);
        }
    }
}

fn read_build(reader: &mut FileReader<'_>, build: &Node, path: &str) {
    let expanded = |reader: &FileReader<'_>, text: &str| {
        expand(text, RULES, &|name| reader.options.variable(name)).ok().map(|it| it.text())
    };
    let text = |key: &str| build.text_of(key).and_then(|text| expanded(reader, text));
    let context = build.text().and_then(|text| expanded(reader, text)).or_else(|| text("context"));
    let mut file = BuildFile {
        path: text("dockerfile").unwrap_or_else(|| "Dockerfile".to_owned()).into(),
        build_args: BTreeMap::new(),
        target: text("target"),
        contexts: BTreeSet::new(),
        platforms: build.get("platforms").map(platforms).unwrap_or_default(),
    };
    for (name, value, _) in pairs(build.get("args")) {
        let value = match value {
            Some(value) => expanded(reader, &value),
            None => reader.options.variable(&name),
        };
        file.build_args.extend(value.map(|value| (name, value)));
    }
    for (name, value, node) in pairs(build.get("additional_contexts")) {
        let value = value.unwrap_or_default();
        if let Some(image) = value.strip_prefix(IMAGE_CONTEXT) {
            let found = format!("{path}.build.additional_contexts.{name}");
            add_text(reader, node, image, UseKind::Other, found);
        }
        file.contexts.insert(name);
    }
    match build.get("dockerfile_inline") {
        Some(inline) => reader.add_inline(inline, &file),
        None => add_build(reader, file, context.as_deref()),
    }
}

/// Adds a Dockerfile of a local context. The path is relative to the context, that to the file.
pub(super) fn add_build(reader: &mut FileReader<'_>, file: BuildFile, context: Option<&str>) {
    let context = context.unwrap_or(".");
    let is_remote = context.contains("://") || context.starts_with("git@");
    let path = reader.file.parent().map(|folder| folder.join(context).join(&file.path));
    if let (Some(path), false) = (path, is_remote) {
        reader.found.builds.push(BuildFile { path, ..file });
    }
}

pub(super) fn platforms(node: &Node) -> Vec<Platform> {
    node.texts().into_iter().filter_map(|(text, _)| text.parse().ok()).collect()
}

/// The names and values of a map, or of a list with `NAME=VALUE`.
pub(super) fn pairs(node: Option<&Node>) -> Vec<(String, Option<String>, &Node)> {
    let Some(node) = node else { return Vec::new() };
    let fields = node
        .fields()
        .iter()
        .map(|field| (field.key.clone(), field.value.text().map(ToOwned::to_owned), &*field.value));
    let items = node.items().iter().filter_map(|item| {
        let text = item.text()?;
        Some(match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned()), &**item),
            None => (text.to_owned(), None, &**item),
        })
    });
    fields.chain(items).collect()
}

fn add(reader: &mut FileReader<'_>, node: &Node, kind: UseKind, found: String) {
    if let Some(text) = node.text() {
        add_text(reader, node, text, kind, found);
    }
}

fn add_text(reader: &mut FileReader<'_>, node: &Node, text: &str, kind: UseKind, found: String) {
    match expand(text, RULES, &|name| reader.options.variable(name)) {
        Ok(expansion) => reader.add_value(node, expansion, kind, found),
        Err(problem) => {
            reader.unreadable(node.line, format!("cannot expand `{text}`: {problem}"));
        }
    }
}

/// Adds a text without variables.
pub(super) fn add_literal(
    reader: &mut FileReader<'_>,
    node: &Node,
    text: &str,
    kind: UseKind,
    found: String,
) {
    reader.add_value(node, Expansion::literal(text), kind, found);
}
