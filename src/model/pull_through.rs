//! Pull-through cache rules: upstreams, prefixes, credentials, templates, access.
//!
//! Values only. Contains the one table of the upstreams that ECR caches, their hosts and the
//! credentials that they need.

use std::{fmt, str::FromStr};

use secrecy::SecretString;
use serde_json::{Value, json};

use super::{
    ecr_host::EcrHost,
    ecr_settings::RepositorySettings,
    image::DestinationId,
    names::{Host, NameError, Repository},
};

/// ECR reads only secrets whose name has this prefix.
///
/// Source: ECR API model, `credentialArn`.
pub(crate) const SECRET_PREFIX: &str = "ecr-pullthroughcache/";

/// The description of the templates that `apply` creates, unless another one is configured.
pub(crate) const TEMPLATE_DESCRIPTION: &str = "Made by ecr-mirror pull-through apply";

/// The length of a rule's prefix, in characters. Source: ECR API model, `ecrRepositoryPrefix`.
const PREFIX_LENGTH: std::ops::RangeInclusive<usize> = 2..=30;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upstream {
    DockerHub,
    GitHub,
    GitLab,
    Quay,
    K8s,
    EcrPublic,
    Azure,
    Chainguard,
    Ecr,
}

/// The credentials that ECR needs for an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialNeed {
    Nothing,
    /// A secret with a username and an access token.
    Secret,
    /// A role, if the upstream is in another account.
    Role,
}

struct Preset {
    upstream: Upstream,
    /// The name in the configuration; also the default prefix.
    name: &'static str,
    /// `upstreamRegistry` in the API.
    api_name: &'static str,
    /// `upstreamRegistryUrl` in the API; `None` if the registry has no fixed host.
    url: Option<&'static str>,
    needs: CredentialNeed,
}

/// Source: ECR user guide, "Sync an upstream registry"; API model, `UpstreamRegistry`.
const UPSTREAMS: [Preset; 9] = {
    use CredentialNeed::{Nothing, Role, Secret};
    [
        preset(Upstream::DockerHub, "docker-hub", "docker-hub", "registry-1.docker.io", Secret),
        preset(Upstream::GitHub, "github", "github-container-registry", "ghcr.io", Secret),
        preset(Upstream::GitLab, "gitlab", "gitlab-container-registry", GITLAB, Secret),
        preset(Upstream::Quay, "quay", "quay", "quay.io", Nothing),
        preset(Upstream::K8s, "k8s", "k8s", "registry.k8s.io", Nothing),
        preset(Upstream::EcrPublic, "ecr-public", "ecr-public", "public.ecr.aws", Nothing),
        preset(Upstream::Azure, "azure", "azure-container-registry", "", Secret),
        preset(Upstream::Chainguard, "chainguard", "chainguard", "cgr.dev", Secret),
        preset(Upstream::Ecr, "ecr", "ecr", "", Role),
    ]
};

const GITLAB: &str = "registry.gitlab.com";

const fn preset(
    upstream: Upstream,
    name: &'static str,
    api_name: &'static str,
    url: &'static str,
    needs: CredentialNeed,
) -> Preset {
    let url = if url.is_empty() { None } else { Some(url) };
    Preset { upstream, name, api_name, url, needs }
}

impl Upstream {
    /// All upstreams, in the order for messages.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        UPSTREAMS.iter().map(|preset| preset.upstream)
    }

    /// The upstream at this host, if ECR can cache it.
    ///
    /// An ECR registry is one only under its plain name: neither dual-stack nor FIPS.
    pub(crate) fn at(host: &Host) -> Option<Self> {
        let is_at_host = |url: &str| url.parse().as_ref() == Ok(host);
        let fixed = Self::all().find(|upstream| upstream.url().is_some_and(is_at_host));
        let is_ecr = || EcrHost::parse(host).is_some_and(|ecr| !ecr.fips && !ecr.dual_stack);
        fixed
            .or_else(|| is_azure(host).then_some(Self::Azure))
            .or_else(|| is_ecr().then_some(Self::Ecr))
    }

    fn preset(self) -> &'static Preset {
        let mut presets = UPSTREAMS.iter().filter(|preset| preset.upstream == self);
        presets.next().expect("every upstream is in the table")
    }

    /// The name in the configuration; also the default prefix.
    pub(crate) fn name(self) -> &'static str {
        self.preset().name
    }

    pub(crate) fn api_name(self) -> &'static str {
        self.preset().api_name
    }

    /// The host; `None` if the registry has no fixed one.
    pub(crate) fn url(self) -> Option<&'static str> {
        self.preset().url
    }

    pub(crate) fn needs(self) -> CredentialNeed {
        self.preset().needs
    }
}

