//! The checks, as data, and their application to a configuration. Pure.

use crate::{
    config::{Cache, Config, DestinationConfig},
    ecr::probe::{Effect, PROBES, Probe},
    iam::destination_actions,
    model::{DestinationId, Host, check_report::CheckGroup},
};

/// One kind of check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    /// The name for `--only`.
    pub(super) id: &'static str,
    pub(super) group: CheckGroup,
    pub(super) scope: CheckScope,
    /// The ids of the checks that must not fail before this one is asked.
    pub(super) depends_on: &'static [&'static str],
    pub(super) question: Question,
    /// The question in words, for `--list`.
    pub(super) asks: &'static str,
}

/// The subjects of a kind of check: one check for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckScope {
    Machine,
    /// The destinations on ECR.
    Ecr,
    /// The destinations on other registries.
    Registry,
    /// The registries that images are read from.
    Source,
    /// The pull-through caches of each destination.
    Cache,
}

/// The question of a check, for [`super::queries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Configuration,
    OpenFiles,
    Network,
    Names,
    Clock,
    Api,
    DataPlane,
    Storage,
    Login,
    Identity,
    Account,
    Action,
    OtherActions,
    PullThroughOverlap,
    Repositories,
    Immutability,
    Lifecycle,
    ImageQuota,
    BlobMounting,
    Rates,
    RegistryLogin,
    Source,
    PullLimit,
    CacheRule,
}

/// The destination, source or cache that a check is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum CheckSubject<'a> {
    Machine,
    Destination { id: DestinationId, config: &'a DestinationConfig, host: &'a Host },
    Source(&'a Host),
    Cache { cache: &'a Cache, destination: &'a DestinationConfig },
}

impl CheckSubject<'_> {
    /// The name in the output; `None` for this machine.
    pub(super) fn name(&self) -> Option<String> {
        Some(match self {
            Self::Machine => return None,
            Self::Destination { config, .. } => config.name.clone(),
            Self::Source(host) => host.to_string(),
            Self::Cache { cache, destination } => {
                format!("{}/{}", destination.name, cache.prefix)
            }
        })
    }

    /// The destination that a check of a cache belongs to, and otherwise the subject itself.
    fn parent(&self) -> Option<String> {
        match self {
            Self::Cache { destination, .. } => Some(destination.name.clone()),
            _ => self.name(),
        }
    }
}

/// A kind of check for one subject.
#[derive(Debug)]
pub(super) struct PlannedCheck<'a> {
    pub(super) spec: &'static Spec,
    pub(super) subject: CheckSubject<'a>,
    /// Indexes of earlier checks.
    pub(super) depends_on: Vec<usize>,
}

use CheckGroup::{
    Configuration, Destinations, Ecr, Identity, Machine, Permissions, PullThrough, Sources,
};

const FIXED: [Spec; 23] = [
    spec(
        "configuration",
        Configuration,
        CheckScope::Machine,
        &[],
        Question::Configuration,
        "whether `check` warns of the configuration",
    ),
    spec(
        "open-files",
        Machine,
        CheckScope::Machine,
        &[],
        Question::OpenFiles,
        "whether `ulimit -n` allows a connection to each registry",
    ),
    spec(
        "network",
        Machine,
        CheckScope::Machine,
        &[],
        Question::Network,
        "whether the proxy and the CA bundle of the environment can be used",
    ),
    spec(
        "names",
        Machine,
        CheckScope::Machine,
        &["network"],
        Question::Names,
        "whether every host name resolves; not asked if a proxy resolves them",
    ),
    spec(
        "ecr-api",
        Ecr,
        CheckScope::Ecr,
        &["network"],
        Question::Api,
        "whether ECR's API answers; sends an empty request without a login",
    ),
    spec(
        "ecr-registry",
        Ecr,
        CheckScope::Ecr,
        &["network"],
        Question::DataPlane,
        "whether the registry's host answers; reads `/v2/` without a login",
    ),
    spec(
        "ecr-storage",
        Ecr,
        CheckScope::Ecr,
        &["network"],
        Question::Storage,
        "whether the S3 bucket of ECR's layers answers; reads `/` without a login",
    ),
    spec(
        "clock",
        Machine,
        CheckScope::Ecr,
        &["ecr-api"],
        Question::Clock,
        "whether the clock agrees with the `Date` of AWS's answer",
    ),
    spec(
        "identity",
        Identity,
        CheckScope::Ecr,
        &["network"],
        Question::Identity,
        "the role or user behind the credentials, and their expiry; calls sts:GetCallerIdentity, which needs no permission",
    ),
    spec(
        "ecr-login",
        Ecr,
        CheckScope::Ecr,
        &["ecr-api", "ecr-registry"],
        Question::Login,
        "whether ECR returns a login and the registry accepts it; calls ecr:GetAuthorizationToken and reads `/v2/`",
    ),
    spec(
        "account",
        Identity,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::Account,
        "whether the credentials are of the registry's account",
    ),
    spec(
        "other-actions",
        Permissions,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::OtherActions,
        "names the actions of `iam mirror` that no harmless call asks for",
    ),
    spec(
        "pull-through-overlap",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::PullThroughOverlap,
        "whether a pull-through rule covers a mirrored repository; lists the rules",
    ),
    spec(
        "repositories",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::Repositories,
        "whether the repositories exist that nothing creates; describes them",
    ),
    spec(
        "immutability",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::Immutability,
        "whether an immutable tag has other content than its source; plans its images without a pull",
    ),
    spec(
        "lifecycle",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::Lifecycle,
        "whether a lifecycle policy deletes selected images; reads the policies",
    ),
    spec(
        "image-quota",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::ImageQuota,
        "whether a repository is near its quota of images; lists the images",
    ),
    spec(
        "blob-mounting",
        Ecr,
        CheckScope::Ecr,
        &["ecr-login"],
        Question::BlobMounting,
        "whether ECR mounts shared layers; reads the setting",
    ),
    spec(
        "rates",
        Ecr,
        CheckScope::Ecr,
        &[],
        Question::Rates,
        "names the command that prints the granted request rates",
    ),
    spec(
        "registry-login",
        Destinations,
        CheckScope::Registry,
        &["network"],
        Question::RegistryLogin,
        "whether the registry answers and accepts the login; reads `/v2/`",
    ),
    spec(
        "source",
        Sources,
        CheckScope::Source,
        &["network"],
        Question::Source,
        "whether the login can read the repositories; resolves a tag or lists tags, without a pull",
    ),
    spec(
        "pull-limit",
        Sources,
        CheckScope::Source,
        &["source"],
        Question::PullLimit,
        "the pulls that Docker Hub's limit leaves; reads the headers of a HEAD, which is no pull",
    ),
    spec(
        "cache-rule",
        PullThrough,
        CheckScope::Cache,
        &["ecr-login"],
        Question::CacheRule,
        "whether the rule exists and ECR reaches its upstream; calls ecr:ValidatePullThroughCacheRule",
    ),
];

