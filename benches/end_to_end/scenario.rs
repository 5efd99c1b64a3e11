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
    https::Service,
    measure::{self, Cost},
    programs::{self, Counted, Job, PEERS, Program, Task},
    rates,
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
    /// `main` over TLS on both sides, with blobs on second hosts
    Tls,
    /// The same into ECR at its published request rates; takes minutes
    Rates,
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

    /// The services behind TLS of both sides; `None` for a plain registry without TLS.
    fn services(self) -> [Option<Service>; 2] {
        match self {
            Self::Tls => [Some(Service::Plain); 2],
            Self::Rates => [Some(Service::Plain), Some(Service::Ecr)],
            _ => [None; 2],
        }
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
    /// The least seconds for the source's content at ECR's rates.
    pub(crate) at_rates: f64,
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

/// The destination of a trial.
#[derive(Debug, Default)]
pub(crate) struct Destination<'a> {
    /// The directory with its first content; `None` for an empty registry.
    pub(crate) before: Option<&'a Path>,
    /// `None` for a plain registry without TLS.
    pub(crate) service: Option<Service>,
}

impl Setup {
    /// Measures one scenario.
    ///
    /// # Errors
    /// If a program or a server fails.
    pub(crate) fn measure(&self, scenario: Scenario) -> Result<Measured> {
        let (source, before) = match scenario {
            Scenario::Main | Scenario::Tls | Scenario::Rates => {
                (self.source("main", || corpus::main(0))?, None)
            }
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
        let rounds = match scenario {
            // the rates decide the time
            Scenario::Rates => 1,
            _ if before.is_some() => self.rounds.max(SHORT_ROUNDS),
            _ => self.rounds,
        };
        // the limit does not know beforehand which content a change needs, and no rates
        let ours: &[Program] = match scenario {
            Scenario::Changed | Scenario::Rates => &[Program::Ours],
            _ => &[Program::Limit, Program::Ours],
        };
        let [from, to] = scenario.services();
        let server = self.serve(from, &source.directory)?;
        let to = Destination { before: before.as_deref(), service: to };
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
                let trial = self.trial(series.program, task, &source, &server, &to);
                let trial = trial.with_context(|| series.program.name());
                // a tool that does not cope with refused requests has no time
                if let (Err(error), true, Scenario::Rates) = (&trial, is_peer, scenario) {
                    log(&format!("{scenario:?}: {error:#}"));
                    continue;
                }
                let trial = trial?;
                progress(scenario, series.program, &trial);
                series.trials.push(trial);
            }
        }
        series.retain(|series| !series.trials.is_empty());
        let (distinct, at_rates) = (source.corpus.bytes(), rates::seconds(&source.corpus)?);
        Ok(Measured { scenario, series, distinct, at_rates })
    }

    fn serve(&self, service: Option<Service>, directory: &Path) -> Result<Server> {
        match service {
            None => Server::plain(directory, &self.latency),
            Some(service) => Server::https(service, directory, &self.latency),
        }
    }

    /// Runs one program once.
    pub(crate) fn trial(
        &self,
        program: Program,
        task: Task,
        source: &Source,
        server: &Server,
        to: &Destination<'_>,
    ) -> Result<Trial> {
        let directory = self.empty("destination")?;
        if let Some(before) = to.before {
            copy(before, &directory)?;
        }
        let destination = self.serve(to.service, &directory)?.temporary(&directory);
        let login = match to.service {
            Some(Service::Ecr) => Some(rates::prepare(&destination, &source.corpus)?),
            _ => None,
        };
        let scratch = self.scratch()?;
        // forgets the requests of a program that failed
        server.take_counts()?;
        let job = Job {
            corpus: &source.corpus,
            file: &source.file,
            from: server,
            to: &destination,
            login: login.as_deref(),
            scratch: &scratch,
        };
        let cost = measure::run(&mut program.command(task, &job)?)?;
        let mut counted = programs::counted(program, &cost.stdout)?;
        if let (Some(from), Some(to)) = (server.take_counts()?, destination.take_counts()?) {
            let requests = (from.requests, to.requests);
            let reported = counted.filter(|_| program == Program::Ours);
            ensure!(
                reported.is_none_or(|reported| reported.requests == requests),
                "the servers counted {requests:?}, the report {reported:?}"
            );
            counted = Some(Counted { requests, bytes: from.bytes, refused: Some(to.refused) });
        }
        let at = format!("http://{}", destination.http_address());
        let wrong = copier::count_wrong(&source.corpus, &at, login.as_deref())?;
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
            copier::fill(corpus, &Server::plain(&directory, "0ms")?.url())?;
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
        let refused =
            counted.refused.map_or(String::new(), |refused| format!(", {refused} refused"));
        format!(", {source} + {destination} requests{refused}, {} bytes", counted.bytes)
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