/// Returns `true` for `NAME.azurecr.io`.
fn is_azure(host: &Host) -> bool {
    let name = host.as_str().strip_suffix(".azurecr.io");
    name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prefix {
    /// None; ECR calls it `ROOT`.
    Root,
    /// A path, without a slash at the end.
    Path(Repository),
}

impl Prefix {
    /// The repository without the prefix; `None` if it is not below the prefix.
    pub(crate) fn rest(&self, repository: &Repository) -> Option<Repository> {
        match self {
            Self::Root => Some(repository.clone()),
            Self::Path(path) => {
                let rest = repository.as_str().strip_prefix(path.as_str())?.strip_prefix('/')?;
                rest.parse().ok()
            }
        }
    }

    /// The repository with the prefix.
    pub(crate) fn join(&self, rest: &Repository) -> Result<Repository, NameError> {
        match self {
            Self::Root => Ok(rest.clone()),
            Self::Path(path) => rest.below(path),
        }
    }

    /// The length of the path: of several matching prefixes the longest wins.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Root => 0,
            Self::Path(path) => path.as_str().len(),
        }
    }

    /// The repositories below it, in an ARN: `docker-hub/*`, or `*`.
    pub(crate) fn wildcard(&self) -> String {
        match self {
            Self::Root => "*".to_owned(),
            Self::Path(path) => format!("{path}/*"),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("ROOT"),
            Self::Path(path) => path.fmt(f),
        }
    }
}

impl FromStr for Prefix {
    type Err = NameError;

    /// Parses `ROOT`, or a path of 2 to 30 characters. A slash at the end is optional.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "ROOT" {
            return Ok(Self::Root);
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        if !PREFIX_LENGTH.contains(&path.len()) {
            let (least, most) = PREFIX_LENGTH.into_inner();
            let problem = format!("must have {least} to {most} characters");
            return Err(
                NameError::new(problem).hint("write a longer or shorter path, or `ROOT` for none")
            );
        }
        path.parse().map(Self::Path)
    }
}

/// One `[[pull_through]]`: a rule with its credentials, template and access.
#[derive(Debug, Clone)]
pub struct Cache {
    pub upstream: Upstream,
    /// The upstream's host, without a scheme.
    pub url: String,
    /// The prefix of its repositories in ECR.
    pub prefix: Prefix,
    /// The prefix at the upstream; a path only if `prefix` is a path.
    pub upstream_prefix: Prefix,
    /// The credentials that the upstream needs.
    pub credentials: UpstreamCredentials,
    /// The settings of the secret for written credentials.
    pub secret: SecretSettings,
    /// The settings of the repositories that the cache creates; `None`: ECR's defaults.
    pub template: Option<TemplateSettings>,
    /// Who can pull through it besides its own account; `None`: no one else.
    pub access: Option<Access>,
    /// The ECR registries that have the cache; never empty.
    pub destinations: Vec<DestinationId>,
}

/// The credentials that ECR uses for an upstream.
#[derive(Debug, Clone)]
pub enum UpstreamCredentials {
    Nothing,
    /// A login, stored in the secret [`Cache::secret_name`].
    Written {
        username: String,
        access_token: SecretString,
    },
    /// The secret with this ARN or name, managed elsewhere.
    Secret(String),
    Role(String),
}

