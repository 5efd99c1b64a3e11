//! The policy of nodes: they pull mirrored images, and cached images even before the first pull.

use serde_json::{Value, json};

use super::{
    grants::{EcrDestination, caches, ecr_destinations, later_repositories, mirrored},
    statements::{Actions, Grants, allow, document},
};
use crate::{
    config::Config,
    model::{EcrHost, Repository, pull_through::Cache},
    pull_through::changes::{IMPORT, PULL, TAG},
};

/// One registry that nodes pull from.
#[derive(Debug, Clone)]
struct NodeGrant<'a> {
    registry: EcrHost,
    mirrored: Vec<&'a Repository>,
    /// Those of [`later_repositories`].
    later: Option<String>,
    caches: Vec<&'a Cache>,
}

/// The policy for nodes, as one document.
pub(crate) fn pull_policy(config: &Config) -> Value {
    let grant = |EcrDestination { id, config: to, registry }: EcrDestination<'_>| NodeGrant {
        registry,
        later: later_repositories(config, to),
        mirrored: mirrored(config, id).collect(),
        caches: caches(config, id).map(|(_, cache)| cache).collect(),
    };
    let grants = ecr_destinations(config).map(grant);
    let pulls = |node: &NodeGrant<'_>| {
        !(node.mirrored.is_empty() && node.later.is_none() && node.caches.is_empty())
    };
    pull(&grants.filter(pulls).collect::<Vec<_>>())
}

fn pull(nodes: &[NodeGrant<'_>]) -> Value {
    let mut grants = Grants::default();
    for NodeGrant { registry, mirrored, later, caches } in nodes {
        if let Some(pattern) = later {
            grants.add(registry, pattern, &Actions::from(PULL));
        }
        for repository in mirrored {
            grants.add(registry, repository.as_str(), &Actions::from(PULL));
        }
        for cache in caches {
            grants.add(registry, &cache.prefix.wildcard(), &first_pull_actions(cache.gives_tags()));
        }
    }
    let mut statements = Vec::new();
    if !nodes.is_empty() {
        let login = Actions::from(["ecr:GetAuthorizationToken"]);
        statements.push(allow("Login", &login, json!("*")));
    }
    statements.extend(grants.statements(purpose));
    document(statements)
}

/// The actions of a pull through the cache, including the first pull.
pub(super) fn first_pull_actions(tagged: bool) -> Actions {
    PULL.into_iter().chain(IMPORT).chain(tagged.then_some(TAG)).collect()
}

/// Names the purpose of these actions for the `Sid`.
pub(super) fn purpose(actions: &Actions) -> String {
    let through = if actions.contains(IMPORT[0]) { "Through" } else { "" };
    let tag = if actions.contains(TAG) { "Tag" } else { "" };
    format!("Pull{through}{tag}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iam::pull_through::tests::{cache, registry, tagged};

    #[test]
    fn nodes_pull_mirrored_repositories_and_import_cached_ones() {
        let names: [Repository; 2] = ["mirror/b", "mirror/a"].map(|name| name.parse().unwrap());
        let plain = cache("quay");
        let tagged = tagged("docker-hub");
        let node = NodeGrant {
            registry: registry(),
            later: None,
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
    fn a_cache_without_a_prefix_grants_every_repository() {
        let root = cache("ROOT");
        let node = NodeGrant {
            registry: registry(),
            later: None,
            mirrored: Vec::new(),
            caches: vec![&root],
        };
        let resource = &pull(&[node])["Statement"][1]["Resource"];
        assert_eq!(*resource, json!(["arn:aws:ecr:eu-west-1:123456789012:repository/*"]));
    }

    #[test]
    fn a_configuration_without_images_grants_pulls_below_the_prefix() {
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let text = format!("[[destination]]\nregistry = \"{host}\"\nprefix = \"mirror\"\n");
        let config = Config::parse("m.toml", &text, std::path::Path::new(""), &|_| None).unwrap();
        let statement = &pull_policy(&config)["Statement"][1];
        let arn = "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/*";
        assert_eq!((&statement["Action"], &statement["Resource"]), (&json!(PULL), &json!([arn])));
    }

    #[test]
    fn a_configuration_without_ecr_grants_nothing() {
        assert_eq!(pull(&[]), json!({ "Version": "2012-10-17", "Statement": [] }));
    }
}
