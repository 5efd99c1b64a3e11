//! Naming rules: the repository of an image at a destination, from the name of its source.

use std::str::FromStr;

use crate::model::{Host, NameError, Repository};

/// A template of a repository, before the destination's prefix. The default is `{repository}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamingRule(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// A part of the source's name, with this text in place of each `/`.
    Name(SourcePart, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SourcePart {
    /// The host, `-` before its port.
    Registry,
    Repository,
    /// All components of the repository but the last one; can be empty.
    Namespace,
    /// The last component.
    Name,
}

const PARTS: [(&str, SourcePart); 4] = [
    ("registry", SourcePart::Registry),
    ("repository", SourcePart::Repository),
    ("namespace", SourcePart::Namespace),
    ("name", SourcePart::Name),
];

const HINT: &str = "use `{registry}`, `{repository}`, `{namespace}` and `{name}`; \
    `{repository:-}` has `-` in place of `/`";

impl Default for NamingRule {
    fn default() -> Self {
        Self(vec![Part::Name(SourcePart::Repository, "/".to_owned())])
    }
}

impl NamingRule {
    /// Returns `true` if the name depends on the source.
    pub(super) fn is_template(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Name(..)))
    }

    /// The repository for this source, without the destination's prefix.
    pub(super) fn apply(
        &self,
        host: &Host,
        repository: &Repository,
    ) -> Result<Repository, NameError> {
        let path = repository.as_str();
        let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut expanded = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => expanded += text,
                Part::Name(SourcePart::Registry, _) => {
                    expanded += &host.as_str().replace(':', "-");
                }
                Part::Name(part, separator) => {
                    let text = match part {
                        SourcePart::Namespace => namespace,
                        SourcePart::Name => name,
                        SourcePart::Repository | SourcePart::Registry => path,
                    };
                    expanded += &text.replace('/', separator);
                }
            }
        }
        // an empty namespace leaves a `/` that separates nothing
        if namespace.is_empty() && self.has_namespace() {
            let components = expanded.split('/').filter(|component| !component.is_empty());
            expanded = components.collect::<Vec<_>>().join("/");
        }
        // the parser's hint would repeat the name, which can have the value of a variable
        expanded.parse().map_err(|error: NameError| {
            NameError::new(error.problem)
                .hint("change the rule, or write a `repository` for this image")
        })
    }

    fn has_namespace(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Name(SourcePart::Namespace, _)))
    }
}

impl FromStr for NamingRule {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let unknown = || NameError::new("has an unknown placeholder").hint(HINT);
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (body, after) = after.split_once('}').ok_or_else(unknown)?;
            let (name, separator) = body.split_once(':').unwrap_or((body, "/"));
            let part = PARTS.iter().find(|(known, _)| *known == name).ok_or_else(unknown)?.1;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Name(part, separator.to_owned()));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        let rule = Self(parts);
        if !rule.is_template() {
            // a name: its mistakes do not depend on a source
            text.parse::<Repository>()?;
        }
        Ok(rule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_makes_a_repository_of_the_source() {
        for (rule, host, repository, expected) in [
            ("{repository}", "quay.io", "a/b/c", Ok("a/b/c")),
            ("{registry}/{repository}", "quay.io", "a/b", Ok("quay.io/a/b")),
            ("{registry}/{repository}", "r.example:5000", "a", Ok("r.example-5000/a")),
            ("{name}", "quay.io", "a/b/c", Ok("c")),
            ("{namespace}/x/{name}", "quay.io", "a/b/c", Ok("a/b/x/c")),
            ("{namespace}/x/{name}", "registry.k8s.io", "pause", Ok("x/pause")),
            ("{namespace}/{name}", "registry.k8s.io", "pause", Ok("pause")),
            ("{repository:-}", "quay.io", "a/b/c", Ok("a-b-c")),
            ("{namespace:_}.{name}", "quay.io", "a/b/c", Ok("a_b.c")),
            ("team/{repository:}", "quay.io", "a/b", Ok("team/ab")),
            ("fixed/name", "quay.io", "a/b", Ok("fixed/name")),
            ("{namespace:-}-{name}", "registry.k8s.io", "pause", Err("is not a repository name")),
            ("{name}/", "quay.io", "a", Err("is not a repository name")),
        ] {
            let made = rule.parse::<NamingRule>().unwrap();
            let made = made.apply(&host.parse().unwrap(), &repository.parse().unwrap());
            let made = made.as_ref().map(Repository::as_str).map_err(|e| e.problem.as_str());
            assert_eq!(made, expected, "{rule} of {repository}");
        }
    }

    #[test]
    fn a_rule_with_another_placeholder_is_rejected() {
        for rule in ["{tag}", "{", "{name", "{}", "{Name}", "{{name}}"] {
            let result = rule.parse::<NamingRule>();
            assert_eq!(result.unwrap_err().problem, "has an unknown placeholder", "{rule}");
        }
        assert_eq!("".parse::<NamingRule>().unwrap_err().problem, "is not a repository name");
    }
}
