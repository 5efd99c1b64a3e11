//! `completions`: prints a completion script for a shell.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, model::Result, output::Screen};

pub(crate) fn run(screen: &Screen, shell: Shell) -> Result<u8> {
    screen.print(|out| out.write_all(script(shell).as_bytes()))?;
    Ok(0)
}

fn script(shell: Shell) -> String {
    // the generator panics if its writer fails, so it writes to memory
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ecr-mirror", &mut script);
    let script = String::from_utf8(script).expect("names and help are UTF-8");
    match shell {
        // clap_complete 4.6 sets `cmd` to `ecr__mirror…`, and compares it with this other form: no
        // option would be completed after the verb
        Shell::Bash => script.replace("ecr__subcmd__mirror", "ecr__mirror"),
        _ => script,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn the_script_of_every_shell_completes_commands_and_options() {
        for &shell in Shell::value_variants() {
            let script = script(shell);
            for word in ["sync", "sandbox", "concurrency", "blob-mounting"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn bash_completes_options_after_the_verb() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ecr-mirror.bash");
        std::fs::write(&file, script(Shell::Bash)).unwrap();
        let completed = |words: &[&str]| {
            let [.., previous, current] = words else { panic!("two words at least") };
            let line = format!(
                "source '{}'; COMP_WORDS=({}); COMP_CWORD={}; _ecr__mirror ecr-mirror '{current}' \
                 '{previous}'; echo \"${{COMPREPLY[*]}}\"",
                file.display(),
                words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
                words.len() - 1,
            );
            let bash = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
            assert!(bash.status.success(), "{}", String::from_utf8_lossy(&bash.stderr));
            String::from_utf8(bash.stdout).unwrap().trim().to_owned()
        };
        for (words, expected) in [
            (&["ecr-mirror", "sy"][..], "sync"),
            (&["ecr-mirror", "sync", "--on"], "--only"),
            (&["ecr-mirror", "pull-through", "pl"], "plan"),
            (&["ecr-mirror", "pull-through", "plan", "--che"], "--check"),
            (&["ecr-mirror", "iam", "pull-t"], "pull-through"),
        ] {
            assert_eq!(completed(words), expected, "{words:?}");
        }
    }
}
