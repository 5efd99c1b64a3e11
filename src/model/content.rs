//! Content: descriptors, and manifests as the served bytes.
//!
//! A [`RawManifest`] is never serialized again. The structs are for reading and ignore unknown
//! fields. Content that cannot be mirrored bit for bit is rejected here: schema 1, unknown media
//! types, ambiguous documents. Reads a `null` list or map as empty: Go encoders write them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};

use super::{
    error::{Error, Kind, Result},
    image::ForeignLayers,
    names::{Digest, NameError},
    platform::{Platform, known_platform},
    text::printable,
};

/// The largest manifest ECR stores, in bytes.
///
/// Source: ECR API model, `imageManifest`.
pub const MANIFEST_LIMIT: u64 = 4_194_304;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaType {
    OciIndex,
    /// An OCI image manifest; also Helm charts and other artifacts.
    OciManifest,
    DockerList,
    /// A Docker image manifest, version 2 schema 2.
    DockerManifest,
}

impl MediaType {
    /// All media types that can be mirrored.
    pub const ALL: [Self; 4] =
        [Self::OciIndex, Self::OciManifest, Self::DockerList, Self::DockerManifest];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::OciIndex => oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
            Self::OciManifest => oci_client::manifest::OCI_IMAGE_MEDIA_TYPE,
            Self::DockerList => oci_client::manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            Self::DockerManifest => oci_client::manifest::IMAGE_MANIFEST_MEDIA_TYPE,
        }
    }

    /// The media type with this name, without parameters (`; charset=…`); `None` if unknown.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text))
    }

    pub(crate) fn is_index(self) -> bool {
        matches!(self, Self::OciIndex | Self::DockerList)
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A reference to content: its media type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type, as written.
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) media_type: String,
    #[serde(deserialize_with = "digest")]
    pub digest: Digest,
    #[serde(deserialize_with = "size")]
    pub(crate) size: u64,
    /// The platform of the manifest, in an index; `None` if the entry does not name it completely.
    #[serde(default, deserialize_with = "known_platform")]
    pub platform: Option<Platform>,
    #[serde(default, deserialize_with = "annotations")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) artifact_type: Option<String>,
    /// Other places of the content.
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) urls: Vec<String>,
}

/// A value; the empty one for `null`.
fn or_empty<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Annotations; omits those that are `null`.
fn annotations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, String>, D::Error> {
    let all: BTreeMap<String, Option<String>> = or_empty(deserializer)?;
    Ok(all.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// A digest. The error contains the text, because a manifest has many digests.
fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error: NameError| de::Error::custom(format!("`{}` {error}", shortened(&text))))
}

/// The size of `{}`, in bytes.
const EMPTY_JSON: u64 = 2;

/// The largest size of a descriptor, 16 TiB: sums of sizes cannot overflow.
const SIZE_LIMIT: u64 = 16 << 40;

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        size if size <= SIZE_LIMIT => Ok(size),
        size => Err(de::Error::custom(format!("the size {size} B exceeds 16 TiB"))),
    }
}

impl Descriptor {
    /// Returns `true` if clients fetch the content from its URLs, and a registry need not have it
    /// (Windows base layers). Without URLs only the registry has it.
    ///
    /// Source: OCI image specification, "Non-Distributable Layers".
    pub(crate) fn is_foreign(&self) -> bool {
        let media_type = &self.media_type;
        !self.urls.is_empty()
            && (media_type.contains("nondistributable") || media_type.contains(".foreign."))
    }

    /// Returns `true` for a layer of a file system, which images share.
    fn is_file_system(&self) -> bool {
        let kinds = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
        kinds.iter().any(|kind| self.media_type.starts_with(kind))
    }

