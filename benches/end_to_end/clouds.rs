//! ECR's bulk queries and mounts, counted, and the cost of a large plan.
//!
//! The source is the sandbox's upstream, which has any named repository and tag, or a corpus with
//! shared layers. Warm runs are warm: all images were mirrored before, by parallel runs, because
//! each run keeps to ECR's quotas.

use std::{fs, path::Path, process::Command, thread};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;

use crate::{
    corpus, measure,
    measure::median,
    programs::{self, Program, mirror_toml},
    scenario::{Scenario, Series, Setup, Trial, log, progress},
    server::{PROGRAM, Server},
    table::{self, Bound, row},
};

/// Number of parallel runs that fill ECR.
const FILLERS: usize = 8;
const TAGS: usize = 300;
const ROUNDS: usize = 7;
/// Makes ECR's copy another index than the source's.
const FILTERED: &str = "platforms = [\"linux/amd64\"]\nattestations = \"drop\"\n";

#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb<'a> {
    Sync,
    Plan,
    /// `bootstrap` of the files below this directory.
    Bootstrap(&'a Path),
}

/// Runs our program once; returns the cost and the report.
///
/// # Errors
/// If the run fails, or its output is not a report.
pub(crate) fn run(
    setup: &Setup,
    verb: Verb<'_>,
    config: &str,
    server: &Server,
) -> Result<(Trial, Value)> {
    let name = format!("{:?}.toml", thread::current().id());
    let file = setup.scratch()?.join(name.replace(['(', ')'], ""));
    fs::write(&file, config)?;
    let (verb, directory) = match verb {
        Verb::Sync => ("sync", None),
        Verb::Plan => ("plan", None),
        Verb::Bootstrap(directory) => ("bootstrap", Some(directory)),
    };
    let mut command = Command::new(PROGRAM);
    command
        .args([verb, "--json", "--progress", "none", "--config"])
        .arg(&file)
        .args(directory)
        .envs(server.environment())
        .env("DOCKER_CONFIG", setup.scratch()?)
        .env("NO_PROXY", "127.0.0.1")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_SESSION_TOKEN");
    let cost = measure::run(&mut command)?;
    let report: Value = serde_json::from_str(&cost.stdout).context("a report is JSON")?;
    let good = ["copied", "up_to_date"];
    let rows = report["images"].as_array().context("a report has rows")?;
    let wrong =
        rows.iter().filter(|row| !row["outcome"].as_str().is_some_and(|it| good.contains(&it)));
    let wrong = wrong.count() as u64;
    let counted = programs::counted(Program::Ours, &cost.stdout)?;
    Ok((Trial { cost, counted, wrong }, report))
}

fn number(report: &Value, pointer: &str) -> Result<f64> {
    let found = report.pointer(pointer).and_then(Value::as_f64);
    found.with_context(|| format!("the report lacks `{pointer}`"))
}

/// A configuration with the cloud's ECR as destination.
fn ecr_config(server: &Server, images: impl IntoIterator<Item = String>) -> String {
    ecr_config_with(server, "", images)
}

/// The same, with further keys of the destination.
fn ecr_config_with(
    server: &Server,
    keys: &str,
    images: impl IntoIterator<Item = String>,
) -> String {
    let ecr = server.ecr();
    let images: String = images.into_iter().collect();
    format!("[[destination]]\nregistry = {ecr:?}\nendpoint_url = \"http://{ecr}\"\n{keys}{images}")
}

fn image(server: &Server, repository: &str, tags: &[String], keys: &str) -> String {
    let source = format!("{}/{repository}", server.upstream());
    let name = repository.rsplit('/').next().unwrap_or(repository);
    format!(
        "\n[[image]]\nsource = {source:?}\nrepository = \"bench/{name}\"\ntags = {tags:?}\n{keys}"
    )
}

fn tags(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("v{number}")).collect()
}

/// Mirrors each configuration in a run of its own, in parallel.
fn fill(setup: &Setup, configs: &[String], server: &Server) -> Result<()> {
    thread::scope(|scope| {
        let fill = |config| scope.spawn(move || run(setup, Verb::Sync, config, server));
        let runs: Vec<_> = configs.iter().map(String::as_str).map(fill).collect();
        for run in runs {
            let (trial, _) = run.join().map_err(|_| anyhow!("a run panicked"))??;
            anyhow::ensure!(trial.wrong == 0, "{} tags were not mirrored", trial.wrong);
        }
        Ok(())
    })
}

