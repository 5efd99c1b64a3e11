//! Lets ECR validate a rule, and explains its failures.
//!
//! ECR's words select the hint only; they decide nothing else.

use super::state::EcrRegistry;
use crate::{
    ecr::{AwsSession, cache_api::ObservedRule},
    model::{
        Kind, Result,
        pull_through::{Cache, Upstream, UpstreamCredentials},
    },
};

/// Lets ECR validate the rule of this prefix: whether it reaches the upstream, reads the secret and
/// logs in. Returns the reason of a failure, in AWS's words; it is not an error.
pub(crate) async fn validate(session: &AwsSession, prefix: &str) -> Result<Option<String>> {
    let answer = session.api.call("ValidatePullThroughCacheRule", |ecr| {
        ecr.validate_pull_through_cache_rule().ecr_repository_prefix(prefix).send()
    });
    match answer.await {
        Ok(answer) if answer.is_valid() => Ok(None),
        Ok(answer) => {
            let failure = answer.failure().filter(|failure| !failure.is_empty());
            Ok(Some(failure.unwrap_or("ECR gives no reason").to_owned()))
        }
        Err(error) if error.kind() == Kind::Configuration => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// The hint for an invalid rule; `None` if ECR's words match no known cause. The first match decides.
///
/// Source: ECR API model, exceptions of CreatePullThroughCacheRule; ECR user guide,
/// "Troubleshooting pull through cache issues"; containers-roadmap#2354, #2260.
pub(crate) fn hint(
    registry: &EcrRegistry,
    cache: &Cache,
    rule: &ObservedRule,
    failure: &str,
) -> Option<String> {
    if let Some(hint) = wrong_location(registry, rule) {
        return Some(hint);
    }
    let failure = failure.to_ascii_lowercase();
    let says = |words: &str| words.split('|').any(|word| failure.contains(word));
    let written = matches!(cache.credentials, UpstreamCredentials::Written { .. });
    let hint = if says("decrypt|customer managed key|kms") {
        "encrypt the secret with the key `aws/secretsmanager`: ECR can use no other"
    } else if says("accesstoken|json|malformed|format of the secret") {
        match written {
            true => "run `ecr-mirror pull-through apply` to write it again",
            false => {
                "store the secret as `{\"username\": \"…\", \"accessToken\": \"…\"}`, for every \
                 upstream; `password` is not read"
            }
        }
    } else if says(
        "secretnotfound|secret was not found|arn of the secret|find the specified secret",
    ) {
        match written {
            true => "run `ecr-mirror pull-through apply` to create it again",
            false => "create the secret, or set `secret_arn` to an existing one",
        }
    } else if says("unabletoaccesssecret|access the secret|access secret|getsecretvalue") {
        "ECR reads secrets of the registry's own account and region whose name begins with \
         `ecr-pullthroughcache/`; look for a resource policy that denies it"
    } else if says("429|too many requests|toomanyrequests|rate limit|rate exceeded") {
        "wait, or use another user: the upstream limits the secret's user"
    } else if says("401|unauthorized|authenticat|credential|log in|login")
        || says("403|denied|forbidden|not authorized")
    {
        login_hint(cache.upstream)
    } else if says("404|not found|name_unknown|does not exist|unknown") {
        let Cache { url, upstream_prefix, .. } = cache;
        let hint = format!("check `url` ({url}) and `upstream_prefix` ({upstream_prefix})");
        return Some(match cache.upstream {
            Upstream::DockerHub => {
                format!("{hint}; official images are below `library/`, as in `{}`", example(cache))
            }
            _ => hint,
        });
    } else if says("timed out|timeout|connect|unavailable|unreachable|resolve") {
        let url = &cache.url;
        return Some(format!("check that the upstream `{url}` is reachable from AWS's network"));
    } else {
        return None;
    };
    Some(hint.to_owned())
}

/// The hint for a secret of another account or region.
fn wrong_location(registry: &EcrRegistry, rule: &ObservedRule) -> Option<String> {
    let arn = rule.credential_arn.as_deref()?;
    let mut parts = arn.split(':').skip(3);
    let (region, account) = (parts.next()?, parts.next()?);
    if (region, account) == (registry.region.as_str(), registry.account.as_str()) {
        return None;
    }
    Some(format!(
        "the secret is in account {account} in {region}; ECR reads secrets of account {} in {} only: \
         set `credentials`, or a `secret_arn` from there",
        registry.account, registry.region
    ))
}

/// The hint for a login that the upstream does not accept.
///
/// Source: ECR user guide, "Storing your upstream repository credentials".
fn login_hint(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::DockerHub => {
            "use a Docker Hub user name and a personal access token that may read"
        }
        Upstream::GitHub => "use a GitHub user name and a classic token with `read:packages`",
        Upstream::GitLab => "use a GitLab user name and a token with `read_registry`",
        Upstream::Azure => {
            "use the name and password of a repository-scoped token of the Azure registry"
        }
        Upstream::Chainguard => "use the id and password of a Chainguard pull token",
        Upstream::Ecr => {
            "the rule's role must trust `pullthroughcache.ecr.amazonaws.com`, and the upstream's \
             repository policy must let it pull"
        }
        Upstream::Quay | Upstream::K8s | Upstream::EcrPublic => {
            "this upstream takes no credentials: remove them from the rule"
        }
    }
}

/// An example of a repository in ECR that the cache fills.
pub(crate) fn example(cache: &Cache) -> String {
    let name = match cache.upstream {
        Upstream::DockerHub => "library/nginx",
        Upstream::Quay => "prometheus/prometheus",
        Upstream::K8s => "pause",
        Upstream::EcrPublic => "docker/library/nginx",
        Upstream::Chainguard => "chainguard/nginx",
        Upstream::GitHub | Upstream::GitLab => "OWNER/NAME",
        Upstream::Azure | Upstream::Ecr => "NAME",
    };
    match cache.prefix.weight() {
        0 => name.to_owned(),
        _ => format!("{}/{name}", cache.prefix),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> EcrRegistry {
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        EcrRegistry::of(&host).unwrap()
    }

    fn cache(upstream: Upstream, credentials: UpstreamCredentials) -> Cache {
        Cache { credentials, ..Cache::of(upstream) }
    }

    fn written() -> UpstreamCredentials {
        UpstreamCredentials::Written { username: "u".to_owned(), access_token: "t".into() }
    }

    #[test]
    fn every_known_failure_has_its_hint() {
        let kept = || UpstreamCredentials::Secret("arn".to_owned());
        let hub = Upstream::DockerHub;
        for (credentials, failure, expected) in [
            // what the user guide and the API show
            (
                kept(),
                "The ARN of the secret specified in the pull through cache rule was not found.",
                "create the secret",
            ),
            (
                written(),
                "The ARN of the secret specified in the pull through cache rule was not found.",
                "apply` to create",
            ),
            (
                kept(),
                "The secret does not hold a username and an accessToken.",
                "`password` is not read",
            ),
            (written(), "The secret is not valid JSON", "apply` to write"),
            (kept(), "UnableToDecryptSecretValueException: x", "`aws/secretsmanager`"),
            (kept(), "UnableToAccessSecretException: x", "`ecr-pullthroughcache/`"),
            (kept(), "unauthorized: incorrect username or password", "personal access token"),
            (kept(), "Authentication with the upstream failed", "personal access token"),
            (kept(), "403 Forbidden", "personal access token"),
            (kept(), "name_unknown: repository name not known", "`docker-hub/library/nginx`"),
            (kept(), "toomanyrequests: rate limit", "another user"),
            (kept(), "connection refused", "from AWS's network"),
        ] {
            let found =
                hint(&registry(), &cache(hub, credentials), &ObservedRule::default(), failure);
            let found = found.unwrap_or_else(|| panic!("{failure}"));
            assert!(found.contains(expected), "{failure}: {found}");
        }
        let found = hint(&registry(), &cache(hub, kept()), &ObservedRule::default(), "no idea");
        assert_eq!(found, None, "words that tell nothing get no advice");
    }

    #[test]
    fn a_secret_in_another_region_or_account_has_its_hint_for_every_failure() {
        for (place, expected) in [
            ("eu-west-1:123456789012", None),
            ("us-east-1:123456789012", Some("in account 123456789012 in us-east-1")),
            ("eu-west-1:210987654321", Some("in account 210987654321 in eu-west-1")),
        ] {
            let arn =
                format!("arn:aws:secretsmanager:{place}:secret:ecr-pullthroughcache/x-AbCdEf");
            let rule = ObservedRule { credential_arn: Some(arn), ..ObservedRule::default() };
            let found = hint(&registry(), &cache(Upstream::DockerHub, written()), &rule, "?");
            assert_eq!(found.is_some(), expected.is_some(), "{place}");
            let told = found.unwrap_or_default();
            assert!(told.contains(expected.unwrap_or_default()), "{place}: {told}");
        }
    }

    #[test]
    fn each_upstream_has_its_own_login_hint() {
        for upstream in Upstream::all() {
            let found =
                hint(&registry(), &cache(upstream, written()), &ObservedRule::default(), "401");
            assert_eq!(found.as_deref(), Some(login_hint(upstream)), "{upstream:?}");
        }
    }

    #[test]
    fn an_example_has_the_prefix_and_docker_hubs_library() {
        let hub = cache(Upstream::DockerHub, written());
        assert_eq!(example(&hub), "docker-hub/library/nginx");
        let root = Cache { prefix: "ROOT".parse().unwrap(), ..cache(Upstream::K8s, written()) };
        assert_eq!(example(&root), "pause");
    }

    #[tokio::test]
    async fn ecr_validates_a_rule_and_its_failure_has_a_hint() {
        use crate::{
            ecr::{Identity, cache_api},
            registry::Network,
            remote::HostContext,
            sandbox::{Options, Sandbox},
        };
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let identity = Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() };
        let network = Network::Sandbox(sandbox.address());
        let session =
            AwsSession::open(identity, network, std::sync::Arc::new(HostContext::default())).await;
        let secrets = session.secrets();
        let name = "ecr-pullthroughcache/docker-hub";
        let text = r#"{"username":"u","accessToken":"t"}"#;
        let made = secrets.create_secret().name(name).secret_string(text).send().await.unwrap();
        let make = |ecr: aws_sdk_ecr::Client| {
            let rule = ecr.create_pull_through_cache_rule().ecr_repository_prefix("docker-hub");
            let rule = rule.upstream_registry_url("registry-1.docker.io");
            rule.set_credential_arn(made.arn.clone()).send()
        };
        session.api.call("CreatePullThroughCacheRule", make).await.unwrap();
        assert_eq!(validate(&session, "docker-hub").await.unwrap(), None);

        let text = r#"{"username":"u","password":"t"}"#;
        secrets.put_secret_value().secret_id(name).secret_string(text).send().await.unwrap();
        let failure = validate(&session, "docker-hub").await.unwrap().unwrap();
        let rule = &cache_api::rules(&session.api, None).await.unwrap()["docker-hub"];
        let kept = cache(Upstream::DockerHub, UpstreamCredentials::Secret("arn".to_owned()));
        let advice = hint(&registry(), &kept, rule, &failure).unwrap();
        assert!(advice.contains("`password` is not read"), "{failure}: {advice}");
        validate(&session, "quay").await.unwrap_err();
    }
}