    /// Returns `true` for the configuration of an image, which names its platform.
    pub(crate) fn is_image_config(&self) -> bool {
        use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE};
        [IMAGE_CONFIG_MEDIA_TYPE, IMAGE_DOCKER_CONFIG_MEDIA_TYPE].contains(&&*self.media_type)
    }

    /// Checks that the manifest that this descriptor names has the described length.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] for another length: clients refuse such a manifest.
    pub(crate) fn check_length(&self, manifest: &RawManifest) -> Result<()> {
        let (length, Self { digest, size, .. }) = (manifest.bytes().len() as u64, self);
        match length == *size {
            true => Ok(()),
            false => Err(wrong_size(format!(
                "manifest {digest} has {length} B, and its descriptor says {size} B"
            ))),
        }
    }

    pub(crate) fn is_index(&self) -> bool {
        MediaType::parse(&self.media_type).is_some_and(MediaType::is_index)
    }

    /// The digest of the image manifest that this BuildKit attestation describes.
    ///
    /// Source: BuildKit, "Image attestation storage".
    pub(crate) fn attests(&self) -> Option<&str> {
        let annotation = |key: &str| self.annotations.get(key).map(String::as_str);
        match annotation("vnd.docker.reference.type") {
            Some("attestation-manifest") => annotation("vnd.docker.reference.digest").or(Some("")),
            _ => None,
        }
    }
}

/// A manifest: the served bytes, their media type and digest.
#[derive(Clone, PartialEq, Eq)]
pub struct RawManifest {
    bytes: Bytes,
    media_type: MediaType,
    digest: Digest,
}

impl RawManifest {
    /// Determines the media type and the digest of served bytes.
    ///
    /// The media type is the document's `mediaType`, else the `Content-Type`, else it follows from
    /// the fields: some registries serve `text/html`, and OCI documents need not name their type.
    ///
    /// # Errors
    /// [`Kind::TooLarge`] above [`MANIFEST_LIMIT`]. [`Kind::Unsupported`] for schema 1, unknown types
    /// and ambiguous documents. [`Kind::Corrupt`] if it is not a JSON object.
    pub fn new(bytes: Bytes, content_type: Option<&str>) -> Result<Self> {
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(too_large(bytes.len() as u64));
        }
        let media_type = media_type_of(&bytes, content_type)?;
        let digest = Digest::of(&bytes);
        Ok(Self { bytes, media_type, digest })
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn media_type(&self) -> MediaType {
        self.media_type
    }

    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The digest of the manifest's subject and its own artifact type; `None` without a subject.
    pub fn reference(&self) -> Option<(Digest, Option<String>)> {
        let fields: SubjectFields = serde_json::from_slice(&self.bytes).ok()?;
        let artifact_type = fields.artifact_type.or(fields.config.map(|config| config.media_type));
        Some((fields.subject?.digest, artifact_type))
    }

    /// Parses the manifest.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if a field is missing or invalid, or if a digest has two sizes.
    pub fn read(&self) -> Result<Manifest> {
        let wrong = |cause: serde_json::Error| {
            Error::new(
                Kind::Corrupt,
                format!("manifest {} is not a valid {}", self.digest, self.media_type),
            )
            .because(cause)
        };
        if self.media_type.is_index() {
            let index: Index = serde_json::from_slice(&self.bytes).map_err(wrong)?;
            self.check_sizes(&index.manifests)?;
            return Ok(Manifest::Index(index));
        }
        let image: ImageManifest = serde_json::from_slice(&self.bytes).map_err(wrong)?;
        self.check_sizes(image.layers.iter().chain([&image.config]))?;
        Ok(Manifest::Image(image))
    }

