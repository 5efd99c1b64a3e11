//! `pull-through status`: shows each rule and the repositories that it created.

use std::time::SystemTime;

use super::CONNECTIONS;
use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::shared::read_config,
    model::Result,
    output::{Screen, rules},
    run::{
        pull_through::{sites::sites, status::rule_statuses},
        registries::Registries,
    },
};

/// Prints the rules on stdout. The exit status is 1 if a configured rule is missing or differs.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, &args.destinations.names)?;
    let registries = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let rows = rule_statuses(&registries, &sites).await;
    registries.close().await;
    let rows = rows?;
    screen.print(|out| match args.json {
        true => rules::status_json(out, &rows),
        false => rules::status_tables(out, &rows, SystemTime::now(), screen.width()),
    })?;
    Ok(u8::from(rows.iter().any(|row| row.is_failure)))
}
