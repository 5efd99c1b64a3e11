//! `rates` of a destination: the request rates that AWS has granted, by action.

use std::collections::{BTreeMap, HashMap};

use super::{
    context::{FileContext, ReadDestination, registry_identity},
    document::{Keys, Table},
    problem::Problem,
};
use crate::model::ecr_rates::{PUBLISHED, Rates};

const KEYS: Keys = Keys {
    title: "`rates = { put_image = 100 }`",
    names: "get_authorization_token batch_check_layer_availability batch_get_image \
        get_download_url_for_layer put_image initiate_layer_upload complete_layer_upload \
        upload_layer_part",
};

pub(super) fn read(destination: &Table<'_>) -> Result<Rates, Problem> {
    let Some(table) = destination.table("rates", &KEYS)? else { return Ok(Rates::default()) };
    let mut granted = Vec::new();
    for rate in PUBLISHED {
        granted.extend(table.number(rate.key, 1)?.map(|number| (rate.action, number)));
    }
    Ok(Rates::granted(granted))
}

/// Gives all destinations of a registry the rates of each: AWS grants them to an account in a region.
pub(super) fn share(
    destinations: &mut [ReadDestination],
    file: &FileContext<'_>,
) -> Result<(), Problem> {
    let key_of = |action: &str| PUBLISHED.iter().find(|it| it.action == action).map(|it| it.key);
    let mut shared: HashMap<String, BTreeMap<_, _>> = HashMap::new();
    for read in &*destinations {
        let Some(span) = &read.rates else { continue };
        let registry = shared.entry(registry_identity(&read.destination.registry)).or_default();
        for (action, rate) in read.destination.rates.granted_rates() {
            let (known, first) = *registry.entry(action).or_insert((rate, span));
            if known != rate {
                let (key, line) = (key_of(action).unwrap_or(action), file.line_of(first));
                let label =
                    format!("`{key}` is {known} in line {line}, and {rate} here, at one registry");
                return Err(Problem::at(span, label).hint(
                    "AWS grants a rate to an account in a region: write it at one of its destinations",
                ));
            }
        }
    }
    let shared = shared.into_iter().map(|(registry, rates)| {
        let rates = rates.into_iter().map(|(action, (rate, _))| (action, rate));
        (registry, Rates::granted(rates))
    });
    let shared: HashMap<_, _> = shared.collect();
    for ReadDestination { destination, .. } in destinations {
        if let Some(rates) = shared.get(&registry_identity(&destination.registry)) {
            destination.rates = rates.clone();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    #[test]
    fn every_published_action_has_a_key() {
        let keys: Vec<&str> = PUBLISHED.iter().map(|rate| rate.key).collect();
        let names: Vec<&str> = KEYS.names.split_whitespace().collect();
        assert_eq!(names, keys);
    }

    #[test]
    fn destinations_of_one_registry_share_their_rates() {
        let table = |region: &str, keys: &str| {
            format!(
                "[[destination]]\nname = \"{region}{keys:.1}{0}\"\nprefix = \"p{0}\"\n\
                 registry = \"123456789012.dkr.ecr.{region}.amazonaws.com\"\n{keys}\n",
                keys.len(),
            )
        };
        let text = table("eu-west-1", "rates = { put_image = 100 }")
            + &table("eu-west-1", "rates = { put_image = 100, initiate_layer_upload = 200 }")
            + &table("eu-west-1", "")
            + &table("us-east-1", "");
        let config = Config::parse("mirror.toml", &text, Path::new(""), &|_| None).unwrap();
        let rates = config.destinations.iter().map(|to| {
            ["PutImage", "InitiateLayerUpload"].map(|action| to.rates.steady(action).unwrap())
        });
        let granted = [80.0, 160.0];
        assert_eq!(rates.collect::<Vec<_>>(), [granted, granted, granted, [8.0, 80.0]]);
    }
}
