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

use std::{
    fs::{self, File, TryLockError},
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
    failure::{Doing, failed},
    index::{Index, MARKER, MARKER_CONTENT, Standing, standing},
    on_disk,
};
use crate::model::{Error, Kind, Result};

/// How long another process may hold the lock; it is held for moments only.
const PATIENCE: Duration = Duration::from_secs(30);

/// One run's bench in a layout; it is cleared away when it is dropped.
#[derive(Debug)]
pub(super) struct Workshop {
    layout: PathBuf,
    bench: PathBuf,
    /// Keeps the bench from being taken for a dead run's.
    held: Option<File>,
    written: AtomicU64,
}

impl Workshop {
    /// Makes the directory a layout where it is none yet, and opens a bench in it.
    ///
    /// # Errors
    /// Those of [`standing`], of writing, and of a lock that is not given up.
    pub(super) async fn open(layout: &Path) -> Result<Self> {
        let layout = layout.to_owned();
        let at = layout.clone();
        on_disk(move || {
            standing(&at)?;
            make(&at.join(".ecr-mirror"))?;
            make(&at.join("blobs/sha256"))
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
        let bench = (0_u32..)
            .map(|number| layout.join(".ecr-mirror").join(number.to_string()))
            .find(|bench| !bench.exists())
            .expect("there are more numbers than runs");
        make(&bench)?;
        let held = bench.join("held");
        let file = File::create(&held).and_then(|file| file.lock().map(|()| file));
        let file = file.map_err(|error| failed(Doing::Write, &held, error))?;
        Ok(Self { layout, bench, held: Some(file), written: AtomicU64::new(0) })
    }

    /// Makes a layout of the directory; the marker comes last.
    fn found(&self) -> Result<()> {
        let index = self.layout.join("index.json");
        if !index.exists() {
            self.replace(&index, &Index::read(&self.layout)?.bytes())?;
        }
        if standing(&self.layout)? == Standing::Vacant {
            self.replace(&self.layout.join(MARKER), MARKER_CONTENT.as_bytes())?;
        }
        Ok(())
    }

    /// A file to write what is not whole yet.
    pub(super) fn unfinished(&self) -> Unfinished {
        let number = self.written.fetch_add(1, Relaxed);
        Unfinished { path: self.bench.join(number.to_string()) }
    }

    /// Writes a file whole or not at all.
    pub(super) fn replace(&self, place: &Path, bytes: &[u8]) -> Result<()> {
        let unfinished = self.unfinished();
        let written = File::create_new(&unfinished.path).and_then(|mut file| {
            io::Write::write_all(&mut file, bytes)?;
            // what has a name has its content, even after a power cut
            file.sync_data()
        });
        written.map_err(|error| failed(Doing::Write, place, error))?;
        unfinished.settle(place)
    }

    /// Changes the index under the lock; `change` tells whether there is anything to write.
    pub(super) async fn edit(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Index) -> bool + Send + 'static,
    ) -> Result<()> {
        let lock = lock(&self.layout).await?;
        let workshop = Arc::clone(self);
        on_disk(move || {
            let mut index = Index::read(&workshop.layout)?;
            if change(&mut index) {
                workshop.replace(&workshop.layout.join("index.json"), &index.bytes())?;
            }
            drop(lock);
            Ok(())
        })
        .await
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // an open file keeps its directory on some systems
        self.held.take();
        // what stays is cleared away by the next run
        fs::remove_dir_all(&self.bench).ok();
    }
}

/// A file that is not whole yet; it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
}

impl Unfinished {
    /// Moves it, now whole, to its place.
    pub(super) fn settle(self, place: &Path) -> Result<()> {
        fs::rename(&self.path, place).map_err(|error| failed(Doing::Write, place, error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // settled, it is not there any more
        fs::remove_file(&self.path).ok();
    }
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(|error| failed(Doing::Write, directory, error))
}

/// Waits for the layout's lock; it ends with the file.
async fn lock(layout: &Path) -> Result<File> {
    let path = layout.join(".ecr-mirror/lock");
    let unusable = |error| failed(Doing::Write, &path, error);
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
    for bench in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let is_held = match File::options().write(true).open(bench.join("held")) {
            Ok(file) => file.try_lock().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if !is_held {
            fs::remove_dir_all(bench).ok();
        }
    }
}
