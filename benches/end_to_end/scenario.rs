//! The scenarios: each runs its programs one after the other, round by round.
//!
//! Numbers are comparable: within a round all programs use the same source, and a destination in
//! the same state.

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

/// Number of the 96 tags that differ: 5 %.
const CHANGED: u64 = 5;
/// Minimum rounds of scenarios that take less than a second.
const SHORT_ROUNDS: usize = 7;

/// A scenario to measure.
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
    /// 250 to 2,500 tags of up to 500 repositories planned once more towards ECR
    Plan,
    /// 20,000 images of 2,000 repositories into ECR, then planned once more; takes minutes
    Scale,
    /// A list of 2,500 images for the first time into ECR, at its request rates; takes minutes
    First,
    /// A new repository that shares five of six layers with one that is there, into ECR
    Mount,
    /// `bootstrap` of five mirrored images, next to the bare questions
    Bootstrap,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// The name, and the help text of the command line.
    pub(crate) fn title(self) -> String {
        let value = self.to_possible_value();
        let help = value.and_then(|value| value.get_help().map(ToString::to_string));
        format!("{}: {}", self.name(), help.unwrap_or_default())
    }
}

/// The cost of one program in one round.
#[derive(Debug, Clone)]
pub(crate) struct Trial {
    pub(crate) cost: Cost,
    pub(crate) counted: Option<Counted>,
    /// Tags with a wrong digest, or without one, after the run.
    pub(crate) wrong: u64,
}

/// One program's trials, one per round.
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
    /// Total size of the source's distinct blobs.
    pub(crate) distinct: u64,
}

/// The setup of all measurements.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) directory: PathBuf,
    pub(crate) latency: String,
    pub(crate) rounds: usize,
    /// Number of the rounds that include the peers.
    pub(crate) peer_rounds: usize,
}

/// A corpus, in its file and in a registry's directory.
pub(crate) struct Source {
    pub(crate) corpus: Corpus,
    file: PathBuf,
    pub(crate) directory: PathBuf,
}

impl Source {
    /// The corpus's name.
    pub(crate) fn name(&self) -> std::borrow::Cow<'_, str> {
        self.directory.file_name().unwrap_or_default().to_string_lossy()
    }
}

impl Setup {
    /// Measures one scenario.
    ///
    /// # Errors
    /// If a program or a server fails.
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
            _ => anyhow::bail!("measured by another module"),
        };
        let warm = matches!(scenario, Scenario::WarmMain | Scenario::WarmTiny);
        let task = if warm { Task::Check } else { Task::Copy };
        let rounds = if before.is_some() { self.rounds.max(SHORT_ROUNDS) } else { self.rounds };
        // the limit cannot know beforehand which content a change needs
        let ours: &[Program] = match scenario {
            Scenario::Changed => &[Program::Ours],
            _ => &[Program::Limit, Program::Ours],
        };
        let server = Server::plain(&source.directory, &self.latency)?;
        let mut series: Vec<Series> = ours
            .iter()
            .chain(PEERS.iter().filter(|peer| peer.is_installed() && self.peer_rounds > 0))
            .map(|program| Series { program: *program, trials: Vec::new() })
            .collect();
        for round in 0..rounds {
            for series in &mut series {
                let is_peer = PEERS.contains(&series.program);
                if is_peer && round >= self.peer_rounds {
                    continue;
                }
                let trial = self.trial(series.program, task, &source, &server, before.as_deref());
                let trial = trial.with_context(|| series.program.name())?;
                progress(scenario, series.program, &trial);
                series.trials.push(trial);
            }
        }
        Ok(Measured { scenario, series, distinct: source.corpus.bytes() })
    }

    /// Runs one program once, to a destination with the content of `before`.
    pub(crate) fn trial(
        &self,
        program: Program,
        task: Task,
        source: &Source,
        server: &Server,
        before: Option<&Path>,
    ) -> Result<Trial> {
        let directory = self.empty("destination")?;
        if let Some(before) = before {
            copy(before, &directory)?;
        }
        let destination = Server::temporary(&directory, &self.latency)?;
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

    /// The directory for configurations.
    ///
    /// # Errors
    /// If it cannot be created.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let scratch = self.directory.join("scratch");
        fs::create_dir_all(&scratch)?;
        Ok(scratch)
    }

    /// An empty directory of that name.
    ///
    /// # Errors
    /// If its content cannot be removed.
    pub(crate) fn empty(&self, name: &str) -> Result<PathBuf> {
        let directory = self.directory.join(name);
        remove(&directory)?;
        Ok(directory)
    }

    /// The corpus of that name; makes it if it is missing.
    pub(crate) fn source(&self, name: &str, make: impl FnOnce() -> Corpus) -> Result<Source> {
        let (file, directory) =
            (self.directory.join(format!("{name}.json")), self.directory.join(name));
        if !file.is_file() {
            log(&format!("making the corpus `{name}` in {}", directory.display()));
            remove(&directory)?;
            fs::create_dir_all(&directory)?;
            let corpus = make();
            let text = serde_json::to_vec(&corpus)?;
            copier::fill(corpus, Server::plain(&directory, "0ms")?.address())?;
            // written last: the file marks a complete corpus
            fs::write(&file, text)?;
        }
        let corpus = serde_json::from_slice(&fs::read(&file)?)?;
        Ok(Source { corpus, file, directory })
    }
}

#[allow(clippy::print_stderr, reason = "progress goes to stderr, the table to stdout")]
pub(crate) fn log(text: &str) {
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
    log(&format!(
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
