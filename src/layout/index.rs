//! `index.json`: what images are called and what they are, as `skopeo` and `umoci` read and write it.
//!
//! Guards that what is not understood is kept as it is: the document is edited
//! as JSON, order and unknown fields included.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    failure::{FileOperation, failed},
    file,
};
use crate::model::{Descriptor, Digest, Error, Kind, MediaType, RawManifest, Result};

/// The annotation that names an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The marker file's name.
pub(super) const MARKER: &str = "oci-layout";

/// The marker of a layout.
pub(super) const MARKER_CONTENT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// How large a marker may be, in bytes; that one has 30.
const MARKER_LIMIT: u64 = 4096;

/// How large `index.json` may be, in bytes: an entry has some 300, so 200,000 images.
const LIMIT: u64 = 64 << 20;

/// What a directory may hold and still be free for a layout: what a new one begins with.
const BEGINNINGS: [&str; 3] = ["index.json", "blobs", ".ecr-mirror"];

/// How many names an error lists.
const LISTED: usize = 20;

/// What stands in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LayoutState {
    /// A layout.
    Layout,
    /// Nothing, or the beginnings of a layout.
    Vacant,
}

/// Looks what stands in the directory.
///
/// # Errors
/// [`Kind::Configuration`] when it is something else; [`Kind::Unsupported`] for a layout of
/// another version.
pub(super) fn standing(directory: &Path) -> Result<LayoutState> {
    let marker = directory.join(MARKER);
    match file::read(&marker, MARKER_LIMIT) {
        Ok(content) => check_version(&content, &marker).map(|()| LayoutState::Layout),
        Err(error) if error.kind() == io::ErrorKind::NotFound => vacancy(directory),
        Err(error) => Err(failed(FileOperation::Read, &marker, error)),
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
            Error::new(Kind::Corrupt, format!("`{shown}` does not read as an OCI layout's"))
                .because(cause)
        })?;
    match version.starts_with("1.") {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Unsupported,
            format!("`{shown}` is of version `{version}`, only 1 is known"),
        )),
    }
}

fn vacancy(directory: &Path) -> Result<LayoutState> {
    let unreadable = |error| failed(FileOperation::Read, directory, error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LayoutState::Vacant),
        entries => entries.map_err(unreadable)?,
    };
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        if !BEGINNINGS.iter().any(|known| name == *known) {
            let problem = format!(
                "`{}` is no OCI image layout: it holds `{}`, and no `{MARKER}`",
                directory.display(),
                name.to_string_lossy()
            );
            return Err(Error::new(Kind::Configuration, problem)
                .hint("name a layout, or a directory that is empty or does not exist"));
        }
    }
    Ok(LayoutState::Vacant)
}

/// The document, with the layout it belongs to.
#[derive(Debug)]
pub(super) struct LayoutIndex {
    path: PathBuf,
    document: Map<String, Value>,
}

impl LayoutIndex {
    /// The index of a directory that must be a layout.
    ///
    /// # Errors
    /// Those of [`standing`] and [`Self::read`]; [`Kind::Configuration`] where there is none.
    pub(super) fn of_layout(directory: &Path) -> Result<Self> {
        if standing(directory)? == LayoutState::Vacant {
            let problem = format!("there is no OCI image layout in `{}`", directory.display());
            return Err(Error::new(Kind::Configuration, problem)
                .hint(format!("name the directory that has the file `{MARKER}` in it")));
        }
        Self::read(directory)
    }

