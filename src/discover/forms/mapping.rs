//! The description of a mapping: source → destination, for each image. Every form is made from it.

use std::{collections::BTreeSet, ops::Range, path::PathBuf};

use crate::model::{Host, Platforms, Reference};

/// Images and their places at the destination.
#[derive(Debug, Clone)]
pub struct ImageMapping {
    pub basis: MappingBasis,
    /// At most one for each source.
    pub images: Vec<MappedImage>,
    /// Those that files use, and that the destination does not have. Empty for
    /// [`MappingBasis::Configuration`].
    pub missing: Vec<MissingImage>,
    /// The destination hosts that speak plain HTTP, besides loopback hosts.
    pub plain_http: BTreeSet<Host>,
    /// The targets of the bake files that were read.
    pub bake_targets: BTreeSet<String>,
}

/// The origin of the images of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MappingBasis {
    /// The selection of a configuration. A build can use other tags of the same repositories.
    Configuration,
    /// The references that files use, each as it is used. The forms cover nothing else.
    Uses,
}

#[derive(Debug, Clone)]
pub struct MappedImage {
    /// The reference at the source. Without tag and digest it is `latest`. From a configuration it
    /// has the digest of a pinned image, and the tag that the configuration gives it.
    pub source: Reference,
    /// The reference to pull. Its digest is that of the mirrored content, where it is known.
    pub destination: Reference,
    /// The platforms that are mirrored.
    pub platforms: Platforms,
    pub is_cached: bool,
    /// Empty for [`MappingBasis::Configuration`].
    pub uses: Vec<ImageUse>,
}

/// An image that no form may change, also where another image has the same name or argument.
#[derive(Debug, Clone)]
pub struct MissingImage {
    pub source: Reference,
    /// `false` if the configuration mirrors it to other destinations only.
    pub is_sent: bool,
    pub uses: Vec<ImageUse>,
}

/// A place of a file that names an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    pub kind: UseKind,
    pub spelling: Spelling,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UseKind {
    From,
    CopyFrom,
    MountFrom,
    /// The `# syntax=` directive.
    Syntax,
    /// The `image` of a service.
    Compose {
        service: String,
    },
    /// A context `docker-image://…` of a target.
    Bake {
        target: String,
        context: String,
    },
    /// An item of `containers` or `initContainers` in a manifest.
    Kubernetes,
    /// Another text of a manifest, which Kustomize does not change.
    KubernetesOther,
    /// A file of another kind. No form can change it but `map` and `env`.
    Other,
}

/// The text of a reference in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spelling {
    /// The bytes of the file that it takes.
    pub span: Range<usize>,
    /// One part without variables.
    pub parts: Vec<SpellingPart>,
}

/// A part of a reference: literal text, or the expansion of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpellingPart {
    /// The text in the file, like `${VERSION:-3.20}`.
    pub written: String,
    /// The text after expansion, like `3.20`. Equal to `written` for literal text.
    pub expanded: String,
    /// The build argument whose value replaces the whole part. `None` for literal text, and for an
    /// expansion that changes the value, like `${V%-*}`.
    pub argument: Option<String>,
}

impl Spelling {
    /// A reference without variables.
    pub fn literal(start: usize, text: &str) -> Self {
        let part =
            SpellingPart { written: text.to_owned(), expanded: text.to_owned(), argument: None };
        Self { span: start..start + text.len(), parts: vec![part] }
    }

    /// The text in the file.
    pub fn written(&self) -> String {
        self.parts.iter().map(|part| part.written.as_str()).collect()
    }

    /// The text after expansion.
    pub fn expanded(&self) -> String {
        self.parts.iter().map(|part| part.expanded.as_str()).collect()
    }
}
