//! `man`: writes the manual pages, generated from the definition of the command line.

use std::{fs, path::Path};

use clap::CommandFactory;

use crate::{
    cli::Cli,
    model::{Error, Kind, Result},
};

pub(crate) fn run(directory: &Path) -> Result<u8> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|cause| {
            let message = format!("cannot write the manual pages to `{}`", directory.display());
            Error::new(Kind::Unavailable, message).because(cause)
        })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_with_its_exit_status() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("share/man1");
        assert_eq!(run(&directory).unwrap(), 0);
        for page in ["ecr-mirror", "ecr-mirror-sync", "ecr-mirror-iam-mirror", "ecr-mirror-sandbox"]
        {
            let text = fs::read_to_string(directory.join(format!("{page}.1"))).unwrap();
            assert!(text.contains("Exit status:"), "{page}");
        }
        assert!(!directory.join("ecr-mirror-help.1").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_created_is_an_error() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(run(&file.join("man1")).is_err());
    }
}
