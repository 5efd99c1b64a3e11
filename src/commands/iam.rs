//! `iam`: prints the policies that a configuration needs, and nothing more.

mod mirror;
mod rights;

use std::collections::BTreeSet;

use self::mirror::{Listing, Mounts, Pull, Push, Tagging, Warm, mirror};
use super::mirroring::configuration;
use crate::{
    cli::{Global, IamPolicy},
    config::{CachedPlace, Config, Entry, Tags},
    model::{DestinationId, EcrHost, Error, Kind, Repository, Result},
    output::Screen,
};

/// Prints the policy on stdout.
///
/// # Errors
/// When the configuration is wrong.
pub fn run(global: &Global, screen: &Screen, policy: IamPolicy) -> Result<u8> {
    let config = configuration(global)?;
    let document = match policy {
        IamPolicy::Mirror => {
            mirror(&pushes(&config), &pulls(&config), &warms(&config), &secrets(&config))
        }
        IamPolicy::Pull | IamPolicy::PullThrough => {
            return Err(Error::new(Kind::Unsupported, "this policy is not built yet"));
        }
    };
    let text = serde_json::to_string_pretty(&document).expect("a JSON value serialises");
    screen.print(|out| writeln!(out, "{text}"))?;
    Ok(0)
}

/// What the configuration writes to registries that are ECR's by name.
fn pushes(config: &Config) -> Vec<Push> {
    let push = |(at, destination): (usize, &crate::config::Destination)| {
        let places = config.entries.iter().flat_map(|entry| &entry.places);
        let here = places.filter(|place| place.destination == DestinationId(at));
        let repositories: BTreeSet<Repository> =
            here.map(|place| place.repository.clone()).collect();
        let is_warmed =
            |entry: &Entry| entry.cached.iter().any(|place| place.destination == DestinationId(at));
        if repositories.is_empty() && config.entries.iter().any(is_warmed) {
            return None;
        }
        let mounts = repositories.len() > 1 && destination.account.blob_mounting != Some(false);
        Some(Push {
            registry: destination.registry.host().and_then(EcrHost::parse)?,
            mounts: if mounts { Mounts::Possible } else { Mounts::Never },
            repositories: repositories.into_iter().collect(),
            written: destination.repositories.clone(),
            account: destination.account.clone(),
        })
    };
    config.destinations.iter().enumerate().filter_map(push).collect()
}

/// The secrets that the configuration names.
fn secrets(config: &Config) -> Vec<String> {
    let arn = |registry: &crate::config::Registry| match &registry.credentials {
        Some(crate::config::Credentials::Secret(arn)) => Some(arn.clone()),
        _ => None,
    };
    config.registries.values().filter_map(arn).collect()
}

/// What the configuration has ECR cache, as `sync` pulls it.
fn warms(config: &Config) -> Vec<Warm> {
    let warm = |place: &CachedPlace| {
        let template = config.caches[place.cache].template.as_ref();
        let tags = template.is_some_and(|template| !template.settings.tags.is_empty());
        Some(Warm {
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
fn pulls(config: &Config) -> Vec<Pull> {
    let pull = |entry: &Entry| {
        let registry = EcrHost::parse(&entry.host)?;
        let tags = match (&entry.tags, entry.places.is_empty()) {
            (Tags::Selected(_), false) => Listing::Needed,
            // ECR reads it by itself
            (Tags::Selected(_), true) => Listing::Only,
            (Tags::Exact(_) | Tags::Pinned { .. }, false) => Listing::Never,
            (Tags::Exact(_) | Tags::Pinned { .. }, true) => return None,
        };
        Some(Pull { registry, repositories: vec![entry.repository.clone()], tags })
    };
    config.entries.iter().filter_map(pull).collect()
}
