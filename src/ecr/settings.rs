//! Compares a repository's settings with the configuration, and converts them to the API's types.
//!
//! Pure. Compares configured settings only. Policies with the same meaning are equal, however ECR
//! formats them.

use std::collections::BTreeMap;

use aws_sdk_ecr::types::{
    EncryptionType, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, Repository as Described, Tag as ApiTag,
};
use serde_json::{Value, json};

use crate::model::{
    ecr_settings::{Encryption, RepositorySettings, TagMutability},
    setting_change::Field,
};

/// The settings of an existing repository, as far as they were read.
#[derive(Debug, Clone, Default)]
pub struct CurrentSettings {
    pub(crate) mutability: TagMutability,
    pub(crate) scan_on_push: bool,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) lifecycle: Option<Value>,
    pub(crate) policy: Option<Value>,
}

/// One API call that changes a setting.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "each sets the setting of its name")]
pub enum SettingUpdate {
    Mutability(TagMutability),
    ScanOnPush(bool),
    Tags(BTreeMap<String, String>),
    Lifecycle(Value),
    /// The repository policy; `null` deletes it.
    Policy(Value),
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Differences {
    /// The differences as reports show them, in the order of the configuration's keys.
    pub(crate) fields: Vec<Field>,
    pub(crate) updates: Vec<SettingUpdate>,
    /// Differences that cannot be changed.
    pub(crate) warnings: Vec<String>,
}

impl Differences {
    fn add(&mut self, name: &str, old: impl Into<Value>, new: impl Into<Value>) {
        self.fields.push(field(name, old, new));
    }
}

pub(crate) fn field(name: &str, old: impl Into<Value>, new: impl Into<Value>) -> Field {
    Field { name: name.to_owned(), old: old.into(), new: new.into() }
}

/// Compares the configuration with the current settings. Ignores tags that are not configured.
pub(crate) fn differences(wanted: &RepositorySettings, current: &CurrentSettings) -> Differences {
    let mut found = Differences::default();
    if let Some(new) = &wanted.mutability
        && !new.is_equivalent(&current.mutability)
    {
        found.add("tag_mutability", current.mutability.to_string(), new.to_string());
        found.updates.push(SettingUpdate::Mutability(new.clone()));
    }
    if let Some(new) = wanted.scan_on_push
        && new != current.scan_on_push
    {
        found.add("scan_on_push", current.scan_on_push, new);
        found.updates.push(SettingUpdate::ScanOnPush(new));
    }
    if let (Some(new), Some(old)) = (&wanted.encryption, &current.encryption)
        && !is_encrypted_like(old, new)
    {
        found.warnings.push(format!(
            "`encryption` is {old} and not {new}, and ECR cannot change it: delete and recreate the repository"
        ));
    }
    let mut tags = wanted.tags.clone();
    tags.retain(|key, value| current.tags.get(key) != Some(value));
    for (key, new) in &tags {
        found.add(&format!("tags.{key}"), json!(current.tags.get(key)), json!(new));
    }
    if !tags.is_empty() {
        found.updates.push(SettingUpdate::Tags(tags));
    }
    let differs =
        |new: &Value, old: &Option<Value>| old.as_ref().map(canonical) != Some(canonical(new));
    if let Some(new) = wanted.lifecycle.as_ref().filter(|new| differs(new, &current.lifecycle)) {
        found.add("lifecycle", json!(current.lifecycle), new.clone());
        found.updates.push(SettingUpdate::Lifecycle(new.clone()));
    }
    if let Some(new) = wanted.policy.as_ref().filter(|new| differs(new, &current.policy)) {
        found.add("policy", json!(current.policy), new.clone());
        found.updates.push(SettingUpdate::Policy(new.clone()));
    }
    found
}

/// Returns `true` if both can be the same encryption: a key's alias can be any key.
pub(crate) fn is_encrypted_like(actual: &Encryption, wanted: &Encryption) -> bool {
    if std::mem::discriminant(actual) != std::mem::discriminant(wanted) {
        return false;
    }
    let (Some(actual), Some(wanted)) = (actual.key(), wanted.key()) else { return true };
    let id = |key: &str| match key.rsplit_once(":key/") {
        Some((_, id)) => Some(id.to_owned()),
        None if key.contains("alias/") => None,
        None => Some(key.to_owned()),
    };
    match (id(actual), id(wanted)) {
        (Some(actual), Some(wanted)) => actual == wanted,
        _ => true,
    }
}

pub(crate) fn is_same_policy(policy: &Value, other: &Value) -> bool {
    canonical(policy) == canonical(other)
}

/// The canonical form of a document: lists of strings sorted, a list of one as its item, an account
/// as its number, the principal `*` as `{"AWS": "*"}`.
///
/// Source: IAM user guide, "AWS JSON policy elements: Principal".
fn canonical(document: &Value) -> Value {
    let member = |name: &str, value: &Value| match canonical(value) {
        all if all == "*" && name == "Principal" => json!({ "AWS": "*" }),
        value => value,
    };
    match document {
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), member(name, value))).collect()
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let mut items: Vec<Value> = items.iter().map(canonical).collect();
            items.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
            items.dedup();
            if items.len() == 1 { items.remove(0) } else { Value::Array(items) }
        }
        Value::Array(items) => items.iter().map(canonical).collect(),
        Value::String(text) => Value::String(account_of(text).unwrap_or(text).to_owned()),
        other => other.clone(),
    }
}

