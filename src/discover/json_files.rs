//! Reads devcontainer.json, ECS task definitions, and projects and build specifications of
//! CodeBuild.
//!
//! Source: Development Containers, "devcontainer.json reference"; Amazon ECS API,
//! `ContainerDefinition`; AWS CodeBuild API, `ProjectEnvironment`; AWS CodeBuild, "Batch build
//! buildspec reference".

use std::collections::BTreeSet;

use super::{
    BuildFile, FileReader,
    compose::{add_build, add_literal, pairs},
    forms::{SpellingPart, UseKind},
    variables::Expansion,
};
use crate::model::yaml::Node;

pub(super) fn read_devcontainer(reader: &mut FileReader<'_>, root: &Node) {
    if let Some((image, text)) = with_text(root.get("image")) {
        let expansion = expand_local(text, &|name| reader.options.variable(name));
        reader.add_value(image, expansion, UseKind::Other, "image".to_owned());
    }
    let build = root.get("build");
    let dockerfile = build.and_then(|build| build.text_of("dockerfile"));
    if let Some(path) = dockerfile.or_else(|| root.text_of("dockerFile")) {
        let args = pairs(build.and_then(|build| build.get("args"))).into_iter();
        let value = |text: String| {
            let expansion = expand_local(&text, &|name| reader.options.variable(name));
            expansion.missing.is_empty().then(|| expansion.text())
        };
        let file = BuildFile {
            path: path.into(),
            build_args: args.filter_map(|(name, text, _)| Some((name, value(text?)?))).collect(),
            target: build.and_then(|build| build.text_of("target")).map(ToOwned::to_owned),
            contexts: BTreeSet::new(),
            platforms: Vec::new(),
        };
        // the path is relative to the file, not to the context
        add_build(reader, file, None);
    }
}

fn with_text(node: Option<&Node>) -> Option<(&Node, &str)> {
    node.and_then(|node| Some((node, node.text()?)))
}

/// Expands `${localEnv:NAME}` and `${localEnv:NAME:default}`.
fn expand_local(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Expansion {
    let (mut expansion, mut rest) = (Expansion::default(), text);
    let mut push = |written: &str, expanded: String| {
        let written = written.to_owned();
        expansion.parts.push(SpellingPart { written, expanded, argument: None });
    };
    let mut missing = Vec::new();
    while let Some(start) = rest.find("${localEnv:")
        && let Some(length) = rest[start..].find('}')
    {
        let (before, tail) = rest.split_at(start);
        let (written, after) = tail.split_at(length + 1);
        let inner = &written["${localEnv:".len()..length];
        let (name, default) = match inner.split_once(':') {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (inner, None),
        };
        push(before, before.to_owned());
        push(
            written,
            lookup(name).or(default).unwrap_or_else(|| {
                missing.push(name.to_owned());
                String::new()
            }),
        );
        rest = after;
    }
    push(rest, rest.to_owned());
    expansion.parts.retain(|part| !part.written.is_empty());
    Expansion { missing, ..expansion }
}

/// The task definition, which `describe-task-definition` wraps.
fn task_definition(root: &Node) -> &Node {
    root.get("taskDefinition").unwrap_or(root)
}

pub(super) fn is_task_definition(root: &Node) -> bool {
    task_definition(root).get("containerDefinitions").is_some()
}

pub(super) fn read_task_definition(reader: &mut FileReader<'_>, root: &Node) {
    let containers = task_definition(root).get("containerDefinitions");
    for container in containers.map(Node::items).unwrap_or_default() {
        let name = container.text_of("name").unwrap_or_default();
        if let Some((image, text)) = with_text(container.get("image")) {
            let found = format!("containerDefinitions {name}").trim_end().to_owned();
            add_literal(reader, image, text, UseKind::Other, found);
        }
    }
}

pub(super) fn is_codebuild(root: &Node) -> bool {
    let project = |node: &Node| {
        node.get("environment").is_some_and(|environment| environment.get("computeType").is_some())
    };
    let projects = root.get("projects").map(Node::items).unwrap_or_default();
    project(root) || projects.iter().any(|node| project(node)) || root.get("batch").is_some()
}

/// Reads projects as the CLI prints and takes them, and batch builds of a build specification.
pub(super) fn read_codebuild(reader: &mut FileReader<'_>, root: &Node) {
    let projects = root.get("projects").map(Node::items).unwrap_or_default();
    let nodes = std::iter::once(root).chain(projects.iter().map(|node| &**node));
    for node in nodes {
        let environment = node.get("environment");
        add_codebuild(reader, environment.and_then(|it| it.get("image")), "environment.image");
    }
    let Some(batch) = root.get("batch") else { return };
    for key in ["build-list", "build-graph"] {
        for build in batch.get(key).map(Node::items).unwrap_or_default() {
            let image = build.get("env").and_then(|env| env.get("image"));
            add_codebuild(reader, image, &format!("batch.{key}"));
        }
    }
    let matrix = batch.get("build-matrix");
    for key in ["static", "dynamic"] {
        let env = matrix.and_then(|matrix| matrix.get(key)).and_then(|part| part.get("env"));
        let image = env.and_then(|env| env.get("image"));
        let found = format!("batch.build-matrix.{key}");
        for item in image.map(Node::items).unwrap_or_default() {
            add_codebuild(reader, Some(item), &found);
        }
        add_codebuild(reader, image, &found);
    }
}

/// Adds an image of CodeBuild. Its own images (`aws/codebuild/…`) are in no registry.
fn add_codebuild(reader: &mut FileReader<'_>, image: Option<&Node>, found: &str) {
    if let Some((image, text)) = with_text(image)
        && !text.starts_with("aws/codebuild/")
    {
        add_literal(reader, image, text, UseKind::Other, found.to_owned());
    }
}
