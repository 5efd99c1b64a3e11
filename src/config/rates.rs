//! `rates` of a destination: the request rates that AWS has granted, by action.

use super::{
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_action_has_a_key() {
        let keys: Vec<&str> = PUBLISHED.iter().map(|rate| rate.key).collect();
        let names: Vec<&str> = KEYS.names.split_whitespace().collect();
        assert_eq!(names, keys);
    }
}
