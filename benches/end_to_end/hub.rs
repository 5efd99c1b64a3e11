//! Docker Hub's listing: the requests of a run over 300 mirrored tags.
//!
//! No repository of the sandbox lists so many tags, so they are added to it, and the mirror runs in
//! this process, as with `--sandbox`. Memory and processor time would include the sandbox, and are
//! omitted.

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, Result, ensure};
use ecr_mirror::{
    config::Config,
    engine::{Options, Shutdown, TRANSFERS},
    model::{
        event::{Event, Observer},
        outcome::{Outcome, Report},
    },
    run::{
        registries::Registries,
        sync::{ImagesToSync, SyncRequest, run},
    },
    sandbox::{self, Sandbox},
};

use crate::{measure::median, scenario::Setup, table::Bound};

const TAGS: usize = 300;
const ROUNDS: usize = 7;

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Event) {}
}

/// The row and the bounds.
///
/// # Errors
/// If a run or the sandbox fails.
pub(crate) fn measure(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(rounds(setup))
}

async fn rounds(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    let latency: humantime::Duration = setup.latency.parse().context("a latency is a time")?;
    let options = sandbox::Options {
        directory: Some(setup.empty("cloud")?),
        latency: latency.into(),
        faults: vec!["pull-limit=1000000".parse().context("it is a fault")?],
        ..sandbox::Options::default()
    };
    let sandbox = Sandbox::start(options).await?;
    for number in 0..TAGS {
        let reference = format!("docker.io/team/app:v{number}");
        sandbox.upstream().image(&reference).layers(1).layer_size(1_000).push();
    }
    let tags: Vec<String> = (0..TAGS).map(|number| format!("v{number}")).collect();
    let layout = setup.empty("layout")?;
    let toml = format!(
        "[[destination]]\nregistry = \"oci:{}\"\n\
         [[image]]\nsource = \"docker.io/team/app\"\ntags = {tags:?}\n",
        layout.display()
    );
    mirror(&sandbox, &toml).await?;
    let (mut seconds, mut requests) = (Vec::new(), 0);
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let report = mirror(&sandbox, &toml).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        ensure!(
            report.images.iter().all(|row| row.outcome == Outcome::UpToDate),
            "a tag was not there"
        );
        requests = requests.max(report.requests.source);
    }
    sandbox.stop().await;
    let row = format!(
        "| hub | ecr-mirror | {:.2} | – | – | – | {requests} / – | 0.0 | 0 |\n",
        median(seconds)
    );
    Ok((row, vec![Bound::new("hub: source requests", requests as f64, 5.0)]))
}

async fn mirror(sandbox: &Sandbox, toml: &str) -> Result<Report> {
    let world = Registries::with_sandbox(sandbox.address(), TRANSFERS);
    let config = Config::parse("mirror.toml", toml, Path::new(""), &|_| None)?;
    let options = Options::default();
    let work = SyncRequest { config: &config, images: ImagesToSync::all(&config), options };
    let report = run(&world, work, Arc::new(Silent), &Shutdown::default()).await?;
    ensure!(report.exit == 0, "the run ended with {}: {:?}", report.exit, report.totals);
    Ok(report)
}
