//! Asks registries for the repositories of sources with a `*`.

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::registries::Registries;
use crate::{
    config::{Config, ConfigError, KnownRepositories, ListedRepositories},
    model::{Host, Repository, Result},
};

/// Namespaces that are listed in parallel.
const CONCURRENCY: usize = 4;

/// The configuration with an entry for each repository of its wildcards.
///
/// # Errors
/// If a registry cannot list its repositories.
/// [`Kind::Configuration`](crate::model::Kind::Configuration) if more repositories match than the
/// configuration expects, or none.
pub async fn expand(registries: &Registries, config: Config) -> Result<Config> {
    let mut places: Vec<_> =
        config.wildcards.iter().map(|it| (it.host.clone(), it.namespace.clone())).collect();
    places.sort();
    places.dedup();
    if places.is_empty() {
        return Ok(config);
    }
    let known = &config;
    let list = |host: Host, namespace: Repository| {
        async move {
            let source = registries.listable(known, &host).await?;
            let listed = source.repositories(&namespace).await;
            let problem = || format!("cannot list the repositories of {host}");
            let listed = listed.map_err(|error| error.context(problem()))?;
            Result::Ok(((host, namespace), KnownRepositories::All(listed)))
        }
        .boxed()
    };
    let lists = places.into_iter().map(|(host, namespace)| list(host, namespace));
    let lists: Vec<BoxFuture<'_, _>> = lists.collect();
    let listed: ListedRepositories =
        stream::iter(lists).buffer_unordered(CONCURRENCY).try_collect().await?;
    let environment = |name: &str| std::env::var(name).ok();
    config.expanded(&listed, &environment).map_err(ConfigError::into_error)
}
