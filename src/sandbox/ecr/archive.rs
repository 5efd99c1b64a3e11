//! The archive: images that cannot be pulled until they are restored.
//!
//! An image is archived by a request, or by a lifecycle rule, which is evaluated at every look.
//!
//! Source: ECR user guide, "Archiving an image", "Restoring an image" and "Lifecycle policy
//! evaluation rules".

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    error::EcrError,
    images,
    registry::{Registry, wildcard},
};
use crate::{model::Digest, sandbox::fault::Behaviour};

/// A restoration takes up to 20 minutes.
const RESTORE_SECONDS: f64 = 20.0 * 60.0;
const DAY_SECONDS: f64 = 24.0 * 3600.0;

pub(super) const ACTIVE: &str = "ACTIVE";
const ARCHIVED: &str = "ARCHIVED";
const ACTIVATING: &str = "ACTIVATING";

/// The last move of an image between storage classes, in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Moved {
    Archived(f64),
    /// The end of its restoration, which can be in the future.
    Restored(f64),
}

/// The moves of a repository's images, by digest.
type Moves = BTreeMap<String, Moved>;

pub(super) fn archive_name(repository: &str) -> String {
    format!("archive/{repository}")
}

/// The storage classes of a repository's images at one moment.
pub(super) struct Archive<'a> {
    registry: &'a Registry,
    repository: &'a str,
    moves: Moves,
    /// The lifecycle's rules for active images, in the order of their priorities.
    rules: Vec<Value>,
    tags: HashMap<Digest, Vec<String>>,
}

impl<'a> Archive<'a> {
    pub(super) fn of(registry: &'a Registry, repository: &'a str) -> Self {
        let lifecycle = registry.settings(repository).ok().and_then(|it| it.lifecycle);
        let lifecycle = lifecycle.filter(|text| text.contains("transition"));
        let lifecycle = lifecycle.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let mut rules = lifecycle.and_then(|it| it["rules"].as_array().cloned());
        let rules = rules.get_or_insert_default();
        rules.retain(|rule| rule["selection"]["storageClass"] != "archive");
        rules.sort_by_key(|rule| rule["rulePriority"].as_u64());
        let tags = match rules.is_empty() {
            true => HashMap::new(),
            false => images::tags_of(registry, repository),
        };
        let moves = registry.document(&archive_name(repository));
        Self { registry, repository, moves, rules: std::mem::take(rules), tags }
    }

    /// The API's `imageStatus`.
    pub(super) fn status(&self, digest: &Digest) -> &'static str {
        match self.moves.get(digest.as_str()) {
            Some(Moved::Archived(_)) => ARCHIVED,
            Some(Moved::Restored(at)) if *at > self.registry.now() => ACTIVATING,
            _ if self.is_due(digest) && !self.is_named_by_active_index(digest) => ARCHIVED,
            _ => ACTIVE,
        }
    }

    /// True if the first rule that selects the image archives it.
    fn is_due(&self, digest: &Digest) -> bool {
        let tags = self.tags.get(digest).map_or(&[][..], Vec::as_slice);
        let Some(rule) = self.rules.iter().find(|rule| selects(rule, tags)) else { return false };
        if rule["action"]["type"] != "transition" {
            return false;
        }
        let Some(times) = self.registry.times(self.repository, digest) else { return false };
        let restored = match self.moves.get(digest.as_str()) {
            Some(Moved::Restored(at)) => *at,
            _ => 0.0,
        };
        let since = match rule["selection"]["countType"].as_str() {
            Some("sinceImagePulled") => times.pulled.unwrap_or(times.pushed).max(restored),
            Some("sinceImagePushed") => times.pushed.max(restored),
            _ => return false,
        };
        let days = rule["selection"]["countNumber"].as_f64().unwrap_or(f64::INFINITY);
        self.registry.now() - since > days * DAY_SECONDS
    }

    /// An index keeps its images active.
    fn is_named_by_active_index(&self, digest: &Digest) -> bool {
        let indexes = images::indexes_naming(self.registry, self.repository, digest);
        indexes.iter().any(|index| self.status(index) == ACTIVE)
    }

    /// True if images name the blob, and all of them are archived.
    pub(super) fn holds_blob(&self, blob: &Digest) -> bool {
        let naming = images::manifests(self.registry, self.repository)
            .filter(|(_, _, manifest, _)| manifest.blobs().any(|named| named == blob));
        let mut statuses = naming.map(|(digest, ..)| self.status(&digest)).peekable();
        statuses.peek().is_some() && statuses.all(|status| status != ACTIVE)
    }

    /// True if no image can be in the archive.
    pub(super) fn is_empty(&self) -> bool {
        self.moves.is_empty() && self.rules.is_empty()
    }
}

/// Source: ECR user guide, "Lifecycle policy properties".
fn selects(rule: &Value, tags: &[String]) -> bool {
    let selection = &rule["selection"];
    let texts = |name: &str| selection[name].as_array().into_iter().flatten();
    let all = |name: &str, matches: fn(&str, &str) -> bool| {
        let mut texts = texts(name).filter_map(Value::as_str);
        texts.all(|text| tags.iter().any(|tag| matches(text, tag)))
    };
    match selection["tagStatus"].as_str() {
        Some("untagged") => tags.is_empty(),
        Some("tagged") => {
            !tags.is_empty()
                && all("tagPatternList", wildcard)
                && all("tagPrefixList", |prefix, tag| tag.starts_with(prefix))
        }
        _ => true,
    }
}

/// Moves an image to the storage class `STANDARD` or `ARCHIVE`. Returns its status.
pub(super) fn transition(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
    class: &str,
) -> Result<&'static str, EcrError> {
    let status = Archive::of(registry, repository).status(digest);
    if (class == "ARCHIVE") != (status == ACTIVE) {
        let text = format!("The image with digest '{digest}' has the status {status}");
        return Err(EcrError::new("ImageStorageClassUpdateNotSupportedException", text));
    }
    let moved = match class {
        "ARCHIVE" => Moved::Archived(registry.now()),
        _ if registry.faults.otherwise(Behaviour::RestoreAtOnce) => Moved::Restored(registry.now()),
        _ => Moved::Restored(registry.now() + RESTORE_SECONDS),
    };
    record(registry, repository, digest, Some(moved))?;
    Ok(Archive::of(registry, repository).status(digest))
}

/// Restores an archived image at once, because it is pushed again.
pub(super) fn restore_pushed(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
) -> Result<(), EcrError> {
    let archive = Archive::of(registry, repository);
    let stays = registry.faults.otherwise(Behaviour::ArchiveStays);
    match stays || archive.is_empty() || archive.status(digest) == ACTIVE {
        true => Ok(()),
        false => record(registry, repository, digest, Some(Moved::Restored(registry.now()))),
    }
}

/// Forgets a deleted image.
pub(super) fn forget(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
) -> Result<(), EcrError> {
    record(registry, repository, digest, None)
}

fn record(
    registry: &Registry,
    repository: &str,
    digest: &Digest,
    moved: Option<Moved>,
) -> Result<(), EcrError> {
    registry.change(&archive_name(repository), |moves: &mut Moves| {
        match moved {
            Some(moved) => drop(moves.insert(digest.to_string(), moved)),
            None => drop(moves.remove(digest.as_str())),
        }
        Ok(())
    })
}
