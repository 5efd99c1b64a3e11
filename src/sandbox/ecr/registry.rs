//! One ECR registry: an account in a region, its content and its settings.
//!
//! Content is in the [`Store`]. Data that only AWS has (settings of repositories and of the
//! account, push and pull times) is in documents beside it, so that it survives too. A lock
//! prevents concurrent changes of a document.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    archive::archive_name,
    clock::{Clock, now},
    error::EcrError,
    identity::Principal,
};
use crate::{
    model::Digest,
    sandbox::{
        BlobMounting, Store,
        fault::{Behaviour, Faults},
    },
};

/// Seconds for which further pulls of an image are not recorded.
const PULL_TIME_SECONDS: f64 = 24.0 * 3600.0;

pub(super) struct Registry {
    pub account: String,
    pub region: String,
    pub store: Arc<Store>,
    /// Held while a document is read, changed and written.
    documents: Mutex<()>,
    /// `BLOB_MOUNTING` unless the account sets it.
    blob_mounting: BlobMounting,
    /// Held while a manifest is checked and committed; never while waiting for a client.
    commits: Mutex<()>,
    clock: Clock,
    pub faults: Faults,
    /// A lock per repository; its holder imports, and takes no other.
    imports: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// Seconds since the epoch.
    pub created_at: f64,
    /// `MUTABLE`, `IMMUTABLE`, or either with `_WITH_EXCLUSION`.
    pub mutability: String,
    pub exclusions: Vec<String>,
    pub scan_on_push: bool,
    /// `encryptionConfiguration` as the API shows it.
    pub encryption: Value,
    pub tags: BTreeMap<String, String>,
    pub policy: Option<String>,
    pub lifecycle: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            created_at: now(),
            mutability: "MUTABLE".to_owned(),
            exclusions: Vec::new(),
            scan_on_push: false,
            encryption: json!({ "encryptionType": "AES256" }),
            tags: BTreeMap::new(),
            policy: None,
            lifecycle: None,
        }
    }
}

impl Settings {
    /// True if an existing tag of this name must not be pushed again.
    pub(super) fn is_immutable(&self, tag: &str) -> bool {
        let excluded = self.exclusions.iter().any(|filter| wildcard(filter, tag));
        match self.mutability.as_str() {
            "IMMUTABLE" => true,
            "IMMUTABLE_WITH_EXCLUSION" => !excluded,
            "MUTABLE_WITH_EXCLUSION" => excluded,
            _ => false,
        }
    }
}

/// Push and pull times of an image, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Times {
    pub pushed: f64,
    pub pulled: Option<f64>,
}

