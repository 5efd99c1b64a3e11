//! The credentials of an upstream: a login, a secret, a role, or nothing.
//!
//! Returns an access token only as [`SecretString`]. Rejects a secret that ECR cannot read, because
//! of its name, account or region.

use secrecy::SecretString;

use super::upstream::{self, CacheRegistry, CachedUpstream};
use crate::{
    config::{
        arn::Arn,
        document::{Keys, Table, Text},
        problem::Problem,
    },
    model::pull_through::{CredentialNeed, Upstream, UpstreamCredentials},
};

const WRITTEN: Keys = Keys {
    title: "`credentials = { username = \"…\", access_token = \"…\" }`",
    names: "username access_token",
};

/// ECR reads only secrets whose name has this prefix.
const SECRET_PREFIX: &str = "secret:ecr-pullthroughcache/";

/// The length of a secret's ARN. Source: ECR API model, `credentialArn`.
const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 50..=612;

pub(super) fn read(
    table: &Table<'_>,
    cached: &CachedUpstream,
) -> Result<UpstreamCredentials, Problem> {
    match cached.upstream.needs() {
        CredentialNeed::Nothing => {
            reject(table, cached, &["credentials", "secret_arn", "role_arn"], "no credentials")?;
            Ok(UpstreamCredentials::Nothing)
        }
        CredentialNeed::Secret => {
            reject(table, cached, &["role_arn"], "credentials, not a role")?;
            login(table, cached)
        }
        CredentialNeed::Role => {
            reject(table, cached, &["credentials", "secret_arn"], "a role, not credentials")?;
            role(table, cached)
        }
    }
}

/// Rejects the keys that the upstream does not accept. `accepts` says what it accepts.
fn reject(
    table: &Table<'_>,
    cached: &CachedUpstream,
    keys: &[&str],
    accepts: &str,
) -> Result<(), Problem> {
    for key in keys {
        if let Some(span) = table.span_of(key) {
            let label = format!("`{}` accepts {accepts}", cached.upstream.name());
            return Err(Problem::at(&span, label).hint(format!("remove `{key}`")));
        }
    }
    Ok(())
}

/// A login in the configuration, or a secret that contains one.
fn login(table: &Table<'_>, cached: &CachedUpstream) -> Result<UpstreamCredentials, Problem> {
    match (table.table("credentials", &WRITTEN)?, table.text("secret_arn")?) {
        (Some(_), Some(secret)) => Err(Problem::conflict(&secret.span, "`credentials`")),
        (Some(written), None) => self::written(&written),
        (None, Some(secret)) => self::secret(&secret, cached),
        (None, None) => {
            let label = "requires `credentials` or `secret_arn`: ECR caches this upstream only with a login";
            let login = login_of(cached.upstream);
            Err(Problem::at(&cached.span, label)
                .hint(format!("add {} with {login}", WRITTEN.title)))
        }
    }
}

/// The kind of login that the upstream takes.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn login_of(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::GitHub => "a user and a personal access token with `read:packages`",
        Upstream::GitLab => "a user and an access token with `read_registry`",
        Upstream::Azure => "the name and password of a token of that registry",
        Upstream::Chainguard => "the id and token of a pull token",
        _ => "a user and an access token that can read",
    }
}

fn written(table: &Table<'_>) -> Result<UpstreamCredentials, Problem> {
    let word = |key: &str| match table.text(key)? {
        Some(text) if text.trim().is_empty() => {
            Err(Problem::at(&text.span, format!("`{key}` is empty")).hint(
                "this upstream requires credentials; check that the environment variables are set",
            ))
        }
        Some(text) => Ok(text),
        None => Err(table.missing(key, format!("write {}", WRITTEN.title))),
    };
    let (username, access_token) = (word("username")?, word("access_token")?);
    Ok(UpstreamCredentials::Written {
        username: username.to_string(),
        access_token: SecretString::from(&*access_token),
    })
}

/// Source: ECR API model, `credentialArn`.
fn secret(text: &Text, cached: &CachedUpstream) -> Result<UpstreamCredentials, Problem> {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    let is_secret = |arn: &Arn<'_>| {
        let name = arn.resource.strip_prefix(SECRET_PREFIX);
        arn.service == "secretsmanager"
            && !arn.region.is_empty()
            && SECRET_LENGTH.contains(&text.len())
            && name.is_some_and(|name| name.bytes().all(is_allowed))
    };
    let Some(arn) = Arn::parse(text).filter(is_secret) else {
        return Err(text.invalid(
            "is not the ARN of a secret that ECR can read",
            "use a secret whose name begins with `ecr-pullthroughcache/`, like `arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/docker-hub-AbCdEf`",
        ));
    };
    let elsewhere = cached.registries.iter().find(|CacheRegistry { host, .. }| {
        (arn.partition, arn.region, arn.account)
            != (host.partition(), host.region(), host.account())
    });
    let Some(registry) = elsewhere else {
        return Ok(UpstreamCredentials::Secret(text.to_string()));
    };
    let label =
        format!("not in the account and region of the destination in line {}", registry.line);
    Err(Problem::at(&text.span, label).hint(
        "write one `[[pull_through]]` per account and region, with its `destinations` and a `secret_arn` there",
    ))
}

/// The role that reads an ECR registry; required for a registry in another account.
fn role(table: &Table<'_>, cached: &CachedUpstream) -> Result<UpstreamCredentials, Problem> {
    if let Some(role) = table.text("role_arn")? {
        return upstream::role(&role, &cached.registries).map(UpstreamCredentials::Role);
    }
    let ecr = cached.ecr();
    let is_foreign = |registry: &&CacheRegistry| {
        ecr.as_ref().is_some_and(|ecr| ecr.account != registry.host.account)
    };
    let foreign = cached.registries.iter().find(is_foreign);
    let Some(CacheRegistry { line, .. }) = foreign else {
        return Ok(UpstreamCredentials::Nothing);
    };
    let label =
        format!("in another account than the destination in line {line}: `role_arn` is required");
    Err(Problem::at(&cached.url_span, label).hint(ROLE))
}

/// Source: ECR user guide, "Pull through cache: private upstream".
const ROLE: &str = "add a role that trusts `pullthroughcache.ecr.amazonaws.com`, with the permissions \
    `ecr:GetAuthorizationToken`, `ecr:BatchGetImage`, `ecr:GetDownloadUrlForLayer`, \
    `ecr:BatchImportUpstreamImage`, `ecr:GetImageCopyStatus`, `ecr:InitiateLayerUpload`, \
    `ecr:UploadLayerPart`, `ecr:CompleteLayerUpload`, `ecr:PutImage`; let \
    it read in the policies of the upstream's repositories";
