//! Finds the format of a file by its name, and of a document by its content.

use std::{borrow::Cow, path::Path};

use super::{FileReader, bake, compose, dockerfile, github, gitlab, json_files, kubernetes};
use crate::model::{
    text::printable,
    yaml::{self, Node},
};

/// The syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileFormat {
    Dockerfile,
    /// YAML or JSON; the content of each document tells its kind if the name does not.
    Documents(Option<DocumentKind>),
}

/// The meaning of a YAML or JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DocumentKind {
    Compose,
    Bake,
    Kubernetes,
    GitHub,
    GitLab,
    DevContainer,
    Ecs,
    CodeBuild,
}

/// The end of the problem of a chart's template.
pub(super) const TEMPLATE: &str =
    "is a template: render it first, like `helm template . | ecr-mirror bootstrap -`";

/// Words without which no document names an image.
const MARKS: [&str; 5] = ["image", "container", "services", "docker://", "ockerfile"];

impl FileFormat {
    pub(super) fn of(path: &Path, text: &str) -> Option<Self> {
        Self::by_name(path).or_else(|| Self::by_content(text))
    }

    /// The format, for a name that has only one.
    pub(super) fn by_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let of_builds = ["dockerfile", "containerfile"];
        let is_build = of_builds.iter().any(|base| {
            let rest = name.strip_prefix(base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
                || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'))
        });
        if is_build && !name.ends_with(".dockerignore") && !name.ends_with(".md") {
            return Some(Self::Dockerfile);
        }
        let (stem, extension) = name.rsplit_once('.')?;
        let kind = match extension {
            "json" if stem == "devcontainer" || stem == ".devcontainer" => {
                Some(DocumentKind::DevContainer)
            }
            "json" => None,
            "yml" | "yaml" if stem.ends_with(".gitlab-ci") => Some(DocumentKind::GitLab),
            "yml" | "yaml" if is_compose(stem) => Some(DocumentKind::Compose),
            "yml" | "yaml" if stem == "action" || is_workflow(path) => Some(DocumentKind::GitHub),
            "yml" | "yaml" if stem.starts_with("buildspec") => Some(DocumentKind::CodeBuild),
            "yml" | "yaml" => None,
            _ => return None,
        };
        Some(Self::Documents(kind))
    }

    /// Returns `true` for a name that other files have too, like `dockerfile.go` or `Dockerfile.j2`.
    pub(super) fn is_guess(path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        let is_sure = ["dockerfile", "containerfile"].contains(&&*name);
        !is_sure && !name.ends_with(".dockerfile")
    }

    fn by_content(text: &str) -> Option<Self> {
        if text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[', '-']) {
            return Some(Self::Documents(None));
        }
        match dockerfile::is_dockerfile(text) {
            true => Some(Self::Dockerfile),
            false => text.contains(':').then_some(Self::Documents(None)),
        }
    }
}

fn is_compose(stem: &str) -> bool {
    let is = |base: &str| {
        stem.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
    };
    is("compose") || is("docker-compose") || is("podman-compose")
}

fn is_workflow(path: &Path) -> bool {
    let folders = path.parent().map(|folder| folder.to_string_lossy().replace('\\', "/"));
    folders.is_some_and(|folders| folders.ends_with(".github/workflows"))
}

