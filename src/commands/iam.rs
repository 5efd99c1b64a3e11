//! The IAM policies of `ecr-mirror iam`: what a configuration does, and nothing more.
//!
//! Pure: the same grants give the same document, whatever order they come in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::mirroring::configuration;
use crate::{
    cli::{Global, IamPolicy},
    config::{Config, Tags},
    model::{Create, DestinationId, EcrHost, Repository, Result},
    output::Screen,
};

/// Prints the policy on stdout.
///
/// # Errors
/// When the configuration is wrong.
pub fn run(global: &Global, screen: &Screen, policy: IamPolicy) -> Result<u8> {
    let config = configuration(global)?;
    let document = match policy {
        IamPolicy::Mirror => mirror(&pushes(&config), &pulls(&config), &secrets(&config)),
    };
    let text = serde_json::to_string_pretty(&document).expect("a JSON value serialises");
    screen.print(|out| writeln!(out, "{text}"))?;
    Ok(0)
}

/// What the configuration writes to registries that are ECR's by name.
fn pushes(config: &Config) -> Vec<Push> {
    let push = |(at, destination): (usize, &crate::config::Destination)| {
        let places = config.entries.iter().flat_map(|entry| &entry.places);
        let here = places.filter(|place| place.destination == DestinationId(at));
        let repositories: BTreeSet<Repository> =
            here.map(|place| place.repository.clone()).collect();
        Some(Push {
            registry: destination.registry.host().and_then(EcrHost::parse)?,
            mounts: if repositories.len() > 1 { Mounts::Possible } else { Mounts::Never },
            repositories: repositories.into_iter().collect(),
            create: destination.repositories.create,
        })
    };
    config.destinations.iter().enumerate().filter_map(push).collect()
}

/// The secrets that the configuration names.
fn secrets(config: &Config) -> Vec<String> {
    let arn = |registry: &crate::config::Registry| match &registry.credentials {
        Some(crate::config::Credentials::Secret(arn)) => Some(arn.clone()),
        _ => None,
    };
    config.registries.values().filter_map(arn).collect()
}

/// What the configuration reads from registries that are ECR's.
fn pulls(config: &Config) -> Vec<Pull> {
    let pull = |entry: &crate::config::Entry| {
        let registry = EcrHost::parse(&entry.host)?;
        let tags = match entry.tags {
            Tags::Selected(_) => Listing::Needed,
            Tags::Exact(_) | Tags::Pinned { .. } => Listing::Never,
        };
        Some(Pull { registry, repositories: vec![entry.repository.clone()], tags })
    };
    config.entries.iter().filter_map(pull).collect()
}

/// What is written to one registry.
#[derive(Debug, Clone)]
pub struct Push {
    /// The registry.
    pub registry: EcrHost,
    /// Its repositories that images go to.
    pub repositories: Vec<Repository>,
    /// Whether those that are missing are made.
    pub create: Create,
    /// Whether blobs may be mounted from one to the other.
    pub mounts: Mounts,
}

/// Whether blobs may be mounted from one repository of a registry to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mounts {
    /// They may, where the account allows it.
    Possible,
    /// They are not: there is one repository only, or the configuration turns it off.
    Never,
}

/// What is read from one registry.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The registry.
    pub registry: EcrHost,
    /// Its repositories that images come from.
    pub repositories: Vec<Repository>,
    /// Whether their tags are listed.
    pub tags: Listing,
}

/// Whether the tags of a repository are listed, to select among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// They are.
    Needed,
    /// They are not.
    Never,
}

/// What pushing asks of every repository it goes to.
///
/// Source: ECR user guide, "IAM permissions for pushing an image"; the calls of [`crate::ecr`].
const PUSH: [&str; 8] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeRepositories",
    "ecr:InitiateLayerUpload",
    "ecr:ListImages",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// Making a repository that is missing.
const CREATE: &str = "ecr:CreateRepository";

/// What pulling asks of a repository; mounting asks the second of the repository mounted from.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// Listing the tags of a repository with their push times.
const LIST: &str = "ecr:DescribeImages";

