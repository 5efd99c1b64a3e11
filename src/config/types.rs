//! The configuration after reading: every string is its type.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use globset::{GlobBuilder, GlobMatcher};
use url::Url;

use super::{
    document::{in_backticks, nearest},
    images::Entry,
    samples::NamingSample,
    source::{SourceFile, SourceName},
    wildcard::Wildcard,
};
use crate::model::{
    DestinationId, Error, Host, Kind, Location, Rates, Repository, Result, UserPassword,
    certificate::{Certificate, ClientCertificate},
    ecr_settings::{AccountSettings, RepositoryRules},
    pull_through::Cache,
};

/// A valid configuration. Its lists have the order of the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Never empty.
    pub destinations: Vec<DestinationConfig>,
    /// Connection settings of sources and destinations; other registries have the defaults.
    pub(crate) registries: BTreeMap<Host, RegistryConfig>,
    pub entries: Vec<Entry>,
    /// The images of the configuration: `[[image]]` tables, lines of `[images]`, repositories of lists.
    pub(crate) written: usize,
    /// An image of each naming rule.
    pub(crate) samples: Vec<NamingSample>,
    pub caches: Vec<Cache>,
    /// The processes that share the pull limit of a source; others have it for themselves.
    pub(crate) pull_shares: BTreeMap<Host, NonZeroU32>,
    /// The sources whose repositories are not known yet. The entries are without them.
    pub(crate) wildcards: Vec<Wildcard>,
    /// The registries of all sources with a `*`, also of those whose repositories are known.
    pub(crate) listed_hosts: BTreeSet<Host>,
    /// The files of the configuration if it has wildcards, to read them again.
    pub(crate) files: Vec<Arc<SourceFile>>,
    /// The names of all files, in their order.
    pub(crate) file_names: Vec<SourceName>,
    /// Printable blocks; each begins with `warning: FILE:LINE:COLUMN`.
    pub warnings: Vec<String>,
}

impl Config {
    /// The destination of an image's target.
    ///
    /// # Panics
    /// If the id belongs to another configuration.
    pub(crate) fn destination(&self, id: DestinationId) -> &DestinationConfig {
        &self.destinations[id.0]
    }

    /// The file and the line, from 1, of an image that a report names so: its own line, or that of its
    /// entry. `None` if no file has it.
    pub(crate) fn written_at(&self, name: &str, source: &str) -> Option<(&str, u32)> {
        let mut entries = self.entries.iter().filter(|entry| *entry.name == *name);
        let line_of = |entry: &'_ Entry| entry.line_of(source);
        let named = entries.clone().find_map(|entry| Some((entry, line_of(entry)?)));
        // no line has a pin that the sandbox replaced
        let (entry, line) = named.or_else(|| {
            let entry = entries.find(|entry| entry.after_repository(source).is_some())?;
            Some((entry, entry.written.line))
        })?;
        Some((self.file_names.get(entry.written.file as usize)?.path()?, line))
    }

    /// The entries whose name or source equals a pattern, or matches it as a glob (`*` matches `/`
    /// too).
    ///
    /// Returns all entries for no patterns. Keeps the order of the file.
    ///
    /// # Errors
    /// [`Kind::Configuration`] for a pattern that is not a glob, or that matches no entry.
    pub(crate) fn only(&self, patterns: &[String]) -> Result<Vec<&Entry>> {
        let filter = NameFilter::new(patterns)?;
        for (pattern, glob) in &filter.0 {
            let is_entry = self.entries.iter().any(|entry| is_named(entry, pattern, glob));
            let can_be_listed = || self.wildcards.iter().any(|it| it.can_be_named(pattern));
            if !is_entry && !can_be_listed() {
                return Err(self.no_image(pattern));
            }
        }
        Ok(self.entries.iter().filter(|entry| filter.accepts(entry)).collect())
    }

    /// The sources with a `*` that can have entries which [`Config::only`] returns.
    pub(crate) fn only_wildcards(&self, patterns: &[String]) -> Vec<&Wildcard> {
        let is_named =
            |it: &&Wildcard| patterns.is_empty() || patterns.iter().any(|p| it.can_be_named(p));
        self.wildcards.iter().filter(is_named).collect()
    }

