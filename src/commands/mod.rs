//! The verbs: each turns its arguments into wiring, and what comes of it into an exit status.

pub mod check;
pub mod completions;
pub mod copy;
pub mod ends;
mod expand;
pub mod iam;
pub mod images;
mod lock;
pub mod man;
pub mod mirroring;
pub mod plan;
pub mod pull_through;
pub mod sandbox;
mod supply;
pub mod sync;
mod target;
mod warming;

use futures::FutureExt;

use crate::{
    cli::{Cli, Command},
    model::{Error, Kind},
    output::{Screen, failure, log},
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
        failure::print(&screen, &error);
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
