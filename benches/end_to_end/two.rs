//! The cost of a second destination.
//!
//! The second registry also runs on this machine, and verifies every byte. With few processors, that
//! verification decides the time of `main`, so its time has a bound only with `PROCESSORS`. `tiny`
//! moves few bytes, and its time is the mirror's on every machine.

use std::thread;

use anyhow::Result;

use crate::{
    clouds::{self, Verb},
    copier, corpus,
    programs::{Program, Task, mirror_toml},
    scenario::{Destination, Scenario, Series, Setup, Source, progress},
    server::Server,
    table::{self, Bound, row},
};

/// One for each of the three registries, and one for the mirror.
const PROCESSORS: usize = 4;

/// The rows of one and of two destinations, and the bounds.
///
/// # Errors
/// If a program or a server fails.
pub(crate) fn measure(setup: &Setup) -> Result<(String, Vec<Bound>)> {
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    for source in [setup.source("main", || corpus::main(0))?, setup.source("tiny", corpus::tiny)?] {
        let (more_rows, more_bounds) = compare(setup, &source)?;
        rows += &more_rows;
        bounds.extend(more_bounds);
    }
    Ok((rows, bounds))
}

fn compare(setup: &Setup, source: &Source) -> Result<(String, Vec<Bound>)> {
    let server = Server::plain(&source.directory, &setup.latency)?;
    let moves_bytes = source.name() == "main";
    let series = || Series { program: Program::Ours, trials: Vec::new() };
    let (mut one, mut two) = (series(), series());
    for _ in 0..setup.rounds {
        let to = Destination::default();
        let trial = setup.trial(Program::Ours, Task::Copy, source, &server, &to)?;
        progress(Scenario::Two, Program::Ours, &trial);
        one.trials.push(trial);
        let temporary = |name| {
            let directory = setup.empty(name)?;
            anyhow::Ok(Server::plain(&directory, &setup.latency)?.temporary(&directory))
        };
        let both = [temporary("destination")?, temporary("second")?];
        let to = both.each_ref().map(|server| (server.address(), ""));
        let config = mirror_toml(&source.corpus, server.address(), &to);
        let (mut trial, _) = clouds::run(setup, Verb::Sync, &config, &server)?;
        for destination in both {
            trial.wrong += copier::count_wrong(&source.corpus, &destination.url(), None)?;
        }
        progress(Scenario::Two, Program::Ours, &trial);
        two.trials.push(trial);
    }
    let bytes = two.trials.iter().filter_map(|trial| trial.counted).map(|counted| counted.bytes);
    let bytes = bytes.max().unwrap_or(0) as f64 / source.corpus.bytes() as f64;
    let time = table::ratio(&two, &one, |trial| trial.cost.seconds);
    let name = format!("two {}", source.name());
    let cpu = table::ratio(&two, &one, |trial| trial.cost.cpu);
    let processors = thread::available_parallelism()?.get();
    let mut bounds = vec![
        Bound::new(format!("{name}: CPU ÷ one"), cpu, 1.8),
        Bound::new(format!("{name}: source bytes ÷ distinct bytes"), bytes, 1.0),
        Bound::new(format!("{name}: wrong tags"), table::wrong(&two), 0.0),
    ];
    if !moves_bytes || processors >= PROCESSORS {
        bounds.push(Bound::new(format!("{name}: time ÷ one"), time, 1.3));
    }
    let alone = row(&format!("{name}, one of them"), &one, None);
    Ok((alone + &row(&name, &two, None), bounds))
}
