//! The forms that make a build use the mirror, each a pure function of one [`ImageMapping`].
//!
//! A form never names an image that the mapping lacks, nor changes a build's use of it. A mapping that a form cannot express is
//! omitted and named. A form that could serve one registry's image for another's is refused.
//! [`docs/builds.md`](../../../docs/builds.md) describes them for users.

mod contexts;
mod hosts;
mod manifests;
mod mapping;
mod notes;
mod policy;
mod rewrite;
mod rules;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, path::PathBuf, str::FromStr};

pub use self::{
    mapping::{
        ImageMapping, ImageUse, MappedImage, MappingBasis, MissingImage, Spelling, SpellingPart,
        UseKind,
    },
    rewrite::{Edit, RewrittenFile, dockerfiles, rewrite, syntax_lines},
};
use crate::model::{Error, Host, Kind, NameError, Reference, Result};

/// A form that `--format` and `--emit` accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BuildForm {
    Map,
    SourcePolicy,
    BuildContexts,
    Bake,
    RegistriesConf,
    HostsToml,
    Buildkitd,
    Kustomize,
    BuildArgs,
    Compose,
    Env,
}

impl BuildForm {
    pub const ALL: [Self; 11] = [
        Self::Map,
        Self::SourcePolicy,
        Self::BuildContexts,
        Self::Bake,
        Self::RegistriesConf,
        Self::HostsToml,
        Self::Buildkitd,
        Self::Kustomize,
        Self::BuildArgs,
        Self::Compose,
        Self::Env,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::SourcePolicy => "source-policy",
            Self::BuildContexts => "build-contexts",
            Self::Bake => "bake",
            Self::RegistriesConf => "registries.conf",
            Self::HostsToml => "hosts.toml",
            Self::Buildkitd => "buildkitd",
            Self::Kustomize => "kustomize",
            Self::BuildArgs => "build-args",
            Self::Compose => "compose",
            Self::Env => "env",
        }
    }

    /// Returns `true` for a form of the uses in files, which a configuration does not have.
    pub fn needs_uses(self) -> bool {
        matches!(self, Self::BuildArgs | Self::Compose | Self::Env)
    }

    /// Returns `true` if the form's text can contain comments. They start with `# `.
    fn has_comments(self) -> bool {
        match self {
            Self::RegistriesConf
            | Self::HostsToml
            | Self::Buildkitd
            | Self::Kustomize
            | Self::Compose => true,
            Self::Map
            | Self::SourcePolicy
            | Self::BuildContexts
            | Self::Bake
            | Self::BuildArgs
            | Self::Env => false,
        }
    }
}

impl fmt::Display for BuildForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BuildForm {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(form) = Self::ALL.into_iter().find(|form| form.name() == text) {
            return Ok(form);
        }
        if text == "registry-mirrors" {
            return Err(NameError::new(
                "does not work with private ECR: Docker's `registry-mirrors` mirrors Docker Hub \
                 only, accepts no path, and sends the mirror no login for ECR",
            )
            .hint("write `source-policy` for BuildKit, or `hosts.toml` for Docker Engine 28"));
        }
        let [general, of_uses] = [false, true].map(|needs_uses| {
            let forms = Self::ALL.into_iter().filter(|form| form.needs_uses() == needs_uses);
            forms.map(|form| format!("`{form}`")).collect::<Vec<_>>().join(", ")
        });
        Err(NameError::new("is not a form")
            .hint(format!("write one of {general}; `bootstrap --emit` also has {of_uses}")))
    }
}

/// A form and the file to write it to: `FORM[=FILE]`, with `-` for stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitTarget {
    pub form: BuildForm,
    /// `None`: stdout. The directory of [`BuildForm::HostsToml`], which has a file for each host.
    pub path: Option<PathBuf>,
}

impl FromStr for EmitTarget {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (form, path) = match text.split_once('=') {
            Some((_, "")) => {
                return Err(NameError::new("has no file after `=`")
                    .hint("name a file, or remove `=` to print the form"));
            }
            Some((form, "-")) => (form, None),
            Some((form, path)) => (form, Some(path.into())),
            None => (text, None),
        };
        Ok(Self { form: form.parse()?, path })
    }
}

/// The text of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedForm {
    /// One file; of `hosts.toml` one for each source host.
    pub files: Vec<EmittedFile>,
    /// The builders and the login that the form requires, for stderr. Empty if the text has them.
    pub notes: Vec<String>,
    pub omitted: Vec<OmittedImage>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedFile {
    /// Below the directory that the user names; `None` if the form is one file.
    pub path: Option<PathBuf>,
    pub text: String,
}

/// An image that a form does not cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmittedImage {
    pub source: Reference,
    /// A clause without a subject: "has another tag in the mirror".
    pub reason: String,
}

impl fmt::Display for OmittedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, self.reason)
    }
}

impl EmittedForm {
    /// All files as one text, for stdout.
    pub fn text(&self) -> String {
        self.files.iter().map(|file| file.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

/// The body of a form before its notes are added.
struct FormBody {
    files: Vec<EmittedFile>,
    omitted: Vec<OmittedImage>,
}

impl FormBody {
    fn one(text: String, omitted: Vec<OmittedImage>) -> Self {
        Self { files: vec![EmittedFile { path: None, text }], omitted }
    }
}

/// Writes the form of the mapping.
///
/// # Errors
/// [`Kind::Configuration`] for a form that needs uses if the mapping has none, and for a form per
/// host if it could serve the image of one registry for that of another.
pub fn emit(form: BuildForm, mapping: &ImageMapping) -> Result<EmittedForm> {
    if form.needs_uses() && mapping.basis == MappingBasis::Configuration {
        let problem = format!(
            "`{form}` requires the files of a build, and a configuration does not name them"
        );
        return Err(Error::new(Kind::Configuration, problem)
            .hint("write `ecr-mirror bootstrap --emit FORM`, which reads the files; or use `source-policy`, `build-contexts` or `registries.conf`"));
    }
    let body = match form {
        BuildForm::Map => manifests::map(mapping),
        BuildForm::SourcePolicy => policy::source_policy(mapping),
        BuildForm::BuildContexts => contexts::build_contexts(mapping),
        BuildForm::Bake => contexts::bake(mapping),
        BuildForm::BuildArgs => contexts::build_args(mapping),
        BuildForm::RegistriesConf => hosts::registries_conf(mapping),
        BuildForm::HostsToml => hosts::hosts_toml(mapping)?,
        BuildForm::Buildkitd => hosts::buildkitd(mapping)?,
        BuildForm::Kustomize => manifests::kustomize(mapping),
        BuildForm::Compose => manifests::compose(mapping),
        BuildForm::Env => manifests::env(mapping),
    };
    let FormBody { mut files, omitted } = body;
    let mut notes = notes::notes(form, &destination_hosts(mapping));
    if form.has_comments() {
        let comments: String = notes.drain(..).map(|note| format!("# {note}\n")).collect();
        for file in &mut files {
            let path = file.path.iter().map(|path| format!("# {}\n", path.display()));
            let path: String = path.collect();
            file.text = format!("{path}{comments}\n{}", file.text);
        }
    }
    Ok(EmittedForm { files, notes, omitted })
}

fn destination_hosts(mapping: &ImageMapping) -> BTreeSet<&Host> {
    mapping.images.iter().map(|image| &image.destination.host).collect()
}
