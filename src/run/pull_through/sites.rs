//! The ECR registries of a configuration that have caches, or repositories that a push creates.

use std::sync::Arc;

use crate::{
    config::{AccountSettings, Cache, Config, DestinationConfig},
    ecr::{
        AwsSession,
        account::{self, own_account},
    },
    model::{Create, DestinationId, Error, Kind, Result, hints, pull_through::Prefix},
    pull_through::{EcrRegistry, OnPush, Planned, state::CacheStep},
    remote::Apply,
    run::registries::Registries,
};

/// One registry, with everything that the configuration sets up in it.
pub(crate) struct CacheSite<'a> {
    pub(crate) registry: EcrRegistry,
    /// The destinations that are this registry, in the order of the file; at least one.
    pub(crate) destinations: Vec<&'a DestinationConfig>,
    /// The caches, in the order of the file; may be empty.
    pub(crate) caches: Vec<&'a Cache>,
    /// The caches that only destinations outside the selection have.
    unselected: Vec<&'a Cache>,
    /// Destinations outside the selection have resources in this registry, too.
    pub(super) is_partial: bool,
}

impl<'a> CacheSite<'a> {
    /// The settings of the registry's account that its destinations have, each once.
    pub(crate) fn accounts(&self) -> Vec<&'a AccountSettings> {
        let mut known: Vec<&AccountSettings> = Vec::new();
        for DestinationConfig { account, .. } in &self.destinations {
            if !known.contains(&account) {
                known.push(account);
            }
        }
        known
    }

    /// Returns `true` if a destination outside the selection has a cache of this prefix.
    pub(super) fn is_unselected(&self, prefix: &str) -> bool {
        self.unselected.iter().any(|cache| cache.prefix.to_string() == prefix)
    }

    /// Opens the session of the first destination's identity.
    pub(super) async fn session(&self, registries: &Registries) -> Result<Arc<AwsSession>> {
        let session = registries.session(self.destinations[0], &self.registry.host).await;
        own_account(&session, &self.registry.host, hints::CACHE).await?;
        Ok(session)
    }

    /// The changes of the account's settings, without the exclusion from pull times: it is for the
    /// identity that mirrors, and only `sync` runs as that one.
    pub(super) async fn account_changes(&self, session: &AwsSession) -> Result<Vec<Planned>> {
        let mut all: Vec<AccountSettings> = Vec::new();
        for account in self.accounts() {
            let account = AccountSettings { pull_time_exclusion: None, ..account.clone() };
            if !all.contains(&account) {
                all.push(account);
            }
        }
        let mut planned = Vec::new();
        for account in all {
            let host = &self.registry.host;
            let change = account::reconcile(session, &account, host, Apply::DryRun).await?;
            let step = Some(CacheStep::SetAccount(account));
            planned.extend(change.map(|change| Planned { change, step }));
        }
        Ok(planned)
    }

    /// The prefixes whose repositories a push creates, each once.
    pub(super) fn on_push(&self) -> Vec<OnPush> {
        let mut all: Vec<OnPush> = Vec::new();
        for destination in &self.destinations {
            let prefix = destination.prefix.clone().map_or(Prefix::Root, Prefix::Path);
            let rules = &destination.repositories;
            let is_listed = all.iter().any(|listed| listed.prefix == prefix);
            if rules.create == Create::OnPush && !is_listed {
                all.push(OnPush { prefix, settings: rules.settings.clone() });
            }
        }
        all
    }
}

/// The registries of the named destinations, each once, in the order of the file. Without names,
/// the registries of all destinations.
pub(crate) fn sites<'a>(config: &'a Config, names: &[String]) -> Result<Vec<CacheSite<'a>>> {
    check_names(config, names)?;
    let is_named =
        |destination: &DestinationConfig| names.is_empty() || names.contains(&destination.name);
    let mut all: Vec<(usize, &DestinationConfig)> =
        config.destinations.iter().enumerate().collect();
    // the sort is stable; the others only complete the sites of the named ones
    all.sort_by_key(|(_, destination)| !is_named(destination));
    let mut sites: Vec<CacheSite<'a>> = Vec::new();
    for (index, destination) in all {
        let is_selected = is_named(destination);
        let Some(registry) = destination.registry.host().and_then(EcrRegistry::of) else {
            continue;
        };
        let is_here = |cache: &&Cache| cache.destinations.contains(&DestinationId(index));
        let caches: Vec<&Cache> = config.caches.iter().filter(is_here).collect();
        let is_on_push = destination.repositories.create == Create::OnPush;
        if caches.is_empty() && !is_on_push {
            continue;
        }
        let is_same = |site: &&mut CacheSite<'_>| {
            (&site.registry.account, &site.registry.region) == (&registry.account, &registry.region)
        };
        // one ECR registry has several host names, and destinations may share it
        let Some(site) = sites.iter_mut().find(is_same) else {
            if is_selected {
                let (destinations, unselected) = (vec![destination], Vec::new());
                let is_partial = false;
                sites.push(CacheSite { registry, destinations, caches, unselected, is_partial });
            }
            continue;
        };
        let is_new = |cache: &&Cache| !site.caches.iter().any(|it| std::ptr::eq(*it, *cache));
        let new: Vec<&Cache> = caches.into_iter().filter(is_new).collect();
        if is_selected {
            site.destinations.push(destination);
            site.caches.extend(new);
        } else {
            site.is_partial |= is_on_push || !new.is_empty();
            site.unselected.extend(new);
        }
    }
    if sites.is_empty() { Err(no_sites(config, names)) } else { Ok(sites) }
}

