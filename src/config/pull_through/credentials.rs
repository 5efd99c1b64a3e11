//! What ECR brings to an upstream: a login, a secret that keeps one, a role, or nothing.
//!
//! Guards the access token: it leaves here as a [`SecretString`] or not at all. A secret that
//! ECR could not read, because of its name or its place, is refused.

use secrecy::SecretString;

use super::Served;
use crate::{
    config::{
        arn::Arn,
        document::{Keys, Table, Text},
        problem::Problem,
    },
    model::{
        NameError,
        pull_through::{CredentialNeed, Upstream, UpstreamCredentials},
    },
};

const WRITTEN: Keys = Keys {
    title: "`credentials = { username = \"…\", access_token = \"…\" }`",
    names: &["username", "access_token"],
};

/// What the name of a secret begins with that ECR reads.
const SECRET: &str = "secret:ecr-pullthroughcache/";

/// How long its ARN may be. Source: ECR API model, `credentialArn`.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 50..=612;

pub(super) fn read(table: &Table<'_>, served: &Served<'_>) -> Result<UpstreamCredentials, Problem> {
    match served.upstream.needs() {
        CredentialNeed::Nothing => {
            refuse(table, served, (&["credentials", "secret_arn", "role_arn"], "no credentials"))?;
            Ok(UpstreamCredentials::Nothing)
        }
        CredentialNeed::Secret => {
            refuse(table, served, (&["role_arn"], "credentials, and no role"))?;
            login(table, served)
        }
        CredentialNeed::Role => {
            refuse(table, served, (&["credentials", "secret_arn"], "a role, and no secret"))?;
            role(table, served)
        }
    }
}

/// Refuses what the upstream does not take, and says what it does.
fn refuse(
    table: &Table<'_>,
    served: &Served<'_>,
    (keys, takes): (&[&str], &str),
) -> Result<(), Problem> {
    for key in keys {
        if let Some(span) = table.place(key) {
            let label = format!("`{}` takes {takes}", served.upstream.name());
            return Err(Problem::at(&span, label).hint(format!("leave `{key}` away")));
        }
    }
    Ok(())
}

/// A login that is written here, or the secret that keeps one.
fn login(table: &Table<'_>, served: &Served<'_>) -> Result<UpstreamCredentials, Problem> {
    match (table.table("credentials", &WRITTEN)?, table.text("secret_arn")?) {
        (Some(_), Some(secret)) => Err(Problem::at(&secret.span, "stands beside `credentials`")
            .hint("keep the one or the other")),
        (Some(written), None) => self::written(&written),
        (None, Some(secret)) => self::secret(&secret, served),
        (None, None) => {
            let label = "needs `credentials`, or a `secret_arn`: ECR caches it for a user only";
            Err(Problem::at(&served.span, label).hint(format!(
                "write {}: {}",
                WRITTEN.title,
                whose(served.upstream)
            )))
        }
    }
}

/// Whose name and token the upstream takes.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn whose(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::GitHub => "a user and a personal access token that may `read:packages`",
        Upstream::GitLab => "a user and an access token that may `read_registry`",
        Upstream::Azure => "the name and the password of a token of that registry",
        Upstream::Chainguard => "the id and the token of a pull token",
        _ => "a user and an access token that may read",
    }
}

fn written(table: &Table<'_>) -> Result<UpstreamCredentials, Problem> {
    let word = |key: &str| match table.text(key)? {
        Some(text) if text.trim().is_empty() => {
            Err(Problem::at(&text.span, format!("`{key}` is empty"))
                .hint("this upstream is cached for a user only: is a variable empty?"))
        }
        Some(text) => Ok(text),
        None => Err(Problem::at(&table.span, format!("has no `{key}`"))
            .hint(format!("write {}", WRITTEN.title))),
    };
    let (username, access_token) = (word("username")?, word("access_token")?);
    Ok(UpstreamCredentials::Written {
        username: username.to_string(),
        access_token: SecretString::from(&*access_token),
    })
}

/// Source: ECR API model, `credentialArn`.
fn secret(text: &Text, served: &Served<'_>) -> Result<UpstreamCredentials, Problem> {
    let is_ours = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    let is_secret = |arn: &Arn<'_>| {
        arn.service == "secretsmanager"
            && !arn.region.is_empty()
            && SECRET_LENGTH.contains(&text.len())
            && arn.resource.strip_prefix(SECRET).is_some_and(|name| name.bytes().all(is_ours))
    };
    let Some(arn) = Arn::parse(text).filter(is_secret) else {
        let error = NameError::new("is not the ARN of a secret that ECR reads");
        return Err(text.wrong(error.hint(
            "its name begins with `ecr-pullthroughcache/`: `arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/docker-hub-AbCdEf`",
        )));
    };
    let elsewhere = |home: &&super::CacheRegistry| {
        let registry = &home.registry;
        (arn.partition, arn.region, arn.account)
            != (registry.partition(), registry.region(), registry.account())
    };
    match served.homes.iter().find(elsewhere) {
        Some(home) => {
            let label =
                format!("not in the account and region of the destination in line {}", home.line);
            Err(Problem::at(&text.span, label).hint(
                "ECR reads secrets of its own account and region: write a `[[pull_through]]` for each, with its `destinations` and its `secret_arn`",
            ))
        }
        None => Ok(UpstreamCredentials::Secret(text.to_string())),
    }
}

/// The role that reads another registry of ECR; another account's is not read without.
fn role(table: &Table<'_>, served: &Served<'_>) -> Result<UpstreamCredentials, Problem> {
    if let Some(role) = table.text("role_arn")? {
        return super::role(&role, served.homes).map(UpstreamCredentials::Role);
    }
    let upstream = served.ecr();
    let is_foreign = |home: &&super::CacheRegistry| {
        upstream.as_ref().is_some_and(|upstream| upstream.account != home.registry.account)
    };
    match served.homes.iter().find(is_foreign) {
        Some(home) => {
            let label = format!(
                "in another account than the destination in line {}, which needs a `role_arn`",
                home.line
            );
            Err(Problem::at(&served.url_span, label).hint(ROLE))
        }
        None => Ok(UpstreamCredentials::Nothing),
    }
}

/// Source: ECR user guide, "Pull through cache: private upstream".
const ROLE: &str = "a role that trusts `pullthroughcache.ecr.amazonaws.com` and may \
    `ecr:GetAuthorizationToken`, `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer`, \
    `ecr:BatchImportUpstreamImage`, `ecr:GetImageCopyStatus`, `ecr:InitiateLayerUpload`, \
    `ecr:UploadLayerPart`, `ecr:CompleteLayerUpload`, `ecr:PutImage`; the upstream's \
    repositories must let it read";
