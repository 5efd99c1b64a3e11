//! The steps that several commands share.

use std::{convert::Infallible, future::pending};

use tokio::time::Instant;

use crate::{
    cli::Global,
    config::Config,
    engine::Shutdown,
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, json, progress::ProgressView, table},
    remote::MaxWait,
    run::{
        lock_file::LockFile,
        registries::Registries,
        sync::{SyncRequest, run_with_lock},
    },
};

/// Connections to a registry in parallel, for commands that transfer no blob.
const CONNECTIONS: usize = 8;

/// The exit status of a command that fails with this error.
pub(crate) fn exit_status(error: &Error) -> u8 {
    if error.kind() == Kind::Configuration { 2 } else { 1 }
}

/// Reads the configuration file. The message of the error is the whole explanation.
pub(crate) fn read_config(global: &Global) -> Result<Config> {
    let environment = |name: &str| std::env::var(name).ok();
    Config::load(&global.config, &environment).map_err(|error| {
        let text = error.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    })
}

/// Reads the configuration file and prints its warnings.
pub(crate) fn read_config_with_warnings(global: &Global, screen: &Screen) -> Result<Config> {
    let config = read_config(global)?;
    for warning in &config.warnings {
        error::warn(screen, warning);
    }
    Ok(config)
}

/// Opens the registries for `run` and closes them after it.
pub(crate) async fn with_registries<T>(
    global: &Global,
    run: impl AsyncFnOnce(&Registries) -> Result<T>,
) -> Result<T> {
    let registries = Registries::open(global.sandbox.as_deref(), CONNECTIONS).await?;
    let result = run(&registries).await;
    registries.close().await;
    result
}

/// Prints the report of a run on stdout.
pub(crate) fn print_report(screen: &Screen, report: &Report, as_json: bool) -> Result<()> {
    screen.print(|out| match as_json {
        true => json::write(out, report),
        false => table::sync(out, report, screen.width()),
    })
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
    let registries = Registries::open(global.sandbox.as_deref(), request.options.transfers).await?;
    let registries = registries.waiting(max_wait);
    let progress = ProgressView::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let report = tokio::select! {
        report = run_with_lock(&registries, request, progress.observer(), &shutdown) => report,
        error = watch_signals(&shutdown) => return Err(error),
        never = watch_deadline(deadline, &shutdown) => match never {},
    };
    drop(progress);
    registries.close().await;
    report
}

/// Ends the run on SIGINT and SIGTERM. Resolves only if the signals cannot be received.
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
