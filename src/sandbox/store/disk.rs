//! The directory layout of a store, and atomic writes to it.
//!
//! ```text
//! blobs/sha256/<ab>/<abcd…>                 content, stored once
//! repositories/<a>/<b>/_/blobs/<abcd…>      empty: the repository `a/b` has this blob
//! repositories/<a>/<b>/_/manifests/<abcd…>  the media type, a line feed, the manifest
//! repositories/<a>/<b>/_/tags/<tag>         the digest
//! documents/<a>/@<b>.json
//! unfinished/                               files being written; emptied on opening
//! ```
//!
//! No name can address a file outside the directory. A document can hold a secret: every file has mode
//! 0600, below a directory of mode 0700.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use serde_json::Value;

use crate::model::Digest;

pub(super) struct Disk {
    root: PathBuf,
    written: AtomicU64,
}

impl Disk {
    pub(super) fn open(root: PathBuf) -> io::Result<Disk> {
        let unfinished = root.join("unfinished");
        absent_is_fine(fs::remove_dir_all(&unfinished))?;
        create_directory(&root.join("blobs/sha256"))?;
        for name in ["unfinished", "blobs", "repositories", "documents"] {
            let directory = root.join(name);
            create_directory(&directory)?;
            // an earlier version may have made it for everyone
            fs::set_permissions(directory, fs::Permissions::from_mode(PRIVATE_DIRECTORY))?;
        }
        Ok(Disk { root, written: AtomicU64::new(0) })
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs/sha256").join(&hex[..2]).join(hex)
    }

    /// A new path for a file that is still being written.
    pub(super) fn unfinished_path(&self) -> PathBuf {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        self.root.join("unfinished").join(number.to_string())
    }

    /// Moves a finished file to its final path.
    pub(super) fn persist(&self, from: &Path, to: &Path) -> io::Result<()> {
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_directory(to.parent().expect("every path is below the root"))?;
                fs::rename(from, to)
            }
            other => other,
        }
    }

    /// Writes a file atomically.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unfinished = self.unfinished_path();
        create_file(&unfinished)?.write_all(bytes)?;
        self.persist(&unfinished, path)
    }

    fn repository(&self, name: &str) -> io::Result<PathBuf> {
        let mut path = self.root.join("repositories");
        for component in name.split('/') {
            if component == "_" {
                return Err(cannot_be_stored(name));
            }
            path.push(file_name(component)?);
        }
        path.push("_");
        Ok(path)
    }

    pub(super) fn create_repository(&self, name: &str) -> io::Result<()> {
        create_directory(&self.repository(name)?)
    }

    pub(super) fn delete_repository(&self, name: &str) -> io::Result<()> {
        // the rename hides it at once, the removal can take long
        let unfinished = self.unfinished_path();
        absent_is_fine(fs::rename(self.repository(name)?, &unfinished))?;
        absent_is_fine(fs::remove_dir_all(unfinished))
    }

    pub(super) fn link(&self, repository: &str, digest: &Digest) -> io::Result<()> {
        let path = self.repository(repository)?.join("blobs").join(digest.hex());
        match create_file(&path).map(drop) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.replace(&path, b""),
            other => other,
        }
    }

    pub(super) fn unlink(&self, repository: &str, digest: &Digest) -> io::Result<()> {
        let path = self.repository(repository)?.join("blobs").join(digest.hex());
        absent_is_fine(fs::remove_file(path))
    }

    pub(super) fn put_manifest(
        &self,
        repository: &str,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
    ) -> io::Result<()> {
        let path = self.repository(repository)?.join("manifests").join(digest.hex());
        self.replace(&path, &[media_type.as_bytes(), b"\n", bytes].concat())
    }

    /// The manifest's media type and bytes; `None` if it cannot be read.
    pub(super) fn manifest(&self, repository: &str, digest: &Digest) -> Option<(String, Bytes)> {
        let path = self.repository(repository).ok()?.join("manifests").join(digest.hex());
        let file = Bytes::from(fs::read(path).ok()?);
        let line = file.iter().position(|&b| b == b'\n')?;
        let media_type = String::from_utf8_lossy(&file[..line]).into_owned();
        Some((media_type, file.slice(line + 1..)))
    }

    pub(super) fn delete_manifest(&self, repository: &str, digest: &Digest) -> io::Result<()> {
        let path = self.repository(repository)?.join("manifests").join(digest.hex());
        absent_is_fine(fs::remove_file(path))
    }

    pub(super) fn set_tag(&self, repository: &str, tag: &str, digest: &Digest) -> io::Result<()> {
        let path = self.repository(repository)?.join("tags").join(file_name(tag)?);
        self.replace(&path, digest.as_str().as_bytes())
    }

    pub(super) fn delete_tag(&self, repository: &str, tag: &str) -> io::Result<()> {
        let path = self.repository(repository)?.join("tags").join(file_name(tag)?);
        absent_is_fine(fs::remove_file(path))
    }

    fn document_path(&self, name: &str) -> io::Result<PathBuf> {
        let (above, last) = name.rsplit_once('/').unwrap_or(("", name));
        let mut path = self.root.join("documents");
        for component in above.split('/').filter(|component| !component.is_empty()) {
            path.push(file_name(component)?);
        }
        // the `@` separates the document `a` from the directory of `a.json/b`
        path.push(format!("@{}.json", file_name(last)?));
        Ok(path)
    }

    pub(super) fn document(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.document_path(name).ok()?).ok()?).ok()
    }

    pub(super) fn set_document(&self, name: &str, value: &Value) -> io::Result<()> {
        let path = self.document_path(name)?;
        if value.is_null() {
            return absent_is_fine(fs::remove_file(path));
        }
        self.replace(&path, &serde_json::to_vec_pretty(value)?)
    }
}