fn no_sites(config: &Config, names: &[String]) -> Error {
    if !config.caches.is_empty() {
        let names = names.join("`, `");
        let problem = format!("there is no `[[pull_through]]` for `{names}`");
        return Error::new(Kind::Configuration, problem)
            .hint("name it in the `destinations` of one, or remove `--destination`");
    }
    Error::new(Kind::Configuration, "the configuration has no `[[pull_through]]`")
        .hint("add one, for example `[[pull_through]]` with `upstream = \"quay\"`")
}

/// Refuses to prune a registry of which only some destinations are selected: the plan would need the
/// resources of all of them.
pub(super) fn check_pruning(sites: &[CacheSite<'_>]) -> Result<()> {
    let Some(site) = sites.iter().find(|site| site.is_partial) else { return Ok(()) };
    let host = &site.registry.host;
    let problem = format!("`--prune` needs all destinations of the registry {host}");
    Err(Error::new(Kind::Configuration, problem)
        .hint("remove `--destination`: other destinations of this registry have resources, too"))
}

/// Refuses to delete the repositories of a cache at `ROOT`: every repository is below it.
pub(super) fn check_deletion(sites: &[CacheSite<'_>]) -> Result<()> {
    let is_root = |site: &CacheSite<'_>| site.caches.iter().any(|it| it.prefix == Prefix::Root);
    let Some(site) = sites.iter().find(|site| is_root(site)) else { return Ok(()) };
    let problem = format!("a cache of {} has the prefix `ROOT`", site.registry.host);
    Err(Error::new(Kind::Configuration, problem).hint(
        "remove `--repositories`, and delete its repositories yourself: every repository is below `ROOT`",
    ))
}

pub(crate) fn check_names(config: &Config, names: &[String]) -> Result<()> {
    let exists = |name: &str| config.destinations.iter().any(|known| known.name == name);
    let Some(name) = names.iter().find(|name| !exists(name)) else { return Ok(()) };
    Err(Error::new(Kind::Configuration, format!("no destination is named `{name}`"))
        .hint("give `--destination` the `name` of a `[[destination]]`"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_registry_with_unselected_destinations_cannot_be_pruned() {
        let destination = |name: &str| {
            format!(
                "[[destination]]\nname = \"{name}\"\nprefix = \"m{name}\"\n\
                 registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n"
            )
        };
        let cached = |upstream: &str, at: &str| {
            format!("[[pull_through]]\nupstream = \"{upstream}\"\ndestinations = [{at}]\n")
        };
        let (a, b) = (destination("a"), destination("b"));
        let apart = format!("{a}{b}{}{}", cached("k8s", "\"a\""), cached("quay", "\"b\""));
        let shared = format!("{a}{b}{}", cached("quay", "\"a\", \"b\""));
        let pushed = format!(
            "{a}[destination.repositories]\ncreate = \"on-push\"\n{b}{}",
            cached("quay", "\"b\"")
        );
        for (text, names, is_refused) in [
            (&apart, &["b"][..], true),
            (&apart, &["a", "b"], false),
            (&apart, &[], false),
            (&shared, &["b"], false),
            (&pushed, &["b"], true),
        ] {
            let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let sites = sites(&config, &names).unwrap();
            assert_eq!(check_pruning(&sites).is_err(), is_refused, "{names:?}: {text}");
        }
    }

    #[test]
    fn an_empty_selection_is_an_error_that_says_what_is_missing() {
        let text = "[[destination]]\nname = \"eu\"\n\
             registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [[destination]]\nname = \"us\"\n\
             registry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n";
        let cached =
            format!("{text}[[pull_through]]\nupstream = \"quay\"\ndestinations = [\"eu\"]\n");
        for (text, names, expected) in [
            (text, &[][..], Some("the configuration has no `[[pull_through]]`")),
            (&cached, &[], None),
            (&cached, &["eu"], None),
            (&cached, &["us"], Some("there is no `[[pull_through]]` for `us`")),
            (&cached, &["asia"], Some("no destination is named `asia`")),
        ] {
            let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap();
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let error = sites(&config, &names).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), expected);
        }
    }
}