/// The policy of `sync`: for the identity that mirrors, as one document.
///
/// One statement for what has no resource, then one for each registry and set
/// of actions, each repository named once in it, then one for the `secrets`
/// (ARNs) that hold registries' credentials. What does not occur has no statement.
pub fn mirror(pushes: &[Push], pulls: &[Pull], secrets: &[String]) -> Value {
    let mut general = BTreeSet::new();
    let mut wanted: Wanted = BTreeMap::new();
    for push in pushes {
        general.insert("ecr:GetAuthorizationToken");
        let mut actions = BTreeSet::from(PUSH);
        if push.create == Create::Missing {
            actions.insert(CREATE);
        }
        if push.mounts == Mounts::Possible {
            general.insert("ecr:GetAccountSetting");
            actions.extend(PULL);
        }
        want(&mut wanted, &push.registry, &push.repositories, &actions);
    }
    for pull in pulls {
        general.insert("ecr:GetAuthorizationToken");
        let mut actions = BTreeSet::from(PULL);
        if pull.tags == Listing::Needed {
            actions.insert(LIST);
        }
        want(&mut wanted, &pull.registry, &pull.repositories, &actions);
    }
    let mut statements = Vec::new();
    if !general.is_empty() {
        statements.push(json!({
            "Sid": "Login",
            "Effect": "Allow",
            "Action": general,
            "Resource": "*",
        }));
    }
    statements.extend(grouped(wanted).into_iter().map(statement));
    if !secrets.is_empty() {
        statements.push(json!({
            "Sid": "ReadCredentials",
            "Effect": "Allow",
            "Action": ["secretsmanager:GetSecretValue"],
            "Resource": secrets.iter().collect::<BTreeSet<_>>(),
        }));
    }
    json!({ "Version": "2012-10-17", "Statement": statements })
}

type Actions = BTreeSet<&'static str>;

/// The actions on each repository, of each registry by account, region and partition.
type Wanted = BTreeMap<(String, String, &'static str), BTreeMap<String, Actions>>;

fn want(wanted: &mut Wanted, registry: &EcrHost, repositories: &[Repository], actions: &Actions) {
    let place = (registry.account().to_owned(), registry.region().to_owned(), registry.partition());
    let of_registry = wanted.entry(place).or_default();
    for repository in repositories {
        of_registry.entry(repository.to_string()).or_default().extend(actions);
    }
}

/// Repositories of one registry on which the same is done.
struct Group {
    sid: String,
    actions: Actions,
    arns: Vec<String>,
}

/// Repositories gathered by what is done to them: an ARN that is named once keeps the document
/// below the size that IAM takes.
fn grouped(wanted: Wanted) -> Vec<Group> {
    let mut groups = Vec::new();
    for ((account, region, partition), repositories) in wanted {
        let mut by_actions: BTreeMap<Actions, Vec<String>> = BTreeMap::new();
        for (repository, actions) in repositories {
            let arn = format!("arn:{partition}:ecr:{region}:{account}:repository/{repository}");
            by_actions.entry(actions).or_default().push(arn);
        }
        for (actions, arns) in by_actions {
            let sid = format!("{}{account}{}", purpose(&actions), camel(&region));
            groups.push(Group { sid, actions, arns });
        }
    }
    groups
}

/// A name for what these actions are for, another one for every set there can be.
fn purpose(actions: &Actions) -> String {
    let list = if actions.contains(LIST) { "List" } else { "" };
    if !actions.contains("ecr:PutImage") {
        return format!("Pull{list}");
    }
    let create = if actions.contains(CREATE) { "Create" } else { "" };
    let mount = if actions.contains(PULL[1]) { "Mount" } else { "" };
    format!("Push{create}{mount}{list}")
}

/// `eu-west-1` as `EuWest1`: a Sid has letters and digits only.
fn camel(region: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1.min(word.len()));
        first.to_ascii_uppercase() + rest
    };
    region.split('-').map(capital).collect()
}