/// Mirrors 300 tags of one repository again, unfiltered and filtered; counts the calls beyond those
/// of any run.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn ecr(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    let server = Server::cloud(&setup.empty("cloud")?, &setup.latency, &[])?;
    let tags = tags(TAGS);
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    // the calls of any run; one tag takes one more call
    let mut base_calls = None;
    for (name, repository, keys, at_most) in [
        ("ecr", "ghcr.io/sandbox/single", "", 1.0),
        ("ecr filtered", "registry.example/team/app", FILTERED, 4.0),
    ] {
        let config =
            |tags: &[String]| ecr_config(&server, [image(&server, repository, tags, keys)]);
        log(&format!("{name}: filling"));
        // the first run creates the repository
        run(setup, Verb::Sync, &config(&tags[..1]), &server)?;
        let configs: Vec<_> = tags.chunks(TAGS.div_ceil(FILLERS)).map(config).collect();
        fill(setup, &configs, &server)?;
        if base_calls.is_none() {
            let (trial, report) = run(setup, Verb::Sync, &config(&tags[..1]), &server)?;
            log(&format!("one tag: {}", report["requests"]));
            base_calls = trial.counted.map(|counted| counted.requests.1 as f64 - 1.0);
        }
        let config = config(&tags);
        let mut series = Series { program: Program::Ours, trials: Vec::new() };
        for _ in 0..ROUNDS {
            let (trial, report) = run(setup, Verb::Sync, &config, &server)?;
            progress(Scenario::Ecr, Program::Ours, &trial);
            log(&format!("{name}: {}", report["requests"]));
            series.trials.push(trial);
        }
        let asked = series.trials.iter().filter_map(|trial| trial.counted);
        let asked = asked.map(|counted| counted.requests.1).max().unwrap_or(0) as f64;
        let calls = asked - base_calls.unwrap_or(f64::NAN);
        bounds.push(Bound::new(format!("{name}: calls besides each run's"), calls, at_most));
        bounds.push(Bound::new(format!("{name}: wrong tags"), table::wrong(&series), 0.0));
        rows += &row(name, &series, None);
    }
    Ok((rows, bounds))
}

/// Plans a large mirrored configuration; shows the curve over the number of tags. The registries answer
/// without a delay: with one, it is the connections to the source that bound the time.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn plan(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    const SIZES: [usize; 5] = [250, 500, 1_000, 2_000, 2_500];
    const EACH: usize = 5;
    let server = Server::cloud(&setup.empty("cloud")?, "0ms", &[])?;
    let tags = tags(EACH);
    let images: Vec<String> = (0..SIZES[4] / EACH)
        .map(|number| format!("registry.example/team-{}/app-{number}", number % 20))
        .map(|repository| image(&server, &repository, &tags, ""))
        .collect();
    log("plan: filling");
    let parts = images.chunks(images.len().div_ceil(FILLERS));
    let configs: Vec<_> = parts.map(|part| ecr_config(&server, part.iter().cloned())).collect();
    fill(setup, &configs, &server)?;
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    let mut before: Option<(usize, f64)> = None;
    for size in SIZES {
        let config = ecr_config(&server, images[..size / EACH].iter().cloned());
        let mut series = Series { program: Program::Ours, trials: Vec::new() };
        for _ in 0..setup.rounds {
            let (trial, _) = run(setup, Verb::Plan, &config, &server)?;
            progress(Scenario::Plan, Program::Ours, &trial);
            series.trials.push(trial);
        }
        let name = format!("plan {size}");
        let seconds = median(series.trials.iter().map(|trial| trial.cost.seconds));
        if let Some((fewer, before)) = before.replace((size, seconds)) {
            // tolerates a quarter as noise
            let most = 1.25 * size as f64 / fewer as f64;
            bounds.push(Bound::new(format!("{name}: time ÷ {fewer}"), seconds / before, most));
        }
        if size == SIZES[4] {
            bounds.push(Bound::new(format!("{name}: seconds"), seconds, 2.1));
        }
        bounds.push(Bound::new(format!("{name}: peak MiB"), table::peak(&series), 60.0));
        bounds.push(Bound::new(format!("{name}: wrong tags"), table::wrong(&series), 0.0));
        rows += &row(&name, &series, None);
    }
    Ok((rows, bounds))
}

/// Mirrors as many images as one process should, in repositories of ten, and plans them again.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn scale(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    const IMAGES: usize = 20_000;
    const EACH: usize = 10;
    /// MiB of a process without images, and KiB of an image.
    const LIMIT: f64 = 24.0 + 2.0 * IMAGES as f64 / 1_024.0;
    let server = Server::cloud(&setup.empty("cloud")?, "0ms", &[])?;
    let tags = tags(EACH);
    let images = (0..IMAGES / EACH).map(|number| {
        image(&server, &format!("small.example/team-{}/app-{number}", number % 20), &tags, "")
    });
    let config = ecr_config_with(&server, UNLIMITED, images);
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    for (name, verb) in [("scale sync", Verb::Sync), ("scale plan", Verb::Plan)] {
        let (trial, _) = run(setup, verb, &config, &server)?;
        progress(Scenario::Scale, Program::Ours, &trial);
        let series = Series { program: Program::Ours, trials: vec![trial] };
        bounds.push(Bound::new(format!("{name}: peak MiB"), table::peak(&series), LIMIT));
        bounds.push(Bound::new(format!("{name}: wrong tags"), table::wrong(&series), 0.0));
        rows += &row(name, &series, None);
    }
    let peak = server.peak() as f64 / table::MIB;
    bounds.push(Bound::new("scale: peak MiB of the registries", peak, 256.0));
    Ok((rows, bounds))
}

