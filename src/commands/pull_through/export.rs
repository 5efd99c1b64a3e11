//! `pull-through export`: writes the same set-up for other tools.

use std::path::Path;

use super::{CONNECTIONS, CacheSite, sites};
use crate::{
    cli::{
        Global,
        pull_through::{Export, Where},
    },
    commands::configuration,
    ecr::Identity,
    model::Result,
    output::{Screen, file, printable},
    pull_through::{
        Observed, Planned,
        changes::{Desired, Replace, secrets},
        fetch_state,
        kubernetes::manifest,
        terraform::{ExportPart, from_nothing, terraform},
    },
    run::registries::Registries,
};

/// Writes it.
///
/// # Errors
/// When the configuration is wrong, AWS cannot be asked, or the output cannot be written.
pub(crate) async fn run(global: &Global, screen: &Screen, format: Export) -> Result<u8> {
    match format {
        Export::Terraform { at } => to_terraform(global, screen, &at).await,
        Export::Kubernetes { namespaces, output } => {
            to_kubernetes(global, screen, (&namespaces, &output))
        }
    }
}

/// What one registry is to be and is.
struct Surveyed<'a> {
    site: &'a CacheSite<'a>,
    identity: Identity,
    planned: Vec<Planned>,
    observed: Observed,
}

/// Prints the configuration on stdout; 1 when a part of it conflicts and is left out.
async fn to_terraform(global: &Global, screen: &Screen, at: &Where) -> Result<u8> {
    let config = configuration(global)?;
    let sites = sites(&config, at)?;
    let world = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let asked = survey(&world, &sites).await;
    world.close().await;
    let surveyed = asked?;
    let parts: Vec<ExportPart<'_>> = surveyed
        .iter()
        .map(|Surveyed { site, identity, planned, observed }| ExportPart {
            registry: &site.registry,
            identity,
            planned,
            observed,
        })
        .collect();
    let text = terraform(&parts);
    screen.print(|out| out.write_all(text.as_bytes()))?;
    let conflicts = surveyed.iter().flat_map(|it| &it.planned).filter(|it| it.step.is_none());
    let mut status = 0;
    for Planned { change, .. } in conflicts {
        let hint = change.hint.iter().map(|hint| format!("\n    hint: {}", printable(hint)));
        let hint: String = hint.collect();
        screen.tell(|out| writeln!(out, "{}{hint}", printable(&change.to_string())));
        status = 1;
    }
    Ok(status)
}

async fn survey<'a>(world: &Registries, sites: &'a [CacheSite<'a>]) -> Result<Vec<Surveyed<'a>>> {
    let mut surveyed = Vec::new();
    for site in sites {
        let session = site.session(world).await?;
        let observed = fetch_state::observe(&session, &secrets(&site.caches)).await?;
        let on_push = site.on_push();
        let wanted = Desired {
            registry: &site.registry,
            caches: &site.caches,
            on_push: &on_push,
            replace: Replace::Differing,
        };
        let planned = from_nothing(&wanted, &observed);
        let identity = session.api.identity().clone();
        surveyed.push(Surveyed { site, identity, planned, observed });
    }
    Ok(surveyed)
}

fn to_kubernetes(
    global: &Global,
    screen: &Screen,
    (namespaces, output): (&[String], &Path),
) -> Result<u8> {
    let config = configuration(global)?;
    let manifest = manifest(&config.caches, namespaces)?;
    file::save_secret(output, "manifest", &manifest.yaml)?;
    let output = output.display();
    screen.tell(|out| {
        for prefix in &manifest.left_out {
            writeln!(out, "left out: `{prefix}`, whose `secret_arn` is not read")?;
        }
        let secrets = manifest.secrets.join(", ");
        writeln!(out, "wrote {secrets} to {output}, which only its owner can read")?;
        writeln!(out, "use it with `kubectl apply -f {output}`, name the secrets as `imagePullSecrets` of pods \
             or service accounts, then remove the file")
    });
    Ok(0)
}