fn statement(group: Group) -> Value {
    json!({
        "Sid": group.sid,
        "Effect": "Allow",
        "Action": group.actions,
        "Resource": group.arns,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(host: &str) -> EcrHost {
        EcrHost::parse(&host.parse().unwrap()).unwrap()
    }

    fn names(names: &[&str]) -> Vec<Repository> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn push(host: &str, repositories: &[&str], create: Create, mounts: Mounts) -> Push {
        Push { registry: registry(host), repositories: names(repositories), create, mounts }
    }

    const EU: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

    #[test]
    fn one_repository_that_is_there_needs_the_push_actions_only() {
        assert_eq!(
            mirror(&[push(EU, &["mirror/nginx"], Create::Never, Mounts::Never)], &[], &[]),
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
                        "Sid": "Push123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:CompleteLayerUpload",
                            "ecr:DescribeRepositories",
                            "ecr:InitiateLayerUpload",
                            "ecr:ListImages",
                            "ecr:PutImage",
                            "ecr:UploadLayerPart"
                        ],
                        "Resource": ["arn:aws:ecr:eu-west-1:123456789012:repository/mirror/nginx"]
                    }
                ]
            })
        );
    }

    #[test]
    fn creating_mounting_and_pulling_are_granted_where_they_happen() {
        let china = "210987654321.dkr.ecr.cn-north-1.amazonaws.com.cn";
        let pushes = [
            push(EU, &["b", "a"], Create::Missing, Mounts::Possible),
            push(EU, &["c"], Create::Never, Mounts::Never),
        ];
        let pulls = [Pull {
            registry: registry(china),
            repositories: names(&["base"]),
            tags: Listing::Never,
        }];
        let document = mirror(&pushes, &pulls, &[]);
        assert_eq!(
            document,
            json!({
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "Login",
                        "Effect": "Allow",
                        "Action": ["ecr:GetAccountSetting", "ecr:GetAuthorizationToken"],
                        "Resource": "*"
                    },
                    {
                        "Sid": "PushCreateMount123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:CompleteLayerUpload",
                            "ecr:CreateRepository",
                            "ecr:DescribeRepositories",
                            "ecr:GetDownloadUrlForLayer",
                            "ecr:InitiateLayerUpload",
                            "ecr:ListImages",
                            "ecr:PutImage",
                            "ecr:UploadLayerPart"
                        ],
                        "Resource": [
                            "arn:aws:ecr:eu-west-1:123456789012:repository/a",
                            "arn:aws:ecr:eu-west-1:123456789012:repository/b"
                        ]
                    },
                    {
                        "Sid": "Push123456789012EuWest1",
                        "Effect": "Allow",
                        "Action": [
                            "ecr:BatchCheckLayerAvailability",
                            "ecr:BatchGetImage",
                            "ecr:CompleteLayerUpload",
                            "ecr:DescribeRepositories",
                            "ecr:InitiateLayerUpload",
                            "ecr:ListImages",
                            "ecr:PutImage",
                            "ecr:UploadLayerPart"
                        ],
                        "Resource": ["arn:aws:ecr:eu-west-1:123456789012:repository/c"]
                    },
                    {
                        "Sid": "Pull210987654321CnNorth1",
                        "Effect": "Allow",
                        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                        "Resource": ["arn:aws-cn:ecr:cn-north-1:210987654321:repository/base"]
                    }
                ]
            })
        );
        let turned = [pushes[1].clone(), pushes[0].clone()];
        assert_eq!(mirror(&turned, &pulls, &[]).to_string(), document.to_string());
    }

    #[test]
    fn a_repository_that_is_source_and_destination_is_named_once() {
        let tags = Listing::Never;
        let pulls = [Pull { registry: registry(EU), repositories: names(&["a"]), tags }];
        let pushes = [push(EU, &["a"], Create::Never, Mounts::Never)];
        let document = mirror(&pushes, &pulls, &[]).to_string();
        assert_eq!(document.matches("repository/a").count(), 1);
        assert!(document.contains("ecr:GetDownloadUrlForLayer") && document.contains("PutImage"));
    }

    #[test]
    fn selecting_among_tags_needs_to_list_them() {
        let pull = |name, tags| Pull { registry: registry(EU), repositories: names(&[name]), tags };
        let document = mirror(&[], &[pull("a", Listing::Needed), pull("b", Listing::Never)], &[]);
        let statements = &document["Statement"].as_array().unwrap()[1..];
        let granted: Vec<_> =
            statements.iter().map(|statement| (&statement["Sid"], &statement["Action"])).collect();
        assert_eq!(
            granted,
            [
                (
                    &json!("PullList123456789012EuWest1"),
                    &json!([
                        "ecr:BatchGetImage",
                        "ecr:DescribeImages",
                        "ecr:GetDownloadUrlForLayer"
                    ])
                ),
                (
                    &json!("Pull123456789012EuWest1"),
                    &json!(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"])
                ),
            ]
        );
    }

    #[test]
    fn without_ecr_nothing_is_granted() {
        let nothing = json!({ "Version": "2012-10-17", "Statement": [] });
        assert_eq!(mirror(&[], &[], &[]), nothing);
    }

    #[test]
    fn secrets_are_read_one_by_one_and_named_once() {
        let arn =
            |name: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{name}");
        assert_eq!(
            mirror(&[], &[], &[arn("quay-2"), arn("hub-1"), arn("hub-1")])["Statement"],
            json!([{
                "Sid": "ReadCredentials",
                "Effect": "Allow",
                "Action": ["secretsmanager:GetSecretValue"],
                "Resource": [arn("hub-1"), arn("quay-2")]
            }])
        );
    }
}
