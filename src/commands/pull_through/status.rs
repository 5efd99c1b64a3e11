//! `pull-through status`: shows each rule and the repositories that it created.

use std::time::SystemTime;

use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::shared::{read_config, with_registries},
    model::Result,
    output::{Screen, rules},
    run::pull_through::{rules::rule_statuses, sites::sites},
};

/// Prints the rules on stdout. The exit status is 1 if a configured rule is missing or differs.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, &args.destinations.names)?;
    let read = async |registries: &_| rule_statuses(registries, &sites).await;
    let registries = with_registries(global, read).await?;
    screen.print(|out| match args.json {
        true => rules::status_json(out, &registries),
        false => rules::status_tables(out, &registries, SystemTime::now(), screen.width()),
    })?;
    let mut rules = registries.iter().flat_map(|registry| &registry.rules);
    Ok(u8::from(rules.any(|rule| rule.is_failure)))
}
