//! `[pull_through.template]`: the settings of the repositories that a cache creates.
//!
//! Ensures the requirements of a creation template that a repository does not have: a role for KMS,
//! and the full ARN of a key.

use super::upstream::{CacheRegistry, role};
use crate::{
    config::{
        arn::Arn,
        context::FileContext,
        document::{Keys, Table, Text},
        policies,
        problem::Problem,
        repositories,
    },
    model::{
        ecr_settings::{Encryption, RepositorySettings},
        pull_through::{Prefix, TemplateSettings},
    },
};

/// Characters of a template's description. Source: ECR API model.
const MAX_DESCRIPTION: usize = 256;

pub(super) const KEYS: Keys = Keys {
    title: "`[pull_through.template]`",
    names: "description reconcile tag_mutability exclusions encryption tags role_arn lifecycle \
        lifecycle_file policy policy_file",
};

/// Reads the template of a cache in these registries.
pub(super) fn read(
    table: &Table<'_>,
    registries: &[CacheRegistry],
    prefix: &Prefix,
    file: &FileContext<'_>,
) -> Result<TemplateSettings, Problem> {
    let partition = partition(registries);
    let settings = repositories::settings(table, file, partition, policies::TEMPLATE_LIFECYCLE)?;
    let description = table.word("description")?.map(|text| description(&text)).transpose()?;
    let reconcile = table.switch("reconcile")?.unwrap_or_default();
    if let (true, Prefix::Root, Some(span)) = (reconcile, prefix, table.span_of("reconcile")) {
        let label = "cannot be combined with the prefix `ROOT`: every repository of the registry is below it";
        return Err(Problem::at(&span, label).hint("write a `prefix` for the cache"));
    }
    if settings.is_empty() && description.is_none() {
        return Err(Problem::empty(&table.span).hint(
            "add a setting of the cache's repositories, like `lifecycle = { expire_after_days = 30 }`, or remove the table",
        ));
    }
    check_key(table, &settings, registries)?;
    let role_arn = table.text("role_arn")?.map(|text| role(&text, registries)).transpose()?;
    let is_kms = settings.encryption.as_ref().is_some_and(|it| *it != Encryption::Aes256);
    if let (None, true, Some(span)) = (&role_arn, is_kms, table.span_of("encryption")) {
        let label = "requires a `role_arn`, with which ECR creates the repositories";
        return Err(Problem::needing(&span, label).hint(ROLE));
    }
    Ok(TemplateSettings { settings, role_arn, description, reconcile })
}

/// Source: ECR API model, `description` of a template.
fn description(text: &Text) -> Result<String, Problem> {
    let hint = format!("shorten it to {MAX_DESCRIPTION} characters");
    let is_short = text.chars().count() <= MAX_DESCRIPTION;
    text.checked(is_short, "is too long for ECR", &hint)
}

/// Source: ECR user guide, "Creating an IAM role for repository creation templates".
pub(in crate::config) const ROLE: &str = "add a role that trusts `ecr.amazonaws.com`, with the permissions `ecr:CreateRepository`, \
    `ecr:ReplicateImage`, `ecr:TagResource`, and for KMS `kms:CreateGrant`, `kms:RetireGrant`, \
    `kms:DescribeKey`";

/// The partition of all registries; `None` if they differ.
fn partition(registries: &[CacheRegistry]) -> Option<&'static str> {
    let mut partitions = registries.iter().map(|registry| registry.host.partition());
    let first = partitions.next()?;
    partitions.all(|other| other == first).then_some(first)
}

/// Ensures that a KMS key is named by its ARN and is in the region of each registry.
///
/// Source: ECR API model, `EncryptionConfigurationForRepositoryCreationTemplate`.
fn check_key(
    table: &Table<'_>,
    settings: &RepositorySettings,
    registries: &[CacheRegistry],
) -> Result<(), Problem> {
    let key = settings.encryption.as_ref().and_then(|encryption| encryption.key());
    let (Some(key), Some(span)) = (key, table.span_of("encryption")) else { return Ok(()) };
    let is_key = |arn: &Arn<'_>| arn.service == "kms" && arn.resource.starts_with("key/");
    let Some(arn) = Arn::parse(key).filter(is_key) else {
        return Err(Problem::at(&span, "a template requires the full ARN of a `key`")
            .hint("write an ARN like `key = \"arn:aws:kms:eu-west-1:123456789012:key/…\"`"));
    };
    let elsewhere = registries.iter().find(|registry| registry.host.region != arn.region);
    let Some(registry) = elsewhere else { return Ok(()) };
    let label = format!("`key` is not in the region of the destination in line {}", registry.line);
    let hint = "write one `[[pull_through]]` per region, with its `destinations`";
    Err(Problem::at(&span, label).hint(hint))
}
