//! The steps that several commands share.

use std::{
    convert::Infallible,
    future::pending,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep};

use crate::{
    cli::{Global, ShardArgs},
    config::{Config, ConfigError, DestinationConfig, MoreToRead},
    engine::{Shutdown, signals},
    model::{
        Error, Kind, Result,
        outcome::{Report, Totals},
        shard::ShardChoice,
    },
    output::{
        Screen,
        destinations::{DestinationName, Destinations},
        error, github, json,
        log::LogFormat,
        progress::{ProgressKind, ProgressView},
        table,
    },
    remote::MaxWait,
    run::{
        merge,
        registries::Registries,
        shards::{Division, ShardPart},
        sync::{ReportImages, SyncRequest, run_selection},
        wildcards,
    },
};

/// Connections to a registry in parallel, for commands that transfer no blob.
pub(super) const CONNECTIONS: usize = 8;

/// The time that the output of an ended run has after a signal.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);

/// The exit status of a command that fails with this error.
pub(crate) fn exit_status(error: &Error) -> u8 {
    if error.kind() == Kind::Configuration { 2 } else { 1 }
}

/// Reads the configuration files. The message of the error is the whole explanation.
pub(crate) fn read_config(global: &Global) -> Result<Config> {
    load_config(global).map_err(ConfigError::into_error)
}

/// Reads the configuration files, and again with what `more` makes of them.
pub(crate) fn read_config_with(
    global: &Global,
    more: &mut dyn FnMut(&Config) -> MoreToRead,
) -> Result<Config> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load_with(&global.config_files(), &environment, more);
    config.map_err(ConfigError::into_error)
}

/// Reads the configuration files as [`read_config_with`] does, with this text for the file of `edited`.
pub(crate) fn read_edited_config(
    global: &Global,
    edited: (&Path, &str),
    more: &mut dyn FnMut(&Config) -> MoreToRead,
) -> Result<Config> {
    let environment = |name: &str| std::env::var(name).ok();
    let config = Config::load_edited(&global.config_files(), edited, &environment, more);
    config.map_err(ConfigError::into_error)
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
    print_warnings(global, screen, &config);
    Ok(config)
}

/// Names the shard that `auto` means, and replaces `{shard}` in the paths of these files.
///
/// # Errors
/// Those of [`ShardChoice::resolve`].
pub(crate) fn resolve_shard(
    sharding: &mut ShardArgs,
    paths: &mut [&mut Option<PathBuf>],
) -> Result<()> {
    let Some(choice) = sharding.shard else { return Ok(()) };
    let shard = choice.resolve(|name| std::env::var(name).ok())?;
    sharding.shard = Some(ShardChoice::Given(shard));
    for path in paths {
        **path = path.take().map(|path| shard.path(path));
    }
    Ok(())
}

/// The configuration of the process's shard and the part that it is; all of it without `--shard`.
///
/// The entries of a shard are those that `only` names. A source with a `*` is listed by its shard only.
pub(crate) async fn divide(
    global: &Global,
    config: Config,
    only: &[String],
    sharding: &ShardArgs,
) -> Result<(Config, Option<ShardPart>)> {
    let Some(choice) = sharding.shard else { return Ok((expand(global, config).await?, None)) };
    let shard = choice.resolve(|name| std::env::var(name).ok())?;
    let by = sharding.shard_by.as_deref().map(merge::read_report).transpose()?;
    let division = Division { only, by: by.as_ref(), pulls: sharding.shard_pulls };
    let part = ShardPart::of(&config, shard, division)?;
    let config = expand(global, part.without_other_wildcards(config)).await?;
    Ok((part.of_expanded(config)?, Some(part)))
}

/// Annotates the failed images of a run with their lines in the configuration, in GitHub Actions.
pub(crate) fn annotate(screen: &Screen, config: &Config, report: &Report) {
    github::annotate_report(screen, report, |row| config.written_at(&row.name, &row.source));
}

/// Prints the warnings of the configuration, with `-v` all of them.
pub(crate) fn print_warnings(global: &Global, screen: &Screen, config: &Config) {
    match global.verbose {
        0 => error::warn_of_each_kind(screen, &config.warnings),
        _ => config.warnings.iter().for_each(|warning| error::warn(screen, warning)),
    }
}

/// Opens the registries for `run` and closes them after it.
pub(crate) async fn with_registries<T>(
    global: &Global,
    config: &Config,
    run: impl AsyncFnOnce(&Registries) -> Result<T>,
) -> Result<T> {
    let screen = Screen::new(global.color, global.log_format);
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
        screen.tell_lines(|out| writeln!(out, "{text}"));
    }
    Ok(registries)
}

