//! The images to copy: made from seeds, the same bytes on every machine.
//!
//! Content is shared as in real images: repositories share base layers, a repository's tags share
//! application layers, and no images share configurations and attestations.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Increment when a corpus changes, so that kept ones are not used for it.
pub(crate) const EDITION: u32 = 2;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const STATEMENT: &str = "application/vnd.in-toto+json";
const PLATFORMS: [&str; 2] = ["amd64", "arm64"];
const KB: u64 = 1_000;
const MB: u64 = 1_000_000;

/// A corpus, with everything that a copier needs to know.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Corpus {
    /// The distinct blobs, largest first.
    pub(crate) blobs: Vec<Blob>,
    /// The manifests, each after those it names.
    pub(crate) manifests: Vec<Manifest>,
}

/// One blob, and its repositories.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Blob {
    pub(crate) digest: String,
    pub(crate) size: u64,
    /// The repositories that need it, in order of name.
    pub(crate) repositories: Vec<String>,
    /// Known only to the process that makes the corpus.
    #[serde(skip)]
    pub(crate) content: Content,
}

/// One manifest in one repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) repository: String,
    /// `None` for children.
    pub(crate) tag: Option<String>,
    pub(crate) digest: String,
    pub(crate) media_type: String,
    pub(crate) content: String,
}

/// The recipe of a blob.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Text(String),
    /// Incompressible bytes.
    Noise {
        seed: u64,
        size: u64,
    },
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// The bytes, in pieces.
    pub(crate) fn pieces(self) -> Box<dyn Iterator<Item = Vec<u8>> + Send> {
        match self {
            Self::Text(text) => Box::new(std::iter::once(text.into_bytes())),
            Self::Noise { seed, size } => Box::new(noise(seed, size)),
        }
    }
}

/// SplitMix64, in pieces of 256 KiB.
fn noise(seed: u64, size: u64) -> impl Iterator<Item = Vec<u8>> + Send {
    const PIECE: u64 = 256 << 10;
    let mut state = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
    (0..size.div_ceil(PIECE)).map(move |number| {
        let wanted = PIECE.min(size - number * PIECE) as usize;
        let mut piece = Vec::with_capacity(wanted + 8);
        while piece.len() < wanted {
            piece.extend_from_slice(&mix(&mut state).to_le_bytes());
        }
        piece.truncate(wanted);
        piece
    })
}

fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl Corpus {
    /// The tags, as repository, tag and digest.
    pub(crate) fn tags(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.manifests.iter().filter_map(|manifest| {
            let tag = manifest.tag.as_deref()?;
            Some((manifest.repository.as_str(), tag, manifest.digest.as_str()))
        })
    }

    /// The repositories with their tags.
    pub(crate) fn repositories(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for (repository, tag, _) in self.tags() {
            all.entry(repository).or_default().push(tag);
        }
        all
    }

    /// Total size of the distinct blobs.
    pub(crate) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

/// 24 repositories of 4 multi-arch tags with attestations: 1,176 distinct blobs, 1.56 GB.
///
/// The first `changed` of the 96 tags differ from those of the unchanged corpus.
pub(crate) fn main(changed: u64) -> Corpus {
    let mut builder = CorpusBuilder::default();
    for repository in 0..24 {
        let name = format!("app-{repository:02}");
        for number in 0..4 {
            let tag = repository * 4 + number;
            let release = tag + if tag < changed { 1_000 } else { 0 };
            let image = |arch| main_layers(arch, repository, tag, release);
            builder.image(&name, &format!("v1.{number}"), release, Attested::Yes, image);
        }
    }
    builder.finish()
}

/// Layers from four bases and eight runtimes, two of the repository, one or two of the tag.
fn main_layers(arch: u64, repository: u64, tag: u64, release: u64) -> Vec<Content> {
    let layer = |kind: u64, number: u64, place: u64, size: u64| Content::Noise {
        seed: (kind << 40) | (number << 8) | (place << 1) | arch,
        size,
    };
    let (base, runtime) = (repository % 4, repository % 8);
    let mut layers = Vec::new();
    for (place, size) in [30 * MB, 8 * MB, MB, 200 * KB].into_iter().enumerate() {
        layers.push(layer(1, base, place as u64, size));
    }
    for (place, size) in [40 * MB, 5 * MB, 4 * KB].into_iter().enumerate() {
        layers.push(layer(2, runtime, place as u64, size));
    }
    for (place, size) in [4 * MB, 300 * KB].into_iter().enumerate() {
        layers.push(layer(3, repository, place as u64, size));
    }
    layers.push(layer(4, release, 0, (450 + 25 * (tag * 37 % 96)) * KB));
    if tag < 20 {
        layers.push(layer(4, release, 1, 60 * KB));
    }
    layers
}

/// One repository of 300 multi-arch tags that differ in their configurations only.
pub(crate) fn tiny() -> Corpus {
    let mut builder = CorpusBuilder::default();
    for tag in 0..300 {
        builder.image("tiny", &format!("v{tag}"), tag, Attested::No, |arch| {
            let layer = |place: u64| Content::Noise {
                seed: (5 << 40) | (place << 1) | arch,
                size: 40 * KB * (place + 1),
            };
            (0..5).map(layer).collect()
        });
    }
    builder.finish()
}

/// One image of one platform with one layer of 1 GiB.
pub(crate) fn big() -> Corpus {
    let mut builder = CorpusBuilder::default();
    builder.single("big", vec![Content::Noise { seed: 6 << 40, size: 1 << 30 }]);
    builder.finish()
}

/// Two repositories with an image of six layers each, of which they share five.
pub(crate) fn shared() -> Corpus {
    let mut builder = CorpusBuilder::default();
    for (number, repository) in (0..).zip(["filled", "fresh"]) {
        let seeds = (0..5).chain([100 + number]);
        let layer = |place: u64| Content::Noise { seed: (7 << 40) | place, size: MB };
        builder.single(repository, seeds.map(layer).collect());
    }
    builder.finish()
}

#[derive(Clone, Copy)]
enum Attested {
    Yes,
    No,
}

#[derive(Default)]
struct CorpusBuilder {
    corpus: Corpus,
    /// Index of each digest in the blobs.
    places: HashMap<String, usize>,
    /// The digests of content made from seeds.
    made: HashMap<(u64, u64), String>,
}

impl CorpusBuilder {
    fn image(
        &mut self,
        repository: &str,
        tag: &str,
        release: u64,
        attested: Attested,
        layers: impl Fn(u64) -> Vec<Content>,
    ) {
        let (mut images, mut statements) = (Vec::new(), Vec::new());
        for (number, arch) in PLATFORMS.into_iter().enumerate() {
            let digest = self.platform(repository, arch, release, layers(number as u64));
            let platform = json!({ "architecture": arch, "os": "linux" });
            images.push(self.entry(&digest, json!({ "platform": platform })));
            if matches!(attested, Attested::Yes) {
                let statement = self.attestation(repository, arch, release, &digest);
                let about = json!({
                    "annotations": {
                        "vnd.docker.reference.digest": digest,
                        "vnd.docker.reference.type": "attestation-manifest",
                    },
                    "platform": { "architecture": "unknown", "os": "unknown" },
                });
                statements.push(self.entry(&statement, about));
            }
        }
        images.append(&mut statements);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": images });
        self.manifest(repository, Some(tag), INDEX, &index);
    }

    /// Adds a repository with one tag: an image of one platform.
    fn single(&mut self, repository: &str, layers: Vec<Content>) {
        let manifest = self.platform(repository, "amd64", 0, layers);
        let tagged = self.corpus.manifests.iter_mut().find(|made| made.digest == manifest);
        tagged.expect("it was made just now").tag = Some("v1".to_owned());
    }

    /// Adds an image of one platform, and returns its digest.
    fn platform(
        &mut self,
        repository: &str,
        arch: &str,
        release: u64,
        layers: Vec<Content>,
    ) -> String {
        let layers: Vec<Value> =
            layers.into_iter().map(|layer| self.blob(repository, LAYER, layer)).collect();
        let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let labels = [("org.opencontainers.image.version", format!("{repository} {release}"))];
        let config = json!({
            "architecture": arch,
            "os": "linux",
            "config": {
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "Cmd": ["/app"],
                "Labels": BTreeMap::from(labels),
            },
            "history": history(digests.len()),
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        let config = self.blob(repository, CONFIG, Content::Text(config.to_string()));
        self.image_manifest(repository, config, layers)
    }

    /// Adds an attestation: a bill of materials and the provenance.
    fn attestation(&mut self, repository: &str, arch: &str, release: u64, of: &str) -> String {
        let config = json!({ "architecture": arch, "os": "unknown", "config": {}, "of": of });
        let config = self.blob(repository, CONFIG, Content::Text(config.to_string()));
        let kinds = [("https://spdx.dev/Document", 300), ("https://slsa.dev/provenance/v1", 40)];
        let layers = kinds.map(|(kind, parts)| {
            let parts: Vec<String> = (0..parts)
                .map(|part| format!("pkg:deb/debian/lib{part}@{release}.{part}?arch={arch}"))
                .collect();
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": kind,
                "subject": [{ "name": repository, "digest": { "sha256": &of[7..] } }],
                "predicate": { "packages": parts },
            });
            self.blob(repository, STATEMENT, Content::Text(statement.to_string()))
        });
        self.image_manifest(repository, config, layers.to_vec())
    }

    fn image_manifest(&mut self, repository: &str, config: Value, layers: Vec<Value>) -> String {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.manifest(repository, None, MANIFEST, &manifest)
    }

    fn manifest(
        &mut self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        document: &Value,
    ) -> String {
        let content = document.to_string();
        let digest = digest(std::iter::once(content.as_bytes()));
        self.corpus.manifests.push(Manifest {
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.clone(),
            media_type: media_type.to_owned(),
            content,
        });
        digest
    }

    /// An index's entry for an existing manifest, with these additional fields.
    fn entry(&self, digest: &str, more: Value) -> Value {
        let made = self.corpus.manifests.iter().rev().find(|made| made.digest == digest);
        let size = made.expect("children are made first").content.len();
        let mut entry = json!({ "mediaType": MANIFEST, "digest": digest, "size": size });
        if let (Value::Object(entry), Value::Object(more)) = (&mut entry, more) {
            entry.extend(more);
        }
        entry
    }

    /// Adds a blob to the repository, and returns its descriptor.
    fn blob(&mut self, repository: &str, media_type: &str, content: Content) -> Value {
        let digest = self.digest(&content);
        let size = match &content {
            Content::Text(text) => text.len() as u64,
            Content::Noise { size, .. } => *size,
        };
        let blobs = &mut self.corpus.blobs;
        let place = *self.places.entry(digest.clone()).or_insert_with(|| {
            let repositories = Vec::new();
            blobs.push(Blob { digest: digest.clone(), size, repositories, content });
            blobs.len() - 1
        });
        let blob = &mut blobs[place];
        if blob.repositories.last().is_none_or(|last| last != repository) {
            blob.repositories.push(repository.to_owned());
        }
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn digest(&mut self, content: &Content) -> String {
        let fresh = || digest(content.clone().pieces());
        match content {
            Content::Text(_) => fresh(),
            Content::Noise { seed, size } => {
                self.made.entry((*seed, *size)).or_insert_with(fresh).clone()
            }
        }
    }

    fn finish(mut self) -> Corpus {
        self.corpus.blobs.sort_by_key(|blob| std::cmp::Reverse(blob.size));
        self.corpus.manifests.sort_by_key(|manifest| manifest.media_type == INDEX);
        self.corpus
    }
}

fn history(layers: usize) -> Vec<Value> {
    let step = |number| json!({ "created_by": format!("RUN make step-{number} # buildkit") });
    (0..layers).map(step).collect()
}

fn digest(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut hasher = Sha256::new();
    pieces.for_each(|piece| hasher.update(piece));
    let mut digest = "sha256:".to_owned();
    for byte in hasher.finalize() {
        write!(digest, "{byte:02x}").expect("a string takes everything");
    }
    digest
}
