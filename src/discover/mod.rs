//! Finds the images that a build or a cluster uses, and writes the forms that make it use the
//! mirror.
//!
//! [`read`] turns the text of one file into [`Use`]s. It is pure: [`files`] walks directories and
//! reads files.

mod bake;
mod compose;
mod detect;
mod dockerfile;
pub(crate) mod files;
pub mod forms;
mod github;
mod gitlab;
mod json_files;
mod kubernetes;
mod selection;
#[cfg(test)]
mod tests;
mod variables;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

pub use self::selection::{UsedImage, by_digest, used_images};
use self::{
    detect::FileFormat,
    forms::{ImageUse, Spelling, UseKind},
    variables::Expansion,
};
use crate::model::{Platform, Reference, text::printable, yaml::Node};

/// The parts of a build that its files do not contain.
#[derive(Debug, Clone)]
pub struct DiscoverOptions {
    /// Values of `ARG`s, and of variables in other files.
    pub build_args: BTreeMap<String, String>,
    /// The stage to build, by name or number. `None` reads every stage.
    pub target: Option<String>,
    /// The platforms to build for. Empty for [`build_platform`].
    pub platforms: Vec<Platform>,
    /// The names that build contexts replace. They are no images.
    pub contexts: BTreeSet<String>,
    /// A variable of the environment, for the files whose programs read it.
    pub environment: fn(&str) -> Option<String>,
}

impl Default for DiscoverOptions {
    fn default() -> Self {
        Self {
            build_args: BTreeMap::new(),
            target: None,
            platforms: Vec::new(),
            contexts: BTreeSet::new(),
            environment: |_| None,
        }
    }
}

impl DiscoverOptions {
    /// The value of a variable of a file whose program reads the environment.
    fn variable(&self, name: &str) -> Option<String> {
        self.build_args.get(name).cloned().or_else(|| (self.environment)(name))
    }
}

/// The platform of BuildKit on this host. BuildKit runs on Linux.
pub fn build_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    let name = format!("linux/{architecture}");
    name.parse().unwrap_or_else(|_| "linux/amd64".parse().expect("`linux/amd64` is a platform"))
}

/// One use of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub place: ImageUse,
    /// The instruction, or the path of the key: `FROM`, `services.web.image`.
    pub found: String,
    pub image: Resolution,
    /// The platform that the file sets, like `FROM --platform=linux/amd64`.
    pub platform: Option<Platform>,
    /// A text that looks like a reference, under a key without a known meaning.
    pub is_maybe: bool,
}

impl Use {
    /// BuildKit's scanner for SBOMs, which no file names. The option stands for the file.
    ///
    /// Source: <https://docs.docker.com/build/metadata/attestations/sbom/>, "SBOM generator"
    pub(crate) fn sbom_scanner() -> Self {
        const SCANNER: &str = "docker/buildkit-syft-scanner:stable-1";
        let spelling = Spelling::literal(0, SCANNER);
        let place = ImageUse { file: "--sbom".into(), line: 1, kind: UseKind::Other, spelling };
        let image = Resolution::Image(SCANNER.parse().expect("it is a reference"));
        let found = "SBOM scanner".to_owned();
        Self { place, found, image, platform: None, is_maybe: false }
    }
}

/// The image of a use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// With a tag or a digest.
    Image(Reference),
    /// These variables have no value.
    Missing(Vec<String>),
    /// No reference. The text says why.
    Invalid(String),
}

/// A file, or a part of one, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    pub problem: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.problem)
    }
}

/// A Dockerfile that another file builds, and what it is built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFile {
    pub path: PathBuf,
    pub build_args: BTreeMap<String, String>,
    pub target: Option<String>,
    pub contexts: BTreeSet<String>,
    pub platforms: Vec<Platform>,
}

impl BuildFile {
    /// The options for the Dockerfile. Those of the user precede.
    fn options(&self, given: &DiscoverOptions) -> DiscoverOptions {
        let mut options = given.clone();
        for (name, value) in &self.build_args {
            options.build_args.entry(name.clone()).or_insert_with(|| value.clone());
        }
        options.target = given.target.clone().or_else(|| self.target.clone());
        options.contexts.extend(self.contexts.iter().cloned());
        if options.platforms.is_empty() {
            options.platforms.clone_from(&self.platforms);
        }
        options
    }
}

/// The content of one file, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundUses {
    pub uses: Vec<Use>,
    pub unreadable: Vec<Unreadable>,
    /// The Dockerfiles that compose files, bake files and devcontainers build.
    pub builds: Vec<BuildFile>,
    /// The targets of bake files.
    pub bake_targets: Vec<String>,
    /// `true` if a Dockerfile has the stage [`DiscoverOptions::target`].
    pub has_target: bool,
}

impl FoundUses {
    fn append(&mut self, other: Self) {
        self.uses.extend(other.uses);
        self.unreadable.extend(other.unreadable);
        self.builds.extend(other.builds);
        self.bake_targets.extend(other.bake_targets);
        self.has_target |= other.has_target;
    }
}

/// Reads one file. `None` if it has no known format.
pub fn read(file: &Path, text: &str, options: &DiscoverOptions) -> Option<FoundUses> {
    read_with(FileReader::new(file, text, options))
}

/// Reads one file below a directory. A Dockerfile that has only a similar name has no mistakes.
fn read_below(file: &Path, text: &str, options: &DiscoverOptions) -> Option<FoundUses> {
    let is_guess = FileFormat::is_guess(file);
    read_with(FileReader { is_guess, ..FileReader::new(file, text, options) })
}

