//! The commands: each turns its arguments into a run, prints the result and returns the exit status.

pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod copy;
pub(crate) mod iam;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod man;
pub(crate) mod plan;
pub(crate) mod pull_through;
pub(crate) mod sandbox;
mod shared;
pub(crate) mod sync;

use futures::FutureExt;

use crate::{
    cli::{Cli, Command},
    output::{Screen, error, log},
};

/// Runs the command and returns the process's exit status.
pub async fn run(cli: Cli) -> u8 {
    let Cli { global, command } = cli;
    let screen = Screen::new(global.color);
    log::start(global.verbosity(), global.log_format, &screen);
    let result = match command {
        Command::Sync(args) => sync::run(&global, &screen, args).await,
        Command::Plan(args) => plan::run(&global, &screen, args).await,
        Command::Copy(args) => copy::run(&global, &screen, args).await,
        Command::Check => check::run(&global, &screen),
        Command::Images(args) => images::run(&global, &screen, &args).await,
        Command::Import(args) => import::run(&screen, &args),
        Command::Init(args) => init::run(&screen, &args),
        // boxed: the compiler lays out no future that nests as deep as all of them
        Command::PullThrough { verb } => {
            pull_through::run(&global, &screen, verb).boxed_local().await
        }
        Command::Iam { policy, split } => iam::run(&global, &screen, policy, split),
        Command::Sandbox(args) => sandbox::run(&screen, args).await,
        Command::Completions { shell } => completions::run(&screen, shell),
        Command::Man { directory } => man::run(&directory),
    };
    result.unwrap_or_else(|error| {
        error::print(&screen, &error);
        shared::exit_status(&error)
    })
}
