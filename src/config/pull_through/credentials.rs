//! The credentials of an upstream: a login, a secret, a role, or nothing.
//!
//! Returns an access token only as [`SecretString`]. Rejects a secret that ECR cannot read, because
//! of its name, account or region.

use secrecy::SecretString;

use super::upstream::{self, CacheRegistry, CachedUpstream};
use crate::{
    config::{
        arn::Arn,
        context::FileContext,
        document::{Keys, Table, Text},
        policies,
        problem::Problem,
    },
    model::pull_through::{
        CredentialNeed, SECRET_PREFIX, SecretSettings, Upstream, UpstreamCredentials,
    },
};

const WRITTEN: Keys = Keys {
    title: "`credentials = { username = \"…\", access_token = \"…\" }`",
    names: "username access_token",
};

const SECRET: Keys = Keys {
    title: "`secret = { description = \"…\", recovery_window_days = 30, policy_file = \"…\" }`",
    names: "description recovery_window_days policy_file",
};

/// Characters of a secret's description. Source: Secrets Manager API reference, `CreateSecret`.
const MAX_DESCRIPTION: usize = 2048;
/// Days of a secret's recovery window. Source: the same, `DeleteSecret`.
const RECOVERY_WINDOW: std::ops::RangeInclusive<u32> = 7..=30;
/// Characters of a secret's resource policy. Source: the same, `PutResourcePolicy`.
const POLICY_LENGTH: std::ops::RangeInclusive<usize> = 1..=20_480;
/// Characters of a secret's name. Source: the same, `CreateSecret`.
const MAX_NAME: usize = 512;

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

/// The settings of the secret that `apply` writes.
pub(super) fn secret_settings(
    table: &Table<'_>,
    credentials: &UpstreamCredentials,
    file: &FileContext<'_>,
) -> Result<SecretSettings, Problem> {
    let Some(secret) = table.table("secret", &SECRET)? else {
        return Ok(SecretSettings::default());
    };
    let UpstreamCredentials::Written { .. } = credentials else {
        let label = "requires `credentials`: only then is the secret written";
        return Err(
            Problem::needing(&secret.span, label).hint("remove `secret`, or write `credentials`")
        );
    };
    let description = secret.word("description")?;
    let is_short = |text: &Text| {
        let hint = format!("shorten it to {MAX_DESCRIPTION} characters");
        let is_short = text.chars().count() <= MAX_DESCRIPTION;
        text.checked(is_short, "is too long for Secrets Manager", &hint)
    };
    let recovery_window_days = secret.number("recovery_window_days", 1)?;
    let window = secret.span_of("recovery_window_days");
    if let (Some(days), Some(span)) = (recovery_window_days, window)
        && !RECOVERY_WINDOW.contains(&days)
    {
        let (least, most) = RECOVERY_WINDOW.into_inner();
        let label = format!("must be from {least} to {most} days");
        return Err(Problem::at(&span, label));
    }
    let policy = secret.word("policy_file")?;
    let policy = policy.map(|path| {
        let (document, _) = policies::document(&path, file, POLICY_LENGTH)?;
        match document.get("Statement").is_some_and(|it| it.is_array() || it.is_object()) {
            true => Ok(document),
            false => Err(path.invalid("has no `Statement`", "name a file with a resource policy")),
        }
    });
    let settings = SecretSettings {
        description: description.as_ref().map(is_short).transpose()?,
        recovery_window_days,
        policy: policy.transpose()?,
    };
    match settings == SecretSettings::default() {
        true => Err(Problem::empty(&secret.span).hint(format!("write {}", SECRET.title))),
        false => Ok(settings),
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
            Err(Problem::needing(&cached.span, label)
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
    let is_name = |name: &str| {
        let rest = name.strip_prefix(SECRET_PREFIX);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_allowed))
    };
    if is_name(text) && text.len() <= MAX_NAME {
        // a name is found in the account and region of each registry
        return Ok(UpstreamCredentials::Secret(text.to_string()));
    }
    let is_secret = |arn: &Arn<'_>| {
        arn.service == "secretsmanager"
            && !arn.region.is_empty()
            && SECRET_LENGTH.contains(&text.len())
            && arn.resource.strip_prefix("secret:").is_some_and(is_name)
    };
    let Some(arn) = Arn::parse(text).filter(is_secret) else {
        return Err(text.invalid(
            "is not the ARN or name of a secret that ECR can read",
            "use a secret whose name begins with `ecr-pullthroughcache/`, like `ecr-pullthroughcache/docker-hub`, or its ARN",
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
        "write the secret's name, which each account and region has, or one `[[pull_through]]` per account and region, with its `destinations`",
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
