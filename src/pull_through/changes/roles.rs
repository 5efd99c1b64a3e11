//! The trust policy and permissions of the roles that a configuration names.
//!
//! For display only: no command creates a role.

use serde_json::{Value, json};

use crate::{
    model::{
        Host,
        ecr_settings::Encryption,
        pull_through::{Cache, Prefix},
    },
    pull_through::state::EcrRegistry,
};

/// The purpose of a role.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role<'a> {
    /// Creates repositories by the template of this prefix, with this encryption.
    Template(&'a Prefix, Option<&'a Encryption>),
    /// Reads the upstream of this cache, which is another ECR registry.
    Upstream(&'a Cache),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Documents {
    pub(crate) trust: Value,
    pub(crate) permissions: Value,
}

/// The documents of a role for this registry.
///
/// Source: ECR user guide, "Creating an IAM role for repository creation templates" and "IAM
/// policies required for ECR to ECR pull through cache".
pub(crate) fn role_policy(registry: &EcrRegistry, role: Role<'_>) -> Documents {
    match role {
        Role::Template(prefix, encryption) => Documents {
            trust: trust("ecr.amazonaws.com"),
            permissions: template_permissions(registry, prefix, encryption),
        },
        Role::Upstream(cache) => Documents {
            trust: trust("pullthroughcache.ecr.amazonaws.com"),
            permissions: upstream_permissions(registry, cache),
        },
    }
}

fn trust(service: &str) -> Value {
    document(vec![json!({
        "Effect": "Allow",
        "Principal": { "Service": service },
        "Action": "sts:AssumeRole",
    })])
}

fn template_permissions(
    registry: &EcrRegistry,
    prefix: &Prefix,
    encryption: Option<&Encryption>,
) -> Value {
    let mut statements = vec![allowed(
        "MakeRepositories",
        "ecr:CreateRepository ecr:ReplicateImage ecr:TagResource",
        json!(registry.repository_arn(&prefix.wildcard())),
    )];
    // a template names its key by ARN; the AWS managed key needs no permission
    if let Some(key) = encryption.and_then(Encryption::key) {
        let actions = "kms:CreateGrant kms:DescribeKey kms:RetireGrant";
        statements.push(allowed("UseKey", actions, json!(key)));
    }
    document(statements)
}

fn upstream_permissions(registry: &EcrRegistry, cache: &Cache) -> Value {
    let local = registry.repository_arn(&cache.prefix.wildcard());
    let upstream = cache.url.parse::<Host>().ok().and_then(|host| EcrRegistry::of(&host));
    let remote = upstream.map(|it| it.repository_arn(&cache.upstream_prefix.wildcard()));
    let from: Vec<&String> = remote.iter().chain([&local]).collect();
    let read = "ecr:BatchGetImage ecr:BatchImportUpstreamImage ecr:GetDownloadUrlForLayer \
                ecr:GetImageCopyStatus";
    let write = "ecr:CompleteLayerUpload ecr:InitiateLayerUpload ecr:PutImage ecr:UploadLayerPart";
    document(vec![
        allowed("LogIn", "ecr:GetAuthorizationToken", json!("*")),
        allowed("ReadUpstream", read, json!(from)),
        allowed("WriteCache", write, json!(local)),
    ])
}

/// Allows these actions, separated by spaces.
fn allowed(id: &str, actions: &str, resource: Value) -> Value {
    let actions: Vec<&str> = actions.split(' ').collect();
    json!({ "Sid": id, "Effect": "Allow", "Action": actions, "Resource": resource })
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}
