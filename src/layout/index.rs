//! `index.json`: the names and descriptors of images, as `skopeo` and `umoci` read and write them.
//!
//! The document is edited as JSON, so that order and unknown fields are kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{failure::cannot_read, file, store::BlobStore};
use crate::model::{
    Descriptor, Digest, Error, Kind, Manifest, MediaType, RawManifest, Result, Tag, fallback_tag,
};

/// The annotation that names an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

pub(super) const MARKER: &str = "oci-layout";

pub(super) const MARKER_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The maximum size of a marker, in bytes; ours has 30.
const MARKER_LIMIT: u64 = 4096;

/// The maximum size of `index.json`, in bytes. An entry has about 300 bytes: about 200,000 images.
const LIMIT: u64 = 64 << 20;

/// The entries of a layout without its marker: an interrupted run leaves them.
const PARTIAL_LAYOUT: [&str; 3] = ["index.json", "blobs", ".ecr-mirror"];

/// Names that an error lists.
const LISTED: usize = 20;

/// Returns `false` for no directory, an empty one, and a layout without its marker.
///
/// # Errors
/// [`Kind::Configuration`] if the directory has other content; [`Kind::Unsupported`] for a layout of
/// another version.
pub(super) fn is_layout(directory: &Path) -> Result<bool> {
    let marker = directory.join(MARKER);
    match file::read(&marker, MARKER_LIMIT) {
        Ok(content) => check_version(&content, &marker).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check_vacant(directory).map(|()| false)
        }
        Err(error) => Err(cannot_read(&marker)(error)),
    }
}

fn check_version(content: &[u8], marker: &Path) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let shown = marker.display();
    let Marker { image_layout_version: version } =
        serde_json::from_slice(content).map_err(|cause| {
            Error::new(Kind::Corrupt, format!("`{shown}` is not the marker of an OCI layout"))
                .because(cause)
        })?;
    if version.starts_with("1.") {
        return Ok(());
    }
    let problem = format!("`{shown}` has version `{version}`; only version 1 is supported");
    Err(Error::new(Kind::Unsupported, problem))
}

