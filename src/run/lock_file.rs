//! The lock file: the digest of every mirrored tag, so that another run mirrors exactly these.
//!
//! Pull-through images are omitted: ECR decides which digest their tags point to. An entry that is
//! not in the lock file, or whose `select` has changed, is an error, and nothing is mirrored.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use serde::Deserialize;

use crate::{
    config::{Config, Entry, Tags, between_listed},
    model::{
        Digest, Error, Image, Kind, Reference, Result, Tag, TagOrDigest,
        outcome::{Report, Totals},
    },
};

/// Digests by source reference and, for selected images, by selection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LockFile(BTreeMap<(String, Option<String>), Digest>);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockDocument {
    version: u32,
    #[serde(default)]
    image: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    source: String,
    digest: Digest,
    select: Option<String>,
}

const HEADER: &str = "# What `ecr-mirror sync --lock` mirrored; `sync --locked` mirrors exactly this.\n\
    version = 1\n";

impl LockFile {
    /// Adds an image of the entry. An image with several targets is one record.
    pub(crate) fn add(&mut self, entry: &Entry, at: &TagOrDigest, digest: &Digest) {
        self.0.insert((entry.reference(at), selection_key(entry)), digest.clone());
    }

    /// The digest of the source of an entry with one exact tag, or one digest.
    pub(crate) fn digest(&self, entry: &Entry) -> Option<&Digest> {
        let at = match &entry.tags {
            Tags::Exact(tags) => TagOrDigest::Tag(tags.first()?.clone()),
            Tags::Pinned { digest, .. } => TagOrDigest::Digest(digest.clone()),
            Tags::Selected(_) => return None,
        };
        self.0.get(&(entry.reference(&at), None))
    }

    /// Adds the records of another lock file.
    ///
    /// # Errors
    /// [`Kind::Configuration`] if a digest differs.
    pub(crate) fn join(&mut self, other: &Self) -> Result<()> {
        for (key, digest) in &other.0 {
            let known = self.0.entry(key.clone()).or_insert_with(|| digest.clone());
            if known != digest {
                let problem = format!("the lock files name two digests for `{}`", key.0);
                return Err(
                    Error::new(Kind::Configuration, problem).hint("name the lock files of one run")
                );
            }
        }
        Ok(())
    }

    /// Returns `true` if every image of the run succeeded: a lock file covers them all.
    pub(crate) fn covers(report: &Report) -> bool {
        let Totals { copied, up_to_date, warmed, .. } = report.totals;
        copied + up_to_date + warmed == report.images.len() as u64
    }

    /// The error of a lock file that would not cover every selected image.
    pub(crate) fn unwritten(path: &Path) -> Error {
        let path = path.display();
        let problem =
            format!("the lock file `{path}` is not written: it would not cover every image");
        Error::new(Kind::Unavailable, problem)
            .hint("fix the failed images, restore the archived ones, and run again")
    }

    /// Writes the file. The same lock gives the same bytes.
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(HEADER.as_bytes())?;
        for ((source, select), digest) in &self.0 {
            writeln!(out, "\n[[image]]\nsource = {}", quoted(source))?;
            writeln!(out, "digest = {}", quoted(digest.as_str()))?;
            if let Some(select) = select {
                writeln!(out, "select = {}", quoted(select))?;
            }
        }
        Ok(())
    }

    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let error = |message: String| {
            Error::new(Kind::Configuration, message).hint("write one with `sync --lock FILE`")
        };
        let text = fs::read_to_string(path).map_err(|cause| {
            error(format!("cannot read the lock file `{shown}`")).because(cause)
        })?;
        let wrong = || error(format!("`{shown}` is not a lock file"));
        let document: LockDocument =
            toml::from_str(&text).map_err(|cause| wrong().because(cause))?;
        if document.version != 1 {
            let message = format!("has version {}; only version 1 is supported", document.version);
            return Err(wrong().because(Error::new(Kind::Configuration, message)));
        }
        let locked = |record: Record| ((record.source, record.select), record.digest);
        Ok(Self(document.image.into_iter().map(locked).collect()))
    }

    /// The mirrored images of these entries, each pinned to its digest.
    pub(crate) fn images(&self, config: &Config, entries: &[&Entry]) -> Result<Vec<Image>> {
        let mut images = Vec::new();
        for entry in entries.iter().filter(|entry| !entry.mirrored.is_empty()) {
            let own = self.images_of(entry)?.into_iter();
            images.extend(own.map(|image| (image, entry.on_conflict)));
        }
        let all: Vec<_> = images.iter().map(|(image, policy)| (image, *policy)).collect();
        let overlaps = between_listed(config, &all);
        if let Some((_, problem)) = overlaps.problems(config, &all).into_iter().next() {
            return Err(Error::new(Kind::Configuration, problem));
        }
        let mut images: Vec<Image> = images.into_iter().map(|(image, _)| image).collect();
        overlaps.remove_from(&mut images);
        images.retain(|image| !image.targets.is_empty());
        Ok(images)
    }

    fn images_of(&self, entry: &Entry) -> Result<Vec<Image>> {
        let repository = format!("{}/{}", entry.host, entry.repository);
        let absent = |what: &str| {
            Error::new(Kind::Configuration, format!("{what} is not in the lock file"))
                .hint("write a new lock file with `sync --lock FILE`")
        };
        let pinned = |tag: &Tag, digest: &Digest| {
            entry.image(tag, Some(digest)).map_err(|wrong| {
                Error::new(Kind::Configuration, format!("`{}` of `{tag}` {wrong}", entry.retag))
            })
        };
        match &entry.tags {
            Tags::Pinned { digest, tag } => Ok(vec![pinned(tag, digest)?]),
            Tags::Exact(tags) => {
                let image = |tag: &Tag| {
                    let source = format!("{repository}:{tag}");
                    let digest = self.0.get(&(source.clone(), None));
                    pinned(tag, digest.ok_or_else(|| absent(&format!("`{source}`")))?)
                };
                tags.iter().map(image).collect()
            }
            Tags::Selected(selection) => {
                let select = selection_key(entry);
                let mut images = Vec::new();
                for ((source, _), digest) in self.0.iter().filter(|(key, _)| key.1 == select) {
                    if let Ok(Reference { host, repository, tag: Some(tag), .. }) = source.parse()
                        && (&host, &repository) == (&entry.host, &entry.repository)
                    {
                        images.push(pinned(&tag, digest)?);
                    }
                }
                if images.is_empty() && selection.at_least > 0 {
                    return Err(absent(&format!("`{repository}` with this `select`")));
                }
                Ok(images)
            }
        }
    }
}

