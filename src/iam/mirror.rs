//! The policy of the role that mirrors, from the repositories that it pushes, pulls and warms.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    actions,
    grants::{
        PullGrant, PushGrant, TagListingApi, WarmGrant, ecr_destinations, listed_registries, pulls,
        push, pushes, secrets, source_roles, warmed_only, warms,
    },
    pull::first_pull_actions,
    statements::{Actions, Grants, allow, document},
};
use crate::{
    config::Config,
    model::{Create, DestinationId, EcrHost, Repository, ecr_settings::RepositoryRules},
    pull_through::changes,
};

/// The actions on every repository that is pushed to.
///
/// Source: ECR user guide, "IAM permissions for pushing an image"; the calls of [`crate::ecr`].
const PUSH: [&str; 9] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:CompleteLayerUpload",
    "ecr:DescribeImages",
    "ecr:DescribeRepositories",
    "ecr:InitiateLayerUpload",
    "ecr:ListImages",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// The actions on a repository that is pulled from. A mount needs the second one on the
/// repository that the blob is mounted from.
const PULL: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// Restores an archived image.
const RESTORE: &str = "ecr:UpdateImageStorageClass";

/// Lists the tags of a source with their push times. On a destination, `bootstrap` asks for the time of an
/// image that it keeps.
const LIST: &str = "ecr:DescribeImages";

/// Lists the repositories of an account, for a source with a `*`. A policy names them all: the request
/// names none.
const LIST_REPOSITORIES: &str = "ecr:DescribeRepositories";

/// The policy for `sync`, as one document.
pub(crate) fn mirror_policy(config: &Config) -> Value {
    let reads = SourceGrants {
        pulls: pulls(config),
        listed: listed_registries(config),
        secrets: secrets(config),
        roles: source_roles(config),
    };
    mirror(&pushes(config), &reads, &warms(config))
}

/// The use of sources.
#[derive(Debug, Clone, Default)]
struct SourceGrants {
    pulls: Vec<PullGrant>,
    /// The registries whose repositories are listed.
    listed: Vec<EcrHost>,
    /// The ARNs of the secrets with registry credentials.
    secrets: Vec<String>,
    /// The ARNs of the roles that read.
    roles: BTreeSet<String>,
}

/// Orders the statements: actions without a resource, repositories, account settings, keys, then
/// the secrets with registry credentials and the roles that read from sources.
fn mirror(pushes: &[PushGrant], reads: &SourceGrants, warms: &[WarmGrant]) -> Value {
    let SourceGrants { pulls, listed, secrets, roles } = reads;
    let mut general = Actions::new();
    let mut grants = Grants::default();
    for push in pushes {
        general.extend(push_registry_actions(push));
        for repository in &push.repositories {
            let actions = push_actions(push, &push.rules.of(repository));
            grants.add(&push.registry, repository.as_str(), &actions);
        }
        if let Some(pattern) = &push.later {
            let mut actions = push_actions(push, &push.rules);
            // `bootstrap` restores archived images, and reads the config of an image that it keeps
            actions.extend([RESTORE, PULL[1]]);
            grants.add(&push.registry, pattern, &actions);
        }
        for repository in &push.restored {
            grants.add(&push.registry, repository.as_str(), &Actions::from([RESTORE]));
        }
        // `bootstrap` reads the config of an image that it keeps
        for repository in &push.filtered {
            grants.add(&push.registry, repository.as_str(), &Actions::from([PULL[1]]));
        }
    }
    for pull in pulls {
        if pull.tags != TagListingApi::Only {
            general.insert("ecr:GetAuthorizationToken");
        }
        let actions = match pull.tags {
            TagListingApi::Never => Actions::from(PULL),
            TagListingApi::Needed => Actions::from([PULL[0], PULL[1], LIST]),
            TagListingApi::Only => Actions::from([LIST]),
        };
        grants.add(&pull.registry, pull.repository.as_str(), &actions);
    }
    for registry in listed {
        grants.add(registry, "*", &Actions::from([LIST_REPOSITORIES]));
    }
    for warm in warms {
        general.insert("ecr:GetAuthorizationToken");
        grants.add(&warm.registry, warm.repository.as_str(), &first_pull_actions(warm.tagged));
    }
    let mut statements = Vec::new();
    if !general.is_empty() {
        statements.push(allow("Login", &general, json!("*")));
    }
    statements.extend(grants.statements(purpose));
    let accounts: Vec<_> = pushes.iter().map(|push| &push.account).collect();
    statements.extend(actions::account_statements(&accounts));
    statements.extend(actions::key_statements(pushes));
    statements.extend(login_statements(secrets, roles));
    document(statements)
}