const fn spec(
    id: &'static str,
    group: CheckGroup,
    scope: CheckScope,
    depends_on: &'static [&'static str],
    question: Question,
    asks: &'static str,
) -> Spec {
    Spec { id, group, scope, depends_on, question, asks }
}

/// Every kind of check. A check only depends on earlier ones.
pub(super) static SPECS: [Spec; FIXED.len() + PROBES.len()] = {
    let mut all = [FIXED[0]; FIXED.len() + PROBES.len()];
    let mut at = 0;
    while at < FIXED.len() {
        all[at] = FIXED[at];
        at += 1;
    }
    while at < all.len() {
        let Probe { action, asks, .. } = PROBES[at - FIXED.len()];
        all[at] =
            spec(action, Permissions, CheckScope::Ecr, &["ecr-login"], Question::Action, asks);
        at += 1;
    }
    all
};

/// The checks of a configuration, each after those that it depends on.
pub(super) fn checks(config: &Config) -> Vec<PlannedCheck<'_>> {
    let mut checks: Vec<PlannedCheck<'_>> = Vec::new();
    for spec in &SPECS {
        for subject in subjects(config, spec) {
            let is_needed = |earlier: &PlannedCheck<'_>| {
                let parent = earlier.subject.name();
                spec.depends_on.contains(&earlier.spec.id)
                    && (parent.is_none() || parent == subject.parent())
            };
            let depends_on = checks.iter().enumerate().filter(|(_, it)| is_needed(it));
            let depends_on = depends_on.map(|(index, _)| index).collect();
            checks.push(PlannedCheck { spec, subject, depends_on });
        }
    }
    checks
}

fn subjects<'a>(config: &'a Config, spec: &Spec) -> Vec<CheckSubject<'a>> {
    let destinations = config.destinations.iter().enumerate().filter_map(|(index, to)| {
        let (id, host) = (DestinationId(index), to.registry.host()?);
        Some((to.is_ecr(), CheckSubject::Destination { id, config: to, host }))
    });
    match spec.scope {
        CheckScope::Machine => vec![CheckSubject::Machine],
        CheckScope::Ecr => {
            let is_asked = |subject: &CheckSubject<'_>| match (spec.question, subject) {
                (Question::Action, CheckSubject::Destination { id, .. }) => {
                    destination_actions(config, *id).actions.contains(spec.id)
                }
                _ => true,
            };
            let ecr = destinations.filter(|(is_ecr, _)| *is_ecr).map(|(_, subject)| subject);
            ecr.filter(is_asked).collect()
        }
        CheckScope::Registry => {
            destinations.filter(|(is_ecr, _)| !is_ecr).map(|(_, subject)| subject).collect()
        }
        CheckScope::Source => {
            // ECR itself reads the images of a cache
            let entries = config.entries.iter().filter(|entry| !entry.mirrored.is_empty());
            let mut hosts: Vec<&Host> = entries.map(|entry| &entry.host).collect();
            hosts.sort_unstable();
            hosts.dedup();
            let is_asked =
                |host: &&Host| spec.question != Question::PullLimit || host.is_docker_hub();
            hosts.into_iter().filter(is_asked).map(CheckSubject::Source).collect()
        }
        CheckScope::Cache => {
            let caches = config.caches.iter().flat_map(|cache| {
                let to = |id: &DestinationId| config.destination(*id);
                cache.destinations.iter().map(move |id| (cache, to(id)))
            });
            caches.map(|(cache, destination)| CheckSubject::Cache { cache, destination }).collect()
        }
    }
}

/// Returns `true` for an action whose call writes.
pub(super) fn is_writing(spec: &Spec) -> bool {
    PROBES.iter().any(|probe| probe.action == spec.id && probe.effect == Effect::Writes)
}
