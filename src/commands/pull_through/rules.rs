//! `pull-through status` and `validate`: show each rule, or let ECR test it.

use std::time::SystemTime;

use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::shared::{read_config, with_registries},
    model::{Result, rule_report::RuleVerdict},
    output::{Screen, rules},
    run::pull_through::{
        rules::{rule_statuses, validate_rules},
        sites::sites,
    },
};

/// Prints the rules on stdout. The exit status is 1 if a configured rule is missing or differs.
pub(crate) async fn status(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, &args.destinations.names)?;
    let read = async |registries: &_| rule_statuses(registries, &sites).await;
    let registries = with_registries(global, &config, read).await?;
    screen.print(|out| match args.json {
        true => rules::status_json(out, &registries),
        false => rules::status_tables(out, &registries, SystemTime::now(), screen.width()),
    })?;
    let mut rules = registries.iter().flat_map(|registry| &registry.rules);
    Ok(u8::from(rules.any(|rule| rule.state.is_failure())))
}

/// Prints the verdicts on stdout. The exit status is 1 if a configured rule is missing or fails.
pub(crate) async fn validate(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, &args.destinations.names)?;
    let validate = async |registries: &_| validate_rules(registries, &sites).await;
    let rows = with_registries(global, &config, validate).await?;
    screen.print(|out| match args.json {
        true => rules::validation_json(out, &rows),
        false => rules::validation_tables(out, &rows, screen.width()),
    })?;
    let fails = |verdict| matches!(verdict, RuleVerdict::Invalid | RuleVerdict::Missing);
    Ok(u8::from(rows.iter().any(|row| fails(row.verdict))))
}
