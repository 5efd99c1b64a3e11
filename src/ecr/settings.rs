//! How a repository differs from what is written about it. Pure: values in, values out.
//!
//! Guards that only what is written is compared, and that two policies that mean the same are
//! no difference, however ECR words them.

use std::collections::BTreeMap;

use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageTagMutability, ImageTagMutabilityExclusionFilter,
    ImageTagMutabilityExclusionFilterType, Repository as Described, Tag as ApiTag,
};
use serde_json::{Value, json};

use crate::model::{
    ecr_settings::{Encryption, RepositorySettings, TagMutability},
    setting_change::Field,
};

/// What a repository is like, as far as it was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct CurrentSettings {
    pub(super) mutability: TagMutability,
    pub(super) scan_on_push: bool,
    pub(super) encryption: Option<Encryption>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) lifecycle: Option<Value>,
    pub(super) policy: Option<Value>,
}

/// One call that brings a repository nearer to what is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SettingUpdate {
    Mutability(TagMutability),
    ScanOnPush(bool),
    Tags(BTreeMap<String, String>),
    Lifecycle(Value),
    Policy(Value),
}

/// What differs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Differences {
    /// For a person to read, in the order of the configuration's keys.
    pub(super) fields: Vec<Field>,
    /// What to do about it.
    pub(super) steps: Vec<SettingUpdate>,
    /// What nothing can be done about.
    pub(super) warnings: Vec<String>,
}

impl Differences {
    fn add(&mut self, name: &str, old: Value, new: Value) {
        self.fields.push(Field { name: name.to_owned(), old, new });
    }
}

/// Compares what is written with what is there; tags that are not written stay.
pub(super) fn differences(wanted: &RepositorySettings, actual: &CurrentSettings) -> Differences {
    let mut found = Differences::default();
    if let Some(new) = &wanted.mutability
        && !new.is_equivalent(&actual.mutability)
    {
        let old = actual.mutability.to_string();
        found.add("tag_mutability", json!(old), json!(new.to_string()));
        found.steps.push(SettingUpdate::Mutability(new.clone()));
    }
    if let Some(new) = wanted.scan_on_push
        && new != actual.scan_on_push
    {
        found.add("scan_on_push", json!(actual.scan_on_push), json!(new));
        found.steps.push(SettingUpdate::ScanOnPush(new));
    }
    if let (Some(new), Some(old)) = (&wanted.encryption, &actual.encryption)
        && !is_encrypted_like(old, new)
    {
        found.warnings.push(format!(
            "`encryption` is {old} and not {new}, and cannot be changed: only a repository that is made anew has another"
        ));
    }
    let is_new = |(key, value): &(&String, &String)| actual.tags.get(*key) != Some(*value);
    let tags: BTreeMap<String, String> =
        wanted.tags.iter().filter(is_new).map(|(k, v)| (k.clone(), v.clone())).collect();
    for (key, new) in &tags {
        found.add(&format!("tags.{key}"), json!(actual.tags.get(key)), json!(new));
    }
    if !tags.is_empty() {
        found.steps.push(SettingUpdate::Tags(tags));
    }
    let differs =
        |new: &Value, old: &Option<Value>| old.as_ref().map(canonical) != Some(canonical(new));
    if let Some(new) = wanted.lifecycle.as_ref().filter(|new| differs(new, &actual.lifecycle)) {
        found.add("lifecycle", json!(actual.lifecycle), new.clone());
        found.steps.push(SettingUpdate::Lifecycle(new.clone()));
    }
    if let Some(new) = wanted.policy.as_ref().filter(|new| differs(new, &actual.policy)) {
        found.add("policy", json!(actual.policy), new.clone());
        found.steps.push(SettingUpdate::Policy(new.clone()));
    }
    found
}

/// Whether both may be the same encryption: of a key that is named by its alias nobody can tell here.
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

/// Whether two policies mean the same, however they are worded.
pub(crate) fn is_same_policy(one: &Value, other: &Value) -> bool {
    canonical(one) == canonical(other)
}

/// The document in the one form of all that mean the same: lists of strings sorted, a list of
/// one as its item, an account by its number, everybody as every AWS principal.
///
/// Source: IAM user guide, "AWS JSON policy elements: Principal".
fn canonical(document: &Value) -> Value {
    let member = |(name, value): (&String, &Value)| match canonical(value) {
        all if all == "*" && name == "Principal" => (name.clone(), json!({ "AWS": "*" })),
        value => (name.clone(), value),
    };
    match document {
        Value::Object(members) => members.iter().map(member).collect(),
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

/// The account of `arn:PARTITION:iam::ACCOUNT:root`, which IAM takes for the number itself.
fn account_of(text: &str) -> Option<&str> {
    let (head, account) = text.strip_suffix(":root")?.split_once(":iam::")?;
    head.starts_with("arn:").then_some(account)
}

/// What ECR says about a repository, apart from its tags and policies.
pub(super) fn described(told: &Described) -> CurrentSettings {
    CurrentSettings {
        mutability: mutability(told),
        scan_on_push: told.image_scanning_configuration().is_some_and(|it| it.scan_on_push()),
        encryption: told.encryption_configuration().map(encryption),
        ..CurrentSettings::default()
    }
}

/// Whether its tags may be moved; a setting that is not known is taken for the default.
pub(super) fn mutability(told: &Described) -> TagMutability {
    mutability_of(told.image_tag_mutability(), told.image_tag_mutability_exclusion_filters())
}

/// The same, of its two members.
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

/// The encryption as ECR tells it.
pub(crate) fn encryption(told: &EncryptionConfiguration) -> Encryption {
    let key = told.kms_key().map(str::to_owned);
    match told.encryption_type() {
        EncryptionType::Kms => Encryption::Kms(key),
        EncryptionType::KmsDsse => Encryption::KmsDsse(key),
        _ => Encryption::Aes256,
    }
}

/// The setting as the API takes it: filters come exactly with `…_WITH_EXCLUSION`.
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

/// The encryption as the API takes it.
pub(crate) fn encryption_to_api(setting: &Encryption) -> EncryptionConfiguration {
    let kind = match setting {
        Encryption::Aes256 => EncryptionType::Aes256,
        Encryption::Kms(_) => EncryptionType::Kms,
        Encryption::KmsDsse(_) => EncryptionType::KmsDsse,
    };
    EncryptionConfiguration::builder()
        .encryption_type(kind)
        .set_kms_key(setting.key().map(str::to_owned))
        .build()
        .expect("the type is set")
}

/// Tags as the API takes them.
pub(crate) fn to_tags(tags: &BTreeMap<String, String>) -> Vec<ApiTag> {
    let tag = |(key, value): (&String, &String)| {
        ApiTag::builder().key(key).value(value).build().expect("both members are set")
    };
    tags.iter().map(tag).collect()
}

#[cfg(test)]
mod tests;
