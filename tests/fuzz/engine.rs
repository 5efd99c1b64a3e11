//! Runs a target: first the corpus, then mutated inputs.

use std::{
    collections::HashSet,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::mutate::{Random, mutated};

/// Inputs per target, unless `ECR_MIRROR_FUZZ_INPUTS` says another number.
const INPUTS: u64 = 2_500;

/// Limit for the processor time of one input.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Limit for the peak memory of the process after a target, in KiB.
const MEMORY: u64 = 1 << 20;

/// Limit for inputs with a new summary that are kept in addition to the seeds.
const MAX_KEPT: usize = 2_000;

/// A parser to fuzz, with its seeds.
pub(crate) struct Target {
    /// Name of the test, and of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Valid inputs, and invalid ones of each kind.
    pub(crate) seeds: &'static [&'static str],
    /// Tokens of the grammar.
    pub(crate) tokens: &'static [&'static str],
}

impl Target {
    /// Passes inputs to `read`. `read` panics if an invariant fails, and returns a summary of the
    /// result. Inputs with a new summary are mutated further.
    pub(crate) fn run<Summary: Hash>(&self, read: impl Fn(&[u8]) -> Summary) {
        let mut inputs: Vec<Vec<u8>> = self.seeds.iter().map(|seed| (*seed).into()).collect();
        inputs.extend(corpus_inputs(&self.corpus()));
        let mut summaries: HashSet<u64> = HashSet::new();
        for input in &inputs {
            summaries.insert(self.attempt(input, &read));
        }
        let (started, length) = (Instant::now(), Length::from_environment());
        let mut random = Random(length.seed());
        eprintln!("{} from ECR_MIRROR_FUZZ_SEED={}", self.name, random.0);
        let (seeds, mut made) = (inputs.len(), 0);
        while length.has_more(made, started) {
            let input = mutated(&mut random, &inputs, self.tokens);
            made += 1;
            if summaries.insert(self.attempt(&input, &read)) {
                match inputs.len() < seeds + MAX_KEPT {
                    true => inputs.push(input),
                    false => inputs[seeds + random.below(MAX_KEPT)] = input,
                }
            }
        }
        let (seconds, new) = (started.elapsed().as_secs_f64(), summaries.len());
        eprintln!("{}: {made} inputs in {seconds:.1} s came to {new} things", self.name);
        assert!(peak().is_none_or(|peak| peak < MEMORY), "{:?} KiB", peak());
    }

    fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(self.name)
    }

    fn attempt<Summary: Hash>(&self, input: &[u8], read: &impl Fn(&[u8]) -> Summary) -> u64 {
        let started = Instant::now();
        let summary = catch_unwind(AssertUnwindSafe(|| read(input))).unwrap_or_else(|panic| {
            self.report_failure(input);
            resume_unwind(panic)
        });
        // on a busy machine the thread waits; a bad input uses the processor each time
        let is_slow = started.elapsed() > TIME_LIMIT
            && (0..3).all(|_| {
                let started = (Instant::now(), processor_time());
                read(input);
                let elapsed = processor_time().zip(started.1).map(|(now, then)| now - then);
                elapsed.unwrap_or_else(|| started.0.elapsed()) > TIME_LIMIT
            });
        if is_slow {
            self.report_failure(input);
            panic!("takes longer than {TIME_LIMIT:?}");
        }
        let mut hasher = DefaultHasher::new();
        summary.hash(&mut hasher);
        hasher.finish()
    }

    /// Prints the input. In a timed run, also writes it to the corpus.
    fn report_failure(&self, input: &[u8]) {
        eprintln!("{} fails on: {}", self.name, input.escape_ascii());
        if let Length::Time(_) = Length::from_environment() {
            let mut hasher = DefaultHasher::new();
            input.hash(&mut hasher);
            let file = self.corpus().join(format!("{:016x}", hasher.finish()));
            fs::create_dir_all(self.corpus()).unwrap();
            fs::write(&file, input).unwrap();
            eprintln!("kept as {}", file.display());
        }
    }
}

/// Inputs in a folder, sorted by file name. Empty if the folder does not exist.
fn corpus_inputs(folder: &Path) -> Vec<Vec<u8>> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// Length of a run.
enum Length {
    Inputs(u64),
    Time(Duration),
}

impl Length {
    fn from_environment() -> Self {
        let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
        match number("ECR_MIRROR_FUZZ_SECONDS") {
            Some(seconds) => Self::Time(Duration::from_secs(seconds)),
            None => Self::Inputs(number("ECR_MIRROR_FUZZ_INPUTS").unwrap_or(INPUTS)),
        }
    }

    fn has_more(&self, made: u64, started: Instant) -> bool {
        match self {
            Self::Inputs(inputs) => made < *inputs,
            Self::Time(time) => started.elapsed() < *time,
        }
    }

    /// A fixed seed for an ordinary run, a new seed for each timed run.
    fn seed(&self) -> u64 {
        match (env::var("ECR_MIRROR_FUZZ_SEED"), self) {
            (Ok(seed), _) => seed.parse().expect("a number"),
            (Err(_), Self::Inputs(_)) => 1,
            (Err(_), Self::Time(_)) => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_secs())
            }
        }
    }
}

/// Time that this thread has run on a processor. `None` if the system does not report it.
///
/// Source: <https://docs.kernel.org/scheduler/sched-stats.html>, `/proc/<pid>/schedstat`
fn processor_time() -> Option<Duration> {
    let times = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    times.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Peak resident memory of the process in KiB. `None` if the system does not report it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
