//! `pull-through export`: writes the setup for other tools.

use std::path::Path;

use crate::{
    cli::{
        Global, IamPolicy,
        pull_through::{Export, PolicyExport},
    },
    commands::{
        iam::whole,
        shared::{read_config, with_registries},
    },
    config::Config,
    iam,
    model::{Error, Kind, Result},
    output::{Screen, changes, file},
    pull_through::{
        kubernetes::{ReadLogins, SecretNames, manifest},
        terraform::{self, ExportPart, ExportedPolicy},
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
    let config = read_config(global)?;
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
        screen.tell(|out| changes::conflict(out, conflict));
        status = 1;
    }
    Ok(status)
}

/// Each policy once, with its roles.
fn exported_policies(config: &Config, named: &[PolicyExport]) -> Result<Vec<ExportedPolicy>> {
    let mut all = Vec::new();
    for (policy, name) in [
        (IamPolicy::Mirror, "mirror"),
        (IamPolicy::Pull, "pull"),
        (IamPolicy::PullThrough, "pull-through"),
    ] {
        let named: Vec<_> = named.iter().filter(|it| it.policy == policy).collect();
        if named.is_empty() {
            continue;
        }
        let whole = whole(config, policy);
        if whole["Statement"].as_array().is_some_and(Vec::is_empty) {
            let problem = format!("the policy `{name}` has no statement for this configuration");
            let hint = format!("remove `--iam {name}`: IAM accepts no empty policy");
            return Err(Error::new(Kind::Configuration, problem).hint(hint));
        }
        let mut roles: Vec<String> = named.into_iter().filter_map(|it| it.role.clone()).collect();
        roles.sort();
        roles.dedup();
        all.push(ExportedPolicy { name, documents: iam::split(&whole), roles });
    }
    Ok(all)
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
    screen.tell(|out| {
        for prefix in &manifest.left_out {
            writeln!(out, "skipped `{prefix}`: its `secret_arn` is read only with `--read-secrets`")?;
        }
        let secrets = manifest.secrets.join(", ");
        writeln!(out, "wrote {secrets} to {output}, which only its owner can read")?;
        writeln!(out, "use it with `kubectl apply -f {output}`, name the secrets as `imagePullSecrets` of pods \
             or service accounts, then remove the file")
    });
    Ok(0)
}
