//! `man`: writes the manual pages of the commands and of `mirror.toml`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write as _},
    path::Path,
};

use clap::{Command, CommandFactory};

use super::schema;
use crate::{
    cli::Cli,
    model::{Error, Kind, Result},
    output::{keys, manual},
};

pub(crate) fn run(directory: &Path) -> Result<u8> {
    write_pages(directory).map_err(|cause| {
        let message = format!("cannot write the manual pages to `{}`", directory.display());
        Error::new(Kind::Unavailable, message).because(cause)
    })?;
    Ok(0)
}

fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    write_commands(&root, directory)?;
    let schema = serde_json::from_str(schema::CONFIG).expect("the schema is valid JSON");
    write(&directory.join("mirror.toml.5"), |out| {
        manual::configuration(&keys::tables(&schema), out)
    })
}

fn write_commands(command: &Command, directory: &Path) -> io::Result<()> {
    for verb in command.get_subcommands() {
        write_commands(verb, directory)?;
    }
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    write(&directory.join(format!("{name}.1")), |out| manual::command(command, out))
}

fn write(path: &Path, render: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    render(&mut out)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_sections() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("share/man1");
        assert_eq!(run(&directory).unwrap(), 0);
        let page = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        for name in ["ecr-mirror", "ecr-mirror-sync", "ecr-mirror-iam-mirror", "ecr-mirror-sandbox"]
        {
            let text = page(&format!("{name}.1"));
            for section in ["EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
                assert!(
                    text.contains(&format!(".SH \"{section}\"\n"))
                        || text.contains(&format!(".SH {section}\n")),
                    "{name}: {section}\n{text}"
                );
            }
            assert!(text.contains("129/130/143") || !text.contains("SIGHUP, SIGINT, SIGTERM"));
        }
        let verbs =
            Cli::command().get_subcommands().map(|it| it.get_name().to_owned()).collect::<Vec<_>>();
        // `report` has one verb, which has the examples
        let pages = verbs
            .iter()
            .filter(|verb| *verb != "report")
            .map(|verb| format!("ecr-mirror-{verb}.1"));
        let others =
            ["ecr-mirror.1", "ecr-mirror-report-merge.1", "mirror.toml.5"].map(str::to_owned);
        for name in pages.chain(others) {
            assert!(page(&name).contains(".SH EXAMPLES\n"), "{name}");
        }
        assert!(!directory.join("ecr-mirror-help.1").exists());
        assert!(page("mirror.toml.5").contains("tag_mutability"));
    }

    #[test]
    fn the_example_in_the_page_of_the_configuration_is_valid() {
        let config =
            crate::config::Config::parse("mirror.toml", manual::EXAMPLE, Path::new(""), &|_| None);
        assert!(config.is_ok_and(|config| config.warnings.is_empty()));
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(run(&file.join("man1")).is_err());
    }
}
