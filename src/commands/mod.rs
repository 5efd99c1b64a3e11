//! The commands: each turns its arguments into a run, prints the result and returns the exit status.

pub(crate) mod bootstrap;
mod build_form;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod doctor;
pub(crate) mod iam;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod init;
mod into;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod pull_through;
pub(crate) mod report;
mod run_files;
pub(crate) mod sandbox;
pub(crate) mod schema;
mod shared;
pub(crate) mod sync;

use std::{ffi::OsString, process::ExitCode};

use futures::FutureExt;

use crate::{
    cli::{Cli, Command},
    config::is_file_name,
    model::{Error, Kind},
    output::{
        Screen, error, github,
        log::{self, LogFormat},
    },
};

/// Parses the command line, runs the command and returns the process's exit status.
///
/// A part of the library, so that the compiler makes the code of the commands once: it would make
/// that of an `async` function again in the crate that awaits it.
pub fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::parse_line(&line) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(usage(&error)),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("error: cannot start: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(run(cli));
    // do not wait for threads that still block, such as a credential helper
    runtime.shutdown_background();
    ExitCode::from(status)
}

/// Prints the help, the version or a usage error, and returns the process's exit status. A usage
/// error of a command line with `--log-format json` is a JSON object.
fn usage(error: &clap::Error) -> u8 {
    let is_json = || {
        let given: Vec<_> = std::env::args().skip(1).collect();
        given.iter().any(|option| option == "--log-format=json")
            || given.windows(2).any(|pair| pair == ["--log-format", "json"])
    };
    if error.use_stderr() && is_json() {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let screen = Screen::new(clap::ColorChoice::Never, LogFormat::Json);
        error::print(&screen, &Error::new(Kind::Configuration, text));
    } else {
        let _ = error.print();
    }
    error.exit_code().try_into().unwrap_or(2)
}

async fn run(cli: Cli) -> u8 {
    let Cli { global, command } = cli;
    let screen = Screen::new(global.color, global.log_format);
    log::start(global.verbosity(), global.log_format, &screen);
    let result = match command {
        Command::Sync(args) => sync::run(&global, &screen, args).await,
        Command::Plan(args) => plan::run(&global, &screen, args).await,
        Command::Copy(args) => copy::run(&global, &screen, args).await,
        Command::Bootstrap(args) => bootstrap::run(&global, &screen, args).boxed_local().await,
        Command::Check(args) => check::run(&global, &screen, &args),
        Command::Doctor(args) => doctor::run(&global, &screen, args).boxed_local().await,
        Command::Images(args) => images::run(&global, &screen, &args).await,
        Command::Import(args) => import::run(&screen, &args),
        Command::Init(args) => init::run(&screen, &args),
        // boxed: the compiler lays out no future that nests as deep as all of them
        Command::PullThrough { verb } => {
            pull_through::run(&global, &screen, verb).boxed_local().await
        }
        Command::Iam { policy, split } => iam::run(&global, &screen, policy, split).await,
        Command::Report { verb } => report::run(&global, &screen, verb),
        Command::Sandbox(args) => sandbox::run(&screen, args).await,
        Command::Schema { document } => schema::run(&screen, document),
        Command::Completions { shell } => completions::run(&screen, shell),
        Command::Man { directory } => man::run(&directory),
    };
    result.unwrap_or_else(|error| {
        error::print(&screen, &error);
        github::annotate_error(&screen, &error, is_file_name);
        shared::exit_status(&error)
    })
}