/// The statements for the logins at sources: the secrets and the roles, by their ARNs.
fn login_statements(secrets: &[String], roles: &BTreeSet<String>) -> Vec<Value> {
    let mut statements = Vec::new();
    if !secrets.is_empty() {
        let secrets: BTreeSet<&String> = secrets.iter().collect();
        let actions = Actions::from(["secretsmanager:GetSecretValue"]);
        statements.push(allow("ReadCredentials", &actions, json!(secrets)));
    }
    if !roles.is_empty() {
        statements.push(allow("ReadAsOtherRole", &["sts:AssumeRole"].into(), json!(roles)));
    }
    statements
}

/// The statements that list the sources of `pull-through warm`. ECR itself reads their images.
pub(super) fn warm_statements(config: &Config) -> Vec<Value> {
    let warmed = warmed_only(config);
    let mut grants = Grants::default();
    for pull in pulls(&warmed) {
        grants.add(&pull.registry, pull.repository.as_str(), &Actions::from([LIST]));
    }
    let logins = login_statements(&secrets(&warmed), &source_roles(&warmed));
    grants.statements(purpose).into_iter().chain(logins).collect()
}

/// The actions without a resource that a push to this registry needs.
fn push_registry_actions(push: &PushGrant) -> Actions {
    let mut general = Actions::from(["ecr:GetAuthorizationToken"]);
    // a destination whose images all come through a cache needs only its account's settings
    if !push.repositories.is_empty() || push.rules.create != Create::Never {
        general.insert("ecr:DescribePullThroughCacheRules");
    }
    let may_match_template =
        |rules: &RepositoryRules| matches!(rules.create, Create::Unclaimed | Create::OnPush);
    let mut of_repositories = push.repositories.iter().map(|repository| push.rules.of(repository));
    if may_match_template(&push.rules) || of_repositories.any(|rules| may_match_template(&rules)) {
        general.insert("ecr:DescribeRepositoryCreationTemplates");
    }
    // a sync asks once whether ECR mounts blobs, also if it has one repository
    let pushes = !push.repositories.is_empty() || push.later.is_some();
    if pushes && push.account.blob_mounting.is_none() {
        general.insert("ecr:GetAccountSetting");
    }
    general.extend(actions::account_actions(&push.account));
    general
}

/// The actions that a push needs on a repository with these rules.
fn push_actions(push: &PushGrant, rules: &RepositoryRules) -> Actions {
    let mut actions = Actions::from(PUSH);
    actions.extend(actions::repository_actions(rules));
    if push.mounts {
        actions.extend(PULL);
    }
    actions
}

/// The actions that `sync` needs to push to one destination on ECR, and its repositories.
#[derive(Debug, Default)]
pub(crate) struct DestinationActions {
    /// As IAM names them, like `ecr:PutImage`.
    pub(crate) actions: BTreeSet<&'static str>,
    /// Sorted.
    pub(crate) repositories: Vec<Repository>,
}

/// The actions for a destination; none if it is not ECR, or only warmed.
pub(crate) fn destination_actions(config: &Config, id: DestinationId) -> DestinationActions {
    let Some(push) =
        ecr_destinations(config).find(|it| it.id == id).and_then(|it| push(config, it))
    else {
        return DestinationActions::default();
    };
    let mut actions = push_registry_actions(&push);
    for repository in &push.repositories {
        actions.extend(push_actions(&push, &push.rules.of(repository)));
    }
    if !push.restored.is_empty() {
        actions.insert(RESTORE);
    }
    DestinationActions { actions, repositories: push.repositories }
}

/// Names the purpose of these actions for the `Sid`.
fn purpose(actions: &Actions) -> String {
    if !actions.contains("ecr:PutImage") {
        if *actions == Actions::from([LIST_REPOSITORIES]) {
            return "ListRepositories".to_owned();
        }
        let list = if actions.contains(LIST) { "List" } else { "" };
        let pull = match (actions.contains(changes::IMPORT[0]), actions.contains(PULL[0])) {
            (true, _) => "Warm",
            (false, true) => "Pull",
            (false, false) => "",
        };
        return format!("{pull}{list}");
    }
    let create = if actions.contains(actions::CREATE) { "Create" } else { "" };
    let read = if actions.contains(PULL[1]) { "Read" } else { "" };
    let changes = actions::RECONCILE.iter().any(|action| actions.contains(action));
    let settle = if changes { "Settle" } else { "" };
    format!("Push{create}{settle}{read}")
}

#[cfg(test)]
mod tests;
