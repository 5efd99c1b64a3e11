//! Repository creation templates.

use aws_sdk_ecr::{
    Client,
    error::ProvideErrorMetadata,
    types::{
        EncryptionConfigurationForRepositoryCreationTemplate as ApiEncryption, ImageTagMutability,
        ImageTagMutabilityExclusionFilter, RctAppliedFor, Tag,
    },
};
use serde_json::Value;

use super::{ApplyWork, created_concurrently};
use crate::{
    ecr::settings,
    model::{Result, ecr_settings::Encryption},
    pull_through::{
        fetch_state,
        state::{ObservedTemplate, WantedTemplate},
    },
};

/// A template's members as the API takes them; `None` is not sent.
struct Members {
    applied_for: Option<Vec<RctAppliedFor>>,
    mutability: Option<ImageTagMutability>,
    exclusions: Option<Vec<ImageTagMutabilityExclusionFilter>>,
    encryption: Option<ApiEncryption>,
    tags: Option<Vec<Tag>>,
    lifecycle: Option<String>,
    policy: Option<String>,
}

/// Sets all members on the builder of either call, which have no common type.
macro_rules! with_members {
    ($request:expr, $wanted:expr) => {{
        let members = Members::of($wanted);
        $request
            .prefix(&$wanted.prefix)
            .set_applied_for(members.applied_for)
            .set_image_tag_mutability(members.mutability)
            .set_image_tag_mutability_exclusion_filters(members.exclusions)
            .set_encryption_configuration(members.encryption)
            .set_resource_tags(members.tags)
            .set_lifecycle_policy(members.lifecycle)
            .set_repository_policy(members.policy)
            .set_custom_role_arn($wanted.role_arn.clone())
    }};
}

impl ApplyWork<'_> {
    pub(super) async fn create_template(&self, wanted: &WantedTemplate) -> Result<()> {
        let create = |ecr: Client| {
            let request = with_members!(ecr.create_repository_creation_template(), wanted);
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("TemplateAlreadyExistsException") => Ok(false),
                    answer => answer.map(|_| true),
                }
            }
        };
        if self.session.api.call("CreateRepositoryCreationTemplate", create).await? {
            return Ok(());
        }
        // the answer to an earlier attempt may have been lost
        match fetch_state::templates(self.session).await?.remove(&wanted.prefix) {
            Some(there) if is_as_wanted(&there, wanted) => Ok(()),
            _ => Err(created_concurrently("a template of this prefix")),
        }
    }

    pub(super) async fn update_template(&self, wanted: &WantedTemplate) -> Result<()> {
        let update =
            |ecr: Client| with_members!(ecr.update_repository_creation_template(), wanted).send();
        self.session.api.call("UpdateRepositoryCreationTemplate", update).await.map(drop)
    }

    pub(super) async fn delete_template(&self, prefix: &str) -> Result<()> {
        let delete = |ecr: Client| {
            let request = ecr.delete_repository_creation_template().prefix(prefix);
            async move {
                match request.send().await {
                    Err(e) if e.code() == Some("TemplateNotFoundException") => Ok(()),
                    answer => answer.map(drop),
                }
            }
        };
        self.session.api.call("DeleteRepositoryCreationTemplate", delete).await
    }
}

impl Members {
    fn of(wanted: &WantedTemplate) -> Self {
        let mutability = wanted.mutability.as_ref().map(settings::to_api);
        let (mutability, exclusions) = match mutability {
            Some((word, filters)) => (Some(word), filters),
            None => (None, None),
        };
        let occasions = wanted.applied_for.as_ref().map(|all| {
            let occasion = |name: &String| RctAppliedFor::from(name.as_str());
            all.iter().map(occasion).collect()
        });
        Self {
            applied_for: occasions,
            mutability,
            exclusions,
            encryption: wanted.encryption.as_ref().map(encryption),
            tags: wanted.tags.as_ref().map(settings::to_tags),
            lifecycle: wanted.lifecycle.as_ref().map(Value::to_string),
            policy: wanted.policy.as_ref().map(policy),
        }
    }
}

/// The policy's text; an empty one takes it away.
fn policy(wanted: &Value) -> String {
    if wanted.is_null() { String::new() } else { wanted.to_string() }
}

fn encryption(wanted: &Encryption) -> ApiEncryption {
    let same = settings::encryption_to_api(wanted);
    ApiEncryption::builder()
        .encryption_type(same.encryption_type)
        .set_kms_key(same.kms_key)
        .build()
        .expect("the type is set")
}

/// Whether every member that is wanted is there.
fn is_as_wanted(there: &ObservedTemplate, wanted: &WantedTemplate) -> bool {
    fn fits<T>(wanted: &Option<T>, is_like: impl FnOnce(&T) -> bool) -> bool {
        wanted.as_ref().is_none_or(is_like)
    }
    let is_policy = |there: &Option<Value>, wanted: &Option<Value>| {
        fits(wanted, |it| match there {
            Some(there) => settings::is_same_policy(there, it),
            None => it.is_null(),
        })
    };
    fits(&wanted.applied_for, |it| *it == there.applied_for)
        && fits(&wanted.mutability, |it| it.is_equivalent(&there.mutability))
        && fits(&wanted.encryption, |it| settings::is_encrypted_like(&there.encryption, it))
        && fits(&wanted.tags, |it| *it == there.tags)
        && is_policy(&there.lifecycle, &wanted.lifecycle)
        && is_policy(&there.policy, &wanted.policy)
        && fits(&wanted.role_arn, |it| Some(it) == there.role_arn.as_ref())
}
