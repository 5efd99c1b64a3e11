//! Builds a real image for several platforms: `tar` and `gzip` pack files of this machine into an
//! OCI layout that `skopeo` can push.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ecr_mirror::model::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::peer::{self, directory, text};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A file of this machine that every image contains, as a path relative to the root.
pub(crate) const SHELL: &str = "bin/bash";
/// The file that differs between images. It contains the image's name and platform.
pub(crate) const NAME: &str = "etc/image";

/// Platforms of each image.
pub(crate) const PLATFORMS: [&str; 3] = ["linux/amd64", "linux/arm64/v8", "linux/arm/v7"];

/// An OCI layout with one index, tagged `image`.
pub(crate) struct Layout {
    files: TempDir,
}

impl Layout {
    /// Creates an image for all of [`PLATFORMS`]: one shared layer, and one layer per platform.
    pub(crate) fn new(name: &str) -> Self {
        let layout = Self { files: directory() };
        fs::create_dir_all(layout.blobs()).expect("the directory is new");
        let shared = layout.layer(Path::new("/"), &[SHELL, "etc/os-release"]);
        let children: Vec<Value> =
            PLATFORMS.iter().map(|platform| layout.child(name, platform, &shared)).collect();
        let mut index = layout.put_blob(
            INDEX,
            &bytes(&json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": children })),
        );
        index["annotations"] = json!({ "org.opencontainers.image.ref.name": "image" });
        let entry = json!({ "schemaVersion": 2, "manifests": [index] });
        let version = json!({ "imageLayoutVersion": "1.0.0" });
        for (file, content) in [("index.json", entry), ("oci-layout", version)] {
            fs::write(layout.files.path().join(file), bytes(&content)).expect("the disk takes it");
        }
        layout
    }

    /// The reference of the index for `skopeo`.
    pub(crate) fn reference(&self) -> String {
        format!("oci:{}:image", text(self.files.path()))
    }

    /// The bytes of the index.
    pub(crate) fn raw(&self) -> Vec<u8> {
        let entry = read(&self.files.path().join("index.json"));
        fs::read(blob(self.files.path(), &entry["manifests"][0])).expect("it was written")
    }

    fn blobs(&self) -> PathBuf {
        self.files.path().join("blobs/sha256")
    }

    /// Writes a blob and returns its descriptor.
    fn put_blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        fs::write(self.blobs().join(digest.hex()), content).expect("the disk takes it");
        json!({ "mediaType": media_type, "digest": digest.as_str(), "size": content.len() })
    }

    /// Packs files into a layer. Returns its descriptor and the digest of the unpacked archive.
    fn layer(&self, root: &Path, files: &[&str]) -> (Value, Digest) {
        let archive = self.files.path().join("layer.tar");
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner"]);
        tar.args(["--dereference", "-C", text(root), "-cf", text(&archive)]).args(files);
        peer::output(&mut tar);
        let content = fs::read(&archive).expect("`tar` has written it");
        let packed = peer::output(Command::new("gzip").arg("-nc").arg(&archive));
        fs::remove_file(&archive).expect("it is this layer's alone");
        (self.put_blob(LAYER, &packed), Digest::of(&content))
    }

    /// Creates the image for one platform and returns its descriptor with the platform.
    fn child(&self, name: &str, platform: &str, shared: &(Value, Digest)) -> Value {
        let root = directory();
        fs::create_dir(root.path().join("etc")).expect("the directory is new");
        fs::write(root.path().join(NAME), content(name, platform)).expect("the disk takes it");
        let own = self.layer(root.path(), &[NAME]);
        let platform = platform_json(platform);
        let mut config = platform.clone();
        config["config"] = json!({ "Cmd": [format!("/{SHELL}")] });
        let unpacked = [shared.1.as_str(), own.1.as_str()];
        config["rootfs"] = json!({ "type": "layers", "diff_ids": unpacked });
        let config = self.put_blob(CONFIG, &bytes(&config));
        let layers = [&shared.0, &own.0];
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut child = self.put_blob(MANIFEST, &bytes(&manifest));
        child["platform"] = platform;
        child
    }
}

/// Content of [`NAME`] in the image for this platform.
pub(crate) fn content(name: &str, platform: &str) -> String {
    format!("{name} {platform}\n")
}

fn platform_json(platform: &str) -> Value {
    let mut parts = platform.split('/');
    let mut platform = json!({ "os": parts.next(), "architecture": parts.next() });
    if let Some(variant) = parts.next() {
        platform["variant"] = json!(variant);
    }
    platform
}

fn bytes(content: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(content).expect("JSON can be written")
}

fn read(path: &Path) -> Value {
    let text = fs::read(path).expect("the layout has the file");
    serde_json::from_slice(&text).expect("the file is JSON")
}

/// Path of the blob that the descriptor describes.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().expect("a descriptor has a digest");
    layout.join("blobs").join(digest.replace(':', "/"))
}

/// Unpacks the layers of the only image of the layout, in order.
pub(crate) fn unpack(layout: &Path) -> TempDir {
    let root = directory();
    let manifest = read(&blob(layout, &read(&layout.join("index.json"))["manifests"][0]));
    for layer in manifest["layers"].as_array().expect("an image has layers") {
        let mut tar = Command::new("tar");
        tar.args(["-C", text(root.path()), "-xzf", text(&blob(layout, layer))]);
        peer::output(&mut tar);
    }
    root
}

/// Platform and digest of each manifest in the index, in order.
pub(crate) fn children(index: &[u8]) -> Vec<(String, String)> {
    let index: Value = serde_json::from_slice(index).expect("an index is JSON");
    let manifests = index["manifests"].as_array().expect("an index has manifests");
    let named = manifests.iter().map(|child| {
        let platform = &child["platform"];
        let parts = ["os", "architecture", "variant"].map(|part| platform[part].as_str());
        let platform: Vec<&str> = parts.into_iter().flatten().collect();
        (platform.join("/"), child["digest"].as_str().expect("it has a digest").to_owned())
    });
    named.collect()
}