    /// The index as it stands; an empty one where there is none yet.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] when it is not an index, or those of reading.
    pub(super) fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("index.json");
        let bytes = match file::read(&path, LIMIT) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path, document: empty() });
            }
            Err(error) => return Err(failed(FileOperation::Read, &path, error)),
        };
        let wrong = || {
            Error::new(Kind::Corrupt, format!("`{}` is not an index of images", path.display()))
                .hint("restore it, or begin with an empty directory")
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

    /// Everything that is listed.
    ///
    /// # Errors
    /// When an entry is malformed.
    pub(super) fn descriptors(&self) -> Result<Vec<Descriptor>> {
        self.entries().iter().map(|entry| self.descriptor(entry)).collect()
    }

    /// What the image of this name is; `None` where none is called so.
    ///
    /// # Errors
    /// When its entry is malformed, or several images have the name.
    pub(super) fn named(&self, name: &str) -> Result<Option<Descriptor>> {
        let mut found: Option<Descriptor> = None;
        for entry in self.entries().iter().filter(|entry| name_of(entry) == Some(name)) {
            let next = self.descriptor(entry)?;
            if found.as_ref().is_some_and(|found| found.digest != next.digest) {
                let shown = self.path.display();
                let problem = format!("several images are called `{name}` in `{shown}`");
                return Err(Error::new(Kind::Unsupported, problem)
                    .hint("give each a name of its own, or join them to one index"));
            }
            found = Some(next);
        }
        Ok(found)
    }

    /// The only image and its name, if it has one; `None` where there are none or several.
    ///
    /// Beside one that has a name, those without are what refers to it, or what lost its name.
    pub(super) fn only_image(&self) -> Result<Option<(Digest, Option<String>)>> {
        let mut named = self.entries().iter().filter(|entry| name_of(entry).is_some());
        let only = match (named.next(), named.next(), self.entries()) {
            (Some(only), None, _) | (None, _, [only]) => only,
            _ => return Ok(None),
        };
        Ok(Some((self.descriptor(only)?.digest, name_of(only).map(str::to_owned))))
    }

    /// As what the manifest of this digest is listed.
    pub(super) fn media_type(&self, digest: &Digest) -> Option<&str> {
        let is_it = |entry: &&Value| entry["digest"].as_str() == Some(digest.as_str());
        self.entries().iter().find(is_it)?["mediaType"].as_str()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// What images there are, for people.
    pub(super) fn names_in_words(&self) -> String {
        let mut names: Vec<&str> = self.entries().iter().filter_map(name_of).collect();
        names.sort_unstable();
        names.dedup();
        let listed: Vec<String> =
            names.iter().take(LISTED).map(|name| format!("`{name}`")).collect();
        match names.len() {
            0 => "none has a name".to_owned(),
            LISTED.. => format!("there is {}, …", listed.join(", ")),
            _ => format!("there is {}", listed.join(", ")),
        }
    }

    /// Lets the name stand for this manifest and no other; whether that changes anything.
    pub(super) fn point(&mut self, name: &str, manifest: &RawManifest) -> bool {
        let entries = self.list();
        let is_named = |entry: &Value| name_of(entry) == Some(name);
        let of_it = |entry: &Value| entry["digest"].as_str() == Some(manifest.digest().as_str());
        let mut named = entries.iter().filter(|entry| is_named(entry));
        if named.next().is_some_and(of_it) && named.next().is_none() {
            return false;
        }
        let mut entry = entry_of(manifest);
        entry["annotations"] = json!({ REF_NAME: name });
        match entries.iter().position(is_named) {
            Some(at) => {
                let mut later = entries.split_off(at);
                later.retain(|entry| !is_named(entry));
                entries.push(entry);
                entries.append(&mut later);
            }
            None => entries.push(entry),
        }
        true
    }

    /// Lists the manifest without a name, as what refers to another is found; whether that
    /// changes anything.
    pub(super) fn add_manifest(&mut self, manifest: &RawManifest) -> bool {
        let entries = self.list();
        let of_it = |entry: &Value| entry["digest"].as_str() == Some(manifest.digest().as_str());
        if entries.iter().any(of_it) {
            return false;
        }
        entries.push(entry_of(manifest));
        true
    }

    fn list(&mut self) -> &mut Vec<Value> {
        let list = self.document.entry("manifests").or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        list.as_array_mut().expect("it was made one above")
    }

    /// The document as it is written.
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

fn name_of(entry: &Value) -> Option<&str> {
    entry["annotations"][REF_NAME].as_str()
}
