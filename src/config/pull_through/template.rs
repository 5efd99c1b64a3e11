//! `[pull_through.template]`: what repositories are like that a cache makes.
//!
//! Guards what ECR asks of a creation template and of no repository: a role for tags and KMS, and
//! the whole ARN of a key.

use super::CacheRegistry;
use crate::{
    config::{
        FileContext,
        arn::Arn,
        document::{Keys, Table},
        policies,
        problem::{Problem, Span},
        repositories,
    },
    model::{ecr_settings::RepositorySettings, pull_through::TemplateSettings},
};

const KEYS: Keys = Keys {
    title: "`[pull_through.template]`",
    names: &[
        "tag_mutability",
        "exclusions",
        "encryption",
        "tags",
        "role_arn",
        "lifecycle",
        "lifecycle_file",
        "policy",
        "policy_file",
    ],
};

/// A template and where it is written.
pub(super) struct ReadTemplate {
    pub(super) template: TemplateSettings,
    pub(super) mutability: Option<Span>,
    pub(super) lifecycle: Option<Span>,
}

/// Reads the table inside a cache that these registries have.
pub(super) fn read(
    cache: &Table<'_>,
    homes: &[CacheRegistry],
    around: &FileContext<'_>,
) -> Result<Option<ReadTemplate>, Problem> {
    let Some(table) = cache.table("template", &KEYS)? else { return Ok(None) };
    let settings = RepositorySettings {
        mutability: repositories::mutability(&table)?,
        scan_on_push: None,
        encryption: repositories::encryption(&table)?,
        tags: repositories::tags(&table)?,
        lifecycle: policies::lifecycle(&table, around, policies::OF_TEMPLATE)?,
        policy: policies::access(&table, around, partition(homes))?,
    };
    if settings.is_empty() {
        return Err(Problem::at(&table.span, "says nothing").hint(
            "write what the cache's repositories are like, such as `lifecycle = { expire_after_days = 30 }`, or leave it away",
        ));
    }
    check_key(&table, &settings, homes)?;
    let role_arn = table.text("role_arn")?.map(|text| super::role(&text, homes)).transpose()?;
    if let (None, Some(span)) = (&role_arn, repositories::needing_role(&table, &settings)) {
        let label = "needs a `role_arn`, in whose name ECR makes such repositories";
        return Err(Problem::at(&span, label).hint(ROLE));
    }
    Ok(Some(ReadTemplate {
        template: TemplateSettings { settings, role_arn },
        mutability: table.place("tag_mutability"),
        lifecycle: table.place("lifecycle").or_else(|| table.place("lifecycle_file")),
    }))
}

/// Source: ECR user guide, "Creating an IAM role for repository creation templates".
const ROLE: &str = "a role that trusts `ecr.amazonaws.com` and may `ecr:CreateRepository`, \
    `ecr:ReplicateImage`, `ecr:TagResource`, and for KMS `kms:CreateGrant`, `kms:RetireGrant`, \
    `kms:DescribeKey`";

/// The one partition that all are in.
fn partition(homes: &[CacheRegistry]) -> Option<&'static str> {
    let (first, rest) = homes.split_first()?;
    let partition = first.registry.partition();
    rest.iter().all(|home| home.registry.partition() == partition).then_some(partition)
}

/// A key of KMS is named by its ARN, and is of the region that it encrypts in.
///
/// Source: ECR API model, `EncryptionConfigurationForRepositoryCreationTemplate`.
fn check_key(
    table: &Table<'_>,
    settings: &RepositorySettings,
    homes: &[CacheRegistry],
) -> Result<(), Problem> {
    let key = settings.encryption.as_ref().and_then(|encryption| encryption.key());
    let (Some(key), Some(span)) = (key, table.place("encryption")) else { return Ok(()) };
    let is_key = |arn: &Arn<'_>| arn.service == "kms" && arn.resource.starts_with("key/");
    let Some(arn) = Arn::parse(key).filter(is_key) else {
        return Err(Problem::at(&span, "a template takes the whole ARN of a `key`")
            .hint("write it like `key = \"arn:aws:kms:eu-west-1:123456789012:key/…\"`"));
    };
    match homes.iter().find(|home| home.registry.region() != arn.region) {
        Some(home) => {
            let label =
                format!("its `key` is not in the region of the destination in line {}", home.line);
            Err(Problem::at(&span, label)
                .hint("write a `[[pull_through]]` for each region, with its `destinations`"))
        }
        None => Ok(()),
    }
}