/// Rates that bound no run here.
const UNLIMITED: &str = "rates = { put_image = 1_000_000, initiate_layer_upload = 1_000_000, \
    complete_layer_upload = 1_000_000, upload_layer_part = 1_000_000, \
    batch_check_layer_availability = 1_000_000, batch_get_image = 1_000_000 }\n";

/// Mirrors a list for the first time, and compares the time with that of its requests and bytes.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn first(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    const IMAGES: usize = 2_500;
    /// The tags of repositories, as in lists that people keep.
    const TAGS: [usize; 6] = [1, 1, 2, 3, 4, 6];
    /// 80 % of the rates: of `PutImage` as configured, of `InitiateLayerUpload` and
    /// `CompleteLayerUpload` as published.
    const PER_SECOND: f64 = 80.0;
    /// The embedded ECR refuses what exceeds them.
    const ENFORCED: [&str; 4] = ["--fault", "quotas", "--rate", "put_image=100"];
    let directory = setup.empty("cloud")?;
    let server = Server::cloud(&directory, &setup.latency, &ENFORCED)?;
    let (mut images, mut left) = (Vec::new(), IMAGES);
    for number in 0.. {
        let count = TAGS[number * 7 % TAGS.len()].min(left);
        if count == 0 {
            break;
        }
        let repository = format!("registry.example/team-{}/app-{number}", number % 20);
        images.push(image(&server, &repository, &tags(count), "platforms = [\"linux/amd64\"]\n"));
        left -= count;
    }
    let config = ecr_config_with(&server, "rates = { put_image = 100 }\n", images);
    let (trial, report) = run(setup, Verb::Sync, &config, &server)?;
    progress(Scenario::First, Program::Ours, &trial);
    let puts = manifests(&directory)? as f64;
    let uploads = number(&report, "/blobs/pushed")?;
    let megabytes = number(&report, "/bytes/to_destination")? / 1e6;
    let bound = (puts.max(uploads) / PER_SECOND).max(megabytes / MEGABYTES_PER_SECOND);
    log(&format!("first: {puts} manifests, {uploads} blobs, {megabytes:.0} MB: {bound:.1} s"));
    let seconds = trial.cost.seconds;
    let series = Series { program: Program::Ours, trials: vec![trial] };
    let bounds = vec![
        Bound::new("first: refused requests", number(&report, "/requests/throttled")?, 0.0),
        Bound::new("first: time ÷ that of its requests and bytes", seconds / bound, 1.3),
        Bound::new("first: wrong tags", table::wrong(&series), 0.0),
    ];
    Ok((row("first", &series, None), bounds))
}

/// A speed that two processes on loopback exceed.
const MEGABYTES_PER_SECOND: f64 = 200.0;

/// The manifests of all repositories below the directory of a sandbox.
fn manifests(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.ends_with("_/manifests") {
            count += fs::read_dir(&path)?.count();
        } else if path.is_dir() {
            count += manifests(&path)?;
        }
    }
    Ok(count)
}

/// Mirrors a repository whose image shares five of six layers with an existing one.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn mount(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    let source = setup.source("shared", corpus::shared)?;
    let upstream = Server::plain(&source.directory, &setup.latency)?;
    let mounting = ["--blob-mounting", "on"];
    let server = Server::cloud(&setup.empty("cloud")?, &setup.latency, &mounting)?;
    let ecr = server.ecr();
    let keys = format!("endpoint_url = \"http://{ecr}\"\n");
    let whole = mirror_toml(&source.corpus, upstream.address(), &[(ecr, &keys)]);
    let fresh = whole.rfind("\n[[image]]").context("there are two images")?;
    run(setup, Verb::Sync, &whole[..fresh], &server)?;
    let (trial, report) = run(setup, Verb::Sync, &whole, &server)?;
    progress(Scenario::Mount, Program::Ours, &trial);
    log(&format!("mount: {}", report["blobs"]));
    let series = Series { program: Program::Ours, trials: vec![trial] };
    let mounted = number(&report, "/blobs/mounted")?;
    // the configuration is also a blob, and is never shared
    let uploads = number(&report, "/blobs/pushed")? - 1.0;
    let bounds = vec![
        Bound::new("mount: layers of five not mounted", 5.0 - mounted, 0.0),
        Bound::new("mount: layers uploaded", uploads, 1.0),
        Bound::new("mount: wrong tags", table::wrong(&series), 0.0),
    ];
    Ok((row("mount", &series, None), bounds))
}
