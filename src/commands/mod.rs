//! The verbs: each turns its arguments into wiring, and what comes of it into an exit status.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod iam;
pub(crate) mod images;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod pull_through;
pub(crate) mod sandbox;
pub(crate) mod sync;

use std::{convert::Infallible, future::pending};

use futures::FutureExt;
use tokio::time::Instant;

use crate::{
    cli::{Cli, Command, Global},
    config::Config,
    engine::Shutdown,
    model::{Error, Kind, Result, outcome::Report},
    output::{Screen, error, log, progress::ProgressView},
    run::{
        lock_file::LockFile,
        registries::Registries,
        sync::{SyncRequest, run_with_lock},
    },
};

/// Carries out the command and returns the process's exit status.
pub async fn run(cli: Cli) -> u8 {
    let Cli { global, command } = cli;
    let screen = Screen::new(global.color);
    log::start(global.verbosity(), global.log_format, &screen);
    let ended = match command {
        Command::Sync(args) => sync::run(&global, &screen, args).await,
        Command::Plan(args) => plan::run(&global, &screen, args).await,
        Command::Copy(args) => copy::run(&global, &screen, args).await,
        Command::Check => check::run(&global, &screen),
        Command::Images(args) => images::run(&global, &screen, &args).await,
        // boxed: the compiler lays out no future that nests as deep as all of them
        Command::PullThrough { verb } => {
            pull_through::run(&global, &screen, verb).boxed_local().await
        }
        Command::Iam { policy } => iam::run(&global, &screen, policy),
        Command::Sandbox(args) => sandbox::run(&screen, args).await,
        Command::Completions { shell } => completions::run(&screen, shell),
        Command::Man { directory } => man::run(&directory),
    };
    ended.unwrap_or_else(|error| {
        error::print(&screen, &error);
        status(&error)
    })
}

/// The exit status of a command that an error ended.
fn status(error: &Error) -> u8 {
    match error.kind() {
        Kind::Configuration => 2,
        _ => 1,
    }
}

/// Reads the configuration that the command line names.
///
/// # Errors
/// [`Kind::Configuration`], whose message is the whole explanation.
pub(crate) fn configuration(global: &Global) -> Result<Config> {
    let environment = |name: &str| std::env::var(name).ok();
    Config::load(&global.config, &environment).map_err(|error| {
        let text = error.to_string();
        Error::new(Kind::Configuration, text.strip_prefix("error: ").unwrap_or(&text))
    })
}

/// Says what the configuration is to be warned of.
pub(crate) fn warn(screen: &Screen, config: &Config) {
    for warning in &config.warnings {
        error::warn(screen, warning);
    }
}

/// Mirrors the images, or plans to, with progress on stderr, and reports; at the deadline it is
/// told to end.
///
/// # Errors
/// When nothing was attempted: what is wrong with an image is in its row.
pub(crate) async fn mirror(
    global: &Global,
    screen: &Screen,
    work: SyncRequest<'_>,
    deadline: Option<Instant>,
) -> Result<(Report, LockFile)> {
    let world = Registries::open(global.sandbox.as_deref(), work.options.transfers).await?;
    let watch = ProgressView::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let report = tokio::select! {
        report = run_with_lock(&world, work, watch.observer(), &shutdown) => report,
        failed = shutdown.watch_signals() => match failed {
            Err(cause) => {
                return Err(Error::new(Kind::Unavailable, "cannot listen to signals").because(cause));
            }
            Ok(never) => match never {},
        },
        never = watch_deadline(deadline, &shutdown) => match never {},
    };
    drop(watch);
    world.close().await;
    report
}

async fn watch_deadline(deadline: Option<Instant>, shutdown: &Shutdown) -> Infallible {
    match deadline {
        Some(at) => shutdown.watch_deadline(at).await,
        None => pending().await,
    }
}
