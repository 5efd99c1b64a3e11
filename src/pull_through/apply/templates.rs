//! Creates, updates and deletes repository creation templates.

use aws_sdk_ecr::{
    Client,
    types::{EncryptionConfigurationForRepositoryCreationTemplate as ApiEncryption, RctAppliedFor},
};
use serde_json::Value;

use super::created_concurrently;
use crate::{
    ecr::{
        AwsSession,
        cache_api::{self, ObservedTemplate},
        settings,
    },
    model::{Result, ecr_settings::Encryption},
    pull_through::state::DesiredTemplate,
};

/// Sets all members on the builder of either call; `None` is not sent. The builders have no common
/// type.
macro_rules! with_members {
    ($request:expr, $template:expr) => {{
        let template = $template;
        let (mutability, exclusions) = template.mutability.as_ref().map(settings::to_api).unzip();
        let occasion = |name: &String| RctAppliedFor::from(name.as_str());
        let occasions = template.applied_for.as_ref();
        $request
            .prefix(&template.prefix)
            .set_applied_for(occasions.map(|all| all.iter().map(occasion).collect()))
            .set_image_tag_mutability(mutability)
            .set_image_tag_mutability_exclusion_filters(exclusions.flatten())
            .set_encryption_configuration(template.encryption.as_ref().map(encryption))
            .set_resource_tags(template.tags.as_ref().map(settings::to_tags))
            .set_lifecycle_policy(template.lifecycle.as_ref().map(Value::to_string))
            // an empty text removes the policy
            .set_repository_policy(template.policy.as_ref().map(|policy| match policy {
                Value::Null => String::new(),
                policy => policy.to_string(),
            }))
            .set_custom_role_arn(template.role_arn.clone())
            .set_description(template.description.clone())
    }};
}

pub(super) async fn create(session: &AwsSession, template: &DesiredTemplate) -> Result<()> {
    let (api, exists) = (&session.api, "TemplateAlreadyExistsException");
    let create =
        |ecr: Client| with_members!(ecr.create_repository_creation_template(), template).send();
    if api.call_unless(exists, "CreateRepositoryCreationTemplate", create).await?.is_some() {
        return Ok(());
    }
    // the answer to an earlier attempt may have been lost
    match cache_api::templates(api, None).await?.remove(&template.prefix) {
        Some(existing) if is_same(&existing, template) => Ok(()),
        _ => Err(created_concurrently("a template of this prefix")),
    }
}

pub(super) async fn update(session: &AwsSession, template: &DesiredTemplate) -> Result<()> {
    let update =
        |ecr: Client| with_members!(ecr.update_repository_creation_template(), template).send();
    session.api.call("UpdateRepositoryCreationTemplate", update).await.map(drop)
}

pub(super) async fn delete(session: &AwsSession, prefix: &str) -> Result<()> {
    let (api, missing) = (&session.api, "TemplateNotFoundException");
    let delete = |ecr: Client| ecr.delete_repository_creation_template().prefix(prefix).send();
    api.call_unless(missing, "DeleteRepositoryCreationTemplate", delete).await.map(drop)
}

fn encryption(encryption: &Encryption) -> ApiEncryption {
    ApiEncryption::builder()
        .encryption_type(settings::encryption_type(encryption))
        .set_kms_key(encryption.key().map(str::to_owned))
        .build()
        .expect("the type is set")
}

/// Returns `true` if the existing template has every desired member.
fn is_same(existing: &ObservedTemplate, desired: &DesiredTemplate) -> bool {
    fn fits<T>(desired: &Option<T>, is_like: impl FnOnce(&T) -> bool) -> bool {
        desired.as_ref().is_none_or(is_like)
    }
    let is_same_policy = |existing: &Option<Value>, desired: &Option<Value>| {
        fits(desired, |it| match existing {
            Some(existing) => settings::is_same_policy(existing, it),
            None => it.is_null(),
        })
    };
    fits(&desired.applied_for, |it| *it == existing.applied_for)
        && fits(&desired.mutability, |it| it.is_equivalent(&existing.mutability))
        && fits(&desired.encryption, |it| settings::is_encrypted_like(&existing.encryption, it))
        && fits(&desired.tags, |it| *it == existing.tags)
        && is_same_policy(&existing.lifecycle, &desired.lifecycle)
        && is_same_policy(&existing.policy, &desired.policy)
        && fits(&desired.role_arn, |it| Some(it) == existing.role_arn.as_ref())
        && fits(&desired.description, |it| Some(it) == existing.description.as_ref())
}
