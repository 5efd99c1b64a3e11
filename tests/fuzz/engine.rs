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

/// Inputs per target in an ordinary run.
const INPUTS: u64 = 10_000;

/// Time limit for one input.
const PATIENCE: Duration = Duration::from_secs(1);

/// Limit for the peak memory of the process after a target, in KiB.
const MEMORY: u64 = 1 << 20;

/// Limit for inputs with a new summary that are kept in addition to the seeds.
const KEPT: usize = 2_000;

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
    pub(crate) fn run<Word: Hash>(&self, read: impl Fn(&[u8]) -> Word) {
        let mut inputs: Vec<Vec<u8>> = self.seeds.iter().map(|seed| (*seed).into()).collect();
        inputs.extend(found(&self.corpus()));
        let mut words: HashSet<u64> = HashSet::new();
        for input in &inputs {
            words.insert(self.attempt(input, &read));
        }
        let (begun, length) = (Instant::now(), Length::told());
        let mut random = Random(length.seed());
        eprintln!("{} from ECR_MIRROR_FUZZ_SEED={}", self.name, random.0);
        let (seeds, mut made) = (inputs.len(), 0);
        while length.goes_on(made, begun) {
            let input = mutated(&mut random, &inputs, self.tokens);
            made += 1;
            if words.insert(self.attempt(&input, &read)) {
                match inputs.len() < seeds + KEPT {
                    true => inputs.push(input),
                    false => inputs[seeds + random.below(KEPT)] = input,
                }
            }
        }
        let (seconds, new) = (begun.elapsed().as_secs_f64(), words.len());
        eprintln!("{}: {made} inputs in {seconds:.1} s came to {new} things", self.name);
        assert!(peak().is_none_or(|peak| peak < MEMORY), "{:?} KiB", peak());
    }

    fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(self.name)
    }

    fn attempt<Word: Hash>(&self, input: &[u8], read: &impl Fn(&[u8]) -> Word) -> u64 {
        let begun = Instant::now();
        let word = catch_unwind(AssertUnwindSafe(|| read(input))).unwrap_or_else(|panic| {
            self.keep(input);
            resume_unwind(panic)
        });
        // a busy machine is slow once, a bad input every time
        let is_slow = begun.elapsed() > PATIENCE
            && (0..3).all(|_| {
                let begun = Instant::now();
                read(input);
                begun.elapsed() > PATIENCE
            });
        if is_slow {
            self.keep(input);
            panic!("takes longer than {PATIENCE:?}");
        }
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        hasher.finish()
    }

    /// Prints the input. In a timed run, also writes it to the corpus.
    fn keep(&self, input: &[u8]) {
        eprintln!("{} fails on: {}", self.name, input.escape_ascii());
        if let Length::Time(_) = Length::told() {
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
fn found(folder: &Path) -> Vec<Vec<u8>> {
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
    fn told() -> Self {
        match env::var("ECR_MIRROR_FUZZ_SECONDS") {
            Ok(seconds) => Self::Time(Duration::from_secs(seconds.parse().expect("seconds"))),
            Err(_) => Self::Inputs(INPUTS),
        }
    }

    fn goes_on(&self, made: u64, begun: Instant) -> bool {
        match self {
            Self::Inputs(inputs) => made < *inputs,
            Self::Time(time) => begun.elapsed() < *time,
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

/// Peak resident memory of the process in KiB. `None` if the system does not report it.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
