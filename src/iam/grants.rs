//! The repositories on ECR that a configuration pushes, pulls and warms.

use std::collections::BTreeSet;

use crate::{
    config::{Cache, CacheTarget, Config, CredentialSource, DestinationConfig, Entry, Tags},
    model::{
        Archived, Create, DestinationId, EcrHost, Host, Platforms, Repository,
        ecr_settings::{AccountSettings, RepositoryRules},
    },
};

/// The repositories of one registry that images are pushed to, and the settings of its account.
#[derive(Debug, Clone)]
pub(super) struct PushGrant {
    pub(super) registry: EcrHost,
    pub(super) repositories: Vec<Repository>,
    /// Those of [`later_repositories`].
    pub(super) later: Option<String>,
    pub(super) rules: RepositoryRules,
    pub(super) account: AccountSettings,
    /// The repositories whose archived images are restored.
    pub(super) restored: BTreeSet<Repository>,
    /// The repositories of images with `platforms`. The config of one without an index names its platform.
    pub(super) filtered: BTreeSet<Repository>,
    /// Blobs may be mounted from one of the repositories into another, if the account allows it.
    pub(super) mounts: bool,
}

/// A repository that images are read from.
#[derive(Debug, Clone)]
pub(super) struct PullGrant {
    pub(super) registry: EcrHost,
    pub(super) repository: Repository,
    pub(super) tags: TagListingApi,
}

/// The use of the API that lists the tags of a repository, for a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TagListingApi {
    Needed,
    /// The tags are listed and nothing else is read.
    Only,
    Never,
}

/// A repository that is pulled through a cache once. The first pull creates it.
#[derive(Debug, Clone)]
pub(super) struct WarmGrant {
    pub(super) registry: EcrHost,
    pub(super) repository: Repository,
    /// The cache's template adds resource tags.
    pub(super) tagged: bool,
}

/// A destination whose host name is an ECR registry.
pub(super) struct EcrDestination<'a> {
    pub(super) id: DestinationId,
    pub(super) config: &'a DestinationConfig,
    pub(super) registry: EcrHost,
}

pub(super) fn ecr_destinations(config: &Config) -> impl Iterator<Item = EcrDestination<'_>> {
    config.destinations.iter().enumerate().filter_map(|(index, config)| {
        let registry = config.registry.host().and_then(EcrHost::parse)?;
        Some(EcrDestination { id: DestinationId(index), config, registry })
    })
}

/// The repositories of a destination that images are mirrored to, with repeats.
pub(super) fn mirrored(config: &Config, id: DestinationId) -> impl Iterator<Item = &Repository> {
    let targets = config.entries.iter().flat_map(|entry| &entry.mirrored);
    targets.filter(move |target| target.destination == id).map(|target| &target.repository)
}

/// The pattern of the repositories that `bootstrap --to` mirrors to. `None` if the configuration has an
/// image or a cache: it then names its repositories.
pub(super) fn later_repositories(all: &Config, destination: &DestinationConfig) -> Option<String> {
    let is_bare = all.entries.is_empty() && all.wildcards.is_empty() && all.caches.is_empty();
    let below = |prefix| format!("{prefix}/*");
    is_bare.then(|| destination.prefix.as_ref().map_or_else(|| "*".to_owned(), below))
}

/// The caches of a destination, with their indexes in the configuration.
pub(super) fn caches(config: &Config, id: DestinationId) -> impl Iterator<Item = (usize, &Cache)> {
    let caches = config.caches.iter().enumerate();
    caches.filter(move |(_, cache)| cache.destinations.contains(&id))
}

pub(super) fn pushes(config: &Config) -> Vec<PushGrant> {
    ecr_destinations(config).filter_map(|destination| push(config, destination)).collect()
}

/// The grant for one destination; `None` if nothing is pushed or set there.
pub(super) fn push(all: &Config, destination: EcrDestination<'_>) -> Option<PushGrant> {
    let entries = &all.entries;
    let id = destination.id;
    let repositories: BTreeSet<Repository> = mirrored(all, id).cloned().collect();
    let is_warmed = |entry: &Entry| entry.cached.iter().any(|target| target.destination == id);
    let only_warms = repositories.is_empty() && entries.iter().any(is_warmed);
    let EcrDestination { config, registry, .. } = destination;
    if only_warms {
        let rules = RepositoryRules { create: Create::Never, ..RepositoryRules::default() };
        let (account, repositories) = (config.account.clone(), Vec::new());
        let (restored, filtered) = (BTreeSet::new(), BTreeSet::new());
        let (mounts, later) = (false, None);
        let push =
            PushGrant { registry, mounts, repositories, later, restored, filtered, rules, account };
        return (!push.account.is_empty()).then_some(push);
    }
    let later = later_repositories(all, config);
    let has_many = repositories.len() > 1 || later.is_some();
    Some(PushGrant {
        registry,
        mounts: has_many && config.account.blob_mounting != Some(false),
        later,
        repositories: repositories.into_iter().collect(),
        restored: repositories_of(entries, id, |entry| entry.filter.archived == Archived::Restore),
        filtered: repositories_of(entries, id, |entry| entry.filter.platforms != Platforms::All),
        rules: config.repositories.clone(),
        account: config.account.clone(),
    })
}

