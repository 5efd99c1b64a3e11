//! Two destinations: what the second one costs next to one alone.
//!
//! The second registry runs on this machine, too, and checks every byte. Where processors are few,
//! `main` shows what that takes, and `tiny`, which moves few bytes, what the mirror does.

use anyhow::Result;

use crate::{
    clouds::{self, Verb},
    copier, corpus,
    programs::{Program, Task, mirror_toml},
    scenario::{Scenario, Series, Source, Stand, progress},
    server::Server,
    table::{self, Bound, row},
};

/// The rows of one and of two destinations, and the bounds.
///
/// # Errors
/// When a program or a server fails.
pub(crate) fn measure(stand: &Stand) -> Result<(String, Vec<Bound>)> {
    let (mut rows, mut bounds) = (String::new(), Vec::new());
    for source in [stand.source("main", || corpus::main(0))?, stand.source("tiny", corpus::tiny)?] {
        let (more_rows, more_bounds) = compare(stand, &source)?;
        rows += &more_rows;
        bounds.extend(more_bounds);
    }
    Ok((rows, bounds))
}

fn compare(stand: &Stand, source: &Source) -> Result<(String, Vec<Bound>)> {
    let server = Server::plain(&source.directory, &stand.latency)?;
    let series = || Series { program: Program::Ours, trials: Vec::new() };
    let (mut one, mut two) = (series(), series());
    for _ in 0..stand.rounds {
        let trial = stand.trial(Program::Ours, Task::Copy, (source, &server), None)?;
        progress(Scenario::Two, Program::Ours, &trial);
        one.trials.push(trial);
        let first = Server::passing(&stand.empty("destination")?, &stand.latency)?;
        let second = Server::passing(&stand.empty("second")?, &stand.latency)?;
        let both = [first.address(), second.address()];
        let config = mirror_toml(&source.corpus, server.address(), &both);
        let (mut trial, _) = clouds::run(stand, Verb::Sync, &config, &server)?;
        for address in both {
            trial.wrong += copier::count_wrong(&source.corpus, address)?;
        }
        progress(Scenario::Two, Program::Ours, &trial);
        two.trials.push(trial);
    }
    let bytes = two.trials.iter().filter_map(|trial| trial.counted).map(|counted| counted.bytes);
    let bytes = bytes.max().unwrap_or(0) as f64 / source.corpus.bytes() as f64;
    let time = table::ratio(&two, &one, |trial| trial.cost.seconds);
    let name = format!("two {}", source.name());
    let bounds = vec![
        Bound::new(format!("{name}: time ÷ one"), time, 1.3),
        Bound::new(format!("{name}: source bytes ÷ distinct bytes"), bytes, 1.0),
        Bound::new(format!("{name}: wrong tags"), table::wrong(&two), 0.0),
    ];
    let alone = row(&format!("{name}, one of them"), &one, None);
    Ok((alone + &row(&name, &two, None), bounds))
}
