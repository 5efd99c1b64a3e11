//! Where a run writes what is not whole yet, and the lock that keeps runs apart.
//!
//! ```text
//! .ecr-mirror/lock      whoever changes the index, or opens a bench, holds it
//! .ecr-mirror/<n>/      one run's bench: files that are being written
//! .ecr-mirror/<n>/held  locked as long as that run lives
//! ```
//!
//! Locks are the operating system's: they end with the process, however it
//! ends, so that nothing a killed run leaves behind stops the next one. A
//! bench that nobody holds is cleared away by the next run.
//!
//! Guards that what is written and cleared away is the layout's own: who hands
//! us one may have put a link where we write, and someone's home behind it.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry, File, TryLockError},
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
    failure::{FileOperation, failed},
    index::{LayoutIndex, LayoutState, MARKER, MARKER_CONTENT, standing},
    on_disk,
};
use crate::model::{Error, Kind, Result};

/// How long another process may hold the lock; it is held for moments only.
const PATIENCE: Duration = Duration::from_secs(30);

/// The directories that are written into.
const INNER: [&str; 3] = [".ecr-mirror", "blobs", "blobs/sha256"];

/// One run's bench in a layout; it is cleared away when it is dropped.
#[derive(Debug)]
pub(super) struct StagingArea {
    layout: PathBuf,
    bench: PathBuf,
    /// Keeps the bench from being taken for a dead run's.
    _held: File,
    written: AtomicU64,
}

impl StagingArea {
    /// Makes the directory a layout where it is none yet, and opens a bench in it.
    ///
    /// # Errors
    /// Those of [`standing`], of writing, and of a lock that is not given up;
    /// [`Kind::Configuration`], and nothing is made, where a link leads out of the layout.
    pub(super) async fn open(layout: &Path) -> Result<Self> {
        let layout = layout.to_owned();
        let at = layout.clone();
        on_disk(move || {
            standing(&at)?;
            let inner = INNER.map(|name| at.join(name));
            // all are looked at before any is made
            inner.iter().try_for_each(|directory| check(directory, FileKind::Directory))?;
            inner.iter().try_for_each(|directory| make(directory))
        })
        .await?;
        let lock = lock(&layout).await?;
        on_disk(move || {
            sweep(&layout.join(".ecr-mirror"));
            let workshop = Self::set_up(layout)?;
            workshop.found()?;
            drop(lock);
            Ok(workshop)
        })
        .await
    }

    /// Opens a bench, under the lock: nobody else looks at it before it is held.
    fn set_up(layout: PathBuf) -> Result<Self> {
        let benches = layout.join(".ecr-mirror");
        let (bench, held) = (0_u32..)
            .find_map(|number| {
                let bench = benches.join(number.to_string());
                let held = hold(&bench).transpose()?;
                Some((bench, held))
            })
            .expect("there are more numbers than runs");
        Ok(Self { layout, bench, _held: held?, written: AtomicU64::new(0) })
    }

    /// Makes a layout of the directory; the marker comes last.
    fn found(&self) -> Result<()> {
        let index = self.layout.join("index.json");
        if !index.exists() {
            self.replace(&index, &LayoutIndex::read(&self.layout)?.bytes())?;
        }
        if standing(&self.layout)? == LayoutState::Vacant {
            self.replace(&self.layout.join(MARKER), MARKER_CONTENT.as_bytes())?;
        }
        Ok(())
    }

    /// A file to write what is not whole yet.
    pub(super) fn unfinished(&self) -> PartialFile {
        let number = self.written.fetch_add(1, Relaxed);
        PartialFile { path: self.bench.join(number.to_string()) }
    }

    /// Writes a file whole or not at all.
    pub(super) fn replace(&self, place: &Path, bytes: &[u8]) -> Result<()> {
        let unfinished = self.unfinished();
        let written = File::create_new(&unfinished.path).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            // what has a name has its content, even after a power cut
            file.sync_data()
        });
        written.map_err(|error| failed(FileOperation::Write, place, error))?;
        unfinished.persist(place)
    }

    /// Changes the index under the lock; `change` tells whether there is anything to write.
    pub(super) async fn edit(
        self: &Arc<Self>,
        change: impl FnOnce(&mut LayoutIndex) -> bool + Send + 'static,
    ) -> Result<()> {
        let lock = lock(&self.layout).await?;
        let workshop = Arc::clone(self);
        on_disk(move || {
            let mut index = LayoutIndex::read(&workshop.layout)?;
            if change(&mut index) {
                workshop.replace(&workshop.layout.join("index.json"), &index.bytes())?;
            }
            drop(lock);
            Ok(())
        })
        .await
    }
}

