//! `pull-through validate`: lets ECR test each rule.

use crate::{
    cli::{Global, pull_through::ListArgs},
    commands::shared::{read_config, with_registries},
    model::{Result, rule_report::RuleVerdict},
    output::{Screen, rules},
    run::pull_through::{rules::validate_rules, sites::sites},
};

/// Prints the verdicts on stdout. The exit status is 1 if a configured rule is missing or fails.
pub(crate) async fn run(global: &Global, screen: &Screen, args: &ListArgs) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, &args.destinations.names)?;
    let validate = async |registries: &_| validate_rules(registries, &sites).await;
    let rows = with_registries(global, validate).await?;
    screen.print(|out| match args.json {
        true => rules::validation_json(out, &rows),
        false => rules::validation_tables(out, &rows, screen.width()),
    })?;
    let fails = |verdict| matches!(verdict, RuleVerdict::Invalid | RuleVerdict::Missing);
    Ok(u8::from(rows.iter().any(|row| fails(row.verdict))))
}
