//! `bootstrap` of five images that are mirrored, next to a client that only asks what a mirror must
//! ask: the digest of each tag at its source, the tags of each repository of ECR, and ECR's token.
//!
//! The client asks all of it at once, because no question depends on the answer of another one.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use futures::future::{try_join, try_join_all};
use reqwest::Client;

use crate::{
    clouds::{self, Verb},
    measure::run,
    programs::{Counted, Program, REGION},
    scenario::{Scenario, Series, Setup, Trial, log, progress},
    server::Server,
    table::{self, Bound, row},
};

/// The role of the client's process.
pub(crate) const ROLE: &str = "questions";
const IMAGES: usize = 5;
const ROUNDS: usize = 15;

fn name(number: usize) -> String {
    format!("app-{number}")
}

/// Asks about the images, with the arguments after [`ROLE`]: the addresses of the upstreams and of ECR.
///
/// # Errors
/// If a question is not answered.
pub(crate) fn run_role(arguments: &[String]) -> Result<()> {
    let [upstream, ecr] = arguments else { anyhow::bail!("the role needs two arguments") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(ask(upstream, ecr))
}

/// A client of the embedded ECR at this address.
pub(crate) fn ecr_client(address: &str) -> aws_sdk_ecr::Client {
    let config = aws_sdk_ecr::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("AKIDSANDBOX", "secret", None, None, "bench"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(format!("http://{address}"))
        .build();
    aws_sdk_ecr::Client::from_conf(config)
}

async fn ask(upstream: &str, ecr: &str) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let source = Client::builder().no_proxy().http1_only().build()?;
    let client = ecr_client(ecr);
    let heads = (0..IMAGES).map(async |number| {
        let repository = format!("registry.example/team/{}", name(number));
        let url = format!("http://{upstream}/v2/{repository}/manifests/v0");
        let accept =
            "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json";
        let answer = source.head(url).header("accept", accept).send().await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(())
    });
    let listings = (0..IMAGES).map(async |number| {
        let listing = client.list_images().repository_name(format!("bench/{}", name(number)));
        ensure!(!listing.send().await?.image_ids().is_empty(), "the image is not there");
        Ok(())
    });
    let token = async {
        client.get_authorization_token().send().await?;
        Ok(())
    };
    try_join(token, try_join(try_join_all(heads), try_join_all(listings))).await?;
    Ok(())
}

/// The rows of the client and of `bootstrap`, and the bounds.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn measure(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    let server = Server::cloud(&setup.empty("cloud")?, &setup.latency, &[])?;
    let (ecr, upstream) = (server.ecr(), server.upstream());
    let config = format!(
        "[[destination]]\nregistry = {ecr:?}\nendpoint_url = \"http://{ecr}\"\n\
         repository = \"bench/{{name}}\"\n"
    );
    let directory = setup.empty("build")?;
    fs::create_dir_all(&directory)?;
    let from = |number| format!("FROM {upstream}/registry.example/team/{}:v0\n", name(number));
    fs::write(directory.join("Dockerfile"), (0..IMAGES).map(from).collect::<String>())?;
    let bootstrap = || clouds::run(setup, Verb::Bootstrap(&directory), &config, &server);
    let (first, _) = bootstrap()?;
    ensure!(first.wrong == 0, "an image was not mirrored");
    let series = |program| Series { program, trials: Vec::new() };
    let (mut limit, mut ours) = (series(Program::Limit), series(Program::Ours));
    for _ in 0..ROUNDS {
        let mut questions = Command::new(std::env::current_exe()?);
        questions.args([ROLE, upstream, ecr]).env("NO_PROXY", "127.0.0.1");
        let cost = run(&mut questions).context("the questions")?;
        limit.trials.push(Trial { cost, counted: None, wrong: 0 });
        let (trial, report) = bootstrap()?;
        progress(Scenario::Bootstrap, Program::Ours, &trial);
        log(&format!("bootstrap: {}", report["requests"]));
        ours.trials.push(trial);
    }
    let asked = |requests: fn(Counted) -> u64| {
        let counted = ours.trials.iter().filter_map(|trial| trial.counted);
        counted.map(requests).max().unwrap_or(u64::MAX) as f64
    };
    let images = IMAGES as f64;
    let bounds = vec![
        Bound::new(
            "bootstrap: time ÷ bare questions",
            table::ratio(&ours, &limit, |trial| trial.cost.seconds),
            1.2,
        ),
        Bound::new("bootstrap: source requests", asked(|counted| counted.requests.0), images),
        Bound::new("bootstrap: ECR requests", asked(|counted| counted.requests.1), images),
        Bound::new("bootstrap: wrong tags", table::wrong(&ours), 0.0),
    ];
    Ok((row("bootstrap", &limit, None) + &row("bootstrap", &ours, Some(&limit)), bounds))
}
