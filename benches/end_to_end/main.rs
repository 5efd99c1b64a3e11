//! The release binary between two registries that are a round trip away, next to a bare copier
//! that knows every digest beforehand (the limit) and to others of its kind that are installed.
//!
//! ```text
//! cargo bench --bench end_to_end -- main tiny big --runs 3
//! ```
//!
//! Prints a Markdown table and each bound; with `--check`, a bound that is not kept is exit
//! status 1. Corpora take 6 GB of memory or disk and are kept for the next time.
#![allow(missing_docs, reason = "nobody calls a bench")]

mod clouds;
mod copier;
mod corpus;
mod hub;
mod measure;
mod order;
mod programs;
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
use scenario::{Scenario, Stand};

/// Memory that corpora may fill: they and a destination take 6 GB of it.
const ROOM: u64 = 8 << 30;

#[derive(Parser)]
struct Arguments {
    /// What to measure; everything when nothing is named
    scenarios: Vec<Scenario>,
    /// How many rounds
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// How many of the rounds other programs take part in
    #[arg(long, default_value_t = 1)]
    peer_runs: usize,
    /// How much later than it could every answer begins
    #[arg(long, default_value = "20ms")]
    latency: String,
    /// Where corpora are kept; memory where there is enough, else cargo's directory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Fail when a bound is not kept
    #[arg(long)]
    check: bool,
    /// What cargo says to benches
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|role| role == copier::ROLE) {
        return copier::play(&arguments[2..]).map(|()| ExitCode::SUCCESS);
    }
    let arguments = Arguments::parse();
    // `cargo test` runs benches to see that they start
    if !arguments.bench && arguments.scenarios.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    measure(arguments)
}

#[allow(clippy::print_stdout, reason = "the table is what the bench is for")]
fn measure(arguments: Arguments) -> Result<ExitCode> {
    let directory =
        arguments.dir.unwrap_or_else(roomy).join(format!("edition-{}", corpus::EDITION));
    fs::create_dir_all(&directory)?;
    let stand = Stand {
        directory,
        latency: arguments.latency,
        rounds: arguments.runs,
        peer_rounds: arguments.peer_runs,
    };
    let scenarios = match arguments.scenarios.is_empty() {
        true => Scenario::value_variants().to_vec(),
        false => arguments.scenarios,
    };
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    for scenario in scenarios {
        let (more_rows, more_bounds) = match scenario {
            Scenario::Two => two::measure(&stand)?,
            Scenario::Ecr => clouds::ecr(&stand)?,
            Scenario::Plan => clouds::plan(&stand)?,
            Scenario::Mount => clouds::mount(&stand)?,
            Scenario::Hub => hub::measure(&stand)?,
            _ => {
                let measured = stand.measure(scenario)?;
                (table::rows(&measured), table::bounds(&measured))
            }
        };
        rows += &more_rows;
        bounds.extend(more_bounds);
    }
    println!("{}{rows}\n{}", table::HEAD, table::verdicts(&bounds));
    for peer in PEERS.iter().filter(|peer| !peer.is_there()) {
        println!("`{}` is not installed", peer.name());
    }
    let broken = arguments.check && !bounds.iter().all(table::Bound::holds);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A directory in memory where there is room, so that no disk is measured.
fn roomy() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let asked = Command::new("df").args(["--output=avail", "-B1"]).arg(memory).output();
    let free = asked.ok().and_then(|said| {
        String::from_utf8_lossy(&said.stdout).lines().nth(1)?.trim().parse::<u64>().ok()
    });
    if free.is_some_and(|free| free >= ROOM) {
        return memory.join("ecr-mirror-bench");
    }
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("end_to_end")
}
