//! The IAM actions that settings of repositories and accounts need.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    grants::PushGrant,
    statements::{Actions, allow, allow_if},
};
use crate::model::ecr_settings::{AccountSettings, Reconcile, RepositoryRules, ScanKind};

pub(super) const CREATE: &str = "ecr:CreateRepository";

/// The actions that change the settings of an existing repository.
pub(super) const RECONCILE: [&str; 5] = [
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
    "ecr:PutLifecyclePolicy",
    "ecr:SetRepositoryPolicy",
    "ecr:TagResource",
];

/// The actions on each repository that creates and reconciles it.
///
/// Source: ECR user guide, "Identity-based policies"; the calls of [`crate::ecr`].
pub(super) fn repository_actions(rules: &RepositoryRules) -> Actions {
    let settings = &rules.settings;
    let (creates, reconciles) = (rules.create.is_ours(), rules.reconcile == Reconcile::Always);
    let either = creates || reconciles;
    let mut actions = Actions::new();
    let mut grant = |condition: bool, names: &[&'static str]| {
        if condition {
            actions.extend(names.iter().copied());
        }
    };
    grant(creates, &[CREATE]);
    grant(
        either && settings.lifecycle.is_some(),
        &["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"],
    );
    grant(
        either && settings.policy.is_some(),
        &["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"],
    );
    grant(either && !settings.tags.is_empty(), &["ecr:TagResource"]);
    grant(reconciles && !settings.tags.is_empty(), &["ecr:ListTagsForResource"]);
    grant(reconciles && settings.mutability.is_some(), &["ecr:PutImageTagMutability"]);
    grant(reconciles && settings.scan_on_push.is_some(), &["ecr:PutImageScanningConfiguration"]);
    actions
}

/// The unconditional actions that compare and set the account's settings.
pub(super) fn account_actions(account: &AccountSettings) -> Actions {
    let mut actions = Actions::new();
    if account.blob_mounting.is_some() {
        actions.insert("ecr:GetAccountSetting");
    }
    if let Some(excluded) = account.pull_time_exclusion {
        actions.insert("ecr:ListPullTimeUpdateExclusions");
        actions.insert(match excluded {
            true => "ecr:RegisterPullTimeUpdateExclusion",
            false => "ecr:DeregisterPullTimeUpdateExclusion",
        });
    }
    if account.scanning.is_some() {
        actions.insert("ecr:GetRegistryScanningConfiguration");
        actions.insert("ecr:PutRegistryScanningConfiguration");
    }
    actions
}

/// The statements for account settings that need a condition or another service.
///
/// Source: ECR user guide, "IAM permissions required for enhanced scanning"; service
/// authorization reference, `ecr:AccountSetting`.
pub(super) fn account_statements(accounts: &[&AccountSettings]) -> Vec<Value> {
    let mut statements = Vec::new();
    if accounts.iter().any(|account| account.blob_mounting.is_some()) {
        statements.push(allow_if(
            "SetBlobMounting",
            &["ecr:PutAccountSetting"].into(),
            json!("*"),
            json!({ "StringEquals": { "ecr:AccountSetting": ["BLOB_MOUNTING"] } }),
        ));
    }
    let scans = |kind| {
        let mut scanning = accounts.iter().filter_map(|account| account.scanning.as_ref());
        scanning.any(|scanning| scanning.kind == kind)
    };
    let mut inspector = Actions::new();
    if scans(ScanKind::Enhanced) {
        inspector.insert("inspector2:Enable");
    }
    if scans(ScanKind::Basic) {
        inspector.insert("inspector2:Disable");
    }
    if !inspector.is_empty() {
        inspector.extend(["inspector2:ListAccountPermissions", "inspector2:ListCoverage"]);
        statements.push(allow("ScanWithInspector", &inspector, json!("*")));
    }
    if scans(ScanKind::Enhanced) {
        statements.push(allow_if(
            "InspectorsRole",
            &["iam:CreateServiceLinkedRole"].into(),
            json!("*"),
            json!({ "StringEquals": { "iam:AWSServiceName": ["inspector2.amazonaws.com"] } }),
        ));
    }
    statements
}

/// The rules of the repositories that are created: those of the destination, and those of repositories
/// with their own.
fn created_with(push: &PushGrant) -> impl Iterator<Item = RepositoryRules> {
    let own = push.repositories.iter().filter(|_| !push.rules.overrides.is_empty());
    let own = own.map(|repository| push.rules.of(repository));
    std::iter::once(push.rules.clone()).chain(own).filter(|rules| rules.create.is_ours())
}

/// The statements for repositories that are created with customer-managed KMS keys.
///
/// A policy cannot name an alias as a resource: an alias becomes a condition on the keys of its
/// account. The AWS-managed key of ECR needs no statement.
///
/// Source: ECR user guide, "Encryption at rest"; KMS developer guide, `kms:ResourceAliases`.
pub(super) fn key_statements(pushes: &[PushGrant]) -> Vec<Value> {
    let mut keys: BTreeSet<String> = BTreeSet::new();
    let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (push, rules) in pushes.iter().flat_map(|push| created_with(push).map(move |it| (push, it)))
    {
        let key = rules.settings.encryption.as_ref().and_then(|encryption| encryption.key());
        let Some(key) = key else { continue };
        let (registry, partition) = (&push.registry, push.registry.partition());
        let scope = format!("arn:{partition}:kms:{}:{}", registry.region(), registry.account());
        match key.rsplit_once(":alias/") {
            Some((scope, name)) => {
                aliases.entry(scope.to_owned()).or_default().insert(format!("alias/{name}"));
            }
            None if key.starts_with("alias/") => {
                aliases.entry(scope).or_default().insert(key.to_owned());
            }
            None if key.starts_with("arn:") => drop(keys.insert(key.to_owned())),
            None => drop(keys.insert(format!("{scope}:key/{key}"))),
        }
    }
    let actions = Actions::from(["kms:CreateGrant", "kms:DescribeKey"]);
    let mut statements = Vec::new();
    if !keys.is_empty() {
        statements.push(allow("UseKeys", &actions, json!(keys)));
    }
    for (index, (scope, names)) in aliases.into_iter().enumerate() {
        statements.push(allow_if(
            &format!("UseKeysByAlias{}", index + 1),
            &actions,
            json!([format!("{scope}:key/*")]),
            json!({ "ForAnyValue:StringEquals": { "kms:ResourceAliases": names } }),
        ));
    }
    statements
}
