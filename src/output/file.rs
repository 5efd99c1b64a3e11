//! Files such as reports and lock files, written completely or not at all.
//!
//! A file is written beside its path, under a random name that no other user can have placed there,
//! and then renamed. A draft that a killed run left has another name, and is ignored.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, BufWriter, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, fchown},
    },
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};
use tempfile::NamedTempFile;
use tokio::net::unix::pipe;

use crate::model::{Error, Kind, Result};

/// The mode of a file without secrets, before the process's umask.
const PUBLIC: u32 = 0o666;
/// The mode of a file that holds a secret.
const PRIVATE: u32 = 0o600;

/// Checks before a run that its file can be saved to this path. `name` is the file's name in errors.
pub(crate) fn check_writable(path: &Path, name: &str) -> Result<()> {
    let wrong = |cause: io::Error| cannot_write(Kind::Configuration, path, name).because(cause);
    match FileTarget::of(path).map_err(wrong)? {
        FileTarget::File => draft(path, PUBLIC).map(drop).map_err(|cause| {
            wrong(cause).hint("name a file in a directory that exists and can be written to")
        }),
        FileTarget::Pipe | FileTarget::Device => Ok(()),
    }
}

/// Checks before a run that its file can be saved to this path once its directories are made.
pub(crate) fn check_creatable(path: &Path, name: &str) -> Result<()> {
    let ancestors = || path.ancestors().skip(1);
    match ancestors().find(|it| it.exists()) {
        Some(directory) if ancestors().next() == Some(directory) => check_writable(path, name),
        nearest => {
            let beside = nearest.unwrap_or(Path::new("")).join("directory");
            let wrong = |cause| cannot_write(Kind::Configuration, path, name).because(cause);
            draft(&beside, PUBLIC).map(drop).map_err(wrong)
        }
    }
}

/// Checks before a run that [`append`] can open this path. Creates no file.
pub(crate) fn check_appendable(path: &Path, name: &str) -> Result<()> {
    if !path.exists() {
        return check_writable(path, name);
    }
    let opened = OpenOptions::new().append(true).open(path);
    opened.map(drop).map_err(|cause| cannot_write(Kind::Configuration, path, name).because(cause))
}

/// Saves a file. Readers see the complete old file or the complete new one; after an error, the old.
///
/// Replaces a symbolic link, and not the file behind it. A pipe must have a reader; needs a runtime.
pub(crate) fn save(
    path: &Path,
    name: &str,
    write: impl Fn(&mut dyn Write) -> io::Result<()>,
) -> Result<()> {
    let fill = |file: &mut dyn Write| {
        let mut file = BufWriter::new(file);
        write(&mut file)?;
        file.flush()
    };
    let failed = |cause| cannot_write(Kind::Unavailable, path, name).because(cause);
    match FileTarget::of(path).map_err(failed)? {
        FileTarget::Device => {
            OpenOptions::new().append(true).open(path).and_then(|mut it| fill(&mut it))
        }
        FileTarget::Pipe => {
            let mut pipe = open_pipe(path).map_err(|cause| {
                failed(cause).hint("start the reader of the pipe first, or name a file")
            })?;
            fill(&mut pipe)
        }
        FileTarget::File => draft(path, PUBLIC).and_then(|mut draft| {
            fill(draft.as_file_mut())?;
            Ok(draft.persist(path).map(drop)?)
        }),
    }
    .map_err(failed)
}

/// Appends a text to a file, in one write. The text starts on a line of its own.
pub(crate) fn append(path: &Path, name: &str, text: &str) -> Result<()> {
    let failed = |cause| cannot_write(Kind::Unavailable, path, name).because(cause);
    let append = || {
        let mut file = OpenOptions::new().append(true).create(true).open(path)?;
        let old = fs::read(path)?;
        let start = if old.is_empty() || old.ends_with(b"\n") { "" } else { "\n" };
        file.write_all(format!("{start}{text}").as_bytes())
    };
    append().map_err(failed)
}

/// Checks that [`replace`] can write the file behind a path.
///
/// # Errors
/// [`Kind::Configuration`] if the path is not a file, or its directory is not writable.
pub(crate) fn check_replaceable(path: &Path, name: &str) -> Result<()> {
    let real = fs::canonicalize(path)
        .map_err(|cause| cannot_write(Kind::Configuration, path, name).because(cause))?;
    check_writable(&real, name)
}

