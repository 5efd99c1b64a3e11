//! Files for machines, such as reports and lock files: never half written.

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

/// Makes sure that a file can be saved there, before a run that would end with it starts.
///
/// # Errors
/// [`Kind::Configuration`] when the path is a directory, or its directory is not there or takes
/// no file.
pub(crate) fn check_writable(path: &Path, what: &str) -> Result<()> {
    let wrong = |cause: io::Error| {
        let message = format!("cannot write the {what} to `{}`", path.display());
        Error::new(Kind::Configuration, message).because(cause)
    };
    match FileTarget::of(path).map_err(wrong)? {
        FileTarget::Device => Ok(()),
        FileTarget::File { draft, .. } => {
            File::create(&draft).and_then(|_| fs::remove_file(&draft)).map_err(|cause| {
                wrong(cause).hint("name a file in a directory that exists and can be written to")
            })
        }
    }
}

/// Saves what is written: whoever reads the file sees the old one or the new one, whole.
///
/// # Errors
/// When the file cannot be written; what was there before is then untouched.
pub(crate) fn save(
    path: &Path,
    what: &str,
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
    saved.map_err(|cause| {
        let message = format!("cannot write the {what} to `{}`", path.display());
        Error::new(Kind::Unavailable, message).because(cause)
    })
}

/// Saves what nobody else may read: in a file that only its owner can open, before anything is in
/// it. An earlier file of that name is replaced, whoever could read it.
///
/// # Errors
/// [`Kind::Configuration`] when it would go to a stream or a device, and when the file cannot be
/// written; what was there before is then untouched.
pub(crate) fn save_secret(path: &Path, what: &str, content: &SecretString) -> Result<()> {
    let cannot =
        |kind| Error::new(kind, format!("cannot write the {what} to `{}`", path.display()));
    let place = if path == Path::new("-") { Ok(FileTarget::Device) } else { FileTarget::of(path) };
    let (target, draft) = match place.map_err(|cause| cannot(Kind::Configuration).because(cause))? {
        FileTarget::File { target, draft } => (target, draft),
        FileTarget::Device => {
            let hint =
                "it holds credentials: name a file, which only its owner will be able to read";
            return Err(cannot(Kind::Configuration).hint(hint));
        }
    };
    let fill = || {
        // never a file or a link that somebody else has put there
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        let written = file.write_all(content.expose_secret().as_bytes());
        written
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&draft, &target))
            .inspect_err(|_| {
                let _ = fs::remove_file(&draft);
            })
    };
    fill().map_err(|cause| {
        let kind = match cause.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Kind::Configuration,
            _ => Kind::Unavailable,
        };
        cannot(kind).because(cause)
    })
}

/// Where a file goes.
enum FileTarget {
    /// Written beside the target, then renamed to it.
    File { target: PathBuf, draft: PathBuf },
    /// A pipe, a device or this process's own output, which must not be replaced by a file.
    Device,
}

impl FileTarget {
    fn of(path: &Path) -> io::Result<Self> {
        let target = match fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if !there.is_file() || is_own_output(&there) => return Ok(Self::Device),
            // behind a symbolic link it is the file that is replaced, not the link
            Ok(_) => fs::canonicalize(path)?,
            Err(_) => path.to_owned(),
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        let draft = target.with_file_name(format!(".{name}.{}", std::process::id()));
        Ok(Self::File { draft, target })
    }
}

/// Whether stdout or stderr goes there: `/dev/stdout` is whatever file a shell has put behind it.
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
    fn a_saved_file_replaces_the_old_one_and_leaves_nothing_beside_it() {
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
    fn a_link_stays_a_link_and_a_device_a_device() {
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
    fn a_secret_is_its_owners_alone_even_where_others_could_read_what_was_there() {
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
    fn a_secret_goes_to_no_stream_and_through_no_planted_draft() {
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
    fn a_file_that_cannot_be_written_is_a_wrong_command_line() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_owned(), directory.path().join("missing/report.json")] {
            let error = check_writable(&path, "report").unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{error:?}");
        }
    }
}
