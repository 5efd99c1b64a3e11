//! `completions`: prints a completion script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, model::Result, output::Screen};

pub(crate) fn run(screen: &Screen, shell: Shell) -> Result<u8> {
    // the generator panics if its writer fails, so it writes to memory
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
    fn the_script_of_every_shell_completes_commands_and_options() {
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
