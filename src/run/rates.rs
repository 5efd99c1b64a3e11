//! The request rates of ECR that bound the duration of a run.

use std::{collections::BTreeMap, time::Duration};

use super::registries::Registries;
use crate::{
    config::Config,
    model::{
        DestinationId,
        outcome::{BoundingRate, Bounds},
    },
};

/// A plan names a rate whose requests take longer.
const NOTABLE: f64 = 60.0;
/// A run names a rate for which requests waited this long.
const NOTABLE_WAIT: Duration = Duration::from_secs(5);

/// The rates for which requests waited notably, and during at least half of this time.
pub(super) async fn of_run(
    registries: &Registries,
    config: &Config,
    elapsed: Duration,
) -> Vec<BoundingRate> {
    let mut rates = Vec::new();
    for (id, actions) in registries.limited(config).await {
        let bounding = actions.into_iter().filter(|it| it.waited >= NOTABLE_WAIT.max(elapsed / 2));
        rates.extend(bounding.map(|limited| BoundingRate {
            registry: config.destination(id).registry.to_string(),
            action: limited.action.to_owned(),
            per_second: limited.per_second,
            requests: None,
            seconds: (limited.waited.as_secs_f64() * 1000.0).round() / 1000.0,
        }));
    }
    rates
}

/// The rates of `PutImage` that will bound a run which pushes these manifests.
pub(super) fn of_plan(
    config: &Config,
    manifests: &BTreeMap<DestinationId, Bounds>,
) -> Vec<BoundingRate> {
    let mut registries: BTreeMap<String, (f64, Bounds)> = BTreeMap::new();
    for (id, pushed) in manifests {
        let to = config.destination(*id);
        if let (true, Some(rate)) = (to.is_ecr(), to.rates.steady("PutImage")) {
            let name = to.registry.to_string();
            let (_, all) = registries.entry(name).or_insert((rate, Bounds::default()));
            *all = [*all, *pushed].into_iter().sum();
        }
    }
    let rates = registries.into_iter().map(|(registry, (per_second, requests))| BoundingRate {
        registry,
        action: "PutImage".to_owned(),
        per_second,
        requests: Some(requests),
        seconds: (requests.most as f64 / per_second).round(),
    });
    rates.filter(|rate| rate.seconds > NOTABLE).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_plan_names_the_rate_of_each_registry_whose_pushes_take_more_than_a_minute() {
        let registry = |region: &str, keys: &str| {
            format!(
                "[[destination]]\nname = \"{region}{}\"\n{keys}\n\
                 registry = \"123456789012.dkr.ecr.{region}.amazonaws.com\"\n",
                keys.len()
            )
        };
        let text = registry("eu-west-1", "prefix = \"a\"\n")
            + &registry("eu-west-1", "prefix = \"bb\"\n")
            + &registry("us-east-1", "rates = { put_image = 100 }");
        let config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        let pushes = |counts: [u64; 3]| {
            let all = counts.into_iter().enumerate();
            of_plan(&config, &all.map(|(at, n)| (DestinationId(at), Bounds::exactly(n))).collect())
        };
        let slow = |rates: Vec<BoundingRate>| {
            let line = |it: BoundingRate| (it.per_second, it.requests.unwrap().most, it.seconds);
            rates.into_iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(slow(pushes([240, 240, 4_800])), [(8.0, 480, 60.0); 0]);
        assert_eq!(slow(pushes([300, 300, 4_800])), [(8.0, 600, 75.0)]);
        assert_eq!(slow(pushes([1, 0, 8_000])), [(80.0, 8_000, 100.0)]);
    }
}
