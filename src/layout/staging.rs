//! The staging area of a run, for partial files, and the lock between runs.
//!
//! ```text
//! .ecr-mirror/lock      held while a run edits the index or opens its staging directory
//! .ecr-mirror/<n>/      the staging directory of one run: partial files
//! .ecr-mirror/<n>/held  locked while that run lives
//! ```
//!
//! The operating system releases the locks when a process ends, so a killed run does not block the
//! next one. The next run removes staging directories that no run holds.
//!
//! A layout from someone else may have symbolic links in these places. Nothing is written or removed
//! through a link.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry, File, FileType, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    failure::cannot_write,
    index::{LayoutIndex, MARKER, MARKER_CONTENT, is_layout},
    on_disk,
};
use crate::model::{Error, Kind, Result};

/// The longest wait for the lock, which is held for moments only.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The directories that files are written to.
const SUBDIRECTORIES: [&str; 3] = [".ecr-mirror", "blobs", "blobs/sha256"];

/// The staging directory of one run; removed on drop.
#[derive(Debug)]
pub(super) struct StagingArea {
    layout: PathBuf,
    directory: PathBuf,
    /// The lock that marks the directory as in use.
    _held: File,
    next_file: AtomicU64,
}

impl StagingArea {
    /// Creates the layout if it does not exist, and opens a staging directory in it.
    ///
    /// # Errors
    /// As [`is_layout`]; [`Kind::Configuration`] if a link leads out of the layout, and then nothing
    /// is written.
    pub(super) async fn open(layout: &Path) -> Result<Self> {
        let layout = layout.to_owned();
        let at = layout.clone();
        on_disk(move || {
            is_layout(&at)?;
            let subdirectories = SUBDIRECTORIES.map(|name| at.join(name));
            // all checks before the first write
            subdirectories
                .iter()
                .try_for_each(|path| check(path, "directory", FileType::is_dir))?;
            let create = |path: &PathBuf| fs::create_dir_all(path).map_err(cannot_write(path));
            subdirectories.iter().try_for_each(create)
        })
        .await?;
        let lock = lock(&layout).await?;
        on_disk(move || {
            remove_abandoned(&layout.join(".ecr-mirror"));
            let staging = Self::create(layout)?;
            staging.create_layout()?;
            drop(lock);
            Ok(staging)
        })
        .await
    }

    /// Creates the staging directory under the lock, so that no run sees it before it is held.
    fn create(layout: PathBuf) -> Result<Self> {
        let parent = layout.join(".ecr-mirror");
        let (directory, held) = (0_u32..)
            .find_map(|number| {
                let directory = parent.join(number.to_string());
                let held = create_and_hold(&directory).transpose()?;
                Some((directory, held))
            })
            .expect("there are more numbers than runs");
        Ok(Self { layout, directory, _held: held?, next_file: AtomicU64::new(0) })
    }

    /// Writes the index and then the marker, if they are missing.
    fn create_layout(&self) -> Result<()> {
        let index = self.layout.join("index.json");
        if !index.exists() {
            self.replace(&index, &LayoutIndex::read(&self.layout)?.bytes())?;
        }
        if !is_layout(&self.layout)? {
            self.replace(&self.layout.join(MARKER), MARKER_CONTENT.as_bytes())?;
        }
        Ok(())
    }

    /// A new file to write to.
    pub(super) fn partial_file(&self) -> PartialFile {
        let number = self.next_file.fetch_add(1, Relaxed);
        PartialFile { path: self.directory.join(number.to_string()) }
    }

    /// Writes a file completely or not at all.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let partial = self.partial_file();
        let written = File::create_new(&partial.path).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            // before the rename, so that a file has its content even after a power failure
            file.sync_data()
        });
        written.map_err(cannot_write(path))?;
        partial.persist(path)
    }

    /// Edits the index under the lock. `edit` may write files before the index, and returns `true` if
    /// the index must be written.
    pub(super) async fn edit_index(
        self: &Arc<Self>,
        edit: impl FnOnce(&Self, &mut LayoutIndex) -> Result<bool> + Send + 'static,
    ) -> Result<()> {
        let lock = lock(&self.layout).await?;
        let staging = Arc::clone(self);
        on_disk(move || {
            let mut index = LayoutIndex::read(&staging.layout)?;
            if edit(&staging, &mut index)? {
                staging.replace(&staging.layout.join("index.json"), &index.bytes())?;
            }
            drop(lock);
            Ok(())
        })
        .await
    }
}

