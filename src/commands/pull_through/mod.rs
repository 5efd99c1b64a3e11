//! `pull-through`: ECR's own cache, planned, applied, looked at, warmed and removed.

mod apply;
mod apply_changes;
mod consent;
mod destroy;
mod export;
mod plan;
mod roles;
mod status;
mod validate;
mod warm;

use std::sync::Arc;

use crate::{
    cli::{
        Global,
        pull_through::{PullThrough, Where},
    },
    config::{Cache, Config, DestinationConfig},
    ecr::{AwsSession, account::own_account},
    model::{Create, DestinationId, Error, Kind, Result, pull_through::Prefix},
    output::Screen,
    pull_through::{EcrRegistry, OnPush},
    run::registries::Registries,
};

/// Connections to a registry at once: what is asked is little, and one after the other.
const CONNECTIONS: usize = 8;

/// Carries out the verb.
///
/// # Errors
/// When the configuration is wrong, or AWS refuses something.
pub(crate) async fn run(global: &Global, screen: &Screen, verb: PullThrough) -> Result<u8> {
    match verb {
        PullThrough::Plan(args) => plan::run(global, screen, &args).await,
        PullThrough::Apply(args) => apply::run(global, screen, &args).await,
        PullThrough::Status(args) => status::run(global, screen, &args).await,
        PullThrough::Validate(args) => validate::run(global, screen, &args).await,
        PullThrough::Warm(args) => warm::run(global, screen, args).await,
        PullThrough::Destroy(args) => destroy::run(global, screen, &args).await,
        PullThrough::Export { format } => export::run(global, screen, format).await,
    }
}

/// A registry of the configuration, and what it is to cache.
struct CacheSite<'a> {
    /// The registry.
    registry: EcrRegistry,
    /// The destinations that are this registry, in the order of the file; at least one.
    destinations: Vec<&'a DestinationConfig>,
    /// Its caches, in the order of the file; none where only pushes are to make repositories.
    caches: Vec<&'a Cache>,
}

impl CacheSite<'_> {
    /// Who asks AWS: the first destination's identity, which must be of the registry's account.
    ///
    /// # Errors
    /// What AWS refuses, and [`Kind::Configuration`] for an identity of another account.
    async fn session(&self, world: &Registries) -> Result<Arc<AwsSession>> {
        let session = world.session(self.destinations[0], &self.registry.host).await;
        own_account(&session, &self.registry.host, "the pull-through cache").await?;
        Ok(session)
    }

    /// What its destinations leave to ECR to make, each prefix once.
    fn on_push(&self) -> Vec<OnPush> {
        let mut all: Vec<OnPush> = Vec::new();
        for destination in &self.destinations {
            let prefix = destination.prefix.clone().map_or(Prefix::Root, Prefix::Path);
            let written = &destination.repositories;
            let is_known = all.iter().any(|known| known.prefix == prefix);
            if written.create == Create::OnPush && !is_known {
                all.push(OnPush { prefix, settings: written.settings.clone() });
            }
        }
        all
    }
}

/// The registries that have a `[[pull_through]]`, or repositories that pushes are to make, each
/// once, in the order of the file.
///
/// # Errors
/// [`Kind::Configuration`] when there is none, or a name is no destination's that has one.
fn sites<'a>(config: &'a Config, at: &Where) -> Result<Vec<CacheSite<'a>>> {
    check_names(config, at)?;
    let mut sites: Vec<CacheSite<'a>> = Vec::new();
    for (id, destination) in config.destinations.iter().enumerate() {
        let is_named = at.destinations.is_empty() || at.destinations.contains(&destination.name);
        let registry = destination.registry.host().and_then(EcrRegistry::of);
        let (Some(registry), true) = (registry, is_named) else { continue };
        let of_it = |cache: &&Cache| cache.destinations.contains(&DestinationId(id));
        let caches: Vec<&Cache> = config.caches.iter().filter(of_it).collect();
        if caches.is_empty() && destination.repositories.create != Create::OnPush {
            continue;
        }
        let is_same = |site: &&mut CacheSite<'_>| {
            (&site.registry.account, &site.registry.region) == (&registry.account, &registry.region)
        };
        match sites.iter_mut().find(is_same) {
            // ECR has one registry under several names, and destinations may share it
            Some(site) => {
                site.destinations.push(destination);
                let known =
                    |cache: &&Cache| !site.caches.iter().any(|it| std::ptr::eq(*it, *cache));
                let more: Vec<&Cache> = caches.into_iter().filter(known).collect();
                site.caches.extend(more);
            }
            None => sites.push(CacheSite { registry, destinations: vec![destination], caches }),
        }
    }
    if sites.is_empty() { Err(nothing(config, at)) } else { Ok(sites) }
}

fn nothing(config: &Config, at: &Where) -> Error {
    if !config.caches.is_empty() {
        let named = at.destinations.join("`, `");
        let error = format!("there is no `[[pull_through]]` for `{named}`");
        return Error::new(Kind::Configuration, error)
            .hint("name it in the `destinations` of one, or leave `--destination` away");
    }
    Error::new(Kind::Configuration, "there is no `[[pull_through]]` to work on")
        .hint("write one, like `[[pull_through]]` with `upstream = \"quay\"`")
}

/// Refuses a name that no destination has.
fn check_names(config: &Config, at: &Where) -> Result<()> {
    let is_known = |name: &str| config.destinations.iter().any(|known| known.name == name);
    match at.destinations.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let error = format!("`{name}` is not the name of a destination");
            Err(Error::new(Kind::Configuration, error).hint("`--destination` takes its `name`"))
        }
    }
}

/// What a rule caches, as a person reads it: `quay.io`, or `quay.io/team`.
fn upstream(url: &str, prefix: &str) -> String {
    match prefix {
        "ROOT" => url.to_owned(),
        prefix => format!("{url}/{prefix}"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn where_nothing_is_to_be_done_it_says_what_is_missing() {
        let text = "[[destination]]\nname = \"eu\"\n\
             registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [[destination]]\nname = \"us\"\n\
             registry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n";
        let cached =
            format!("{text}[[pull_through]]\nupstream = \"quay\"\ndestinations = [\"eu\"]\n");
        for (text, destinations, expected) in [
            (text, &[][..], Some("there is no `[[pull_through]]` to work on")),
            (&cached, &[], None),
            (&cached, &["eu"], None),
            (&cached, &["us"], Some("there is no `[[pull_through]]` for `us`")),
            (&cached, &["asia"], Some("`asia` is not the name of a destination")),
        ] {
            let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
            let destinations = destinations.iter().map(ToString::to_string).collect();
            let told = sites(&config, &Where { destinations }).err().map(|error| error.to_string());
            assert_eq!(told.as_deref(), expected);
        }
    }
}
