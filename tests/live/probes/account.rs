//! Account settings, the registry policy, registry scanning, and creation templates.

use anyhow::{Context, Result, ensure};
use aws_sdk_ecr::types::{
    ImageTagMutability, RctAppliedFor, RegistryScanningRule, ScanFrequency, ScanType,
    ScanningRepositoryFilter, ScanningRepositoryFilterType, Tag,
};
use serde_json::{Value, json};

use super::api::grant;
use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{ApiAnswer, ProbeRun},
};

probes! {
    "mounting-default", Own, "`BLOB_MOUNTING` is off unless the account enables it"
        => "DISABLED", otherwise "otherwise=mounting-default", mounting;
    "policy-scope", Own, "The registry policy covers all actions of ECR"
        => "V2", otherwise "otherwise=policy-scope", scope;
    "policy-scope-v2", Account, "`REGISTRY_POLICY_SCOPE` can be set to V2"
        => "accepted", otherwise "limit=PutAccountSetting", put_scope;
    "policy-sid", Account, "The registry policy keeps the ids of its statements"
        => "kept", otherwise "otherwise=policy-sids", sid;
    "scanning-filter", Account, "A scanning filter that begins with `-` is refused"
        => "InvalidParameterException", otherwise "accept=PutRegistryScanningConfiguration", scanning;
    "template-tags", Account, "A creation template with tags needs no role"
        => "accepted", otherwise "template-role", template_tags;
    "template-mutability", Account, "An update of a template that omits the mutability makes it MUTABLE"
        => "MUTABLE", otherwise "otherwise=template-mutability", template_mutability;
    "template-description", Account, "An update of a template that omits the description keeps it, an empty one clears it"
        => "kept, cleared", otherwise "otherwise=template-description", template_description;
    "template-repositories", Account, "A template does not change repositories that exist"
        => "LifecyclePolicyNotFoundException", otherwise "otherwise=template-reapplies", template_repositories;
    "create-on-push", Account, "A push below a template for pushes creates the repository"
        => "202", otherwise "limit=InitiateLayerUpload", create_on_push;
    "create-on-push-tags", Account, "A push below a template with tags and without a role creates a tagged repository"
        => "202, tagged", otherwise "limit=InitiateLayerUpload", create_on_push_tags;
}

const SCOPE: &str = "REGISTRY_POLICY_SCOPE";

async fn setting(run: &ProbeRun, name: &str) -> Seen {
    let read = run.api(|ecr| ecr.get_account_setting().name(name).send()).await?.accepted()?;
    Ok(read["value"].as_str().context("no value")?.to_owned())
}

async fn mounting(run: &ProbeRun) -> Seen {
    run.prepared();
    setting(run, "BLOB_MOUNTING").await
}

async fn scope(run: &ProbeRun) -> Seen {
    run.prepared();
    setting(run, SCOPE).await
}

async fn put_scope(run: &ProbeRun) -> Seen {
    let current = setting(run, SCOPE).await?;
    run.will_make(Made::Setting(SCOPE, current));
    run.prepared();
    Ok(run.api(|ecr| ecr.put_account_setting().name(SCOPE).value("V2").send()).await?.outcome())
}

async fn sid(run: &ProbeRun) -> Seen {
    let current = run.api(|ecr| ecr.get_registry_policy().send()).await?;
    let current = match current.error.as_deref() {
        Some("RegistryPolicyNotFoundException") => None,
        _ => Some(current.accepted()?["policyText"].as_str().context("no policy")?.to_owned()),
    };
    let mut policy = match &current {
        Some(text) => serde_json::from_str(text)?,
        None => json!({ "Version": "2012-10-17", "Statement": [] }),
    };
    let mut added = grant(run, "ecr:CreateRepository");
    let place = format!("{}/*", run.name("none"));
    let partition = added["Principal"]["AWS"].as_str().and_then(|arn| arn.split(':').nth(1));
    let (partition, region) = (partition.unwrap_or("aws"), &run.backend.region);
    let account = &run.backend.account;
    added["Resource"] = format!("arn:{partition}:ecr:{region}:{account}:repository/{place}").into();
    policy["Statement"].as_array_mut().context("a policy without a list")?.push(added);
    run.will_make(Made::RegistryPolicy(current));
    run.prepared();
    let text = policy.to_string();
    run.api(|ecr| ecr.put_registry_policy().policy_text(text).send()).await?.accepted()?;
    let read = run.api(|ecr| ecr.get_registry_policy().send()).await?.accepted()?;
    let text = read["policyText"].as_str().unwrap_or_default();
    let is_kept = text.contains("EcrMirrorLiveProbe");
    Ok(if is_kept { "kept" } else { "dropped" }.to_owned())
}

async fn scanning(run: &ProbeRun) -> Seen {
    let current = run.api(|ecr| ecr.get_registry_scanning_configuration().send()).await?;
    let current = current.accepted()?["scanningConfiguration"].clone();
    let has_rules = current["rules"].as_array().is_some_and(|rules| !rules.is_empty());
    ensure!(
        !has_rules && current["scanType"] == "BASIC",
        "the account has a scanning configuration, which this probe does not replace"
    );
    let filter = ScanningRepositoryFilter::builder()
        .filter_type(ScanningRepositoryFilterType::Wildcard)
        .filter("-x")
        .build()?;
    let rule = RegistryScanningRule::builder()
        .scan_frequency(ScanFrequency::ScanOnPush)
        .repository_filters(filter)
        .build()?;
    run.will_make(Made::BasicScanning);
    run.prepared();
    let put = run.api(|ecr| {
        ecr.put_registry_scanning_configuration().scan_type(ScanType::Basic).rules(rule).send()
    });
    Ok(put.await?.outcome())
}