/// The settings of a secret besides its value. `None` keeps the current one or AWS's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SecretSettings {
    pub description: Option<String>,
    /// The days in which it can be restored after its deletion.
    pub recovery_window_days: Option<u32>,
    /// Its resource policy.
    pub policy: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateSettings {
    /// The settings, without scanning, which templates do not support.
    pub(crate) settings: RepositorySettings,
    /// The role with which ECR creates them; always present with tags or KMS.
    pub(crate) role_arn: Option<String>,
    /// The template's own description; `None`: ours.
    pub(crate) description: Option<String>,
    /// Applies the settings to existing repositories of the cache, too.
    pub(crate) reconcile: bool,
}

/// The principals of other accounts that can pull; at least one of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    pub organization: Option<String>,
    /// Account numbers with twelve digits.
    pub accounts: Vec<String>,
    /// ARNs of roles.
    pub roles: Vec<String>,
    /// Paths from the organization, like `o-a1b2c3d4e5/r-ab12/ou-ab12-11111111`.
    pub organizational_units: Vec<String>,
}

/// A part of [`Access`] in the words of a policy.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Principals {
    /// One of [`Access::KINDS`].
    pub(crate) kind: &'static str,
    pub(crate) principal: Value,
    pub(crate) condition: Option<Value>,
}

impl Access {
    /// The kinds of principals, as the ids of statements name them.
    pub(crate) const KINDS: [&'static str; 4] =
        ["Organization", "Accounts", "Roles", "OrganizationalUnits"];

    /// The principals by kind. Accounts are ARNs of this partition; without one they are numbers,
    /// which have the same meaning.
    ///
    /// Source: IAM user guide, "AWS global condition context keys", `aws:PrincipalOrgID` and
    /// `aws:PrincipalOrgPaths`: a path with `/*` covers the unit and the units below it.
    pub(crate) fn principals(&self, partition: Option<&str>) -> Vec<Principals> {
        let [organization, accounts, roles, units] = Self::KINDS;
        let root = |account: &String| match partition {
            Some(partition) => format!("arn:{partition}:iam::{account}:root"),
            None => account.clone(),
        };
        let mut all = Vec::new();
        if let Some(id) = &self.organization {
            let condition = Some(json!({ "StringEquals": { "aws:PrincipalOrgID": id } }));
            all.push(Principals { kind: organization, principal: json!("*"), condition });
        }
        for (kind, arns) in
            [(accounts, self.accounts.iter().map(root).collect()), (roles, self.roles.clone())]
        {
            if !arns.is_empty() {
                all.push(Principals { kind, principal: json!({ "AWS": arns }), condition: None });
            }
        }
        if !self.organizational_units.is_empty() {
            let paths: Vec<String> =
                self.organizational_units.iter().map(|path| format!("{path}/*")).collect();
            let condition = json!({ "ForAnyValue:StringLike": { "aws:PrincipalOrgPaths": paths } });
            all.push(Principals { kind: units, principal: json!("*"), condition: Some(condition) });
        }
        all
    }
}

impl Cache {
    /// The name of the secret for written credentials.
    ///
    /// Source: ECR user guide, "Storing your upstream repository credentials".
    pub(crate) fn secret_name(&self) -> String {
        format!("{SECRET_PREFIX}{}", self.prefix)
    }

    /// Returns `true` if its repositories get tags: then the first puller needs the permission to
    /// tag.
    pub(crate) fn gives_tags(&self) -> bool {
        self.template.as_ref().is_some_and(|template| !template.settings.tags.is_empty())
    }

