//! `pull-through export`: writes the setup for other tools.

use std::path::Path;

use crate::{
    cli::{Global, pull_through::Export},
    commands::shared::{read_config, with_registries},
    model::Result,
    output::{Screen, changes, file},
    pull_through::{
        kubernetes::manifest,
        terraform::{self, ExportPart},
    },
    run::pull_through::{
        preview::{Goal, PlannedSite},
        sites::sites,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, format: Export) -> Result<u8> {
    match format {
        Export::Terraform { destinations: to } => terraform(global, screen, &to.names).await,
        Export::Kubernetes { namespaces, output } => {
            kubernetes(global, screen, &namespaces, &output)
        }
    }
}

/// Prints the Terraform configuration on stdout. Conflicts are omitted from it, and the exit status
/// is then 1.
async fn terraform(global: &Global, screen: &Screen, destinations: &[String]) -> Result<u8> {
    let config = read_config(global)?;
    let sites = sites(&config, destinations)?;
    let goal = Goal::SetUpFromNothing;
    let plan = async |registries: &_| PlannedSite::all(registries, &sites, goal).await;
    let planned = with_registries(global, &config, plan).await?;
    let part = |planned| {
        let PlannedSite { site, session, planned, observed, .. }: &PlannedSite<'_> = planned;
        let (registry, identity) = (&site.registry, session.api.identity());
        ExportPart { registry, identity, planned, observed }
    };
    let text = terraform::terraform(&planned.iter().map(part).collect::<Vec<_>>());
    screen.print(|out| out.write_all(text.as_bytes()))?;
    let mut status = 0;
    for conflict in planned.iter().flat_map(PlannedSite::conflicts) {
        screen.tell(|out| changes::conflict(out, conflict));
        status = 1;
    }
    Ok(status)
}

fn kubernetes(
    global: &Global,
    screen: &Screen,
    namespaces: &[String],
    output: &Path,
) -> Result<u8> {
    let config = read_config(global)?;
    let manifest = manifest(&config.caches, namespaces)?;
    file::save_secret(output, "manifest", &manifest.yaml)?;
    let output = output.display();
    screen.tell(|out| {
        for prefix in &manifest.left_out {
            writeln!(out, "skipped `{prefix}`: its `secret_arn` is not read")?;
        }
        let secrets = manifest.secrets.join(", ");
        writeln!(out, "wrote {secrets} to {output}, which only its owner can read")?;
        writeln!(out, "use it with `kubectl apply -f {output}`, name the secrets as `imagePullSecrets` of pods \
             or service accounts, then remove the file")
    });
    Ok(0)
}