    fn check_sizes<'a>(&self, listed: impl IntoIterator<Item = &'a Descriptor>) -> Result<()> {
        let mut sizes = HashMap::new();
        for Descriptor { digest, size, .. } in listed {
            let first = *sizes.entry(digest).or_insert(*size);
            if first != *size {
                let named = format!("manifest {} lists {digest}", self.digest);
                return Err(wrong_size(format!("{named} with {first} B and with {size} B")));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RawManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawManifest({}, {}, {} B)", self.media_type, self.digest, self.bytes.len())
    }
}

/// The error for a descriptor with a wrong size. Clients check sizes, so the image cannot be pulled.
fn wrong_size(problem: String) -> Error {
    Error::new(Kind::Corrupt, problem)
        .hint("rebuild the image, and push it again with a current tool")
}

/// The error for a manifest of at least this many bytes.
pub(crate) fn too_large(size: u64) -> Error {
    Error::new(
        Kind::TooLarge,
        format!("the manifest has {size} B or more, ECR stores at most {MANIFEST_LIMIT} B"),
    )
    .hint(
        "remove this image from the configuration, or rebuild it with fewer annotations or layers",
    )
}

#[derive(Debug, Clone)]
pub enum Manifest {
    /// A list of other manifests.
    Index(Index),
    /// A config and layers.
    Image(ImageManifest),
}

#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// The listed manifests, in the order of the document.
    #[serde(deserialize_with = "or_empty")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "annotations")]
    pub(crate) annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct ImageManifest {
    pub(crate) config: Descriptor,
    /// The layers, base first.
    #[serde(default, deserialize_with = "or_empty")]
    pub layers: Vec<Descriptor>,
}

impl ImageManifest {
    /// The blobs that a registry needs before the manifest: layers, then config. Each once, without
    /// foreign layers.
    pub fn blobs(&self) -> Vec<&Descriptor> {
        self.blobs_with(ForeignLayers::Skip)
    }

    /// The blobs that a registry has after a copy with this policy.
    pub(crate) fn blobs_with(&self, foreign: ForeignLayers) -> Vec<&Descriptor> {
        let mut seen = std::collections::HashSet::new();
        let all = self.layers.iter().chain([&self.config]);
        let is_copied = |blob: &&Descriptor| foreign == ForeignLayers::Copy || !blob.is_foreign();
        all.filter(|blob| is_copied(blob) && seen.insert(&blob.digest)).collect()
    }

    /// The blobs that other images are unlikely to have: the configuration, and content that is no
    /// layer of a file system, such as attestations and signatures.
    pub(crate) fn own_blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let own = self.layers.iter().filter(|layer| !layer.is_file_system());
        // artifacts share the empty configuration
        own.chain([&self.config]).filter(|blob| blob.size > EMPTY_JSON)
    }

    pub(crate) fn foreign_layers(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().filter(|layer| layer.is_foreign())
    }
}

/// The fields of a referrer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubjectFields {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
}

/// The fields that determine the media type.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ManifestOutline {
    schema_version: Option<u64>,
    media_type: Option<String>,
    manifests: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

fn media_type_of(bytes: &[u8], content_type: Option<&str>) -> Result<MediaType> {
    let outline: ManifestOutline = serde_json::from_slice(bytes).map_err(|cause| {
        Error::new(Kind::Corrupt, "the registry's answer is not a manifest").because(cause).hint(
            "check for a proxy that answers in place of the registry, for example with a login page",
        )
    })?;
    let named = outline.media_type.as_deref().unwrap_or_default();
    let schema_1 =
        named.contains("docker.distribution.manifest.v1+") || outline.fs_layers.is_some();
    if outline.schema_version == Some(1) || schema_1 {
        return Err(Error::new(Kind::Unsupported, "the manifest is Docker schema 1")
            .hint("rebuild the image, or push it again with a current tool: the format was retired in 2024"));
    }
    if outline.manifests.is_some() && (outline.layers.is_some() || outline.config.is_some()) {
        // CVE-2021-41190: one document, two readings
        return Err(Error::new(Kind::Unsupported, "the manifest is both an index and an image"));
    }
    if let Some(known) = MediaType::parse(named) {
        return Ok(known);
    }
    if !named.is_empty() {
        return Err(unknown_type(named));
    }
    if let Some(known) = content_type.and_then(MediaType::parse) {
        return Ok(known);
    }
    match (outline.manifests.is_some(), outline.config.is_some()) {
        (true, _) => Ok(MediaType::OciIndex),
        (_, true) => Ok(MediaType::OciManifest),
        _ => Err(unknown_type(content_type.unwrap_or("no media type"))),
    }
}

fn unknown_type(named: &str) -> Error {
    let named = shortened(named);
    Error::new(Kind::Unsupported, format!("the manifest has an unknown media type, `{named}`"))
        .hint("mirror only OCI and Docker (version 2 schema 2) images, indexes and artifacts")
}