    /// The repository of a source in ECR; `None` if this cache does not cover it, or if the name
    /// would be too long for ECR.
    pub(crate) fn repository(&self, host: &Host, repository: &Repository) -> Option<Repository> {
        let upstream: Host = self.url.parse().ok()?;
        let rest = (upstream == *host).then(|| self.upstream_prefix.rest(repository))??;
        self.prefix.join(&rest).ok()
    }
}

#[cfg(test)]
impl Cache {
    /// A cache of this upstream at the first destination, with the defaults.
    pub(crate) fn of(upstream: Upstream) -> Self {
        Self {
            upstream,
            url: upstream.url().unwrap_or("x.azurecr.io").to_owned(),
            prefix: upstream.name().parse().expect("every upstream's name is a prefix"),
            upstream_prefix: Prefix::Root,
            credentials: UpstreamCredentials::Nothing,
            secret: SecretSettings::default(),
            template: None,
            access: None,
            destinations: vec![DestinationId(0)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(url: &str, prefix: &str, upstream_prefix: &str) -> Cache {
        Cache {
            url: url.to_owned(),
            prefix: prefix.parse().unwrap(),
            upstream_prefix: upstream_prefix.parse().unwrap(),
            ..Cache::of(Upstream::DockerHub)
        }
    }

    #[test]
    fn a_source_is_found_below_the_prefix_of_its_rule() {
        // ECR user guide, "Customizing repository prefixes"
        for (url, prefix, upstream_prefix, source, expected) in [
            (
                "registry-1.docker.io",
                "docker-hub",
                "ROOT",
                "docker.io/library/nginx",
                Some("docker-hub/library/nginx"),
            ),
            ("registry-1.docker.io", "docker-hub", "ROOT", "quay.io/library/nginx", None),
            ("public.ecr.aws", "ecr-public", "ROOT", "public.ecr.aws/a/b", Some("ecr-public/a/b")),
            ("quay.io", "ROOT", "ROOT", "quay.io/my-app/image1", Some("my-app/image1")),
            ("quay.io", "team-a", "team-a", "quay.io/team-a/x", Some("team-a/x")),
            ("quay.io", "my-app", "upstream-app", "quay.io/upstream-app/x", Some("my-app/x")),
            ("quay.io", "my-app", "upstream-app", "quay.io/upstream-apple/x", None),
            ("quay.io", "my-app", "upstream-app", "quay.io/other/x", None),
        ] {
            let (host, repository) = source.split_once('/').unwrap();
            let cache = cache(url, prefix, upstream_prefix);
            let repository_in_ecr =
                cache.repository(&host.parse().unwrap(), &repository.parse().unwrap());
            assert_eq!(
                repository_in_ecr.as_ref().map(Repository::as_str),
                expected,
                "{source} by {prefix}"
            );
        }
    }

    #[test]
    fn an_upstream_is_recognized_by_its_host() {
        for (host, expected) in [
            ("docker.io", Some(Upstream::DockerHub)),
            ("registry-1.docker.io", Some(Upstream::DockerHub)),
            ("ghcr.io", Some(Upstream::GitHub)),
            ("registry.gitlab.com", Some(Upstream::GitLab)),
            ("quay.io", Some(Upstream::Quay)),
            ("registry.k8s.io", Some(Upstream::K8s)),
            ("public.ecr.aws", Some(Upstream::EcrPublic)),
            ("acme.azurecr.io", Some(Upstream::Azure)),
            ("cgr.dev", Some(Upstream::Chainguard)),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Some(Upstream::Ecr)),
            ("123456789012.dkr.ecr-fips.us-east-1.amazonaws.com", None),
            ("123456789012.dkr-ecr.eu-west-1.on.aws", None),
            ("azurecr.io", None),
            ("a.b.azurecr.io", None),
            ("gcr.io", None),
            ("quay.io:443", None),
        ] {
            assert_eq!(Upstream::at(&host.parse().unwrap()), expected, "{host}");
        }
    }

    #[test]
    fn a_prefix_is_root_or_a_path_of_a_valid_length() {
        for (text, expected) in [
            ("ROOT", Some("ROOT")),
            ("docker-hub", Some("docker-hub")),
            ("docker-hub/", Some("docker-hub")),
            ("a/b", Some("a/b")),
            ("a", None),
            ("root", Some("root")),
            ("Docker", None),
            ("a//b", None),
            ("/a", None),
            ("", None),
            ("a123456789012345678901234567890", None),
        ] {
            let read = text.parse::<Prefix>().ok().map(|prefix| prefix.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }
}