fn read_with(mut reader: FileReader<'_>) -> Option<FoundUses> {
    match FileFormat::of(reader.file, reader.text)? {
        FileFormat::Dockerfile => dockerfile::read(&mut reader),
        FileFormat::Documents(kind) => detect::read_documents(&mut reader, kind)?,
    }
    Some(reader.finish())
}

/// Reads one file and collects its uses.
struct FileReader<'a> {
    file: &'a Path,
    text: &'a str,
    options: &'a DiscoverOptions,
    /// A file that may be no Dockerfile, whatever its name says.
    is_guess: bool,
    /// The places of the lines in the text.
    lines: Vec<usize>,
    found: FoundUses,
}

/// A reference in a file, before it is read.
struct FoundText {
    expansion: Expansion,
    /// The bytes of the file.
    start: usize,
    end: usize,
    kind: UseKind,
    found: String,
    platform: Option<Platform>,
    is_maybe: bool,
    /// A variable without a value is empty, as BuildKit has it.
    missing_is_empty: bool,
}

impl FoundText {
    fn new(expansion: Expansion, start: usize, kind: UseKind, found: impl Into<String>) -> Self {
        let end = start + expansion.parts.iter().map(|part| part.written.len()).sum::<usize>();
        let (platform, is_maybe, missing_is_empty) = (None, false, false);
        Self {
            expansion,
            start,
            end,
            kind,
            found: found.into(),
            platform,
            is_maybe,
            missing_is_empty,
        }
    }
}

impl<'a> FileReader<'a> {
    fn new(file: &'a Path, text: &'a str, options: &'a DiscoverOptions) -> Self {
        let lines = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(lines).collect();
        Self { file, text, options, is_guess: false, lines, found: FoundUses::default() }
    }

    /// The uses in file order, each once.
    fn finish(mut self) -> FoundUses {
        let uses = &mut self.found.uses;
        uses.sort_by_cached_key(|one| {
            (one.place.line, one.place.spelling.span.start, one.place.spelling.expanded())
        });
        uses.dedup();
        self.found
    }

    /// The line of a place in the text, from 1.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at)
    }

    fn add(&mut self, text: FoundText) {
        let image = resolve(&text.expansion, text.missing_is_empty);
        self.add_as(text, image);
    }

    fn add_as(&mut self, text: FoundText, image: Resolution) {
        let place = ImageUse {
            file: self.file.to_owned(),
            line: self.line(text.start),
            kind: text.kind,
            spelling: Spelling { span: text.start..text.end, parts: text.expansion.parts },
        };
        let found = Use {
            place,
            found: printable(&text.found).to_string(),
            image,
            platform: text.platform,
            is_maybe: text.is_maybe,
        };
        self.found.uses.push(found);
    }

    /// Adds the reference of a YAML or JSON value.
    fn add_value(&mut self, node: &Node, expansion: Expansion, kind: UseKind, found: String) {
        let written: String = expansion.parts.iter().map(|part| part.written.as_str()).collect();
        let start = self.start_of(node, &written);
        self.add(FoundText::new(expansion, start, kind, found));
    }

    /// The place of the text of a YAML or JSON value. Quotes and anchors are before it.
    fn start_of(&self, node: &Node, written: &str) -> usize {
        let near = self.text.get(node.start..).unwrap_or_default();
        let line = near.split('\n').next().unwrap_or_default();
        node.start + line.find(written).unwrap_or_default()
    }

    /// Adds the images of a Dockerfile that stands in a value of another file.
    fn add_inline(&mut self, node: &Node, build: &BuildFile) {
        let Some(text) = node.text() else { return };
        let options = build.options(self.options);
        let mut inline = FileReader::new(self.file, text, &options);
        dockerfile::read(&mut inline);
        let FoundUses { uses, unreadable, has_target, .. } = inline.finish();
        // the lines of a quoted text are escaped
        let is_quoted = |text: &str| text.starts_with(['"', '\'']);
        let is_escaped = self.text.get(node.start..).is_some_and(is_quoted);
        let last = self.lines.len();
        let line =
            |own: usize| if is_escaped { node.line } else { (node.line + own - 1).min(last) };
        self.found.has_target |= has_target;
        self.found.uses.extend(uses.into_iter().map(|mut one| {
            one.place.line = line(one.place.line);
            one.place.kind = UseKind::Other;
            one.place.spelling.span = node.start..node.start;
            one
        }));
        self.found
            .unreadable
            .extend(unreadable.into_iter().map(|one| Unreadable { line: line(one.line), ..one }));
    }

    fn unreadable(&mut self, line: usize, problem: impl Into<String>) {
        let file = self.file.to_owned();
        let problem = printable(&problem.into()).to_string();
        self.found.unreadable.push(Unreadable { file, line, problem });
    }
}

/// The image that the text names.
fn resolve(expansion: &Expansion, missing_is_empty: bool) -> Resolution {
    let text = expansion.text();
    let text = text.trim();
    if !missing_is_empty && !expansion.missing.is_empty() {
        return Resolution::Missing(expansion.missing.clone());
    }
    match text.parse::<Reference>() {
        Ok(mut reference) => {
            if reference.tag.is_none() && reference.digest.is_none() {
                reference.tag = Some("latest".parse().expect("`latest` is a tag"));
            }
            Resolution::Image(reference)
        }
        Err(_) if !expansion.missing.is_empty() => Resolution::Missing(expansion.missing.clone()),
        Err(error) => Resolution::Invalid(format!("`{}` {}", printable(text), error.problem)),
    }
}