impl Registry {
    pub(super) fn new(
        account: &str,
        region: &str,
        store: Arc<Store>,
        blob_mounting: BlobMounting,
        clock: Clock,
        faults: Faults,
    ) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            store,
            documents: Mutex::new(()),
            blob_mounting,
            commits: Mutex::new(()),
            clock,
            faults,
            imports: Mutex::default(),
        }
    }

    /// Seconds since the epoch, in the API's format.
    pub(super) fn now(&self) -> f64 {
        self.clock.now()
    }

    pub(super) async fn lock_import(&self, repository: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut imports = self.imports.lock();
            Arc::clone(imports.entry(repository.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    pub(super) fn host(&self) -> String {
        let suffix =
            if self.region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("{}.dkr.ecr.{}.{suffix}", self.account, self.region)
    }

    pub(super) fn arn(&self, repository: &str) -> String {
        let partition = self.partition();
        format!("arn:{partition}:ecr:{}:{}:repository/{repository}", self.region, self.account)
    }

    pub(super) fn partition(&self) -> &'static str {
        match self.region.split('-').next() {
            Some("cn") => "aws-cn",
            _ if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    pub(super) fn lock_commits(&self) -> MutexGuard<'_, ()> {
        self.commits.lock()
    }

    /// The document, or its default if it was never written.
    pub(super) fn document<T: DeserializeOwned + Default>(&self, name: &str) -> T {
        let value = self.store.document(name).filter(|value| !value.is_null());
        value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
    }

    /// Changes the document; an error leaves it unchanged.
    ///
    /// `edit` changes no other document.
    pub(super) fn change<T, R>(
        &self,
        name: &str,
        edit: impl FnOnce(&mut T) -> Result<R, EcrError>,
    ) -> Result<R, EcrError>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        let _guard = self.documents.lock();
        let mut document: T = self.document(name);
        let result = edit(&mut document)?;
        let value = serde_json::to_value(&document).expect("documents serialise");
        self.store.set_document(name, &value)?;
        Ok(result)
    }

    /// The settings of a repository.
    ///
    /// Fails with `RepositoryNotFoundException`.
    pub(super) fn settings(&self, repository: &str) -> Result<Settings, EcrError> {
        if !self.store.has_repository(repository) {
            return Err(EcrError::repository_not_found(repository, &self.account));
        }
        Ok(self.document::<Option<Settings>>(&settings_name(repository)).unwrap_or_default())
    }

    /// Changes the settings of an existing repository.
    pub(super) fn change_settings<R>(
        &self,
        repository: &str,
        edit: impl FnOnce(&mut Settings) -> Result<R, EcrError>,
    ) -> Result<R, EcrError> {
        self.settings(repository)?;
        self.change(&settings_name(repository), |settings: &mut Option<Settings>| {
            edit(settings.get_or_insert_default())
        })
    }

    /// Creates a repository with these settings.
    ///
    /// Fails with `RepositoryAlreadyExistsException`.
    pub(super) fn create(&self, repository: &str, mut settings: Settings) -> Result<(), EcrError> {
        let _guard = self.lock_commits();
        settings.created_at = self.now();
        if self.store.has_repository(repository) {
            return Err(EcrError::new(
                "RepositoryAlreadyExistsException",
                format!(
                    "The repository with name '{repository}' already exists in the registry with id '{}'",
                    self.account
                ),
            ));
        }
        let store = |document: &mut Option<Settings>| {
            *document = Some(settings);
            Ok(())
        };
        self.change(&settings_name(repository), store)?;
        Ok(self.store.create_repository(repository)?)
    }

    pub(super) fn delete(&self, repository: &str) -> Result<(), EcrError> {
        let _guard = self.lock_commits();
        for digest in self.store.manifests(repository) {
            self.record_deletion(repository, &digest)?;
        }
        self.store.set_document(&settings_name(repository), &Value::Null)?;
        self.store.set_document(&checks_name(repository), &Value::Null)?;
        self.store.set_document(&archive_name(repository), &Value::Null)?;
        self.store.delete_repository(repository)?;
        Ok(())
    }

    pub(super) fn times(&self, repository: &str, digest: &Digest) -> Option<Times> {
        self.document(&times_name(repository, digest))
    }

    /// Records an image's first push.
    pub(super) fn record_push(&self, repository: &str, digest: &Digest) -> Result<(), EcrError> {
        self.change(&times_name(repository, digest), |times: &mut Option<Times>| {
            times.get_or_insert(Times { pushed: self.now(), pulled: None });
            Ok(())
        })
    }

    /// Removes the times of a deleted image.
    pub(super) fn record_deletion(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<(), EcrError> {
        Ok(self.store.set_document(&times_name(repository, digest), &Value::Null)?)
    }

    /// Records that `principal` pulled these images: at most once in 24 h per image, and never for
    /// an excluded principal.
    ///
    /// Source: ImageDetail, `lastRecordedPullTime`; user guide, pull-time update exclusions.
    pub(super) fn record_pulls(
        &self,
        repository: &str,
        digests: &[Digest],
        principal: &Principal,
    ) -> Result<(), EcrError> {
        let excluded: BTreeMap<String, f64> = self.document(PULL_EXCLUSIONS);
        if excluded.contains_key(&principal.arn) {
            return Ok(());
        }
        let at = self.now();
        let is_due = |digest: &&Digest| {
            let pulled = self.times(repository, digest).and_then(|times| times.pulled);
            pulled.is_none_or(|pulled| at - pulled >= PULL_TIME_SECONDS)
        };
        for digest in digests.iter().filter(is_due) {
            self.change(&times_name(repository, digest), |times: &mut Option<Times>| {
                times.get_or_insert(Times { pushed: at, pulled: None }).pulled = Some(at);
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Records that the upstream was checked for a cached tag.
    pub(super) fn record_check(&self, repository: &str, tag: &str) -> Result<(), EcrError> {
        self.change(&checks_name(repository), |checks: &mut BTreeMap<String, f64>| {
            checks.insert(tag.to_owned(), self.now());
            Ok(())
        })
    }

    /// The last check of a cached tag at its upstream, else the image's push, in seconds since the
    /// epoch.
    pub(super) fn checked(&self, repository: &str, tag: &str, digest: &Digest) -> Option<f64> {
        let checks: BTreeMap<String, f64> = self.document(&checks_name(repository));
        let pushed = || self.times(repository, digest).map(|times| times.pushed);
        checks.get(tag).copied().or_else(pushed)
    }

    pub(super) fn account_setting(&self, name: &str) -> String {
        let settings: BTreeMap<String, String> = self.document(ACCOUNT_SETTINGS);
        let is_otherwise = |behaviour| self.faults.otherwise(behaviour);
        let mounts =
            self.blob_mounting == BlobMounting::On || is_otherwise(Behaviour::MountingDefault);
        let default = match name {
            "BLOB_MOUNTING" if mounts => "ENABLED",
            "BLOB_MOUNTING" => "DISABLED",
            "BASIC_SCAN_TYPE_VERSION" => "AWS_NATIVE",
            _ if is_otherwise(Behaviour::PolicyScope) => "V1",
            _ => "V2",
        };
        settings.get(name).cloned().unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn image_not_found(&self, repository: &str, what: &str) -> EcrError {
        EcrError::new(
            "ImageNotFoundException",
            format!(
                "The image with imageId {what} does not exist within the repository with name '{repository}' in the registry with id '{}'",
                self.account
            ),
        )
    }
}

/// The document of account settings: name to value.
pub(super) const ACCOUNT_SETTINGS: &str = "account-settings";
/// The document of principals whose pulls do not count: ARN to creation time.
pub(super) const PULL_EXCLUSIONS: &str = "pull-time-exclusions";

/// The documents of a repository's settings, of its upstream checks (tag to time), and of an
/// image's times.
fn settings_name(repository: &str) -> String {
    format!("settings/{repository}")
}

fn checks_name(repository: &str) -> String {
    format!("upstream-checks/{repository}")
}

fn times_name(repository: &str, digest: &Digest) -> String {
    format!("times/{repository}/{}", digest.hex())
}

/// True if `text` matches `filter`, where `*` matches any characters.
pub(super) fn wildcard(filter: &str, text: &str) -> bool {
    let Some((head, tail)) = filter.split_once('*') else { return filter == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| wildcard(tail, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn immutability_honours_its_exclusions() {
        let settings = |mutability: &str, exclusions: &[&str]| Settings {
            mutability: mutability.to_owned(),
            exclusions: exclusions.iter().map(|&filter| filter.to_owned()).collect(),
            ..Settings::default()
        };
        for (mutability, exclusions, tag, immutable) in [
            ("MUTABLE", &[][..], "1.0", false),
            ("IMMUTABLE", &[], "1.0", true),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest*"], "latest-alpine", false),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest*", "*-dev"], "1.0-dev", false),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest*"], "1.0", true),
            ("IMMUTABLE_WITH_EXCLUSION", &["latest"], "latest-alpine", true),
            ("MUTABLE_WITH_EXCLUSION", &["v*.*"], "v1.0", true),
            ("MUTABLE_WITH_EXCLUSION", &["v*.*"], "v1", false),
        ] {
            let settings = settings(mutability, exclusions);
            assert_eq!(settings.is_immutable(tag), immutable, "{mutability} {exclusions:?} {tag}");
        }
    }
}