/// The repositories of a destination that these entries are mirrored to.
fn repositories_of(
    entries: &[Entry],
    id: DestinationId,
    is_one: impl Fn(&&Entry) -> bool,
) -> BTreeSet<Repository> {
    let entries = entries.iter().filter(is_one);
    let targets = entries.flat_map(|entry| &entry.mirrored);
    targets.filter(|it| it.destination == id).map(|it| it.repository.clone()).collect()
}

/// Returns `true` if the role itself reads from this registry, and not an identity of the registry's own.
fn reads_itself(config: &Config, host: &Host) -> bool {
    let table = config.registries.get(host);
    table.is_none_or(|table| table.profile.is_none() && table.role_arn.is_none())
}

/// The repositories that the role itself reads: without those of registries with an own identity.
pub(super) fn pulls(config: &Config) -> Vec<PullGrant> {
    let entries = config.entries.iter().filter(|entry| reads_itself(config, &entry.host));
    entries.filter_map(pull).collect()
}

/// The registries whose repositories the role itself lists, for sources with a `*`.
pub(super) fn listed_registries(config: &Config) -> Vec<EcrHost> {
    let hosts = config.listed_hosts.iter().filter(|host| reads_itself(config, host));
    hosts.filter_map(EcrHost::parse).collect()
}

/// The configuration with the use of its caches only, and with the registries whose tags or repositories
/// `pull-through warm` lists.
pub(super) fn warmed_only(config: &Config) -> Config {
    let mut warmed = config.clone();
    warmed.entries.retain(|entry| !entry.cached.is_empty());
    warmed.entries.iter_mut().for_each(|entry| entry.mirrored.clear());
    let selected = warmed.entries.iter().filter(|entry| matches!(entry.tags, Tags::Selected(_)));
    let mut listed: BTreeSet<Host> = selected.map(|entry| entry.host.clone()).collect();
    listed.extend(config.listed_hosts.iter().cloned());
    warmed.registries.retain(|host, _| listed.contains(host));
    warmed
}

/// The roles that the role assumes to read from sources. A profile assumes its role itself.
pub(super) fn source_roles(config: &Config) -> BTreeSet<String> {
    let entries = config.entries.iter().filter(|entry| pull(entry).is_some());
    let listed = config.listed_hosts.iter().filter(|host| EcrHost::parse(host).is_some());
    let hosts = entries.map(|entry| &entry.host).chain(listed);
    let tables = hosts.filter_map(|host| config.registries.get(host));
    let tables = tables.filter(|table| table.profile.is_none());
    tables.filter_map(|table| table.role_arn.clone()).collect()
}

fn pull(entry: &Entry) -> Option<PullGrant> {
    let registry = EcrHost::parse(&entry.host)?;
    let tags = match (&entry.tags, entry.mirrored.is_empty()) {
        (Tags::Selected(_), false) => TagListingApi::Needed,
        // ECR itself reads the images of a cache
        (Tags::Selected(_), true) => TagListingApi::Only,
        (Tags::Exact(_) | Tags::Pinned { .. }, false) => TagListingApi::Never,
        (Tags::Exact(_) | Tags::Pinned { .. }, true) => return None,
    };
    Some(PullGrant { registry, repository: entry.repository.clone(), tags })
}

pub(super) fn warms(config: &Config) -> Vec<WarmGrant> {
    let warm = |target: &CacheTarget| {
        let destination = config.destination(target.destination);
        Some(WarmGrant {
            registry: destination.registry.host().and_then(EcrHost::parse)?,
            repository: target.repository.clone(),
            tagged: config.caches[target.cache].gives_tags(),
        })
    };
    config.entries.iter().flat_map(|entry| &entry.cached).filter_map(warm).collect()
}

/// The ARNs of the secrets that hold registry credentials.
pub(super) fn secrets(config: &Config) -> Vec<String> {
    let credentials = config.registries.values().map(|registry| &registry.credentials);
    let arn = |source: &Option<CredentialSource>| match source {
        Some(CredentialSource::Secret(arn)) => Some(arn.clone()),
        _ => None,
    };
    credentials.filter_map(arn).collect()
}