/// Replaces the content of a file, and keeps its mode and, if possible, its owner. Follows a symbolic
/// link, which stays. Readers see the complete old or the complete new content.
pub(crate) fn replace(path: &Path, name: &str, content: &[u8]) -> Result<()> {
    let replace = || {
        let real = fs::canonicalize(path)?;
        let old = fs::metadata(&real)?;
        let mut draft = draft(&real, PRIVATE)?;
        draft.write_all(content)?;
        let new = draft.as_file().metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // only root may give a file away
            let _ = fchown(draft.as_file(), Some(old.uid()), Some(old.gid()));
        }
        draft.as_file().set_permissions(old.permissions())?;
        Ok::<_, io::Error>(draft.persist(&real).map(drop)?)
    };
    replace().map_err(|cause| cannot_write(Kind::Unavailable, path, name).because(cause))
}

/// Checks before a run that [`save_edited`] can write this path.
pub(crate) fn check_editable(path: &Path, name: &str) -> Result<()> {
    if is_replaceable(path) { check_replaceable(path, name) } else { check_writable(path, name) }
}

/// Saves a file of the user: [replaces](replace) the content of one that exists, and [saves](save) a
/// new one.
pub(crate) fn save_edited(path: &Path, name: &str, content: &[u8]) -> Result<()> {
    match is_replaceable(path) {
        true => replace(path, name, content),
        false => save(path, name, |out| out.write_all(content)),
    }
}

/// Returns `true` for a file that exists, and for a link to one; `false` for pipes and devices.
fn is_replaceable(path: &Path) -> bool {
    path.exists() && FileTarget::of(path).is_ok_and(|target| target == FileTarget::File)
}

