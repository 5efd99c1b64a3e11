//! What settings of repositories and of their account ask of IAM. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::mirror::PushGrant;
use crate::model::ecr_settings::{AccountSettings, Reconcile, RepositoryRules, ScanKind};

/// Making a repository that is missing.
pub(crate) const CREATE: &str = "ecr:CreateRepository";

/// What changes a repository that is there.
pub(crate) const SETTLE: [&str; 5] = [
    "ecr:PutImageScanningConfiguration",
    "ecr:PutImageTagMutability",
    "ecr:PutLifecyclePolicy",
    "ecr:SetRepositoryPolicy",
    "ecr:TagResource",
];

/// What making and mending repositories asks of each of them.
///
/// Source: ECR user guide, "Identity-based policies"; the calls of [`crate::ecr`].
pub(crate) fn of_repositories(written: &RepositoryRules) -> BTreeSet<&'static str> {
    let settings = &written.settings;
    let (makes, mends) = (written.create.is_ours(), written.reconcile == Reconcile::Always);
    let mut actions = BTreeSet::new();
    let mut grant = |when: bool, names: &[&'static str]| {
        if when {
            actions.extend(names.iter().copied());
        }
    };
    grant(makes, &[CREATE]);
    let either = makes || mends;
    grant(
        either && settings.lifecycle.is_some(),
        &["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"],
    );
    grant(
        either && settings.policy.is_some(),
        &["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"],
    );
    grant(either && !settings.tags.is_empty(), &["ecr:TagResource"]);
    grant(mends && !settings.tags.is_empty(), &["ecr:ListTagsForResource"]);
    grant(mends && settings.mutability.is_some(), &["ecr:PutImageTagMutability"]);
    grant(mends && settings.scan_on_push.is_some(), &["ecr:PutImageScanningConfiguration"]);
    actions
}

/// What comparing and setting an account takes, without what has a condition.
pub(crate) fn of_account(written: &AccountSettings) -> BTreeSet<&'static str> {
    let mut actions = BTreeSet::new();
    if written.blob_mounting.is_some() {
        actions.insert("ecr:GetAccountSetting");
    }
    if let Some(wanted) = written.pull_time_exclusion {
        actions.insert("ecr:ListPullTimeUpdateExclusions");
        actions.insert(match wanted {
            true => "ecr:RegisterPullTimeUpdateExclusion",
            false => "ecr:DeregisterPullTimeUpdateExclusion",
        });
    }
    if written.scanning.is_some() {
        actions.insert("ecr:GetRegistryScanningConfiguration");
        actions.insert("ecr:PutRegistryScanningConfiguration");
    }
    actions
}

/// What setting the accounts takes under a condition, or of another service.
///
/// Source: ECR user guide, "IAM permissions required for enhanced scanning"; service
/// authorization reference, `ecr:AccountSetting`.
pub(crate) fn account_statements(pushes: &[PushGrant]) -> Vec<Value> {
    let mut statements = Vec::new();
    if pushes.iter().any(|push| push.account.blob_mounting.is_some()) {
        statements.push(json!({
            "Sid": "SetBlobMounting",
            "Effect": "Allow",
            "Action": ["ecr:PutAccountSetting"],
            "Resource": "*",
            "Condition": { "StringEquals": { "ecr:AccountSetting": ["BLOB_MOUNTING"] } },
        }));
    }
    let scans = |kind| {
        let mut scanning = pushes.iter().filter_map(|push| push.account.scanning.as_ref());
        scanning.any(|scanning| scanning.kind == kind)
    };
    let mut inspector = BTreeSet::new();
    if scans(ScanKind::Enhanced) {
        inspector.insert("inspector2:Enable");
    }
    if scans(ScanKind::Basic) {
        inspector.insert("inspector2:Disable");
    }
    if !inspector.is_empty() {
        inspector.extend(["inspector2:ListAccountPermissions", "inspector2:ListCoverage"]);
        statements.push(json!({
            "Sid": "ScanWithInspector",
            "Effect": "Allow",
            "Action": inspector,
            "Resource": "*",
        }));
    }
    if scans(ScanKind::Enhanced) {
        let name = json!({ "iam:AWSServiceName": ["inspector2.amazonaws.com"] });
        statements.push(json!({
            "Sid": "InspectorsRole",
            "Effect": "Allow",
            "Action": ["iam:CreateServiceLinkedRole"],
            "Resource": "*",
            "Condition": { "StringEquals": name },
        }));
    }
    statements
}

/// What making repositories that are encrypted with keys of one's own takes.
///
/// An alias is no resource of a policy: it is a condition on the keys of its account. The key
/// that AWS keeps for ECR needs nothing.
///
/// Source: ECR user guide, "Encryption at rest"; KMS developer guide, `kms:ResourceAliases`.
pub(crate) fn key_statements(pushes: &[PushGrant]) -> Vec<Value> {
    let mut keys: BTreeSet<String> = BTreeSet::new();
    let mut aliases: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for push in pushes.iter().filter(|push| push.written.create.is_ours()) {
        let written = push.written.settings.encryption.as_ref().and_then(|it| it.key());
        let Some(key) = written else { continue };
        let (partition, registry) = (push.registry.partition(), &push.registry);
        let of = |account: &str, region: &str| format!("arn:{partition}:kms:{region}:{account}");
        let here = of(registry.account(), registry.region());
        match key.rsplit_once(":alias/") {
            Some((place, name)) => {
                aliases.entry(place.to_owned()).or_default().insert(format!("alias/{name}"));
            }
            None if key.starts_with("alias/") => {
                aliases.entry(here).or_default().insert(key.to_owned());
            }
            None if key.starts_with("arn:") => drop(keys.insert(key.to_owned())),
            None => drop(keys.insert(format!("{here}:key/{key}"))),
        }
    }
    let actions = ["kms:CreateGrant", "kms:DescribeKey"];
    let mut statements = Vec::new();
    if !keys.is_empty() {
        statements.push(json!({
            "Sid": "UseKeys",
            "Effect": "Allow",
            "Action": actions,
            "Resource": keys,
        }));
    }
    for (at, (place, names)) in aliases.into_iter().enumerate() {
        statements.push(json!({
            "Sid": format!("UseKeysByAlias{}", at + 1),
            "Effect": "Allow",
            "Action": actions,
            "Resource": [format!("{place}:key/*")],
            "Condition": { "ForAnyValue:StringEquals": { "kms:ResourceAliases": names } },
        }));
    }
    statements
}
