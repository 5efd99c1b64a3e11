//! What a role must be that a configuration names: whom it trusts, what it may do.
//!
//! Roles are not made here; the documents are for showing.

use serde_json::{Value, json};

use crate::{
    model::{
        Host,
        ecr_settings::Encryption,
        pull_through::{Cache, Prefix},
    },
    pull_through::state::EcrRegistry,
};

/// What a role is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Role<'a> {
    /// Making repositories by a template of this prefix, encrypted like this.
    Template(&'a Prefix, Option<&'a Encryption>),
    /// Reading the upstream of this cache, which is an ECR registry, too.
    Upstream(&'a Cache),
}

/// The two documents of a role.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Documents {
    /// Who may take the role.
    pub trust: Value,
    /// What it may do.
    pub permissions: Value,
}

/// The documents of a role for this registry.
///
/// Source: ECR user guide, "Creating an IAM role for repository creation templates" and "IAM
/// policies required for ECR to ECR pull through cache".
pub(crate) fn role_policy(registry: &EcrRegistry, role: Role<'_>) -> Documents {
    match role {
        Role::Template(prefix, encryption) => Documents {
            trust: trust("ecr.amazonaws.com"),
            permissions: of_template(registry, prefix, encryption),
        },
        Role::Upstream(cache) => Documents {
            trust: trust("pullthroughcache.ecr.amazonaws.com"),
            permissions: of_upstream(registry, cache),
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

fn of_template(registry: &EcrRegistry, prefix: &Prefix, encryption: Option<&Encryption>) -> Value {
    let mut statements = vec![allowed(
        "MakeRepositories",
        &["ecr:CreateRepository", "ecr:ReplicateImage", "ecr:TagResource"],
        json!(registry.repositories(&prefix.wildcard())),
    )];
    // a template names its key by the ARN; the key that AWS keeps for ECR needs nothing
    if let Some(key) = encryption.and_then(Encryption::key) {
        let actions = ["kms:CreateGrant", "kms:DescribeKey", "kms:RetireGrant"];
        statements.push(allowed("UseKey", &actions, json!(key)));
    }
    document(statements)
}

fn of_upstream(registry: &EcrRegistry, cache: &Cache) -> Value {
    let here = registry.repositories(&cache.prefix.wildcard());
    let upstream = cache.url.parse::<Host>().ok().and_then(|host| EcrRegistry::of(&host));
    let there = upstream.map(|it| it.repositories(&cache.upstream_prefix.wildcard()));
    let read: Vec<&String> = there.iter().chain([&here]).collect();
    document(vec![
        allowed("LogIn", &["ecr:GetAuthorizationToken"], json!("*")),
        allowed(
            "ReadUpstream",
            &[
                "ecr:BatchGetImage",
                "ecr:BatchImportUpstreamImage",
                "ecr:GetDownloadUrlForLayer",
                "ecr:GetImageCopyStatus",
            ],
            json!(read),
        ),
        allowed(
            "WriteCache",
            &[
                "ecr:CompleteLayerUpload",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            json!(here),
        ),
    ])
}

fn allowed(id: &str, actions: &[&str], resource: Value) -> Value {
    json!({ "Sid": id, "Effect": "Allow", "Action": actions, "Resource": resource })
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}
