//! `pull-through export`: writes the setup for other tools.

use std::path::Path;

use crate::{
    cli::{
        Global,
        pull_through::{Export, PolicyExport},
    },
    commands::{
        iam::exported_policies,
        shared::{read_config, read_expanded_config, with_registries},
    },
    model::Result,
    output::{Screen, changes, file},
    pull_through::{
        kubernetes::{ReadLogins, SecretNames, manifest},
        terraform::{self, ExportPart},
    },
    run::pull_through::{
        preview::{Goal, PlannedSite},
        secrets::read_logins,
        sites::sites,
    },
};

pub(crate) async fn run(global: &Global, screen: &Screen, format: Export) -> Result<u8> {
    match format {
        Export::Terraform { destinations: to, policies } => {
            terraform(global, screen, &to.names, &policies).await
        }
        Export::Kubernetes { namespaces, name, read_secrets, output } => {
            let names = SecretNames { namespaces: &namespaces, name: name.as_deref() };
            kubernetes(global, screen, names, read_secrets, &output).await
        }
    }
}

/// Prints the Terraform configuration on stdout. Conflicts are omitted from it, and the exit status
/// is then 1.
async fn terraform(
    global: &Global,
    screen: &Screen,
    destinations: &[String],
    policies: &[PolicyExport],
) -> Result<u8> {
    let config = read_expanded_config(global).await?;
    let policies = exported_policies(&config, policies)?;
    let sites = sites(&config, destinations)?;
    let goal = Goal::SetUpFromNothing;
    let plan = async |registries: &_| PlannedSite::all(registries, &sites, goal).await;
    let planned = with_registries(global, &config, plan).await?;
    let part = |planned| {
        let PlannedSite { site, session, planned, observed, .. }: &PlannedSite<'_> = planned;
        let (registry, identity) = (&site.registry, session.api.identity());
        let (caches, accounts) = (&site.caches[..], site.accounts());
        ExportPart { registry, identity, planned, observed, caches, accounts }
    };
    let text = terraform::terraform(&planned.iter().map(part).collect::<Vec<_>>(), &policies);
    screen.print(|out| out.write_all(text.as_bytes()))?;
    let mut status = 0;
    for conflict in planned.iter().flat_map(PlannedSite::conflicts) {
        screen.tell_lines(|out| changes::conflict(out, conflict));
        status = 1;
    }
    Ok(status)
}

async fn kubernetes(
    global: &Global,
    screen: &Screen,
    names: SecretNames<'_>,
    read_secrets: bool,
    output: &Path,
) -> Result<u8> {
    let config = read_config(global)?;
    let mut logins = ReadLogins::default();
    if read_secrets {
        let sites = sites(&config, &[])?;
        let read = async |registries: &_| read_logins(registries, &sites).await;
        logins = with_registries(global, &config, read).await?;
    }
    let manifest = manifest(&config.caches, names, &logins)?;
    file::save_secret(output, "manifest", &manifest.yaml)?;
    let output = output.display();
    screen.tell_lines(|out| {
        for prefix in &manifest.omitted {
            writeln!(out, "skipped `{prefix}`: its `secret_arn` is read only with `--read-secrets`")?;
        }
        let secrets = manifest.secrets.join(", ");
        writeln!(out, "wrote {secrets} to {output}, which only its owner can read")?;
        writeln!(out, "use it with `kubectl apply -f {output}`, name the secrets as `imagePullSecrets` of pods \
             or service accounts, then remove the file")
    });
    Ok(0)
}