impl Drop for StagingArea {
    fn drop(&mut self) {
        // still held, so that no run takes the number meanwhile; the next run removes the rest
        remove(&self.directory).ok();
    }
}

/// A file that is being written; removed on drop.
#[derive(Debug)]
pub(super) struct PartialFile {
    pub(super) path: PathBuf,
}

impl PartialFile {
    /// Moves the complete file to its path.
    pub(super) fn persist(self, path: &Path) -> Result<()> {
        fs::rename(&self.path, path).map_err(cannot_write(path))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // fails if the file was persisted
        fs::remove_file(&self.path).ok();
    }
}

/// Checks that the path is a file or directory as `expected`, or does not exist. Refuses a link.
fn check(path: &Path, expected: &str, is_expected: fn(&FileType) -> bool) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(cannot_write(path))?.file_type(),
    };
    if is_expected(&found) {
        return Ok(());
    }
    let shown = path.display();
    let problem = match found.is_symlink() {
        true => format!("`{shown}` is a link, which may lead out of the layout"),
        false => format!("`{shown}` is not a {expected}"),
    };
    Err(Error::new(Kind::Configuration, problem).hint(format!(
        "put a {expected} in its place to write there: only the layout itself may be a link"
    )))
}

/// Creates a staging directory and locks it; `None` if the path exists.
fn create_and_hold(directory: &Path) -> Result<Option<File>> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        created => created.map_err(cannot_write(directory))?,
    }
    let held = directory.join("held");
    match File::create_new(&held).and_then(|file| file.lock().map(|()| file)) {
        // the previous run with this number has just removed the new directory
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => file.map(Some).map_err(cannot_write(&held)),
    }
}

/// Waits for the layout's lock, which is released with the file.
async fn lock(layout: &Path) -> Result<File> {
    let path = layout.join(".ecr-mirror/lock");
    check(&path, "file", FileType::is_file)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(cannot_write(&path))?;
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if started.elapsed() < LOCK_TIMEOUT => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                let (shown, seconds) = (path.display(), LOCK_TIMEOUT.as_secs());
                let problem = format!("another process has held `{shown}` for {seconds} s");
                return Err(Error::new(Kind::Unavailable, problem)
                    .exhausted()
                    .hint("wait until the other run ends, then run again"));
            }
            Err(TryLockError::Error(error)) => return Err(cannot_write(&path)(error)),
        }
    }
}

/// Removes the staging directories of ended runs. Ignores errors.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    // `DirEntry::file_type` does not follow links
    let is_staging = |entry: &DirEntry| {
        is_number(&entry.file_name()) && entry.file_type().is_ok_and(|found| found.is_dir())
    };
    for directory in entries.flatten().filter(is_staging) {
        remove_if_abandoned(&directory.path()).ok();
    }
}

/// Removes the staging directory if its run has ended. Other directories stay.
fn remove_if_abandoned(directory: &Path) -> io::Result<()> {
    let held = directory.join("held");
    let found = match fs::symlink_metadata(&held) {
        // a run was killed before it created the lock or after it removed it: the directory is empty
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::remove_dir(directory),
        found => found?,
    };
    if !found.is_file() {
        return Ok(());
    }
    let held = File::options().write(true).open(held)?;
    match held.try_lock() {
        Ok(()) => remove(directory),
        Err(_) => Ok(()),
    }
}

/// Removes a staging directory and the files that a run creates in it, and nothing else.
///
/// Removes `held` last: the next run recognizes a staging directory by it.
fn remove(directory: &Path) -> io::Result<()> {
    let ignore_missing = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    for file in fs::read_dir(directory)? {
        let file = file?;
        if is_number(&file.file_name()) {
            ignore_missing(fs::remove_file(file.path()))?;
        }
    }
    ignore_missing(fs::remove_file(directory.join("held")))?;
    fs::remove_dir(directory)
}

/// Returns `true` for the names of staging directories and of the files in them.
fn is_number(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
