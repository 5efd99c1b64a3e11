//! What is measured: each scenario's programs, one after the other, round by round.
//!
//! Guards that numbers compare: within a round all programs meet the same source, and a
//! destination in the same state.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use crate::{
    copier,
    corpus::{self, Corpus},
    measure::{self, Cost},
    programs::{self, Counted, Job, PEERS, Program, Task},
    server::Server,
};

/// How many of the 96 tags differ: 5 %.
const CHANGED: u64 = 5;
/// What takes under a second is measured at least so often.
const SHORT_ROUNDS: usize = 7;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// 24 repositories × 4 multi-arch tags into an empty registry
    Main,
    /// One repository × 300 tags that share nearly everything, into an empty registry
    Tiny,
    /// One layer of 1 GiB into an empty registry
    Big,
    /// The 96 tags of `main` once more
    WarmMain,
    /// The 300 tags of `tiny` once more
    WarmTiny,
    /// `main` once more, after 5 % of its tags moved
    Changed,
    /// `main`, and `tiny`, into two empty registries at once
    Two,
    /// 300 tags of one repository once more towards ECR, whole and filtered
    Ecr,
    /// 300 tags of one repository of Docker Hub once more
    Hub,
    /// 250 to 2,000 tags of up to 400 repositories planned once more towards ECR
    Plan,
    /// A new repository that shares five of six layers with one that is there, into ECR
    Mount,
}

impl Scenario {
    /// What it is called on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

/// What one program cost in one round.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) cost: Cost,
    pub(crate) counted: Option<Counted>,
    /// Tags that are not what they should be afterwards.
    pub(crate) wrong: u64,
}

/// One program's trials, a round each.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) program: Program,
    pub(crate) trials: Vec<Trial>,
}

/// One scenario's measurements.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) scenario: Scenario,
    pub(crate) series: Vec<Series>,
    /// What the source's distinct blobs weigh.
    pub(crate) distinct: u64,
}

/// Where and how it is measured.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) directory: PathBuf,
    pub(crate) latency: String,
    pub(crate) rounds: usize,
    /// In how many of the rounds the peers take part.
    pub(crate) peer_rounds: usize,
}

/// A corpus, in its file and in a registry's directory.
pub(crate) struct Source {
    pub(crate) corpus: Corpus,
    file: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Source {
    /// What its corpus is called.
    pub(crate) fn name(&self) -> std::borrow::Cow<'_, str> {
        self.directory.file_name().unwrap_or_default().to_string_lossy()
    }
}

impl Stand {
    /// Measures one scenario.
    ///
    /// # Errors
    /// When a program or a server fails.
    pub(crate) fn measure(&self, scenario: Scenario) -> Result<Measured> {
        let (source, before) = match scenario {
            Scenario::Main => (self.source("main", || corpus::main(0))?, None),
            Scenario::Tiny => (self.source("tiny", corpus::tiny)?, None),
            Scenario::Big => (self.source("big", corpus::big)?, None),
            Scenario::WarmMain => {
                let source = self.source("main", || corpus::main(0))?;
                let before = source.directory.clone();
                (source, Some(before))
            }
            Scenario::WarmTiny => {
                let source = self.source("tiny", corpus::tiny)?;
                let before = source.directory.clone();
                (source, Some(before))
            }
            Scenario::Changed => {
                let before = self.source("main", || corpus::main(0))?.directory;
                (self.source("changed", || corpus::main(CHANGED))?, Some(before))
            }
            _ => anyhow::bail!("counted elsewhere"),
        };
        let warm = matches!(scenario, Scenario::WarmMain | Scenario::WarmTiny);
        let task = if warm { Task::Ask } else { Task::Copy };
        let rounds = if before.is_some() { self.rounds.max(SHORT_ROUNDS) } else { self.rounds };
        // what the limit would have to move after a change, nobody knows beforehand
        let ours: &[Program] = match scenario {
            Scenario::Changed => &[Program::Ours],
            _ => &[Program::Limit, Program::Ours],
        };
        let server = Server::plain(&source.directory, &self.latency)?;
        let mut series: Vec<Series> = ours
            .iter()
            .chain(PEERS.iter().filter(|peer| peer.is_there() && self.peer_rounds > 0))
            .map(|program| Series { program: *program, trials: Vec::new() })
            .collect();
        for round in 0..rounds {
            for series in &mut series {
                let is_peer = PEERS.contains(&series.program);
                if is_peer && round >= self.peer_rounds {
                    continue;
                }
                let trial = self.trial(series.program, task, (&source, &server), before.as_deref());
                let trial = trial.with_context(|| series.program.name())?;
                progress(scenario, series.program, &trial);
                series.trials.push(trial);
            }
        }
        Ok(Measured { scenario, series, distinct: source.corpus.bytes() })
    }

    /// One run of one program, into a destination that has what is in `before`.
    pub(crate) fn trial(
        &self,
        program: Program,
        task: Task,
        (source, server): (&Source, &Server),
        before: Option<&Path>,
    ) -> Result<Trial> {
        let directory = self.empty("destination")?;
        if let Some(before) = before {
            copy(before, &directory)?;
        }
        let destination = Server::passing(&directory, &self.latency)?;
        let scratch = self.scratch()?;
        let job = Job {
            corpus: &source.corpus,
            file: &source.file,
            from: server.address(),
            to: destination.address(),
            scratch: &scratch,
        };
        let cost = measure::run(&mut program.command(task, &job)?)?;
        let counted = programs::counted(program, &cost.stdout)?;
        let wrong = copier::count_wrong(&source.corpus, destination.address())?;
        Ok(Trial { cost, counted, wrong })
    }

    /// Where configurations are written.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.directory.join("scratch");
        fs::create_dir_all(&scratch)?;
        Ok(scratch)
    }

    /// A directory of that name with nothing in it.
    ///
    /// # Errors
    /// When what is in it cannot be removed.
    pub(crate) fn empty(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        remove(&directory)?;
        Ok(directory)
    }

    /// The corpus of that name, made when it is not there yet.
    pub(crate) fn source(&self, name: &str, make: impl FnOnce() -> Corpus) -> Result<Source> {
        let (file, directory) =
            (self.directory.join(format!("{name}.json")), self.directory.join(name));
        if !file.is_file() {
            say(&format!("making the corpus `{name}` in {}", directory.display()));
            remove(&directory)?;
            fs::create_dir_all(&directory)?;
            let corpus = make();
            let text = serde_json::to_vec(&corpus)?;
            copier::fill(corpus, Server::plain(&directory, "0ms")?.address())?;
            // only now is it whole
            fs::write(&file, text)?;
        }
        let corpus = serde_json::from_slice(&fs::read(&file)?)?;
        Ok(Source { corpus, file, directory })
    }
}

#[allow(clippy::print_stderr, reason = "what goes on is told where the table is not")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

pub(crate) fn progress(scenario: Scenario, program: Program, trial: &Trial) {
    let Cost { seconds, cpu, peak, .. } = &trial.cost;
    let (name, peak) = (program.name(), peak >> 20);
    let counted = trial.counted.map_or(String::new(), |counted| {
        let (source, destination) = counted.requests;
        format!(", {source} + {destination} requests, {} bytes", counted.bytes)
    });
    let wrong = trial.wrong;
    say(&format!(
        "{scenario:?}: {name}: {seconds:.2} s, {cpu:.2} CPU s, {peak} MiB{counted}, {wrong} wrong"
    ));
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status()?;
    ensure!(copied.success(), "cannot copy {} to {}", from.display(), to.display());
    Ok(())
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
