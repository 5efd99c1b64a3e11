//! `completions`: the script that completes this command line in a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, model::Result, output::Screen};

/// Prints the script to stdout.
///
/// # Errors
/// When stdout takes nothing more.
pub(crate) fn run(screen: &Screen, shell: Shell) -> Result<u8> {
    // the generator panics where its writer fails: it gets one that does not
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ecr-mirror", &mut script);
    screen.print(|out| out.write_all(&script))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_a_script_that_knows_the_verbs() {
        for &shell in Shell::value_variants() {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ecr-mirror", &mut script);
            let script = String::from_utf8(script).unwrap();
            for word in ["sync", "sandbox", "concurrency", "blob-mounting"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
