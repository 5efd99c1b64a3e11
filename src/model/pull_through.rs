//! What a configuration writes about ECR's pull-through cache: rules, and what belongs to them.
//!
//! Values only. Which upstreams ECR caches, where they are and what each of them needs is decided
//! here, once.

use std::{fmt, str::FromStr};

use secrecy::SecretString;

use super::{
    ecr_host::EcrHost,
    ecr_settings::RepositorySettings,
    image::DestinationId,
    names::{Host, NameError, Repository},
};

/// How long a rule's prefix may be, in characters. Source: ECR API model, `ecrRepositoryPrefix`.
const PREFIX_LENGTH: std::ops::RangeInclusive<usize> = 2..=30;

/// A registry that ECR can cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each is the registry of its name")]
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

/// What ECR must bring to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialNeed {
    /// Nothing: it takes no credentials.
    Nothing,
    /// A secret with a user's name and access token.
    Secret,
    /// A role, where the upstream is in another account.
    Role,
}

/// One line of the table of upstreams.
struct Preset {
    upstream: Upstream,
    /// What the configuration calls it; the default prefix, too.
    name: &'static str,
    /// What the API calls it, `upstreamRegistry`.
    api_name: &'static str,
    /// `upstreamRegistryUrl`; none where each has its own.
    url: Option<&'static str>,
    needs: CredentialNeed,
}

/// Source: ECR user guide, "Sync an upstream registry"; API model, `UpstreamRegistry`.
const UPSTREAMS: [Preset; 9] = [
    known(
        Upstream::DockerHub,
        "docker-hub",
        "docker-hub",
        "registry-1.docker.io",
        CredentialNeed::Secret,
    ),
    known(
        Upstream::GitHub,
        "github",
        "github-container-registry",
        "ghcr.io",
        CredentialNeed::Secret,
    ),
    known(
        Upstream::GitLab,
        "gitlab",
        "gitlab-container-registry",
        "registry.gitlab.com",
        CredentialNeed::Secret,
    ),
    known(Upstream::Quay, "quay", "quay", "quay.io", CredentialNeed::Nothing),
    known(Upstream::K8s, "k8s", "k8s", "registry.k8s.io", CredentialNeed::Nothing),
    known(
        Upstream::EcrPublic,
        "ecr-public",
        "ecr-public",
        "public.ecr.aws",
        CredentialNeed::Nothing,
    ),
    known(Upstream::Azure, "azure", "azure-container-registry", "", CredentialNeed::Secret),
    known(Upstream::Chainguard, "chainguard", "chainguard", "cgr.dev", CredentialNeed::Secret),
    known(Upstream::Ecr, "ecr", "ecr", "", CredentialNeed::Role),
];

const fn known(
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
    /// All of them, in the order in which they are listed to a person.
    pub fn all() -> impl Iterator<Item = Self> {
        UPSTREAMS.iter().map(|known| known.upstream)
    }

    /// The one that is at this host, where ECR can cache it.
    ///
    /// Of ECR's own names that is the plain one: neither dual-stack nor FIPS.
    pub fn at(host: &Host) -> Option<Self> {
        let is_there = |url: &str| url.parse().as_ref() == Ok(host);
        let named = Self::all().find(|upstream| upstream.url().is_some_and(is_there));
        let is_ecr = || EcrHost::parse(host).is_some_and(|ecr| !ecr.fips && !ecr.dual_stack);
        named
            .or_else(|| is_azure(host).then_some(Self::Azure))
            .or_else(|| is_ecr().then_some(Self::Ecr))
    }

    fn known(self) -> &'static Preset {
        let mut found = UPSTREAMS.iter().filter(|known| known.upstream == self);
        found.next().expect("every upstream is in the table")
    }

    /// What the configuration calls it; its default prefix, too.
    pub fn name(self) -> &'static str {
        self.known().name
    }

    /// What ECR's API calls it.
    pub fn api_name(self) -> &'static str {
        self.known().api_name
    }

    /// Where it is, without a scheme; `None` where each has a host of its own.
    pub fn url(self) -> Option<&'static str> {
        self.known().url
    }

    /// What ECR must bring to it.
    pub fn needs(self) -> CredentialNeed {
        self.known().needs
    }
}