type CreateTemplate = aws_sdk_ecr::operation::create_repository_creation_template::builders::CreateRepositoryCreationTemplateFluentBuilder;
type UpdateTemplate = aws_sdk_ecr::operation::update_repository_creation_template::builders::UpdateRepositoryCreationTemplateFluentBuilder;

/// Creates a template for pushes and for the cache, and returns its prefix.
async fn template(
    run: &ProbeRun,
    settings: impl FnOnce(CreateTemplate) -> CreateTemplate,
) -> Result<(String, ApiAnswer)> {
    let prefix = run.short_prefix();
    run.will_make(Made::Template(prefix.clone()));
    let create = run.api(|ecr| {
        let create = ecr.create_repository_creation_template().prefix(&prefix);
        let create = create.applied_for(RctAppliedFor::CreateOnPush);
        settings(create.applied_for(RctAppliedFor::PullThroughCache)).send()
    });
    let answer = create.await?;
    Ok((prefix, answer))
}

/// Updates the template, and returns the answer's template.
async fn update(
    run: &ProbeRun,
    prefix: &str,
    settings: impl FnOnce(UpdateTemplate) -> UpdateTemplate,
) -> Result<Value> {
    let update =
        run.api(|ecr| settings(ecr.update_repository_creation_template().prefix(prefix)).send());
    Ok(update.await?.accepted()?["repositoryCreationTemplate"].clone())
}

fn tag() -> Tag {
    Tag::builder().key("probe").value("yes").build().expect("it has both members")
}

async fn template_tags(run: &ProbeRun) -> Seen {
    run.prepared();
    let (_, answer) = template(run, |create| create.resource_tags(tag())).await?;
    Ok(answer.outcome())
}

async fn template_mutability(run: &ProbeRun) -> Seen {
    let immutable = ImageTagMutability::Immutable;
    let (prefix, made) = template(run, |create| create.image_tag_mutability(immutable)).await?;
    made.accepted()?;
    run.prepared();
    let template = update(run, &prefix, |update| update.description("changed")).await?;
    Ok(template["imageTagMutability"].as_str().unwrap_or("no mutability").to_owned())
}

async fn template_description(run: &ProbeRun) -> Seen {
    let (prefix, made) = template(run, |create| create.description("a probe")).await?;
    made.accepted()?;
    run.prepared();
    let mutable = ImageTagMutability::Mutable;
    let omitted = update(run, &prefix, |update| update.image_tag_mutability(mutable)).await?;
    let empty = update(run, &prefix, |update| update.description("")).await?;
    let text = |template: &Value| template["description"].as_str().unwrap_or_default().to_owned();
    let kept = if text(&omitted) == "a probe" { "kept" } else { "not kept" };
    Ok(format!("{kept}, {}", if text(&empty).is_empty() { "cleared" } else { "not cleared" }))
}

/// Opens an upload to a repository below the prefix, which creates it.
async fn push_below(run: &ProbeRun, prefix: &str) -> Result<(String, String)> {
    let name = format!("{prefix}/a");
    run.will_make(Made::Repository(name.clone()));
    let answer = run.post(&format!("{name}/blobs/uploads/")).await?;
    Ok((name, answer.code()))
}

async fn template_repositories(run: &ProbeRun) -> Seen {
    let (prefix, made) = template(run, |create| create).await?;
    made.accepted()?;
    let (name, _) = push_below(run, &prefix).await?;
    run.prepared();
    let lifecycle = json!({ "rules": [{
        "rulePriority": 1,
        "description": "a probe of ecr-mirror",
        "selection": { "tagStatus": "untagged", "countType": "sinceImagePushed",
                       "countUnit": "days", "countNumber": 30 },
        "action": { "type": "expire" },
    }] });
    update(run, &prefix, |update| update.lifecycle_policy(lifecycle.to_string())).await?;
    let read = run.api(|ecr| ecr.get_lifecycle_policy().repository_name(name).send()).await?;
    Ok(read.outcome())
}

async fn create_on_push(run: &ProbeRun) -> Seen {
    let (prefix, made) = template(run, |create| create).await?;
    made.accepted()?;
    run.prepared();
    Ok(push_below(run, &prefix).await?.1)
}

async fn create_on_push_tags(run: &ProbeRun) -> Seen {
    let (prefix, made) = template(run, |create| create.resource_tags(tag())).await?;
    made.accepted()?;
    run.prepared();
    let (name, code) = push_below(run, &prefix).await?;
    let described =
        run.api(|ecr| ecr.describe_repositories().repository_names(&name).send()).await?;
    let arn = described.body["repositories"][0]["repositoryArn"].as_str().unwrap_or_default();
    let listed = run.api(|ecr| ecr.list_tags_for_resource().resource_arn(arn).send()).await?;
    let is_tagged = listed.body["tags"][0]["Key"] == "probe";
    Ok(format!("{code}, {}", if is_tagged { "tagged" } else { "not tagged" }))
}