/// The account of `arn:PARTITION:iam::ACCOUNT:root`. IAM treats both as the same principal.
fn account_of(text: &str) -> Option<&str> {
    let (head, account) = text.strip_suffix(":root")?.split_once(":iam::")?;
    head.starts_with("arn:").then_some(account)
}

/// The settings in ECR's description: all but tags and policies.
pub(crate) fn current(repository: &Described) -> CurrentSettings {
    let scanning = repository.image_scanning_configuration();
    CurrentSettings {
        mutability: mutability(repository),
        scan_on_push: scanning.is_some_and(|it| it.scan_on_push()),
        encryption: repository
            .encryption_configuration()
            .map(|it| encryption(it.encryption_type(), it.kms_key())),
        ..CurrentSettings::default()
    }
}

pub(super) fn mutability(repository: &Described) -> TagMutability {
    let exclusions = repository.image_tag_mutability_exclusion_filters();
    mutability_of(repository.image_tag_mutability(), exclusions)
}

/// The mutability of the API's two members. An unknown setting is the default.
pub(crate) fn mutability_of(
    word: Option<&ImageTagMutability>,
    filters: &[ImageTagMutabilityExclusionFilter],
) -> TagMutability {
    let wildcards = || filters.iter().map(|filter| filter.filter().to_owned()).collect();
    match word {
        Some(ImageTagMutability::Immutable) => TagMutability::Immutable,
        Some(ImageTagMutability::ImmutableWithExclusion) => {
            TagMutability::ImmutableExcept(wildcards())
        }
        Some(ImageTagMutability::MutableWithExclusion) => TagMutability::MutableExcept(wildcards()),
        _ => TagMutability::Mutable,
    }
}

pub(crate) fn encryption(kind: &EncryptionType, key: Option<&str>) -> Encryption {
    let key = key.map(str::to_owned);
    match kind {
        EncryptionType::Kms => Encryption::Kms(key),
        EncryptionType::KmsDsse => Encryption::KmsDsse(key),
        _ => Encryption::Aes256,
    }
}

/// The API's two members: the filters are present exactly for `…_WITH_EXCLUSION`.
pub(crate) fn to_api(
    setting: &TagMutability,
) -> (ImageTagMutability, Option<Vec<ImageTagMutabilityExclusionFilter>>) {
    let word = match setting {
        TagMutability::Mutable => ImageTagMutability::Mutable,
        TagMutability::Immutable => ImageTagMutability::Immutable,
        TagMutability::MutableExcept(_) => ImageTagMutability::MutableWithExclusion,
        TagMutability::ImmutableExcept(_) => ImageTagMutability::ImmutableWithExclusion,
    };
    let filter = |wildcard: &String| {
        ImageTagMutabilityExclusionFilter::builder()
            .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
            .filter(wildcard)
            .build()
            .expect("both members are set")
    };
    let filters: Vec<_> = setting.exclusions().iter().map(filter).collect();
    (word, (!filters.is_empty()).then_some(filters))
}

pub(crate) fn encryption_type(setting: &Encryption) -> EncryptionType {
    match setting {
        Encryption::Aes256 => EncryptionType::Aes256,
        Encryption::Kms(_) => EncryptionType::Kms,
        Encryption::KmsDsse(_) => EncryptionType::KmsDsse,
    }
}

pub(crate) fn to_tags(tags: &BTreeMap<String, String>) -> Vec<ApiTag> {
    let tags = tags.iter().map(|(key, value)| ApiTag::builder().key(key).value(value).build());
    tags.map(|tag| tag.expect("both members are set")).collect()
}

#[cfg(test)]
mod tests;
