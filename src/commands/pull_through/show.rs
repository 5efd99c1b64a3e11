//! Prints the changes of a preview.

use crate::{
    commands::shared::exit_status,
    model::Result,
    output::{
        Screen,
        changes::{self, Section},
        error,
    },
    pull_through::changes::Documents,
    run::pull_through::{
        preview::{Goal, PlannedSite, Preview},
        roles::needed_roles,
    },
};

/// Prints the changes on stdout, as far as the registries could be read, and the roles that they rely on to stderr.
pub(crate) fn show(
    screen: &Screen,
    preview: &Preview<'_>,
    goal: Goal,
    as_json: bool,
) -> Result<()> {
    let sections: Vec<Section<'_>> = preview.sites.iter().map(section).collect();
    screen.print(|out| match as_json {
        true => changes::json(out, &sections, &preview.failures),
        false => changes::plan(out, &sections, preview.failures.len(), screen.width()),
    })?;
    if !matches!(goal, Goal::Removal(_)) {
        for role in needed_roles(&preview.sites) {
            let Documents { trust, permissions } = &role.documents;
            let width = screen.stderr_width();
            screen.tell(|out| changes::role(out, &role.setting, trust, permissions, width));
        }
    }
    Ok(())
}

pub(crate) fn section<'a>(site: &'a PlannedSite<'_>) -> Section<'a> {
    Section {
        registry: site.site.registry.host.to_string(),
        changes: site.planned.iter().map(|planned| &planned.change).collect(),
        leftovers: site.leftovers.iter().map(|planned| &planned.change).collect(),
    }
}

/// Prints the registries that could not be read, and returns the exit status for them.
pub(crate) fn show_failures(screen: &Screen, preview: &Preview<'_>) -> u8 {
    for error in &preview.failures {
        error::print(screen, error);
    }
    let worst = preview.failures.iter().map(exit_status).max().unwrap_or(0);
    // 2 means that nothing was attempted
    if preview.sites.is_empty() { worst } else { worst.min(1) }
}