    fn no_image(&self, pattern: &str) -> Error {
        let mut names: Vec<&str> = self.entries.iter().map(|entry| &*entry.name).collect();
        names.sort_unstable();
        names.dedup();
        let error = Error::new(Kind::Configuration, format!("no image matches `--only {pattern}`"));
        let all = in_backticks(&names);
        match nearest(pattern, &names) {
            _ if names.is_empty() => error.hint("add an `[[image]]` to the configuration"),
            Some(near) => error.hint(format!("did you mean `{near}`? the images are {all}")),
            None => error.hint(format!("write one of {all}")),
        }
    }
}

/// The patterns of `--only`. Accepts every entry without a pattern.
#[derive(Debug)]
pub(crate) struct NameFilter(Vec<(String, GlobMatcher)>);

impl NameFilter {
    /// # Errors
    /// [`Kind::Configuration`] for a pattern that is not a glob.
    pub(crate) fn new(patterns: &[String]) -> Result<Self> {
        let glob = |pattern: &String| {
            let glob = GlobBuilder::new(pattern).build().map_err(|error| {
                Error::new(Kind::Configuration, format!("`{pattern}` is not a valid glob"))
                    .because(error)
                    .hint("write a name, or a glob like `team/*`")
            })?;
            Ok((pattern.clone(), glob.compile_matcher()))
        };
        patterns.iter().map(glob).collect::<Result<_>>().map(Self)
    }

    /// Returns `true` if a pattern is the name or the source of the entry, or matches it.
    pub(crate) fn accepts(&self, entry: &Entry) -> bool {
        self.0.is_empty() || self.0.iter().any(|(pattern, glob)| is_named(entry, pattern, glob))
    }
}

fn is_named(entry: &Entry, pattern: &str, glob: &GlobMatcher) -> bool {
    entry.spellings().iter().any(|name| name == pattern || glob.is_match(name))
}

/// A registry or OCI layout that images are mirrored to.
#[derive(Debug, Clone)]
pub struct DestinationConfig {
    pub(crate) name: String,
    pub(crate) registry: Location,
    /// Precedes every repository.
    pub(crate) prefix: Option<Repository>,
    /// Empty if the registry is not ECR.
    pub(crate) aws: Aws,
    pub(crate) repositories: RepositoryRules,
    pub(crate) account: AccountSettings,
    /// The request rates of the account in the region.
    pub(crate) rates: Rates,
}

impl DestinationConfig {
    /// Returns `true` if the host is ECR's, or if the destination names an ECR API endpoint.
    pub(crate) fn is_ecr(&self) -> bool {
        self.aws.endpoint_url.is_some() || self.registry.ecr().is_some()
    }
}

/// The AWS identity and endpoint of a destination. The AWS SDK's defaults replace `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aws {
    pub(crate) profile: Option<String>,
    /// Only for a host that names no region.
    pub(crate) region: Option<String>,
    pub(crate) role_arn: Option<String>,
    /// Only with a role.
    pub(crate) external_id: Option<String>,
    /// `http` or `https`.
    pub(crate) endpoint_url: Option<Url>,
}

#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// `None`: those of Docker's configuration, else anonymous.
    pub(crate) credentials: Option<CredentialSource>,
    /// The AWS profile for an ECR registry.
    pub(crate) profile: Option<String>,
    /// The role to assume for an ECR registry.
    pub(crate) role_arn: Option<String>,
    /// A token service on another host that may receive these credentials.
    pub(crate) auth_host: Option<Host>,
    /// Tried in this order, before the registry, for content by digest.
    pub(crate) mirrors: Vec<Host>,
    /// To trust besides the system's.
    pub(crate) ca: Option<Certificate>,
    /// The certificate that the registry requires, and its key.
    pub(crate) client_certificate: Option<Arc<ClientCertificate>>,
    /// `None`: only for loopback hosts.
    pub(crate) plain_http: Option<bool>,
    /// Pulls of the limit that this program leaves unused.
    pub(crate) reserve_pulls: u64,
    /// At least one; `None`: as many as blob transfers run at once.
    pub(crate) max_connections: Option<usize>,
}

#[derive(Debug, Clone)]
pub enum CredentialSource {
    Written(UserPassword),
    /// In the Secrets Manager secret with this ARN.
    Secret(String),
}
