//! The files that a run writes for other programs: its report, metrics and a summary.
//!
//! The last two are written after every run that ended, also after a failure, a signal or a deadline.
//! A killed run leaves the old metrics whole.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::SystemTime,
};

use tokio::time::Instant;

use super::shared::{exit_status, with_saved};
use crate::{
    cli::{MetricsArgs, OutputArgs},
    model::{Error, Kind, Result, outcome::Report},
    output::{
        Screen, file, json,
        metrics::{self, MetricsFormat, RunResult},
        summary,
    },
};

/// The limit of a step's summary. Source: GitHub documentation, "Workflow commands".
const MAX_SUMMARY: usize = 1 << 20;

/// The files of one run, and its start.
pub(crate) struct RunFiles {
    command: &'static str,
    report: Option<PathBuf>,
    metrics: Option<MetricsTarget>,
    summary: Option<SummaryFile>,
    /// What the run could not read. The summary names it.
    pub(crate) notes: Vec<String>,
    began: Instant,
}

struct MetricsTarget {
    /// `-` for stdout.
    path: PathBuf,
    format: MetricsFormat,
}

impl RunFiles {
    /// Checks the targets before the run.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a file cannot be written, or if two documents go to stdout.
    pub(crate) fn open(
        command: &'static str,
        output: &OutputArgs,
        metrics: Option<&MetricsArgs>,
    ) -> Result<Self> {
        let metrics = metrics.map(|args| MetricsTarget::new(args, output.json)).transpose()?;
        let metrics = metrics.flatten();
        if let Some(target) = metrics.as_ref().filter(|target| !target.is_stdout()) {
            file::check_writable(&target.path, "metrics")?;
        }
        let report = output.report.clone();
        report.as_deref().map(|path| file::check_writable(path, "report")).transpose()?;
        let summary = output.summary.as_deref().map(SummaryFile::open).transpose()?.flatten();
        let (notes, began) = (Vec::new(), Instant::now());
        Ok(Self { command, report, metrics, summary, notes, began })
    }

    /// Saves the report to the file of `--report`. Called before stdout, which can block without end.
    pub(crate) fn save_report(&self, report: &Report) -> Result<()> {
        let Some(path) = &self.report else { return Ok(()) };
        file::save(path, "report", |out| json::write(out, report))
    }

    /// Writes the files, and returns the exit status. A file that cannot be written counts as a failure of
    /// the run.
    pub(crate) fn finish(self, screen: &Screen, result: Result<(Report, u8)>) -> Result<u8> {
        let (report, exit) = match &result {
            Ok((report, exit)) => (Some(report), *exit),
            Err(error) => (None, exit_status(error)),
        };
        let seconds = self.began.elapsed().as_secs_f64();
        // a merged report has the time of the runs
        let seconds = report.map_or(seconds, |report| report.seconds);
        let metrics = self.metrics.map(|target| target.write(screen, report, exit, seconds));
        let text = |limit| match &result {
            Ok((report, exit)) => summary::of_run(self.command, report, *exit, &self.notes, limit),
            Err(error) => summary::of_error(self.command, error, exit),
        };
        let summary = self.summary.map(|summary| summary.append(text));
        let written = [metrics, summary].into_iter().flatten();
        let exit = written.fold(exit, |exit, saved| with_saved(screen, exit, &saved));
        result.map(|_| exit)
    }
}

impl MetricsTarget {
    /// The target of `--metrics`, beside `--json` or not.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if both write to stdout.
    fn new(args: &MetricsArgs, as_json: bool) -> Result<Option<Self>> {
        let format = args.metrics_format;
        let target = args.metrics.clone().map(|path| Self { path, format });
        if as_json && target.as_ref().is_some_and(Self::is_stdout) {
            let problem = "`--metrics -` and `--json` both write to stdout";
            return Err(Error::new(Kind::Configuration, problem)
                .hint("write `--metrics FILE`, or `--report FILE` instead of `--json`"));
        }
        Ok(target)
    }

    fn is_stdout(&self) -> bool {
        self.path == Path::new("-")
    }

    fn write(
        &self,
        screen: &Screen,
        report: Option<&Report>,
        exit: u8,
        seconds: f64,
    ) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // nothing else is read: a pipe would block
        let is_file = fs::metadata(&self.path).is_ok_and(|it| it.is_file());
        let old = is_file.then(|| fs::read_to_string(&self.path).ok()).flatten();
        let run = RunResult {
            report,
            exit,
            ended: now.as_secs_f64(),
            seconds,
            last_success: old.as_deref().and_then(metrics::last_success),
        };
        let text = metrics::text(&run, self.format);
        match self.is_stdout() {
            true => screen.print(|out| out.write_all(text.as_bytes())),
            false => file::save(&self.path, "metrics", |out| out.write_all(text.as_bytes())),
        }
    }
}

/// A Markdown file that grows.
pub(crate) struct SummaryFile {
    path: PathBuf,
    file: File,
}

impl SummaryFile {
    /// Opens the file. `auto` names the summary of a step of GitHub Actions, `None` elsewhere.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if it cannot be written.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>> {
        let path = match path == Path::new("auto") {
            true => env::var_os("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            false => Some(path.to_owned()),
        };
        let Some(path) = path else { return Ok(None) };
        match OpenOptions::new().append(true).create(true).open(&path) {
            Ok(file) => Ok(Some(Self { path, file })),
            Err(cause) => Err(cannot_write(Kind::Configuration, &path, cause)
                .hint("name a file that can be written to, in a directory that exists")),
        }
    }

    /// Appends the text that fits.
    pub(crate) fn append(mut self, text: impl FnOnce(usize) -> String) -> Result<()> {
        let length = self.file.metadata().map_or(0, |it| it.len());
        // room for the verdict, which is never omitted
        let room =
            (MAX_SUMMARY - 1_000).saturating_sub(usize::try_from(length).unwrap_or(usize::MAX));
        let written = self.file.write_all(text(room).as_bytes());
        written.map_err(|cause| cannot_write(Kind::Unavailable, &self.path, cause))
    }
}

fn cannot_write(kind: Kind, path: &Path, cause: std::io::Error) -> Error {
    Error::new(kind, format!("cannot write the summary to `{}`", path.display())).because(cause)
}