/// Reads each document. `None` if no document has a known kind.
pub(super) fn read_documents(
    reader: &mut FileReader<'_>,
    kind: Option<DocumentKind>,
) -> Option<()> {
    let text = reader.text;
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return kind.map(|_| ());
    }
    let is_json = text.trim_start_matches('\u{feff}').trim_start().starts_with(['{', '[', '/']);
    let text = if is_json { Cow::Owned(without_comments(text)) } else { Cow::Borrowed(text) };
    let documents = match yaml::read_all("", &text) {
        Ok(documents) => documents,
        // a file of another program can have any syntax
        Err(_) if kind.is_none() && !(text.contains("apiVersion") && text.contains("kind")) => {
            return None;
        }
        Err(error) => {
            let (line, problem) = line_and_problem(&error.to_string());
            let is_template = ["{{", "{%"].iter().any(|mark| text.contains(mark));
            let problem = if is_template { TEMPLATE.to_owned() } else { problem };
            reader.unreadable(line, problem);
            return Some(());
        }
    };
    let mut is_known = kind.is_some();
    for root in documents {
        let Some(kind) = kind.or_else(|| kind_of(&root)) else { continue };
        is_known = true;
        match kind {
            DocumentKind::Compose => compose::read(reader, &root),
            DocumentKind::Bake => bake::read(reader, &root),
            DocumentKind::Kubernetes => kubernetes::read(reader, &root),
            DocumentKind::GitHub => github::read(reader, &root),
            DocumentKind::GitLab => gitlab::read(reader, &root),
            DocumentKind::DevContainer => json_files::read_devcontainer(reader, &root),
            DocumentKind::Ecs => json_files::read_task_definition(reader, &root),
            DocumentKind::CodeBuild => json_files::read_codebuild(reader, &root),
        }
    }
    is_known.then_some(())
}

/// The line and the text of an error `:LINE: TEXT`.
fn line_and_problem(error: &str) -> (usize, String) {
    let mut parts = error.trim_start_matches(':').splitn(2, ':');
    let (line, rest) = (parts.next().unwrap_or_default(), parts.next());
    match (line.parse(), rest) {
        (Ok(line), Some(rest)) => (line, rest.trim().to_owned()),
        _ => (1, printable(error).to_string()),
    }
}

/// The kind of a document by its keys.
fn kind_of(root: &Node) -> Option<DocumentKind> {
    let has = |key: &str| root.get(key).is_some();
    let is_map_with = |node: &Node, keys: &[&str]| keys.iter().any(|key| node.get(key).is_some());
    let any_with = |key: &str, keys: &[&str]| {
        let maps = root.get(key).map(Node::fields).unwrap_or_default();
        maps.iter().any(|field| is_map_with(&field.value, keys))
    };
    let first = root.items().first();
    if kubernetes::is_object(root) || first.is_some_and(|first| kubernetes::is_object(first)) {
        Some(DocumentKind::Kubernetes)
    } else if json_files::is_task_definition(root) {
        Some(DocumentKind::Ecs)
    } else if json_files::is_codebuild(root) {
        Some(DocumentKind::CodeBuild)
    } else if any_with("target", &["dockerfile", "dockerfile-inline", "context", "contexts"]) {
        Some(DocumentKind::Bake)
    } else if any_with("jobs", &["runs-on", "steps", "uses"])
        || root.get("runs").is_some_and(|runs| runs.get("using").is_some())
    {
        Some(DocumentKind::GitHub)
    } else if any_with("services", &["image", "build", "extends"]) {
        Some(DocumentKind::Compose)
    } else if gitlab::is_pipeline(root) {
        Some(DocumentKind::GitLab)
    } else if (has("image") || has("build"))
        && ["features", "customizations", "remoteUser", "postCreateCommand", "forwardPorts"]
            .iter()
            .any(|key| has(key))
    {
        Some(DocumentKind::DevContainer)
    } else {
        None
    }
}

/// JSON with each comment replaced by spaces.
fn without_comments(text: &str) -> String {
    let (mut out, mut rest, mut is_string) = (String::with_capacity(text.len()), text, false);
    while let Some(next) = rest.chars().next() {
        let length = match next {
            '\\' if is_string => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '"' => {
                is_string = !is_string;
                1
            }
            '/' if !is_string && (rest.starts_with("//") || rest.starts_with("/*")) => {
                let end = if rest.starts_with("//") {
                    rest.find('\n').unwrap_or(rest.len())
                } else {
                    rest[2..].find("*/").map_or(rest.len(), |at| at + 4)
                };
                out.extend(rest[..end].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
                rest = &rest[end..];
                continue;
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}
