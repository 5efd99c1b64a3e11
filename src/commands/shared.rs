//! The steps that several commands share.

use std::{convert::Infallible, future::pending, process, time::Duration};

use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep};

use crate::{
    cli::Global,
    config::{Config, ConfigError},
    engine::{Shutdown, signals},
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, json, log::LogFormat, progress::ProgressView, table},
    remote::MaxWait,
    run::{
        lock_file::LockFile,
        registries::Registries,
        sync::{SyncRequest, run_with_lock},
        wildcards,
    },
};

/// Connections to a registry in parallel, for commands that transfer no blob.
const CONNECTIONS: usize = 8;

/// The time that the output of an ended run has after a signal.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The exit status of a command that fails with this error.
pub(crate) fn exit_status(error: &Error) -> u8 {
    if error.kind() == Kind::Configuration { 2 } else { 1 }
}

/// Reads the configuration files. The message of the error is the whole explanation.
pub(crate) fn read_config(global: &Global) -> Result<Config> {
    load_config(global).map_err(|error| {
        let text = error.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    })
}

/// Reads the configuration files.
pub(super) fn load_config(global: &Global) -> std::result::Result<Config, ConfigError> {
    Config::load(&global.config_files(), &|name| std::env::var(name).ok())
}

/// Reads the configuration files, and asks the registries for the repositories of sources with a `*`.
pub(crate) async fn read_expanded_config(global: &Global) -> Result<Config> {
    expand(global, read_config(global)?).await
}

/// The configuration with the repositories of sources with a `*`.
pub(crate) async fn expand(global: &Global, config: Config) -> Result<Config> {
    if config.wildcards.is_empty() {
        return Ok(config);
    }
    let registries = Registries::open(global.sandbox.as_deref(), &config, CONNECTIONS).await?;
    let expanded = wildcards::expand(&registries, config).boxed().await;
    registries.close().await;
    expanded
}

/// Reads the configuration files and prints their warnings.
pub(crate) fn read_config_with_warnings(global: &Global, screen: &Screen) -> Result<Config> {
    let config = read_config(global)?;
    print_warnings(screen, &config);
    Ok(config)
}

/// Does the same as [`read_expanded_config`], and prints the warnings.
pub(crate) async fn read_expanded_with_warnings(
    global: &Global,
    screen: &Screen,
) -> Result<Config> {
    let config = read_expanded_config(global).await?;
    print_warnings(screen, &config);
    Ok(config)
}

fn print_warnings(screen: &Screen, config: &Config) {
    config.warnings.iter().for_each(|warning| error::warn(screen, warning));
}

/// Opens the registries for `run` and closes them after it.
pub(crate) async fn with_registries<T>(
    global: &Global,
    config: &Config,
    run: impl AsyncFnOnce(&Registries) -> Result<T>,
) -> Result<T> {
    let screen = Screen::new(global.color);
    let registries = open_registries(global, &screen, config, CONNECTIONS).await?;
    let result = run(&registries).await;
    registries.close().await;
    result
}

/// Opens the registries. Says if they are embedded ones, so that their content is not mistaken for
/// real.
async fn open_registries(
    global: &Global,
    screen: &Screen,
    config: &Config,
    connections: usize,
) -> Result<Registries> {
    let sandbox = global.sandbox.as_deref();
    let registries = Registries::open(sandbox, config, connections).await?;
    if let (Some(directory), false) = (sandbox, global.quiet) {
        let state = directory.display();
        let text = format!("sandbox: nothing real is touched; the state is in `{state}`");
        match global.log_format {
            LogFormat::Json => tracing::warn!("{text}"),
            LogFormat::Text => screen.tell(|out| writeln!(out, "{text}")),
        }
    }
    Ok(registries)
}

/// Prints the report of a run on stdout.
pub(crate) fn print_report(screen: &Screen, report: &Report, as_json: bool) -> Result<()> {
    screen.print(|out| match as_json {
        true => json::write(out, report),
        false => table::sync(out, report, screen.width()),
    })
}

/// The exit status of a run after an attempt to save its report: a failure is printed, and counts as
/// one of the run.
pub(crate) fn with_saved_report(screen: &Screen, exit: u8, saved: &Result<Option<()>>) -> u8 {
    match saved {
        Ok(_) => exit,
        Err(failure) => {
            error::print(screen, failure);
            if exit == 3 { 1 } else { exit.max(1) }
        }
    }
}

/// Runs the request with progress on stderr, until it is done or a signal or the deadline ends it.
pub(crate) async fn mirror(
    global: &Global,
    screen: &Screen,
    request: SyncRequest<'_>,
    deadline: Option<Instant>,
) -> Result<(Report, LockFile)> {
    mirror_within(global, screen, request, MaxWait { deadline, ..MaxWait::default() }).await
}

/// Does the same as [`mirror`], with this wait for sources that ask for one.
pub(crate) async fn mirror_within(
    global: &Global,
    screen: &Screen,
    request: SyncRequest<'_>,
    max_wait: MaxWait,
) -> Result<(Report, LockFile)> {
    let deadline = max_wait.deadline;
    let SyncRequest { config, options, .. } = &request;
    let registries = open_registries(global, screen, config, options.transfers).await?;
    let registries = registries.waiting(max_wait);
    let progress = ProgressView::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let report = tokio::select! {
        // polled first, so that the signals are watched before the first request
        biased;
        error = watch_signals(&shutdown) => return Err(error),
        report = run_with_lock(&registries, request, progress.observer(), &shutdown) => report,
        never = watch_deadline(deadline, &shutdown) => match never {},
    };
    drop(progress);
    registries.close().await;
    exit_at_next_signal();
    report
}

/// Ends the process after the next signal. From here on only output is left, which a full pipe can
/// block without end.
fn exit_at_next_signal() {
    // cannot fail: the run has watched the same signals
    let Ok(mut signals) = signals() else { return };
    tokio::spawn(async move {
        if let Some(interrupt) = signals.next().await {
            sleep(OUTPUT_GRACE).await;
            process::exit(interrupt.status().into());
        }
    });
}

/// Ends the run on SIGHUP, SIGINT and SIGTERM. Resolves only if the signals cannot be received.
pub(crate) async fn watch_signals(shutdown: &Shutdown) -> Error {
    match shutdown.watch_signals().await {
        Ok(never) => match never {},
        Err(cause) => Error::new(Kind::Unavailable, "cannot receive signals").because(cause),
    }
}

async fn watch_deadline(deadline: Option<Instant>, shutdown: &Shutdown) -> Infallible {
    match deadline {
        Some(at) => shutdown.watch_deadline(at).await,
        None => pending().await,
    }
}
