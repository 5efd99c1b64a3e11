//! Files such as reports and lock files, written completely or not at all.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, BufWriter, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use crate::model::{Error, Kind, Result};

/// Checks before a run that its file can be saved to this path. `name` is the file's name in errors.
pub(crate) fn check_writable(path: &Path, name: &str) -> Result<()> {
    let wrong = |cause: io::Error| cannot_write(Kind::Configuration, path, name).because(cause);
    let FileTarget::File { draft, .. } = FileTarget::of(path).map_err(wrong)? else {
        return Ok(());
    };
    File::create(&draft).and_then(|_| fs::remove_file(&draft)).map_err(|cause| {
        wrong(cause).hint("name a file in a directory that exists and can be written to")
    })
}

/// Saves a file. Readers see the complete old file or the complete new one; after an error, the old.
pub(crate) fn save(
    path: &Path,
    name: &str,
    write: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let fill = |file: File| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    };
    let saved = FileTarget::of(path).and_then(|place| match place {
        FileTarget::Device => OpenOptions::new().append(true).open(path).and_then(fill),
        FileTarget::File { target, draft } => {
            let filled = File::create(&draft).and_then(fill);
            filled.and_then(|()| fs::rename(&draft, &target)).inspect_err(|_| {
                let _ = fs::remove_file(&draft);
            })
        }
    });
    saved.map_err(|cause| cannot_write(Kind::Unavailable, path, name).because(cause))
}

/// Saves a secret in a new file with mode 0600, which replaces an old file of any mode.
///
/// # Errors
/// [`Kind::Configuration`] if the path is a stream or a device, or its directory is missing or not
/// writable. The old file is then unchanged.
pub(crate) fn save_secret(path: &Path, name: &str, content: &SecretString) -> Result<()> {
    let wrong = || cannot_write(Kind::Configuration, path, name);
    let place = if path == Path::new("-") { Ok(FileTarget::Device) } else { FileTarget::of(path) };
    let FileTarget::File { target, draft } = place.map_err(|cause| wrong().because(cause))? else {
        let hint = "it holds credentials: name a file, which only its owner will be able to read";
        return Err(wrong().hint(hint));
    };
    let fill = || {
        // fails for a file or a link that another user has placed there
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file.write_all(content.expose_secret().as_bytes());
        let synced = written.and_then(|()| file.sync_all());
        synced.and_then(|()| fs::rename(&draft, &target)).inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    };
    fill().map_err(|cause| {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Kind::Configuration,
            _ => Kind::Unavailable,
        };
        cannot_write(kind, path, name).because(cause)
    })
}

fn cannot_write(kind: Kind, path: &Path, name: &str) -> Error {
    Error::new(kind, format!("cannot write the {name} to `{}`", path.display()))
}

/// The kind of target behind a path.
enum FileTarget {
    /// Written beside the target, then renamed to it.
    File { target: PathBuf, draft: PathBuf },
    /// A pipe, a device or this process's own output: not replaced by a file.
    Device,
}

impl FileTarget {
    fn of(path: &Path) -> io::Result<Self> {
        let target = match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() || is_own_output(&there) => return Ok(Self::Device),
            // replaces the file behind a symbolic link, not the link
            Ok(_) => fs::canonicalize(path)?,
            Err(_) => path.to_owned(),
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let draft = target.with_file_name(format!(".{name}.{}", std::process::id()));
        Ok(Self::File { draft, target })
    }
}

/// Returns `true` for the file behind stdout or stderr, such as `/dev/stdout` in a redirection.
fn is_own_output(there: &Metadata) -> bool {
    let outputs =
        [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
    let mut opened =
        outputs.into_iter().flatten().filter_map(|output| File::from(output).metadata().ok());
    opened.any(|output| (output.dev(), output.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "new")
    }

    #[test]
    fn saving_replaces_the_old_file_and_leaves_no_draft() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        fs::write(&path, "old").unwrap();
        check_writable(&path, "report").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        save(&path, "report", text).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("new"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_and_devices_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&link, "report", text).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::read_to_string(&file).unwrap().starts_with("new"));
        check_writable(Path::new("/dev/null"), "report").unwrap();
        save(Path::new("/dev/null"), "report", text).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_saved_secret_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret.yaml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        save_secret(&path, "manifest", &"token".into()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "token");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_not_written_to_streams_or_planted_links() {
        for path in ["-", "/dev/stdout", "/dev/null"] {
            let error = save_secret(Path::new(path), "manifest", &"token".into()).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{path}");
        }
        let directory = tempfile::tempdir().unwrap();
        let draft = directory.path().join(format!(".secret.yaml.{}", std::process::id()));
        let elsewhere = directory.path().join("elsewhere");
        std::os::unix::fs::symlink(&elsewhere, &draft).unwrap();
        let path = directory.path().join("secret.yaml");
        save_secret(&path, "manifest", &"token".into()).unwrap_err();
        assert!(!elsewhere.exists() && !path.exists());
    }

    #[test]
    fn an_unwritable_path_is_a_configuration_error() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), directory.path().join("missing/report.json")] {
            let error = check_writable(&path, "report").unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
        }
    }
}