/// Prints the report of a run on stdout. With `--quiet` it is printed on stderr, and only if the run
/// did not succeed. With `--json` the rows that need attention are printed on stderr.
pub(crate) fn print_report(
    global: &Global,
    screen: &Screen,
    report: &Report,
    as_json: bool,
) -> Result<()> {
    let (stdout, stderr) = (screen.view(global.verbose > 0), screen.view_of_stderr(false));
    let is_json_log = global.log_format == LogFormat::Json;
    match (as_json, global.quiet, report.exit) {
        (false, false, _) => return screen.print(|out| table::sync(out, report, &stdout)),
        (false, true, 0) => return Ok(()),
        (false, true, _) => screen.tell(|out| table::sync(out, report, &stderr)),
        // a JSON log has a line for each of them already
        (true, ..) if is_json_log && global.progress() != ProgressKind::None => {}
        (true, quiet, exit) if !(quiet && exit == 0) => {
            screen.tell(|out| table::attention(out, report, &stderr));
        }
        (true, ..) => {}
    }
    if as_json { screen.print(|out| json::write(out, report)) } else { Ok(()) }
}

/// Prints the report of a run on stderr, where stdout has another document. With `--quiet` only if the
/// run did not succeed.
pub(crate) fn print_report_on_stderr(global: &Global, screen: &Screen, report: &Report) {
    if !global.quiet || report.exit != 0 {
        let view = screen.view_of_stderr(global.verbose > 0);
        screen.tell(|out| table::sync(out, report, &view));
    }
}

/// The exit status of a run after an attempt to write one of its results: a failure is printed, and
/// counts as one of the run. A signal's status stays.
pub(crate) fn with_saved<T>(screen: &Screen, exit: u8, saved: &Result<T>) -> u8 {
    match saved {
        Ok(_) => exit,
        Err(failure) => {
            error::print(screen, failure);
            with_failure(exit, true)
        }
    }
}

/// The exit status of a run after an attempt to write its lock file. If the run is incomplete, its own
/// status stands, which can be 0: then there is no lock file.
pub(crate) fn with_lock(screen: &Screen, exit: u8, report: &Report, saved: &Result<()>) -> u8 {
    let Totals { failed, drifted, deferred, not_started, interrupted, .. } = report.totals;
    match saved {
        Err(unwritten) if failed + drifted + deferred + not_started + interrupted > 0 => {
            error::warn(screen, &unwritten.to_string());
            exit
        }
        _ => with_saved(screen, exit, saved),
    }
}

/// The exit status of a run, after a failure of the command or not. A signal's status stays.
pub(crate) fn with_failure(exit: u8, has_failed: bool) -> u8 {
    if has_failed && exit <= 128 { 1 } else { exit }
}

/// Runs the request with progress on stderr, until it is done or a signal or the deadline ends it.
pub(crate) async fn mirror<'a>(
    global: &Global,
    screen: &Screen,
    request: SyncRequest<'a>,
    deadline: Option<Instant>,
) -> Result<(Report, ReportImages<'a>)> {
    mirror_within(global, screen, request, MaxWait { deadline, ..MaxWait::default() }).await
}

/// Does the same as [`mirror`], with this wait for sources that ask for one.
pub(crate) async fn mirror_within<'a>(
    global: &Global,
    screen: &Screen,
    request: SyncRequest<'a>,
    max_wait: MaxWait,
) -> Result<(Report, ReportImages<'a>)> {
    let deadline = max_wait.deadline;
    let SyncRequest { config, options, .. } = &request;
    let name = |to: &DestinationConfig| DestinationName::new(&to.registry, to.prefix.as_ref());
    screen.set_destinations(Destinations::new(config.destinations.iter().map(name).collect()));
    let registries = open_registries(global, screen, config, options.transfers).await?;
    let registries = registries.waiting(max_wait);
    let progress = ProgressView::start(global.progress(), screen);
    let shutdown = Shutdown::default();
    let report = tokio::select! {
        // polled first, so that the signals are watched before the first request
        biased;
        error = watch_signals(global, screen, &shutdown) => return Err(error),
        report = run_selection(&registries, request, progress.observer(), &shutdown) => report,
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

/// Ends the run on SIGHUP, SIGINT and SIGTERM, and says so at once. Resolves only if the signals
/// cannot be received.
pub(crate) async fn watch_signals(global: &Global, screen: &Screen, shutdown: &Shutdown) -> Error {
    let announce = async {
        shutdown.stopping().await;
        if shutdown.interrupt().is_some() && !global.quiet {
            let text =
                "stopping: running images have 10 s to finish; a second signal stops at once";
            screen.tell_lines(|out| writeln!(out, "{text}"));
        }
        pending().await
    };
    tokio::select! {
        // polled first, so that the signals are watched before the first request
        biased;
        watched = shutdown.watch_signals() => match watched {
            Ok(never) => match never {},
            Err(cause) => Error::new(Kind::Unavailable, "cannot receive signals").because(cause),
        },
        error = announce => error,
    }
}

async fn watch_deadline(deadline: Option<Instant>, shutdown: &Shutdown) -> Infallible {
    match deadline {
        Some(at) => shutdown.watch_deadline(at).await,
        None => pending().await,
    }
}
