//! Repository creation templates, and the repositories that ECR creates from them.

use serde_json::{Value, json};

use super::{
    ApiResult, Caller,
    repositories::{encryption, is_lifecycle_policy, mutability, parsed, tags, with_next},
};
use crate::sandbox::{
    ecr::{
        error::EcrError,
        model::{self, Input, Text, missing},
        registry::Registry,
        templates::{TEMPLATES, Templates, cached_settings},
    },
    fault::{Behaviour, Name, Side},
};

const APPLIED_FOR: &[&str] = &["REPLICATION", "PULL_THROUGH_CACHE", "CREATE_ON_PUSH"];

const MUTABILITY: &str = "imageTagMutability";
const EXCLUSIONS: &str = "imageTagMutabilityExclusionFilters";

/// `kmsKey` of a template: a whole ARN only.
const KMS_KEY: Text = Text {
    min: 0,
    max: 2048,
    pattern: Some((r"^$|arn:aws[a-z0-9-]*:kms:[a-z0-9-]+:[0-9]{12}:key\/[a-z0-9-]+", is_key_arn)),
};

fn not_found(prefix: &str, account: &str) -> EcrError {
    let text = format!(
        "The Repository Creation Template with prefix '{prefix}' does not exist in the registry with id '{account}'"
    );
    EcrError::new("TemplateNotFoundException", text)
}

fn prefix<'a>(input: &Input<'a>) -> Result<&'a str, EcrError> {
    let prefix = input.required("prefix", &model::TEMPLATE_PREFIX)?;
    Ok(prefix.strip_suffix('/').unwrap_or(prefix))
}

pub(super) fn create(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    if input.value("appliedFor").is_none() {
        return Err(missing("appliedFor"));
    }
    authorize_write(caller, input)?;
    let registry = caller.own_registry()?;
    let mut template = json!({
        "prefix": prefix,
        "imageTagMutability": "MUTABLE",
        "encryptionConfiguration": { "encryptionType": "AES256" },
    });
    write(&mut template, input, &registry)?;
    check_role(&template, caller)?;
    let created = registry.now();
    template["createdAt"] = created.into();
    template["updatedAt"] = created.into();
    registry.change(TEMPLATES, |templates: &mut Templates| {
        if templates.contains_key(prefix) {
            let text = format!(
                "The Repository Creation Template with prefix '{prefix}' already exists in the registry with id '{}'",
                registry.account
            );
            return Err(EcrError::new("TemplateAlreadyExistsException", text));
        }
        templates.insert(prefix.to_owned(), template.clone());
        Ok(json!({ "registryId": registry.account, "repositoryCreationTemplate": template }))
    })
}

pub(super) fn update(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    authorize_write(caller, input)?;
    let registry = caller.own_registry()?;
    let updated = registry.change(TEMPLATES, |templates: &mut Templates| {
        let missing = || not_found(prefix, &registry.account);
        let template = templates.get_mut(prefix).ok_or_else(missing)?;
        reset_omitted(template, input, &registry);
        write(template, input, &registry)?;
        check_role(template, caller)?;
        template["updatedAt"] = registry.now().into();
        Ok(json!({ "registryId": registry.account, "repositoryCreationTemplate": template }))
    })?;
    if registry.faults.otherwise(Behaviour::TemplateReapplies) {
        for repository in registry.store.repositories() {
            let lifecycle = cached_settings(&registry, &repository).lifecycle;
            registry.change_settings(&repository, |settings| {
                settings.lifecycle = lifecycle;
                Ok(())
            })?;
        }
    }
    Ok(updated)
}

/// An update that omits the mutability makes it `MUTABLE`; it keeps other omitted members.
///
/// Source: API model, `UpdateRepositoryCreationTemplate`.
fn reset_omitted(template: &mut Value, input: &Input<'_>, registry: &Registry) {
    let keeps = registry.faults.otherwise(Behaviour::TemplateMutability);
    if input.value(MUTABILITY).is_none() && !keeps {
        template[MUTABILITY] = "MUTABLE".into();
        template[EXCLUSIONS] = json!([]);
    }
    if registry.faults.otherwise(Behaviour::TemplateDescription) {
        template["description"] = "".into();
    }
}

/// Checks that the caller has the rights that the template will use in its name.
///
/// Source: service authorization reference, dependent actions.
fn authorize_write(caller: &Caller<'_>, input: &Input<'_>) -> Result<(), EcrError> {
    let given = |field: &str| input.value(field).is_some();
    let needed = [
        ("CreateRepository", true),
        ("SetRepositoryPolicy", given("repositoryPolicy")),
        ("PutLifecyclePolicy", given("lifecyclePolicy")),
    ];
    for (action, _) in needed.into_iter().filter(|(_, is_needed)| *is_needed) {
        caller.authorize("ecr", action, "*")?;
    }
    match input.text("customRoleArn", &model::ROLE_ARN)? {
        Some(role) => caller.authorize("iam", "PassRole", role),
        None => Ok(()),
    }
}

