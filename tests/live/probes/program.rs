//! The program itself, against the registry.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use ecr_mirror::{
    Outcome,
    config::Config,
    engine::{Options, Shutdown},
    model::event::{Event, Observer},
    registry::Transport,
    remote::RetryPolicy,
    run::{
        registries::Registries,
        sync::{ImagesToSync, SyncRequest, run as sync},
    },
};

use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::ProbeRun,
};

const TRANSFERS: usize = 4;

probes! {
    "sync", Own, "The program copies a multi-arch image once, and a second run has nothing to do"
        => "Copied, UpToDate", otherwise "deny=PutImage", twice;
}

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn observe(&self, _event: &Event) {}
}

/// Mirrors a small public image, and returns its outcome.
async fn mirror(run: &ProbeRun, registries: &Registries) -> Result<Outcome> {
    let toml = format!(
        r#"
        [[destination]]
        registry = "{}"

        [[image]]
        source = "registry.k8s.io/pause"
        tags = ["3.10"]
        platforms = ["linux/amd64", "linux/arm64"]
        repository = "{}"
        "#,
        run.backend.host,
        run.name("a"),
    );
    let config = Config::parse("probe.toml", &toml, Path::new(""), &|_| None)?;
    let options = Options { transfers: TRANSFERS, ..Options::default() };
    let request = SyncRequest { config: &config, images: ImagesToSync::all(&config), options };
    let report = sync(registries, request, Arc::new(Silent), &Shutdown::default()).await?;
    let row = report.images.first().context("no row")?;
    if let Some(error) = &row.error {
        run.note(format!("{error:?}"));
    }
    Ok(row.outcome)
}

async fn twice(run: &ProbeRun) -> Seen {
    run.will_make(Made::Repository(run.name("a")));
    let transport = Transport::new(run.backend.network());
    let registries = Registries::with_transport(transport, TRANSFERS, &RetryPolicy::default());
    run.prepared();
    let first = mirror(run, &registries).await?;
    // as a second process, which remembers nothing
    let transport = Transport::new(run.backend.network());
    let registries = Registries::with_transport(transport, TRANSFERS, &RetryPolicy::default());
    let second = mirror(run, &registries).await?;
    Ok(format!("{first:?}, {second:?}"))
}
