//! The pull-through cache.

use anyhow::{Context, Result};
use ecr_mirror::{
    model::{Digest, Host},
    registry::{ConnectionSettings, Registry, Transport},
    remote::Source,
};

use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{ApiAnswer, ProbeRun},
};

/// A small public image at an upstream without credentials.
const UPSTREAM: &str = "registry.k8s.io";
const IMAGE: &str = "pause-amd64";
const TAG: &str = "3.1";
/// The ARN of a secret with a login of Docker Hub.
const DOCKER_HUB: &str = "ECR_MIRROR_LIVE_DOCKER_HUB_SECRET";
/// The ARN of a secret whose name begins with `ecr-pullthroughcache/`, under a customer managed key.
const ENCRYPTED: &str = "ECR_MIRROR_LIVE_ENCRYPTED_SECRET";

probes! {
    "cache-region", Account, "The region has the pull-through cache"
        => "accepted", otherwise "limit=CreatePullThroughCacheRule", region;
    "cache-prefix-hyphens", Account, "A rule's prefix with `--` is refused"
        => "InvalidParameterException", otherwise "accept=CreatePullThroughCacheRule", hyphens;
    "cache-upstream-prefix", Account, "A rule without an upstream prefix shows ROOT"
        => "ROOT", otherwise "otherwise=no-upstream-prefix", upstream_prefix;
    "cache-tag", Account, "The first pull by tag imports the image"
        => "200", otherwise "deny=BatchImportUpstreamImage", by_tag;
    "cache-digest", Account, "The first pull by digest does not import the image"
        => "404", otherwise "otherwise=cache-by-digest", by_digest;
    "cache-library", AccountNeeds(DOCKER_HUB), "An official image of Docker Hub without `library/` is answered 403"
        => "403 DENIED", otherwise "status-after=404@ecr:GET/manifests/", library;
    "cache-secret-key", AccountNeeds(ENCRYPTED), "A rule refuses a secret under a customer managed key"
        => "UnableToDecryptSecretValueException", otherwise "accept=CreatePullThroughCacheRule", secret_key;
}

/// Creates a rule below this probe's prefix.
async fn rule(
    run: &ProbeRun,
    prefix: &str,
    upstream: &str,
    secret: Option<String>,
) -> Result<ApiAnswer> {
    run.will_make(Made::Rule(prefix.to_owned()));
    let create = run.api(|ecr| {
        let create = ecr.create_pull_through_cache_rule().ecr_repository_prefix(prefix);
        create.upstream_registry_url(upstream).set_credential_arn(secret).send()
    });
    create.await
}

async fn region(run: &ProbeRun) -> Seen {
    run.prepared();
    Ok(rule(run, &run.short_prefix(), UPSTREAM, None).await?.outcome())
}

async fn hyphens(run: &ProbeRun) -> Seen {
    run.prepared();
    let prefix = format!("{}--x", run.short_prefix());
    Ok(rule(run, &prefix, UPSTREAM, None).await?.outcome())
}

async fn upstream_prefix(run: &ProbeRun) -> Seen {
    run.prepared();
    let prefix = run.short_prefix();
    rule(run, &prefix, UPSTREAM, None).await?.accepted()?;
    let describe = run
        .api(|ecr| ecr.describe_pull_through_cache_rules().ecr_repository_prefixes(prefix).send());
    let shown = describe.await?.accepted()?["pullThroughCacheRules"][0].clone();
    Ok(shown["upstreamRepositoryPrefix"].as_str().unwrap_or("nothing").to_owned())
}

/// Creates a rule, and returns the name of the repository that it caches.
async fn cached(run: &ProbeRun) -> Result<String> {
    let prefix = run.short_prefix();
    rule(run, &prefix, UPSTREAM, None).await?.accepted()?;
    let name = format!("{prefix}/{IMAGE}");
    run.will_make(Made::Repository(name.clone()));
    Ok(name)
}

async fn by_tag(run: &ProbeRun) -> Seen {
    let name = cached(run).await?;
    run.prepared();
    Ok(run.get(&format!("{name}/manifests/{TAG}")).await?.code())
}

/// The tag's digest at the upstream, through the program's client.
async fn upstream_digest(run: &ProbeRun) -> Result<Digest> {
    let host: Host = UPSTREAM.parse()?;
    let settings = ConnectionSettings::default();
    let registry =
        Registry::new(host, settings, &Transport::new(run.backend.network()), Default::default())?;
    Ok(registry.resolve(&IMAGE.parse()?, &TAG.parse()?).await?)
}

async fn by_digest(run: &ProbeRun) -> Seen {
    let digest = upstream_digest(run).await?;
    let name = cached(run).await?;
    run.prepared();
    let answer = run.get(&format!("{name}/manifests/{digest}")).await?;
    run.note(answer.code());
    Ok(answer.status.context("the connection was closed")?.to_string())
}

/// The ARN of a secret: of a new one in the embedded AWS, of the variable's at AWS.
async fn secret(run: &ProbeRun, variable: &str, key: Option<&str>) -> Result<String> {
    if run.backend.sandbox().is_none() {
        return run.backend.variable(variable, "");
    }
    let name = format!("ecr-pullthroughcache/{}", run.name("secret"));
    run.will_make(Made::Secret(name.clone()));
    let text = r#"{"username":"probe","accessToken":"not-a-token"}"#;
    let create = run.secrets(|secrets| {
        let create = secrets.create_secret().name(name).secret_string(text);
        create.set_kms_key_id(key.map(str::to_owned)).send()
    });
    Ok(create.await?.accepted()?["ARN"].as_str().context("no ARN")?.to_owned())
}

async fn library(run: &ProbeRun) -> Seen {
    let secret = secret(run, DOCKER_HUB, None).await?;
    let prefix = run.short_prefix();
    rule(run, &prefix, "registry-1.docker.io", Some(secret)).await?.accepted()?;
    run.will_make(Made::Repository(format!("{prefix}/nginx")));
    run.prepared();
    let answer = run.get(&format!("{prefix}/nginx/manifests/latest")).await?;
    run.note(answer.json()["errors"][0]["message"].as_str().unwrap_or("no message"));
    Ok(answer.code())
}

async fn secret_key(run: &ProbeRun) -> Seen {
    let key = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012";
    let secret = secret(run, ENCRYPTED, Some(key)).await?;
    run.prepared();
    let answer = rule(run, &run.short_prefix(), "registry-1.docker.io", Some(secret)).await?;
    run.note(answer.body["message"].as_str().unwrap_or("no message"));
    Ok(answer.outcome())
}