/// The canonical form of the entry's selection.
fn selection_key(entry: &Entry) -> Option<String> {
    if let Tags::Selected(selection) = &entry.tags { Some(selection.to_string()) } else { None }
}

/// A TOML string: every JSON string is one.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "[[destination]]\nregistry = \"r.example\"\n\
        [[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\n\
        [[image]]\nsource = \"nginx\"\nselect = { glob = [\"*-\\\"alpine\"], newest = 2 }\n";

    fn config(text: &str) -> Config {
        Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap()
    }

    fn digest(of: &str) -> Digest {
        Digest::of(of.as_bytes())
    }

    fn lock(config: &Config) -> LockFile {
        let mut lock = LockFile::default();
        let [exact, selected] = &config.entries[..] else { panic!("two entries") };
        let at = |tag: &str| TagOrDigest::Tag(tag.parse().unwrap());
        lock.add(selected, &at("1.27-alpine"), &digest("b"));
        lock.add(exact, &at("1.27"), &digest("a"));
        lock.add(selected, &at("1.26-alpine"), &digest("c"));
        lock
    }

    #[test]
    fn a_lock_file_round_trips_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.lock");
        let lock = lock(&config(TOML));
        let mut text = Vec::new();
        lock.write(&mut text).unwrap();
        fs::write(&path, &text).unwrap();
        let read = LockFile::read(&path).unwrap();
        assert_eq!(read, lock);
        let mut again = Vec::new();
        read.write(&mut again).unwrap();
        assert_eq!(again, text);
        let text = String::from_utf8(text).unwrap();
        let first = format!(
            "\n\n[[image]]\nsource = \"docker.io/library/nginx:1.26-alpine\"\ndigest = \"{}\"\nselect = \"{{ glob",
            digest("c")
        );
        assert!(text.contains(&first), "{text}");
    }

    #[test]
    fn locked_images_are_pinned_to_their_digests() {
        let config = config(TOML);
        let entries: Vec<&Entry> = config.entries.iter().collect();
        let images = lock(&config).images(&config, &entries).unwrap();
        let lines: Vec<String> = images
            .iter()
            .map(|image| format!("{} → {}", image.origin, image.targets[0].tag))
            .collect();
        let pinned = |of, tag| format!("docker.io/library/nginx@{} → {tag}", digest(of));
        assert_eq!(
            lines,
            [pinned("a", "1.27"), pinned("c", "1.26-alpine"), pinned("b", "1.27-alpine")]
        );
    }

    #[test]
    fn an_entry_that_is_not_in_the_lock_is_an_error() {
        let lock = lock(&config(TOML));
        for (from, to, expected) in [
            ("\"1.27\"", "\"1.28\"", "`docker.io/library/nginx:1.28` is not in the lock file"),
            (
                "newest = 2",
                "newest = 3",
                "`docker.io/library/nginx` with this `select` is not in the lock file",
            ),
            (
                "source = \"nginx\"\nsel",
                "source = \"redis\"\nsel",
                "`docker.io/library/redis` with this `select` is not in the lock file",
            ),
        ] {
            let changed = config(&TOML.replace(from, to));
            let entries: Vec<&Entry> = changed.entries.iter().collect();
            let error = lock.images(&changed, &entries).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (Kind::Configuration, expected));
        }
    }

    #[test]
    fn a_file_that_is_not_a_lock_file_is_a_configuration_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mirror.lock");
        assert_eq!(LockFile::read(&path).unwrap_err().kind(), Kind::Configuration);
        for text in
            ["", "version = 2", "version = 1\n[[image]]\nsource = \"x\"", "version = 1\nx = 1", "{"]
        {
            fs::write(&path, text).unwrap();
            let error = LockFile::read(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Configuration, "{text}");
            assert!(error.to_string().ends_with("mirror.lock` is not a lock file"), "{error}");
        }
    }
}