/// `NAME.azurecr.io`
fn is_azure(host: &Host) -> bool {
    let name = host.as_str().strip_suffix(".azurecr.io");
    name.is_some_and(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

/// What stands in front of the repositories of a rule or of an upstream: a path, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prefix {
    /// Nothing, which ECR calls `ROOT`.
    Root,
    /// This path, without a slash at its end.
    Path(Repository),
}

impl Prefix {
    /// The rest of this repository below the prefix; `None` where it is not below it.
    pub fn rest(&self, repository: &Repository) -> Option<Repository> {
        match self {
            Self::Root => Some(repository.clone()),
            Self::Path(path) => {
                let rest = repository.as_str().strip_prefix(path.as_str())?.strip_prefix('/')?;
                rest.parse().ok()
            }
        }
    }

    /// The repository with this prefix in front.
    ///
    /// # Errors
    /// When the two together are longer than a repository may be.
    pub fn join(&self, rest: &Repository) -> Result<Repository, NameError> {
        match self {
            Self::Root => Ok(rest.clone()),
            Self::Path(path) => rest.below(path),
        }
    }

    /// How many characters of path it demands: of several prefixes the longest wins.
    pub fn weight(&self) -> usize {
        match self {
            Self::Root => 0,
            Self::Path(path) => path.as_str().len(),
        }
    }

    /// The repositories below it, as the end of an ARN: `docker-hub/*`, or `*`.
    pub fn wildcard(&self) -> String {
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

    /// `ROOT`, or 2 to 30 characters of path; a slash at the end is implied, and may be written.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "ROOT" {
            return Ok(Self::Root);
        }
        let path = text.strip_suffix('/').unwrap_or(text);
        if !PREFIX_LENGTH.contains(&path.len()) {
            let (least, most) = PREFIX_LENGTH.into_inner();
            let problem = format!("has {} characters, a prefix has {least} to {most}", path.len());
            return Err(NameError::new(problem).hint("write a path, or `ROOT` for none"));
        }
        path.parse().map(Self::Path)
    }
}

/// One `[[pull_through]]`: a rule, and what belongs to it.
#[derive(Debug, Clone)]
pub struct Cache {
    /// What is cached.
    pub upstream: Upstream,
    /// Where that is, without a scheme.
    pub url: String,
    /// What its repositories are found below in ECR.
    pub prefix: Prefix,
    /// What they are below at the upstream; other than `ROOT` only where `prefix` is.
    pub upstream_prefix: Prefix,
    /// What ECR brings to the upstream; as much as it needs.
    pub credentials: UpstreamCredentials,
    /// What repositories are like that the cache makes; `None`: as ECR likes.
    pub template: Option<TemplateSettings>,
    /// Who may pull through it besides the account's own; `None`: nobody.
    pub access: Option<Access>,
    /// The destinations that have it: ECR registries with an account and a region; never empty.
    pub destinations: Vec<DestinationId>,
}

/// What ECR brings to an upstream.
#[derive(Debug, Clone)]
pub enum UpstreamCredentials {
    /// Nothing.
    Nothing,
    /// A user's name and access token, which a secret named by [`Cache::secret_name`] keeps.
    Written {
        /// The user's name.
        username: String,
        /// The access token.
        access_token: SecretString,
    },
    /// The secret of this ARN, which somebody else keeps.
    Secret(String),
    /// The role of this ARN.
    Role(String),
}

/// What repositories are like that the cache makes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateSettings {
    /// Their settings; nothing is said about scanning, which templates do not know.
    pub settings: RepositorySettings,
    /// The role in whose name ECR makes them; there wherever tags or KMS ask for one.
    pub role_arn: Option<String>,
}

/// Who else may pull through a cache; never nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The members of this organisation.
    pub organization: Option<String>,
    /// These accounts, twelve digits each.
    pub accounts: Vec<String>,
}

impl Cache {
    /// The name of the secret that keeps written credentials.
    ///
    /// Source: ECR user guide, "Storing your upstream repository credentials".
    pub fn secret_name(&self) -> String {
        format!("ecr-pullthroughcache/{}", self.prefix)
    }

    /// Whether the repositories that it makes have tags, which whoever pulls first must be let give.
    pub fn gives_tags(&self) -> bool {
        self.template.as_ref().is_some_and(|template| !template.settings.tags.is_empty())
    }

    /// Where a source is found in ECR; `None` where this cache does not have it, or its name
    /// would be longer than ECR's are.
    pub fn place(&self, host: &Host, repository: &Repository) -> Option<Repository> {
        let upstream: Host = self.url.parse().ok()?;
        let rest = (upstream == *host).then(|| self.upstream_prefix.rest(repository))??;
        self.prefix.join(&rest).ok()
    }
}

#[cfg(test)]
impl Cache {
    /// One of this upstream, with nothing written about it, at the first destination.
    pub(crate) fn of(upstream: Upstream) -> Self {
        Self {
            upstream,
            url: upstream.url().unwrap_or("x.azurecr.io").to_owned(),
            prefix: upstream.name().parse().expect("every upstream's name is a prefix"),
            upstream_prefix: Prefix::Root,
            credentials: UpstreamCredentials::Nothing,
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
            let place = cache.place(&host.parse().unwrap(), &repository.parse().unwrap());
            assert_eq!(place.as_ref().map(Repository::as_str), expected, "{source} by {prefix}");
        }
    }

    #[test]
    fn an_upstream_is_known_by_its_host() {
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
    fn a_prefix_is_root_or_a_path_of_the_length_that_ecr_takes() {
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