/// Reads names, digests and sizes, once per process.
impl Disk {
    pub(super) fn blobs(&self) -> io::Result<HashMap<Digest, u64>> {
        let mut sizes = HashMap::new();
        for (_, shard) in entries(&self.root.join("blobs/sha256"))? {
            for (hex, path) in entries(&shard)? {
                sizes.insert(digest(&hex)?, fs::metadata(path)?.len());
            }
        }
        Ok(sizes)
    }

    pub(super) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        let mut left = vec![(String::new(), self.root.join("repositories"))];
        while let Some((name, directory)) = left.pop() {
            for (component, path) in entries(&directory)? {
                match (component.as_str(), name.as_str()) {
                    ("_", _) => names.push(name.clone()),
                    (_, "") => left.push((component, path)),
                    _ => left.push((format!("{name}/{component}"), path)),
                }
            }
        }
        Ok(names)
    }

    pub(super) fn links(&self, repository: &str) -> io::Result<Vec<Digest>> {
        let directory = self.repository(repository)?.join("blobs");
        entries(&directory)?.into_iter().map(|(hex, _)| digest(&hex)).collect()
    }

    pub(super) fn tags(&self, repository: &str) -> io::Result<Vec<(String, Digest)>> {
        entries(&self.repository(repository)?.join("tags"))?
            .into_iter()
            .map(|(tag, path)| Ok((tag, fs::read_to_string(path)?.parse().map_err(not_ours)?)))
            .collect()
    }

    pub(super) fn manifests(&self, repository: &str) -> io::Result<Vec<Digest>> {
        let directory = self.repository(repository)?.join("manifests");
        entries(&directory)?.into_iter().map(|(hex, _)| digest(&hex)).collect()
    }
}

const PRIVATE_DIRECTORY: u32 = 0o700;

/// Creates a directory and those above it that are missing, for this user only.
pub(in crate::sandbox) fn create_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)
}

/// Creates an empty file for this user only, or empties an existing one.
pub(in crate::sandbox) fn create_file(path: &Path) -> io::Result<File> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The names and paths in a directory; empty if it does not exist.
fn entries(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    read.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    })
    .collect()
}

fn digest(hex: &str) -> io::Result<Digest> {
    format!("sha256:{hex}").parse().map_err(not_ours)
}

fn not_ours(problem: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a sandbox's directory: {problem}"))
}

/// Checks a tag or a component of a name that becomes a file name.
fn file_name(text: &str) -> io::Result<&str> {
    let word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    let good = text.bytes().next().is_some_and(|first| word(&first))
        && text.bytes().all(|b| word(&b) || matches!(b, b'.' | b'-'));
    if good { Ok(text) } else { Err(cannot_be_stored(text)) }
}

fn cannot_be_stored(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` cannot be stored"))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