/// Saves a secret in a new file with mode 0600, which replaces an old file of any mode.
///
/// # Errors
/// [`Kind::Configuration`] if the path is a stream or a device, or its directory is missing or not
/// writable. The old file is then unchanged.
pub(crate) fn save_secret(path: &Path, name: &str, content: &SecretString) -> Result<()> {
    let wrong = || cannot_write(Kind::Configuration, path, name);
    let target = if path == Path::new("-") { Ok(FileTarget::Device) } else { FileTarget::of(path) };
    if target.map_err(|cause| wrong().because(cause))? != FileTarget::File {
        let hint = "it holds credentials: name a file, which only its owner will be able to read";
        return Err(wrong().hint(hint));
    }
    let saved = draft(path, PRIVATE).and_then(|mut draft| {
        draft.write_all(content.expose_secret().as_bytes())?;
        draft.as_file().sync_all()?;
        Ok(draft.persist(path).map(drop)?)
    });
    saved.map_err(|cause| {
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

/// A new file beside the path; removed unless it is persisted.
///
/// Created exclusively, so that it follows no link.
fn draft(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut draft = tempfile::Builder::new();
    draft.prefix(".ecr-mirror-").permissions(Permissions::from_mode(mode));
    let draft = draft.tempfile_in(beside.unwrap_or(Path::new(".")));
    // the error names the draft too, which the user did not write
    draft.map_err(|error| error.raw_os_error().map_or(error, io::Error::from_raw_os_error))
}

/// Opens a pipe without waiting for a reader. Writing waits for the reader.
fn open_pipe(path: &Path) -> io::Result<File> {
    match pipe::OpenOptions::new().open_sender(path) {
        Ok(pipe) => pipe.into_blocking_fd().map(File::from),
        Err(error) if error.raw_os_error() == Some(NO_READER) => {
            Err(io::Error::new(io::ErrorKind::NotConnected, "no process reads this pipe"))
        }
        Err(error) => Err(error),
    }
}

/// `ENXIO`. Source: open(2), `O_NONBLOCK | O_WRONLY` and no process has the FIFO open for reading.
const NO_READER: i32 = 6;

/// The kind of target behind a path.
#[derive(Debug, PartialEq, Eq)]
enum FileTarget {
    /// Written beside the path, then renamed to it.
    File,
    /// A pipe with a name: written to its reader.
    Pipe,
    /// A device or this process's own output: not replaced by a file.
    Device,
}

impl FileTarget {
    fn of(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if there.file_type().is_fifo() => Ok(Self::Pipe),
            Ok(there) if !there.is_file() || is_own_output(&there) => Ok(Self::Device),
            _ if path.file_name().is_none() => Err(io::ErrorKind::InvalidInput.into()),
            _ => Ok(Self::File),
        }
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
    fn a_link_is_replaced_and_the_file_behind_it_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        save(&link, "report", text).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_file());
        assert_eq!(fs::read_to_string(&link).unwrap(), "new\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    }

    #[test]
    fn a_replaced_file_keeps_its_mode_and_the_links_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("a"), directory.path().join("b"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("a", &link).unwrap();
        check_replaceable(&link, "Dockerfile").unwrap();
        replace(&link, "Dockerfile", b"new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o751);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_edited_file_is_new_or_replaces_a_file_and_never_a_device() {
        let directory = tempfile::tempdir().unwrap();
        for path in [&*directory.path().join("new"), Path::new("/dev/null")] {
            for _ in 0..2 {
                check_editable(path, "configuration").unwrap();
                save_edited(path, "configuration", b"text").unwrap();
            }
        }
        assert_eq!(fs::read_to_string(directory.path().join("new")).unwrap(), "text");
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn the_check_of_a_path_makes_neither_files_nor_directories() {
        let directory = tempfile::tempdir().unwrap();
        let [deep, file] = ["a/b/hosts.toml", "file"].map(|it| directory.path().join(it));
        check_creatable(&deep, "form").unwrap();
        check_creatable(&file, "form").unwrap();
        check_appendable(&file, "form").unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        fs::write(&file, "").unwrap();
        check_appendable(&file, "form").unwrap();
        let error = check_creatable(&file.join("b/hosts.toml"), "form").unwrap_err();
        assert_eq!(error.kind(), Kind::Configuration, "a file is no directory: {error:?}");
    }

    #[test]
    fn an_appended_text_starts_on_its_own_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("env");
        for text in ["A=1\n", "B=2", "C=3\n"] {
            append(&path, "form", text).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=1\nB=2\nC=3\n");
    }

    #[test]
    fn a_device_is_written_and_not_replaced_also_behind_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        for path in [Path::new("/dev/null"), &link] {
            check_writable(path, "report").unwrap();
            save(path, "report", text).unwrap();
            assert!(fs::metadata(path).unwrap().file_type().is_char_device());
        }
    }

    #[test]
    fn links_and_drafts_beside_the_file_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report.json");
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        let planted = directory.path().join(format!(".report.json.{}", std::process::id()));
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        fs::write(directory.path().join(".ecr-mirror-stale"), "draft").unwrap();
        check_writable(&path, "report").unwrap();
        save(&path, "report", text).unwrap();
        save_secret(&path, "manifest", &"token".into()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(fs::symlink_metadata(&planted).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 4);
    }

    #[test]
    fn a_report_has_the_usual_mode_of_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let [report, usual] = ["report.json", "usual"].map(|name| directory.path().join(name));
        save(&report, "report", text).unwrap();
        fs::write(&usual, "").unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(report), mode(usual));
    }

    /// A named pipe.
    fn make_pipe(directory: &Path) -> std::path::PathBuf {
        let path = directory.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        path
    }

    #[tokio::test]
    async fn a_pipe_without_a_reader_is_an_error_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = make_pipe(directory.path());
        check_writable(&pipe, "report").unwrap();
        let error = save(&pipe, "report", text).unwrap_err();
        assert!(error.chain()[1].contains("no process reads this pipe"), "{error:?}");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }

    #[tokio::test]
    async fn a_pipe_with_a_reader_gets_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = make_pipe(directory.path());
        let mut reader = pipe::OpenOptions::new().open_receiver(&pipe).unwrap();
        save(&pipe, "report", text).unwrap();
        let mut read = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut reader, &mut read).await.unwrap();
        assert_eq!(read, "new\n");
    }

    #[test]
    fn a_saved_secret_is_readable_by_its_owner_only() {
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
    fn a_secret_is_not_written_to_streams_or_through_links() {
        for path in ["-", "/dev/stdout", "/dev/null"] {
            let error = save_secret(Path::new(path), "manifest", &"token".into()).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{path}");
        }
        let directory = tempfile::tempdir().unwrap();
        let [elsewhere, path] = ["elsewhere", "secret.yaml"].map(|it| directory.path().join(it));
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        save_secret(&path, "manifest", &"token".into()).unwrap();
        assert!(!elsewhere.exists());
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, PRIVATE);
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
