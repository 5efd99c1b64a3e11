//! The program: parses the command line, runs the command, returns its exit status.

use std::{env, ffi::OsString, process::ExitCode};

use ecr_mirror::{cli::Cli, commands};

fn main() -> ExitCode {
    let line: Vec<OsString> = env::args_os().collect();
    let cli = Cli::parse_line(&line).unwrap_or_else(|error| error.exit());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(cause) => {
            eprintln!("error: cannot start: {cause}");
            return ExitCode::FAILURE;
        }
    };
    let status = runtime.block_on(commands::run(cli));
    // do not wait for threads that still block, such as a credential helper
    runtime.shutdown_background();
    ExitCode::from(status)
}