fn check_vacant(directory: &Path) -> Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(cannot_read(directory))?,
    };
    for entry in entries {
        let name = entry.map_err(cannot_read(directory))?.file_name();
        if !PARTIAL_LAYOUT.iter().any(|known| name == *known) {
            let problem = format!(
                "`{}` is not an OCI image layout: it contains `{}` and no `{MARKER}`",
                directory.display(),
                name.to_string_lossy()
            );
            return Err(Error::new(Kind::Configuration, problem)
                .hint("name a layout, or a directory that is empty or does not exist"));
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct LayoutIndex {
    path: PathBuf,
    document: Map<String, Value>,
}

impl LayoutIndex {
    /// Reads the index of an existing layout.
    pub(super) fn of_layout(directory: &Path) -> Result<Self> {
        if !is_layout(directory)? {
            let problem = format!("there is no OCI image layout in `{}`", directory.display());
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("name the directory that has the file `{MARKER}` in it")));
        }
        Self::read(directory)
    }

    /// Reads the index. A missing file is an empty index.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("index.json");
        let bytes = match file::read(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, document: empty() });
            }
            Err(error) => return Err(cannot_read(&path)(error)),
        };
        let wrong = || {
            Error::new(Kind::Corrupt, format!("`{}` is not an index of images", path.display()))
                .hint("restore it, or start with an empty directory")
        };
        let document: Map<String, Value> =
            serde_json::from_slice(&bytes).map_err(|cause| wrong().because(cause))?;
        // Go writes an empty list as `null`
        if !document.get("manifests").is_none_or(|list| list.is_array() || list.is_null()) {
            return Err(wrong());
        }
        Ok(Self { path, document })
    }

    fn entries(&self) -> &[Value] {
        self.document.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn descriptor(&self, entry: &Value) -> Result<Descriptor> {
        Descriptor::deserialize(entry).map_err(|cause| {
            Error::new(Kind::Corrupt, format!("`{}` has a bad entry", self.path.display()))
                .because(cause)
        })
    }

    pub(super) fn descriptors(&self) -> Result<Vec<Descriptor>> {
        self.entries().iter().map(|entry| self.descriptor(entry)).collect()
    }

    /// The image with this name.
    pub(super) fn named(&self, name: &str) -> Result<Option<Descriptor>> {
        let mut found: Option<Descriptor> = None;
        for entry in self.entries().iter().filter(|entry| name_of(entry) == Some(name)) {
            let next = self.descriptor(entry)?;
            if found.as_ref().is_some_and(|found| found.digest != next.digest) {
                let shown = self.path.display();
                let problem = format!("several images are named `{name}` in `{shown}`");
                return Err(Error::new(Kind::Unsupported, problem)
                    .hint("give each its own name, or merge them into one index"));
            }
            found = Some(next);
        }
        Ok(found)
    }

    /// The indexes with this fallback tag, in any repository of the layout.
    pub(super) fn listings(&self, tag: &Tag) -> Result<Vec<Descriptor>> {
        let is_listing = |entry: &&Value| name_of(entry).map(tag_of) == Some(tag.as_str());
        self.entries().iter().filter(is_listing).map(|entry| self.descriptor(entry)).collect()
    }

    /// The referrers that the fallback tags of the subject list, as `regctl` writes them.
    ///
    /// # Errors
    /// If a list cannot be read: it would look empty.
    pub(super) fn tagged_referrers(
        &self,
        store: &BlobStore,
        subject: &Digest,
    ) -> Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        for listing in self.listings(&fallback_tag::of(subject))? {
            if let Manifest::Index(index) = store.listing(&listing)?.read()? {
                found.extend(index.manifests);
            }
        }
        Ok(found)
    }

    /// The only image and its name; `None` for no or several images.
    ///
    /// Beside an image with a name, images without one are its referrers, or have lost their name.
    /// A name that is made from a digest belongs to referrers.
    pub(super) fn only_image(&self) -> Result<Option<(Digest, Option<String>)>> {
        let mut named = self.entries().iter().filter(|entry| image_name(entry).is_some());
        let only = match (named.next(), named.next(), self.entries()) {
            (Some(only), None, _) | (None, _, [only]) => only,
            _ => return Ok(None),
        };
        Ok(Some((self.descriptor(only)?.digest, name_of(only).map(str::to_owned))))
    }

    /// The media type in the entry of this digest.
    pub(super) fn media_type(&self, digest: &Digest) -> Option<&str> {
        self.entries().iter().find(|entry| has_digest(entry, digest))?["mediaType"].as_str()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// The names of the images, for a hint.
    pub(super) fn list_names(&self) -> String {
        let mut names: Vec<&str> = self.entries().iter().filter_map(image_name).collect();
        names.sort_unstable();
        names.dedup();
        let listed: Vec<String> =
            names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => "no image has a name".to_owned(),
            LISTED.. => format!("the layout has {}, …", listed.join(", ")),
            _ => format!("the layout has {}", listed.join(", ")),
        }
    }

    /// Gives the name to this manifest only. Returns `true` if that changes the document.
    pub(super) fn set_name(&mut self, name: &str, manifest: &RawManifest) -> bool {
        let entries = self.entries_mut();
        let is_named = |entry: &Value| name_of(entry) == Some(name);
        let is_manifest = |entry: &Value| has_digest(entry, manifest.digest());
        let mut named = entries.iter().filter(|entry| is_named(entry));
        if named.next().is_some_and(is_manifest) && named.next().is_none() {
            return false;
        }
        let mut entry = entry_of(manifest);
        entry["annotations"] = json!({ REF_NAME: name });
        let first = entries.iter().position(is_named).unwrap_or(entries.len());
        entries.retain(|entry| !is_named(entry));
        entries.insert(first, entry);
        true
    }

    /// Adds the manifest without a name, as a referrer. Returns `true` if that changes the document.
    pub(super) fn add_manifest(&mut self, manifest: &RawManifest) -> bool {
        let entries = self.entries_mut();
        let is_new = !entries.iter().any(|entry| has_digest(entry, manifest.digest()));
        if is_new {
            entries.push(entry_of(manifest));
        }
        is_new
    }

    fn entries_mut(&mut self) -> &mut Vec<Value> {
        let list = self.document.entry("manifests").or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        list.as_array_mut().expect("the line above makes it an array")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.document).expect("a JSON object serialises")
    }
}

fn entry_of(manifest: &RawManifest) -> Value {
    json!({
        "mediaType": manifest.media_type().as_str(),
        "digest": manifest.digest(),
        "size": manifest.bytes().len(),
    })
}

fn empty() -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("schemaVersion".into(), 2.into());
    document.insert("mediaType".into(), MediaType::OciIndex.as_str().into());
    document.insert("manifests".into(), json!([]));
    document
}

fn has_digest(entry: &Value, digest: &Digest) -> bool {
    entry["digest"].as_str() == Some(digest.as_str())
}

/// The tag in a name: all of it, or the part after the repository.
fn tag_of(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The name, if it is an image's.
fn image_name(entry: &Value) -> Option<&str> {
    name_of(entry).filter(|name| !fallback_tag::is_derived(tag_of(name)))
}

fn name_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}