impl Drop for StagingArea {
    fn drop(&mut self) {
        // still held, so that no other run takes its number meanwhile; what stays is cleared
        // away by the next run
        clear(&self.bench).ok();
    }
}

/// A file that is not whole yet; it goes when it is dropped.
#[derive(Debug)]
pub(super) struct PartialFile {
    pub(super) path: PathBuf,
}

impl PartialFile {
    /// Moves it, now whole, to its place.
    pub(super) fn persist(self, place: &Path) -> Result<()> {
        fs::rename(&self.path, place).map_err(|error| failed(FileOperation::Write, place, error))
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        // settled, it is not there any more
        fs::remove_file(&self.path).ok();
    }
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| failed(FileOperation::Write, directory, error))
}

/// What a layout has in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Directory,
    File,
}

/// Checks that what stands there, if anything, is the layout's own, and no link to something else.
fn check(path: &Path, own: FileKind) -> Result<()> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|error| failed(FileOperation::Write, path, error))?.file_type(),
    };
    let (is_own, wanted) = match own {
        FileKind::Directory => (found.is_dir(), "directory"),
        FileKind::File => (found.is_file(), "file"),
    };
    if is_own {
        return Ok(());
    }
    let shown = path.display();
    let problem = match found.is_symlink() {
        true => format!("`{shown}` is a link, which may lead out of the layout"),
        false => format!("`{shown}` is no {wanted}"),
    };
    Err(Error::new(Kind::Configuration, problem).hint(format!(
        "put a {wanted} in its place to write there: only the layout itself may be a link"
    )))
}

/// Makes a bench and holds it; `None` where something has its name, be it a link.
fn hold(bench: &Path) -> Result<Option<File>> {
    match fs::create_dir(bench) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
        made => made.map_err(|error| failed(FileOperation::Write, bench, error))?,
    }
    let held = bench.join("held");
    let file = match File::create_new(&held).and_then(|file| file.lock().map(|()| file)) {
        // who had the number before was about to remove the directory, and took the new one
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| failed(FileOperation::Write, &held, error))?,
    };
    Ok(Some(file))
}

/// Waits for the layout's lock; it ends with the file.
async fn lock(layout: &Path) -> Result<File> {
    let path = layout.join(".ecr-mirror/lock");
    check(&path, FileKind::File)?;
    let unusable = |error| failed(FileOperation::Write, &path, error);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(unusable)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(TryLockError::WouldBlock) => {
                let problem = format!(
                    "another process has held `{}` for {} s",
                    path.display(),
                    PATIENCE.as_secs()
                );
                return Err(Error::new(Kind::Unavailable, problem)
                    .exhausted()
                    .hint("let the other run end, and run again"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
}

/// Clears away the benches of runs that are no more; what cannot be is left.
fn sweep(benches: &Path) {
    let Ok(entries) = fs::read_dir(benches) else { return };
    // the type is the entry's own: a link is no directory here
    let is_bench = |entry: &DirEntry| {
        is_number(&entry.file_name()) && entry.file_type().is_ok_and(|found| found.is_dir())
    };
    for bench in entries.flatten().filter(is_bench) {
        clear_if_dead(&bench.path()).ok();
    }
}

/// Clears the bench away unless its run lives; what is no bench stays.
fn clear_if_dead(bench: &Path) -> io::Result<()> {
    let held = bench.join("held");
    let found = match fs::symlink_metadata(&held) {
        // a run was killed before it held its bench, or after it had cleared it: it is empty
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fs::remove_dir(bench),
        found => found?,
    };
    if !found.is_file() {
        return Ok(());
    }
    let held = File::options().write(true).open(held)?;
    match held.try_lock() {
        Ok(()) => clear(bench),
        Err(_) => Ok(()),
    }
}

/// Removes a bench and the files that are made on one, and nothing else.
///
/// `held` goes after the others: where this is cut short, the next run knows a bench by it.
fn clear(bench: &Path) -> io::Result<()> {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    for file in fs::read_dir(bench)? {
        let file = file?;
        if is_number(&file.file_name()) {
            gone(fs::remove_file(file.path()))?;
        }
    }
    gone(fs::remove_file(bench.join("held")))?;
    fs::remove_dir(bench)
}

/// Whether it is a name that benches and the files on them have.
fn is_number(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
