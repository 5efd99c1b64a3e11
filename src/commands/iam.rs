//! `iam`: prints the policies that a configuration needs, and nothing more.

mod actions;
mod grants;
mod mirror;
mod pull;
mod pull_through;

use std::collections::BTreeSet;

use super::configuration;
use crate::{
    cli::{Global, IamPolicy},
    config::{Cache, CacheTarget, Config, DestinationConfig, Entry, Tags},
    model::{Create, DestinationId, EcrHost, Repository, Result},
    output::Screen,
};
use mirror::{Mounts, PullGrant, PushGrant, TagListingApi, Tagging, WarmGrant, mirror};
use pull::{Node, pull};
use pull_through::{Caching, pull_through};

/// Prints the policy on stdout.
///
/// # Errors
/// When the configuration is wrong.
pub(crate) fn run(global: &Global, screen: &Screen, policy: IamPolicy) -> Result<u8> {
    let config = configuration(global)?;
    let document = match policy {
        IamPolicy::Mirror => {
            mirror(&pushes(&config), &pulls(&config), &warms(&config), &secrets(&config))
        }
        IamPolicy::Pull => pull(&nodes(&config)),
        IamPolicy::PullThrough => pull_through(&caching(&config)),
    };
    let text = serde_json::to_string_pretty(&document).expect("a JSON value serialises");
    screen.print(|out| writeln!(out, "{text}"))?;
    Ok(0)
}

/// What the configuration writes to registries that are ECR's by name.
fn pushes(config: &Config) -> Vec<PushGrant> {
    let push = |(at, destination, registry): (DestinationId, &DestinationConfig, EcrHost)| {
        let places = config.entries.iter().flat_map(|entry| &entry.mirrored);
        let here = places.filter(|place| place.destination == at);
        let repositories: BTreeSet<Repository> =
            here.map(|place| place.repository.clone()).collect();
        let is_warmed = |entry: &Entry| entry.cached.iter().any(|place| place.destination == at);
        if repositories.is_empty() && config.entries.iter().any(is_warmed) {
            return None;
        }
        let mounts = repositories.len() > 1 && destination.account.blob_mounting != Some(false);
        Some(PushGrant {
            registry,
            mounts: if mounts { Mounts::Possible } else { Mounts::Never },
            repositories: repositories.into_iter().collect(),
            written: destination.repositories.clone(),
            account: destination.account.clone(),
        })
    };
    registries(config).filter_map(push).collect()
}

/// The destinations that are registries of ECR by name.
fn registries(
    config: &Config,
) -> impl Iterator<Item = (DestinationId, &DestinationConfig, EcrHost)> {
    let registry = |(at, destination): (usize, _)| {
        let destination: &DestinationConfig = destination;
        let registry = destination.registry.host().and_then(EcrHost::parse)?;
        Some((DestinationId(at), destination, registry))
    };
    config.destinations.iter().enumerate().filter_map(registry)
}

/// What nodes pull from destinations.
fn nodes(config: &Config) -> Vec<Node<'_>> {
    let node = |(at, _, registry): (DestinationId, _, _)| {
        let places = config.entries.iter().flat_map(|entry| &entry.mirrored);
        let here = places.filter(|place| place.destination == at);
        Node {
            registry,
            mirrored: here.map(|place| &place.repository).collect(),
            caches: caches(config, at).map(|(_, cache)| cache).collect(),
        }
    };
    let pulls = |node: &Node<'_>| !(node.mirrored.is_empty() && node.caches.is_empty());
    registries(config).map(node).filter(pulls).collect()
}

/// What destinations cache, or leave to ECR to make; those that do neither are left out.
fn caching(config: &Config) -> Vec<Caching<'_>> {
    let caching = registries(config).map(|(at, destination, registry)| {
        let places = config.entries.iter().flat_map(|entry| &entry.cached);
        let used: BTreeSet<usize> =
            places.filter(|place| place.destination == at).map(|place| place.cache).collect();
        let warmed = caches(config, at).filter(|(number, _)| used.contains(number));
        let repositories = &destination.repositories;
        Caching {
            registry,
            caches: caches(config, at).map(|(_, cache)| cache).collect(),
            warmed: warmed.map(|(_, cache)| cache).collect(),
            on_push: (repositories.create == Create::OnPush).then_some(&repositories.settings),
        }
    });
    caching.filter(|it| !it.caches.is_empty() || it.on_push.is_some()).collect()
}

/// The caches of a destination, with their places in the configuration.
fn caches(config: &Config, at: DestinationId) -> impl Iterator<Item = (usize, &Cache)> {
    let caches = config.caches.iter().enumerate();
    caches.filter(move |(_, cache)| cache.destinations.contains(&at))
}

/// The secrets that the configuration names.
fn secrets(config: &Config) -> Vec<String> {
    let arn = |registry: &crate::config::RegistryConfig| match &registry.credentials {
        Some(crate::config::CredentialSource::Secret(arn)) => Some(arn.clone()),
        _ => None,
    };
    config.registries.values().filter_map(arn).collect()
}

/// What the configuration has ECR cache, as `sync` pulls it.
fn warms(config: &Config) -> Vec<WarmGrant> {
    let warm = |place: &CacheTarget| {
        let tags = config.caches[place.cache].gives_tags();
        Some(WarmGrant {
            registry: config
                .destination(place.destination)
                .registry
                .host()
                .and_then(EcrHost::parse)?,
            repository: place.repository.clone(),
            tagging: if tags { Tagging::Needed } else { Tagging::Never },
        })
    };
    config.entries.iter().flat_map(|entry| &entry.cached).filter_map(warm).collect()
}

/// What the configuration reads from registries that are ECR's.
fn pulls(config: &Config) -> Vec<PullGrant> {
    let pull = |entry: &Entry| {
        let registry = EcrHost::parse(&entry.host)?;
        let tags = match (&entry.tags, entry.mirrored.is_empty()) {
            (Tags::Selected(_), false) => TagListingApi::Needed,
            // ECR reads it by itself
            (Tags::Selected(_), true) => TagListingApi::Only,
            (Tags::Exact(_) | Tags::Pinned { .. }, false) => TagListingApi::Never,
            (Tags::Exact(_) | Tags::Pinned { .. }, true) => return None,
        };
        Some(PullGrant { registry, repositories: vec![entry.repository.clone()], tags })
    };
    config.entries.iter().filter_map(pull).collect()
}
