//! Runs the binary between two registries with a round trip of latency, next to a bare copier that
//! knows every digest beforehand (the limit) and to other installed mirror tools.
//!
//! ```text
//! cargo bench --bench end_to_end -- main tiny big --runs 3
//! ```
//!
//! Prints a Markdown table and each bound. `--chart FILE` also draws the times as SVG. With
//! `--check`, a broken bound gives exit status 1. Cargo builds the binary with the profile of the
//! bench: `--profile dist` measures the shipped one. Corpora take 6 GB of memory or disk and are kept for the next run.
#![allow(missing_docs, reason = "a bench is not an interface")]

mod bootstrap;
mod chart;
mod clouds;
mod copier;
mod corpus;
mod https;
mod hub;
mod measure;
mod order;
mod programs;
mod rates;
mod scenario;
mod server;
mod table;
mod two;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use programs::PEERS;
use scenario::{Scenario, Setup};

/// Minimum free memory for corpora, in bytes: they and a destination take 6 GB.
const MIN_FREE: u64 = 8 << 30;

#[derive(Parser)]
struct Arguments {
    /// Measure these scenarios; default: all
    scenarios: Vec<Scenario>,
    /// Run this many rounds
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Include other programs in this many of the rounds
    #[arg(long, default_value_t = 1)]
    peer_runs: usize,
    /// Delay every response by this long
    #[arg(long, default_value = "20ms")]
    latency: String,
    /// Keep corpora in this directory; default: memory if it is large enough, else cargo's
    /// directory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write a chart of the times to this file, as SVG
    #[arg(long)]
    chart: Option<PathBuf>,
    /// Fail if a bound is broken
    #[arg(long)]
    check: bool,
    /// Accept the argument that cargo passes to benches
    #[arg(long, hide = true)]
    bench: bool,
}

/// The work of a child process, with its arguments.
type Role = fn(&[String]) -> Result<()>;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().collect();
    let roles: [(&str, Role); 3] = [
        (copier::ROLE, copier::run_role),
        (bootstrap::ROLE, bootstrap::run_role),
        (https::ROLE, https::run_role),
    ];
    for (name, run) in roles {
        if arguments.get(1).is_some_and(|role| role == name) {
            return run(&arguments[2..]).map(|()| ExitCode::SUCCESS);
        }
    }
    let arguments = Arguments::parse();
    // `cargo test` starts benches without scenarios
    if !arguments.bench && arguments.scenarios.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    measure(arguments)
}

#[allow(clippy::print_stdout, reason = "the table is what the bench is for")]
fn measure(arguments: Arguments) -> Result<ExitCode> {
    let directory = arguments
        .dir
        .unwrap_or_else(default_directory)
        .join(format!("edition-{}", corpus::EDITION));
    fs::create_dir_all(&directory)?;
    let setup = Setup {
        directory,
        latency: arguments.latency,
        rounds: arguments.runs,
        peer_rounds: arguments.peer_runs,
    };
    let scenarios = match arguments.scenarios.is_empty() {
        true => Scenario::value_variants().to_vec(),
        false => arguments.scenarios,
    };
    let (mut rows, mut bounds, mut groups) = (String::new(), Vec::new(), Vec::new());
    for scenario in scenarios {
        let (more_rows, more_bounds) = match scenario {
            Scenario::Two => two::measure(&setup)?,
            Scenario::Ecr => clouds::ecr(&setup)?,
            Scenario::Plan => clouds::plan(&setup)?,
            Scenario::Scale => clouds::scale(&setup)?,
            Scenario::First => clouds::first(&setup)?,
            Scenario::Mount => clouds::mount(&setup)?,
            Scenario::Hub => hub::measure(&setup)?,
            Scenario::Bootstrap => bootstrap::measure(&setup)?,
            _ => {
                let measured = setup.measure(scenario)?;
                groups.push(chart::Group::new(&measured));
                (table::rows(&measured), table::bounds(&measured))
            }
        };
        rows += &more_rows;
        bounds.extend(more_bounds);
    }
    println!("{}{rows}\n{}", table::HEAD, table::verdicts(&bounds));
    if let Some(file) = &arguments.chart {
        fs::write(file, chart::svg(&groups, &setup.latency))?;
    }
    for peer in PEERS.iter().filter(|peer| !peer.is_installed()) {
        println!("`{}` is not installed", peer.name());
    }
    let broken = arguments.check && !bounds.iter().all(table::Bound::holds);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A directory in memory if there is enough, so that no disk is measured.
fn default_directory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let asked = Command::new("df").args(["--output=avail", "-B1"]).arg(memory).output();
    let free = asked.ok().and_then(|said| {
        String::from_utf8_lossy(&said.stdout).lines().nth(1)?.trim().parse::<u64>().ok()
    });
    if free.is_some_and(|free| free >= MIN_FREE) {
        return memory.join("ecr-mirror-bench");
    }
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("end_to_end")
}
