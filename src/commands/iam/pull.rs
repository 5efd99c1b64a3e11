//! The policy of nodes: they pull what is mirrored, and what is cached even before it is there.
//!
//! Pure: the same repositories give the same document, whatever order they come in.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::grants::{Actions, Grants, allow, document};
use crate::{
    model::{EcrHost, Repository, pull_through::Cache},
    pull_through::changes::{IMPORT, PULL, TAG},
};

/// What nodes pull from one registry.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// The registry.
    pub(crate) registry: EcrHost,
    /// Its repositories that images are mirrored to.
    pub(crate) mirrored: Vec<&'a Repository>,
    /// Its caches.
    pub(crate) caches: Vec<&'a Cache>,
}

/// The policy for nodes, as one document.
pub(crate) fn pull(nodes: &[Node<'_>]) -> Value {
    let mut grants = Grants::default();
    for Node { registry, mirrored, caches } in nodes {
        for repository in mirrored {
            grants.add(registry, repository.as_str(), &Actions::from(PULL));
        }
        for cache in caches {
            grants.add(registry, &cache.prefix.wildcard(), &through(cache));
        }
    }
    let login = BTreeSet::from(["ecr:GetAuthorizationToken"]);
    let mut statements = Vec::new();
    if !nodes.is_empty() {
        statements.push(allow("Login", &login, json!("*")));
    }
    statements.extend(grants.statements(purpose));
    document(statements)
}

/// What pulling through a cache takes, the first time, too.
pub(crate) fn through(cache: &Cache) -> Actions {
    let mut actions: Actions = PULL.into_iter().chain(IMPORT).collect();
    if cache.gives_tags() {
        actions.insert(TAG);
    }
    actions
}

/// A name for what these actions are for.
pub(crate) fn purpose(actions: &Actions) -> String {
    let through = if actions.contains(IMPORT[0]) { "Through" } else { "" };
    let tag = if actions.contains(TAG) { "Tag" } else { "" };
    format!("Pull{through}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::iam::pull_through::tests::{cache, registry, tagged};

    #[test]
    fn nodes_pull_what_is_mirrored_and_import_what_is_cached_and_nothing_else() {
        let names: [Repository; 2] = ["mirror/b", "mirror/a"].map(|name| name.parse().unwrap());
        let plain = cache("quay");
        let tagged = tagged("docker-hub");
        let node = Node {
            registry: registry(),
            mirrored: names.iter().collect(),
            caches: vec![&plain, &tagged],
        };
        let arn = "arn:aws:ecr:eu-west-1:123456789012:repository";
        assert_eq!(
            pull(&[node]),
            json!({
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "Login",
                        "Effect": "Allow",
                        "Action": ["ecr:GetAuthorizationToken"],
                        "Resource": "*"
                    },
                    {
                        "Sid": "PullThrough123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:BatchImportUpstreamImage",
                            "ecr:CreateRepository",
                            "ecr:GetDownloadUrlForLayer"
                        ],
                        "Resource": [format!("{arn}/quay/*")]
                    },
                    {
                        "Sid": "PullThroughTag123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:BatchImportUpstreamImage",
                            "ecr:CreateRepository",
                            "ecr:GetDownloadUrlForLayer",
                            "ecr:TagResource"
                        ],
                        "Resource": [format!("{arn}/docker-hub/*")]
                    },
                    {
                        "Sid": "Pull123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:GetDownloadUrlForLayer"
                        ],
                        "Resource": [format!("{arn}/mirror/a"), format!("{arn}/mirror/b")]
                    }
                ]
            })
        );
    }

    #[test]
    fn a_cache_without_a_prefix_has_every_repository() {
        let root = cache("ROOT");
        let node = Node { registry: registry(), mirrored: Vec::new(), caches: vec![&root] };
        let resource = &pull(&[node])["Statement"][1]["Resource"];
        assert_eq!(*resource, json!(["arn:aws:ecr:eu-west-1:123456789012:repository/*"]));
    }

    #[test]
    fn without_ecr_nothing_is_granted() {
        assert_eq!(pull(&[]), json!({ "Version": "2012-10-17", "Statement": [] }));
    }
}
