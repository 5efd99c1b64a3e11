//! The program: a command line in, an exit status out. Everything else is the library's.

use std::process::ExitCode;

use clap::Parser;
use ecr_mirror::{cli::Cli, commands};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("error: cannot start: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(commands::run(cli));
    // whatever still blocks a thread, such as a credential helper, is not waited for
    runtime.shutdown_background();
    ExitCode::from(status)
}
