//! Runs a program and measures its cost, from Linux's records of the ended process.
//!
//! The processor time is complete: it is read after the end and before the process is reaped. The
//! memory's high-water mark is gone by then, so it is sampled every few milliseconds.

use std::{
    fs,
    io::Read,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

const SAMPLE: Duration = Duration::from_millis(2);
/// Ticks of processor time per second in `/proc`: 100 on every machine with Linux.
const TICKS: f64 = 100.0;

/// The cost of one run of a program.
#[derive(Debug, Clone)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    /// User and system time, in seconds, of the program and its children.
    pub(crate) cpu: f64,
    /// Maximum resident memory, in bytes.
    pub(crate) peak: u64,
    pub(crate) stdout: String,
}

/// Runs the program to its end.
///
/// # Errors
/// If it cannot be started, or fails; with its output.
pub(crate) fn run(command: &mut Command) -> Result<Cost> {
    let name = command.get_program().to_string_lossy().into_owned();
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let stdout = read(child.stdout.take());
    let stderr = read(child.stderr.take());
    let (mut peak, mut cpu) = (0, None);
    while cpu.is_none() {
        thread::sleep(SAMPLE);
        peak = peak.max(high_water(child.id()).unwrap_or(0));
        cpu = cpu_time_if_ended(child.id());
    }
    let seconds = started.elapsed().as_secs_f64();
    let status = child.wait()?;
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (stdout, stderr) = (text(stdout), text(stderr));
    if !status.success() {
        bail!("`{name}` ended with {status}: {}{}", tail(&stdout), tail(&stderr));
    }
    Ok(Cost { seconds, cpu: cpu.unwrap_or_default(), peak, stdout })
}

fn tail(text: &str) -> &str {
    let start = text.len().saturating_sub(2_000);
    &text[text.ceil_char_boundary(start)..]
}

fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // shows partial output if the pipe breaks
            let _ = pipe.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The processor time of a process that has ended and is not reaped.
///
/// Source: proc_pid_stat(5), fields 3 and 14 to 17.
fn cpu_time_if_ended(process: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // the name in parentheses may contain anything
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if *fields.first()? != "Z" {
        return None;
    }
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some(ticks / TICKS)
}

/// Source: proc_pid_status(5), `VmHWM`.
pub(crate) fn high_water(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The median; for an even number of values, the mean of the middle two.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => f64::NAN,
        (length, middle) if length % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}