/// Writes the input's members to the template; keeps the others.
fn write(template: &mut Value, input: &Input<'_>, registry: &Registry) -> Result<(), EcrError> {
    if let Some(text) = input.text("description", &model::DESCRIPTION)? {
        template["description"] = text.into();
    }
    if let Some(role) = input.text("customRoleArn", &model::ROLE_ARN)? {
        template["customRoleArn"] = role.into();
    }
    write_settings(template, input, registry)?;
    write_policies(template, input)?;
    if let Some(reasons) = input.list("appliedFor", 0, APPLIED_FOR.len())? {
        let known = |reason: &Value| APPLIED_FOR.iter().any(|known| reason == known);
        if !reasons.iter().all(known) {
            let set = APPLIED_FOR.join(", ");
            let rule = format!("Member must satisfy enum value set: [{set}]");
            return Err(EcrError::parameter("appliedFor", rule));
        }
        template["appliedFor"] = reasons.into();
    }
    Ok(())
}

/// Requires a role for KMS, and with the fault `template-role` for tags.
///
/// Source: the user guide requires it for both; AWS accepts tags without a role in the test "basic"
/// of hashicorp/terraform-provider-aws.
fn check_role(template: &Value, caller: &Caller<'_>) -> Result<(), EcrError> {
    let has_tags = template["resourceTags"].as_array().is_some_and(|tags| !tags.is_empty());
    let is_strict = || caller.ecr.faults.active(Name::TemplateRole, Side::Ecr).is_some();
    let is_kms = template["encryptionConfiguration"]["encryptionType"] != "AES256";
    if template.get("customRoleArn").is_none() && (is_kms || has_tags && is_strict()) {
        return Err(EcrError::validation(
            "customRoleArn is required with resourceTags or KMS encryption",
        ));
    }
    Ok(())
}

fn write_settings(
    template: &mut Value,
    input: &Input<'_>,
    registry: &Registry,
) -> Result<(), EcrError> {
    if let Some(encryption) = encryption(input, registry, &KMS_KEY)? {
        template["encryptionConfiguration"] = encryption;
    }
    if input.value("resourceTags").is_some() {
        // these operations have no exception for tags
        let tags = tags(input, "resourceTags").map_err(|refusal| match refusal.name {
            "TooManyTagsException" | "InvalidTagParameterException" => {
                EcrError::validation(refusal.message)
            }
            _ => refusal,
        })?;
        let shown = tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value }));
        template["resourceTags"] = shown.collect();
    }
    if input.value(MUTABILITY).is_some() || input.value(EXCLUSIONS).is_some() {
        let (value, exclusions) = mutability(input)?;
        template[MUTABILITY] = value.into();
        let shown = exclusions.iter().map(|f| json!({ "filterType": "WILDCARD", "filter": f }));
        template[EXCLUSIONS] = shown.collect();
    }
    Ok(())
}

/// An empty text removes the policy.
fn write_policies(template: &mut Value, input: &Input<'_>) -> Result<(), EcrError> {
    if let Some(text) = input.text("repositoryPolicy", &model::POLICY)? {
        if !text.is_empty() {
            parsed("repositoryPolicy", text)?;
        }
        template["repositoryPolicy"] = text.into();
    }
    if let Some(text) = input.text("lifecyclePolicy", &model::TEMPLATE_LIFECYCLE)? {
        if !text.is_empty() {
            is_lifecycle_policy(text)?;
        }
        template["lifecyclePolicy"] = text.into();
    }
    Ok(())
}

pub(super) fn delete(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let prefix = prefix(input)?;
    let registry = caller.own_registry()?;
    registry.change(TEMPLATES, |templates: &mut Templates| {
        let removed =
            templates.remove(prefix).ok_or_else(|| not_found(prefix, &registry.account))?;
        Ok(json!({ "registryId": registry.account, "repositoryCreationTemplate": removed }))
    })
}

/// Omits prefixes without a template.
pub(super) fn describe(caller: &Caller<'_>, input: &Input<'_>) -> ApiResult {
    let page = input.page(100, 1000, "prefixes")?;
    let wanted = input.texts("prefixes", 1..=100, &model::TEMPLATE_PREFIX)?;
    let registry = caller.own_registry()?;
    let is_wanted = |prefix: &str| {
        let trimmed = |wanted: &&str| wanted.strip_suffix('/').unwrap_or(wanted) == prefix;
        wanted.as_ref().is_none_or(|wanted| wanted.iter().any(trimmed))
    };
    let templates: Templates = registry.document(TEMPLATES);
    let chosen = templates.into_iter().filter(|(prefix, _)| is_wanted(prefix)).collect();
    let (templates, next) = page.cut(chosen);
    let account = &registry.account;
    let answer = json!({ "registryId": account, "repositoryCreationTemplates": templates });
    Ok(with_next(answer, next))
}

fn is_key_arn(text: &str) -> bool {
    let word = |part: &str| {
        let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !part.is_empty() && part.bytes().all(is_word)
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [""] => true,
        ["arn", partition, "kms", region, account, key] => {
            partition.starts_with("aws")
                && word(partition)
                && word(region)
                && account.len() == 12
                && account.bytes().all(|b| b.is_ascii_digit())
                && key.strip_prefix("key/").is_some_and(word)
        }
        _ => false,
    }
}
