//! Prints the changes of a preview.

use crate::{
    commands::shared::exit_status,
    model::Result,
    output::{
        Screen,
        changes::{self, Section},
        error,
    },
    run::pull_through::{
        preview::{Goal, PlannedSite, Preview},
        roles::needed_roles,
    },
};

/// The format of the changes on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeFormat {
    Lines,
    Json,
}

impl ChangeFormat {
    pub(crate) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Lines }
    }
}

/// Prints the changes on stdout, and the roles that they rely on to stderr.
pub(crate) fn show(
    screen: &Screen,
    preview: &Preview<'_>,
    goal: Goal,
    format: ChangeFormat,
) -> Result<()> {
    let sections: Vec<Section<'_>> = preview.sites.iter().map(section).collect();
    screen.print(|out| match format {
        ChangeFormat::Lines => changes::plan(out, &sections),
        ChangeFormat::Json => changes::json(out, &sections),
    })?;
    if goal != Goal::Removal {
        for role in needed_roles(&preview.sites) {
            let documents = &role.documents;
            screen.tell(|out| {
                changes::role(out, &role.setting, &documents.trust, &documents.permissions)
            });
        }
    }
    Ok(())
}

fn section<'a>(site: &'a PlannedSite<'_>) -> Section<'a> {
    let changes = site.planned.iter().map(|planned| &planned.change).collect();
    Section { registry: site.site.registry.host.to_string(), changes }
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
