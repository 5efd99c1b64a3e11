//! Upload sessions: bytes are written and hashed as they arrive.
//!
//! Bounds memory: a session holds at most two batches. Sessions end with the process; clients start
//! again.

use std::{
    error::Error,
    fs,
    io::{self, Write},
    mem,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::{Store, disk::create_file};
use crate::model::Digest;

/// Bytes written and hashed at a time.
const BATCH: usize = 512 << 10;
/// Up to this many bytes, a write on this thread is faster than a hand-over to another one.
const SMALL: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("unknown upload")]
    Unknown,
    /// The body broke off; the bytes before are kept.
    #[error("the body broke off: {0}")]
    Body(Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Io(#[from] io::Error),
}

#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error("unknown upload")]
    Unknown,
    /// The bytes have another digest; the session is over.
    #[error("the content's digest is {calculated}")]
    DigestMismatch { calculated: Digest },
    #[error(transparent)]
    Io(#[from] io::Error),
}

pub(super) struct Upload {
    repository: String,
    path: PathBuf,
    offset: AtomicU64,
    /// Serialises appends; held while a body is read.
    appending: tokio::sync::Mutex<()>,
    /// Held only while a batch is written, on a blocking thread if that takes long. `None` after
    /// the session ends: a late batch cannot change the file.
    writer: Mutex<Option<Writer>>,
}

struct Writer {
    file: fs::File,
    hasher: Sha256,
}

impl Upload {
    fn write(&self, batch: &[Bytes]) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let writer = writer.as_mut().ok_or_else(|| io::Error::other("the upload is over"))?;
        for bytes in batch {
            writer.file.write_all(bytes)?;
            writer.hasher.update(bytes);
            self.offset.fetch_add(bytes.len() as u64, Ordering::Release);
        }
        Ok(())
    }

    fn write_behind(self: &Arc<Self>, batch: Vec<Bytes>) -> JoinHandle<io::Result<()>> {
        let upload = self.clone();
        tokio::task::spawn_blocking(move || upload.write(&batch))
    }

    /// Reads the body to its end; writes the previous batch meanwhile.
    async fn append<E>(
        self: &Arc<Self>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<u64, AppendError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let _guard = self.appending.lock().await;
        let mut body = pin!(body);
        let (mut batch, mut held, mut writing) = (Vec::new(), 0, None);
        let end = loop {
            match body.next().await {
                Some(Ok(bytes)) => {
                    held += bytes.len();
                    batch.push(bytes);
                }
                Some(Err(error)) => break Err(AppendError::Body(error.into())),
                None => break Ok(()),
            }
            if held >= BATCH {
                persist(writing.take()).await?;
                writing = Some(self.write_behind(mem::take(&mut batch)));
                held = 0;
            }
        };
        persist(writing).await?;
        if held <= SMALL {
            self.write(&batch)?;
        } else {
            persist(Some(self.write_behind(batch))).await?;
        }
        end.map(|()| self.offset.load(Ordering::Acquire))
    }
}

async fn persist(writing: Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    match writing {
        Some(writing) => writing.await.map_err(io::Error::other)?,
        None => Ok(()),
    }
}

impl Store {
    /// Starts an upload to the repository, and returns the session's id.
    pub fn start_upload(&self, repository: &str) -> io::Result<String> {
        let path = self.disk.unfinished_path();
        let upload = Upload {
            repository: repository.to_owned(),
            offset: AtomicU64::new(0),
            appending: tokio::sync::Mutex::default(),
            writer: Mutex::new(Some(Writer { file: create_file(&path)?, hasher: Sha256::new() })),
            path,
        };
        let id = session_id(&upload.path);
        let mut uploads = self.uploads.lock();
        uploads.insert(id.clone(), Arc::new(upload));
        Ok(id)
    }

    /// Bytes in the session; `None` if it does not exist.
    pub fn upload_offset(&self, repository: &str, id: &str) -> Option<u64> {
        Some(self.upload(repository, id)?.offset.load(Ordering::Acquire))
    }

    /// Appends a body to the session, and returns the session's length in bytes.
    ///
    /// Bodies of one session wait for each other. If this future is dropped, the session keeps the
    /// bytes written so far.
    pub async fn append<E>(
        &self,
        repository: &str,
        id: &str,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<u64, AppendError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let upload = self.upload(repository, id).ok_or(AppendError::Unknown)?;
        upload.append(body).await
    }

    /// Stores the session's bytes as a blob if they have the expected digest, and returns their
    /// number.
    ///
    /// Ends the session in either case.
    pub async fn finish_upload(
        &self,
        repository: &str,
        id: &str,
        expected: &Digest,
    ) -> Result<u64, FinishError> {
        let upload = self.take_upload(repository, id).ok_or(FinishError::Unknown)?;
        let _guard = upload.appending.lock().await;
        let writer = upload.writer.lock().take();
        let calculated = Digest::from_hasher(writer.ok_or(FinishError::Unknown)?.hasher);
        if calculated != *expected {
            fs::remove_file(&upload.path)?;
            return Err(FinishError::DigestMismatch { calculated });
        }
        let size = upload.offset.load(Ordering::Acquire);
        self.disk.persist(&upload.path, &self.disk.blob(expected))?;
        self.register_blob(repository, expected, size)?;
        Ok(size)
    }

    /// Removes the session and its bytes; returns `false` if it does not exist.
    pub fn cancel_upload(&self, repository: &str, id: &str) -> bool {
        match self.take_upload(repository, id) {
            // a file that cannot be removed now is removed when the store is opened next
            Some(upload) => fs::remove_file(&upload.path).is_ok(),
            None => false,
        }
    }

    fn upload(&self, repository: &str, id: &str) -> Option<Arc<Upload>> {
        let uploads = self.uploads.lock();
        uploads.get(id).filter(|upload| upload.repository == repository).cloned()
    }

    fn take_upload(&self, repository: &str, id: &str) -> Option<Arc<Upload>> {
        let mut uploads = self.uploads.lock();
        uploads.get(id).filter(|upload| upload.repository == repository)?;
        uploads.remove(id)
    }
}

/// An id in the form of a UUID, unique over all processes.
fn session_id(path: &std::path::Path) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seed = format!("{} {} {}", path.display(), now.as_nanos(), std::process::id());
    let hex = Digest::of(seed.as_bytes()).hex()[..32].to_owned();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
