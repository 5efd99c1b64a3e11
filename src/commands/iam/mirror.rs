//! The policy of the identity that mirrors, from what it pushes, pulls and warms.
//!
//! Pure: the same grants give the same document, whatever order they come in.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    actions,
    grants::{Actions, Grants, allow, document},
};
use crate::{
    model::{
        Create, EcrHost, Repository,
        ecr_settings::{AccountSettings, RepositoryRules},
    },
    pull_through::changes,
};

/// What is written to one registry.
#[derive(Debug, Clone)]
pub(crate) struct PushGrant {
    /// The registry.
    pub(crate) registry: EcrHost,
    /// Its repositories that images go to.
    pub(crate) repositories: Vec<Repository>,
    /// What is written about them.
    pub(crate) written: RepositoryRules,
    /// What is written about their account.
    pub(crate) account: AccountSettings,
    /// Whether blobs may be mounted from one to the other.
    pub(crate) mounts: Mounts,
}

/// Whether blobs may be mounted from one repository of a registry to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mounts {
    /// They may, where the account allows it.
    Possible,
    /// They are not: there is one repository only, or the configuration turns it off.
    Never,
}

/// What is read from one registry.
#[derive(Debug, Clone)]
pub(crate) struct PullGrant {
    /// The registry.
    pub(crate) registry: EcrHost,
    /// Its repositories that images come from.
    pub(crate) repositories: Vec<Repository>,
    /// Whether their tags are listed.
    pub(crate) tags: TagListingApi,
}

/// Whether the tags of a repository are listed, to select among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TagListingApi {
    /// They are.
    Needed,
    /// They are, and nothing else is read.
    Only,
    /// They are not.
    Never,
}

/// A repository that is pulled through a cache once.
#[derive(Debug, Clone)]
pub(crate) struct WarmGrant {
    /// The registry.
    pub(crate) registry: EcrHost,
    /// The repository, which the first pull makes.
    pub(crate) repository: Repository,
    /// Whether it is made with tags.
    pub(crate) tagging: Tagging,
}

/// Whether a repository is made with tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tagging {
    /// It is: the cache's template has some.
    Needed,
    /// It is not.
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

/// What pulling asks of a repository; mounting asks the second of the repository mounted from.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// Listing the tags of a repository with their push times.
const LIST: &str = "ecr:DescribeImages";

/// The policy of `sync`: for the identity that mirrors, as one document.
///
/// One statement for what has no resource, then one for each registry and set
/// of actions, each repository named once in it, then those for settings of
/// accounts, for keys, and for the `secrets` (ARNs) that hold registries'
/// credentials. What does not occur has no statement.
pub(crate) fn mirror(
    pushes: &[PushGrant],
    pulls: &[PullGrant],
    warms: &[WarmGrant],
    secrets: &[String],
) -> Value {
    let mut general = BTreeSet::new();
    let mut grants = Grants::default();
    for push in pushes {
        general.extend(["ecr:GetAuthorizationToken", "ecr:DescribePullThroughCacheRules"]);
        let mut actions = BTreeSet::from(PUSH);
        actions.extend(actions::of_repositories(&push.written));
        if matches!(push.written.create, Create::Unclaimed | Create::OnPush) {
            general.insert("ecr:DescribeRepositoryCreationTemplates");
        }
        if push.mounts == Mounts::Possible {
            general.insert("ecr:GetAccountSetting");
            actions.extend(PULL);
        }
        general.extend(actions::of_account(&push.account));
        for repository in &push.repositories {
            grants.add(&push.registry, repository.as_str(), &actions);
        }
    }
    for pull in pulls {
        if pull.tags != TagListingApi::Only {
            general.insert("ecr:GetAuthorizationToken");
        }
        let actions = match pull.tags {
            TagListingApi::Never => BTreeSet::from(PULL),
            TagListingApi::Needed => BTreeSet::from([PULL[0], PULL[1], LIST]),
            TagListingApi::Only => BTreeSet::from([LIST]),
        };
        for repository in &pull.repositories {
            grants.add(&pull.registry, repository.as_str(), &actions);
        }
    }
    for warm in warms {
        general.insert("ecr:GetAuthorizationToken");
        let mut actions = Actions::from_iter(changes::PULL.into_iter().chain(changes::IMPORT));
        if warm.tagging == Tagging::Needed {
            actions.insert(changes::TAG);
        }
        grants.add(&warm.registry, warm.repository.as_str(), &actions);
    }
    let mut statements = Vec::new();
    if !general.is_empty() {
        statements.push(allow("Login", &general, json!("*")));
    }
    statements.extend(grants.statements(purpose));
    statements.extend(actions::account_statements(pushes));
    statements.extend(actions::key_statements(pushes));
    if !secrets.is_empty() {
        let secrets: BTreeSet<&String> = secrets.iter().collect();
        let actions = BTreeSet::from(["secretsmanager:GetSecretValue"]);
        statements.push(allow("ReadCredentials", &actions, json!(secrets)));
    }
    document(statements)
}

/// A name for what these actions are for.
fn purpose(actions: &Actions) -> String {
    if !actions.contains("ecr:PutImage") {
        let pull = match (actions.contains(changes::IMPORT[0]), actions.contains(PULL[0])) {
            (true, _) => "Warm",
            (false, true) => "Pull",
            (false, false) => "",
        };
        let list = if actions.contains(LIST) { "List" } else { "" };
        return format!("{pull}{list}");
    }
    let create = if actions.contains(actions::CREATE) { "Create" } else { "" };
    let list = if actions.contains(LIST) { "List" } else { "" };
    let mount = if actions.contains(PULL[1]) { "Mount" } else { "" };
    let settle = if actions::SETTLE.iter().any(|it| actions.contains(it)) { "Settle" } else { "" };
    format!("Push{create}{settle}{mount}{list}")
}

#[cfg(test)]
mod tests;