/// A text from outside for an error: no longer than the longest digest.
fn shortened(text: &str) -> String {
    printable(text).chars().take(135).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media_type(json: &str, content_type: Option<&str>) -> Result<MediaType, Kind> {
        RawManifest::new(Bytes::copy_from_slice(json.as_bytes()), content_type)
            .map(|m| m.media_type())
            .map_err(|e| e.kind())
    }

    #[test]
    fn the_media_type_is_the_documents_then_the_content_types_then_that_of_the_fields() {
        let list = MediaType::DockerList.as_str();
        for (json, served, expected) in [
            (
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
                Some(list),
                Ok(MediaType::OciIndex),
            ),
            (
                r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[]}"#,
                None,
                Ok(MediaType::OciManifest),
            ),
            (r#"{"manifests":[]}"#, Some(list), Ok(MediaType::DockerList)),
            (r#"{"manifests":[]}"#, Some("text/html"), Ok(MediaType::OciIndex)),
            (r#"{"config":{},"layers":[]}"#, None, Ok(MediaType::OciManifest)),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, Err(Kind::Unsupported)),
            (
                r#"{"mediaType":"application/vnd.docker.distribution.manifest.v1+prettyjws"}"#,
                None,
                Err(Kind::Unsupported),
            ),
            (r#"{"mediaType":"application/x-new"}"#, Some(list), Err(Kind::Unsupported)),
            (r#"{"manifests":[],"layers":[]}"#, Some(list), Err(Kind::Unsupported)),
            (r#"{"manifests":[],"config":{}}"#, Some(list), Err(Kind::Unsupported)),
            (
                r#"{"manifests":[]}"#,
                Some("APPLICATION/vnd.docker.distribution.manifest.list.v2+json; charset=utf-8"),
                Ok(MediaType::DockerList),
            ),
            ("{}", None, Err(Kind::Unsupported)),
            ("<html>", Some(list), Err(Kind::Corrupt)),
        ] {
            assert_eq!(media_type(json, served), expected, "{json}");
        }
    }

    #[test]
    fn every_form_of_schema_1_is_named_in_the_error() {
        let prettyjws = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        for (json, is_schema_1) in [
            (r#"{"schemaVersion":1,"config":{},"layers":[]}"#.to_owned(), true),
            (r#"{"schemaVersion":2,"config":{},"fsLayers":[]}"#.to_owned(), true),
            (format!(r#"{{"schemaVersion":2,"mediaType":"{prettyjws}"}}"#), true),
            (r#"{"schemaVersion":2,"mediaType":"application/x-new"}"#.to_owned(), false),
        ] {
            let error = RawManifest::new(json.clone().into(), None).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported, "{json}");
            assert_eq!(error.to_string().contains("schema 1"), is_schema_1, "{error}");
        }
    }

    #[test]
    fn a_layer_is_foreign_only_with_urls_and_a_media_type_for_it() {
        const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        const OCI: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (media_type, urls, expected) in [
            (FOREIGN, r#"["https://a/b"]"#, true),
            (OCI, r#"["https://a/b"]"#, true),
            (FOREIGN, "[]", false),
            (OCI, "null", false),
            (LAYER, r#"["https://a/b"]"#, false),
        ] {
            let digest = Digest::of(b"");
            let json = format!(
                r#"{{"mediaType":"{media_type}","digest":"{digest}","size":1,"urls":{urls}}}"#
            );
            let layer: Descriptor = serde_json::from_str(&json).unwrap();
            assert_eq!(layer.is_foreign(), expected, "{json}");
        }
    }

    #[test]
    fn an_image_needs_each_blob_once_and_its_foreign_layers_only_if_they_are_copied() {
        let digests = [1, 2, 3].map(|n| Digest::of(&[n]));
        let [layer, foreign, config] = &digests;
        let entry = |digest| format!(r#"{{"digest":"{digest}","size":1}}"#);
        let [plain, config_entry] = [layer, config].map(entry);
        let foreign_entry = format!(
            r#"{{"mediaType":"x.foreign.y","urls":["https://a/b"],"digest":"{foreign}","size":1}}"#
        );
        let json = format!(
            r#"{{"config":{config_entry},"layers":[{foreign_entry},{plain},{plain},{config_entry}]}}"#
        );
        let image: ImageManifest = serde_json::from_str(&json).unwrap();
        let digests = |blobs: Vec<&Descriptor>| -> Vec<Digest> {
            blobs.into_iter().map(|blob| blob.digest.clone()).collect()
        };
        assert_eq!(digests(image.blobs()), [layer.clone(), config.clone()]);
        let copied = digests(image.blobs_with(ForeignLayers::Copy));
        assert_eq!(copied, [foreign.clone(), layer.clone(), config.clone()]);
        let skipped: Vec<&Descriptor> = image.foreign_layers().collect();
        assert_eq!(digests(skipped), vec![foreign.clone()]);
    }

    #[test]
    fn an_images_own_blobs_are_its_configuration_and_content_other_than_file_systems() {
        let entry = |n: u8, size, media_type| {
            let digest = Digest::of(&[n]);
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let layers = [
            entry(1, 9, "application/vnd.oci.image.layer.v1.tar+gzip"),
            entry(2, 9, "application/vnd.docker.image.rootfs.diff.tar.gzip"),
            entry(3, 9, "application/vnd.in-toto+json"),
        ];
        // the empty configuration has 2 B
        for (size, expected) in [(2, &[3][..]), (3, &[3, 4])] {
            let config = entry(4, size, "application/vnd.oci.image.config.v1+json");
            let json = format!(r#"{{"config":{config},"layers":[{}]}}"#, layers.join(","));
            let image: ImageManifest = serde_json::from_str(&json).unwrap();
            let own: Vec<&Digest> = image.own_blobs().map(|blob| &blob.digest).collect();
            let expected: Vec<Digest> = expected.iter().map(|&n| Digest::of(&[n])).collect();
            assert_eq!(own, Vec::from_iter(&expected), "{size}");
        }
    }

    #[test]
    fn a_manifest_of_another_length_than_described_is_rejected() {
        let raw = RawManifest::new(Bytes::from_static(b"{\"manifests\":[]}"), None).unwrap();
        for (size, expected) in [(16, Ok(())), (15, Err(Kind::Corrupt)), (17, Err(Kind::Corrupt))] {
            let json = format!(r#"{{"digest":"{}","size":{size}}}"#, raw.digest());
            let entry: Descriptor = serde_json::from_str(&json).unwrap();
            assert_eq!(entry.check_length(&raw).map_err(|error| error.kind()), expected, "{size}");
        }
    }

    #[test]
    fn an_error_shows_at_most_135_characters_of_a_text_from_outside() {
        let json = format!(r#"{{"mediaType":"{}\u0007"}}"#, "x".repeat(200));
        let error = RawManifest::new(json.into(), None).unwrap_err().to_string();
        assert!(error.ends_with(&format!("media type, `{}`", "x".repeat(135))), "{error}");
        let error = serde_json::from_str::<Descriptor>(r#"{"digest":"sha256:no","size":1}"#);
        assert!(error.unwrap_err().to_string().starts_with("`sha256:no` "));
    }

    #[test]
    fn a_size_above_16_tib_is_rejected() {
        let digest = Digest::of(b"");
        for (size, is_size) in [
            ("0", true),
            ("17592186044416", true),
            ("17592186044417", false),
            ("18446744073709551615", false),
            ("18446744073709551616", false),
            ("-1", false),
            ("1.5", false),
            ("\"1\"", false),
        ] {
            let json = format!(r#"{{"digest":"{digest}","size":{size}}}"#);
            assert_eq!(serde_json::from_str::<Descriptor>(&json).is_ok(), is_size, "{size}");
        }
    }

    #[test]
    fn one_digest_with_two_sizes_is_rejected() {
        let (one, other) = (Digest::of(b"1"), Digest::of(b"2"));
        let entry = |digest, size| format!(r#"{{"digest":"{digest}","size":{size}}}"#);
        let [small, large, config] = [entry(&one, 1), entry(&one, 2), entry(&other, 1)];
        for (json, expected) in [
            (format!(r#"{{"config":{config},"layers":[{small},{small}]}}"#), Ok(())),
            (format!(r#"{{"config":{config},"layers":[{small},{large}]}}"#), Err(Kind::Corrupt)),
            (format!(r#"{{"config":{large},"layers":[{small}]}}"#), Err(Kind::Corrupt)),
            (format!(r#"{{"manifests":[{small},{config},{small}]}}"#), Ok(())),
            (format!(r#"{{"manifests":[{small},{config},{large}]}}"#), Err(Kind::Corrupt)),
        ] {
            let manifest = RawManifest::new(json.clone().into(), None).unwrap();
            assert_eq!(manifest.read().map(drop).map_err(|it| it.kind()), expected, "{json}");
        }
    }

    #[test]
    fn a_manifest_above_four_mebibytes_is_rejected() {
        let empty = r#"{"config":{},"x":""}"#;
        let space = MANIFEST_LIMIT as usize - empty.len();
        for (length, expected) in
            [(space, Ok(MediaType::OciManifest)), (space + 1, Err(Kind::TooLarge))]
        {
            let json = empty.replace(r#""""#, &format!(r#""{}""#, "a".repeat(length)));
            assert_eq!(media_type(&json, None), expected, "{length}");
        }
    }
}
