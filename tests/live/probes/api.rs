//! Calls of ECR's API that need no account-wide state: errors, limits, lifecycles, secrets.

use anyhow::{Context, Result};
use aws_sdk_ecr::types::{
    EncryptionConfiguration, EncryptionType, ImageIdentifier, ImageTagMutability,
    ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType,
    ListImageReferrersFilter, SubjectIdentifier,
};
use ecr_mirror::model::Digest;
use serde_json::{Value, json};

use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{IMAGE, ProbeRun},
};

/// The ARN of a customer managed KMS key in the region.
const KMS_KEY: &str = "ECR_MIRROR_LIVE_KMS_KEY";

probes! {
    "existing-repository", Own, "A second creation of a repository has an error of its own"
        => "RepositoryAlreadyExistsException", otherwise "accept=CreateRepository", existing;
    "repository-hyphens", Own, "A repository's name with `--` is refused"
        => "InvalidParameterException", otherwise "accept=CreateRepository", hyphens;
    "kms-dsse", Own, "KMS_DSSE is refused outside GovCloud"
        => "InvalidParameterException", otherwise "accept=CreateRepository", kms_dsse;
    "describe-repositories", Own, "A missing repository fails the description of others"
        => "RepositoryNotFoundException", otherwise "accept=DescribeRepositories", describe;
    "describe-images", Own, "A missing image fails the description of others"
        => "ImageNotFoundException", otherwise "accept=DescribeImages", describe_images;
    "put-image", Own, "The API has an error for an image that is there"
        => "ImageAlreadyExistsException", otherwise "accept=PutImage", put_image;
    "missing-layers", Own, "A missing layer is told as UNAVAILABLE, and not as a failure"
        => "UNAVAILABLE", otherwise "otherwise=layer-failures", missing_layers;
    "layers-at-once", Own, "More than 100 layers at once are refused"
        => "InvalidParameterException", otherwise "accept=BatchCheckLayerAvailability", many_layers;
    "exclusion-filter", Own, "An exclusion filter with three `*` is refused"
        => "InvalidParameterException", otherwise "accept=PutImageTagMutability", filter;
    "referrer-types", Own, "More than five artifact types are refused"
        => "InvalidParameterException", otherwise "accept=ListImageReferrers", referrer_types;
    "exclusions-page", Own, "A page of 1,000 pull-time exclusions is accepted"
        => "accepted", otherwise "limit=ListPullTimeUpdateExclusions", page;
    "exclusions-page-limit", Own, "A page of 1,001 pull-time exclusions is refused"
        => "InvalidParameterException", otherwise "accept=ListPullTimeUpdateExclusions", page_limit;
    "unknown-template", Own, "An unknown prefix of creation templates is left out, and no error"
        => "0 templates", otherwise "limit=DescribeRepositoryCreationTemplates", unknown_template;
    "policy-action", Own, "A repository policy may grant `ecr:CreateRepository`, without effect"
        => "accepted", otherwise "limit=SetRepositoryPolicy", policy_action;
    "repository-policy", Own, "A repository policy is returned with equal content"
        => "equal", otherwise "limit=GetRepositoryPolicy", policy_content;
    "lifecycle-archive", Own, "A lifecycle may archive images by their last pull"
        => "accepted", otherwise "limit=PutLifecyclePolicy", lifecycle_archive;
    "lifecycle-expire", Own, "A lifecycle cannot expire images by their last pull"
        => "InvalidParameterException", otherwise "accept=PutLifecyclePolicy", lifecycle_expire;
    "lifecycle-priorities", Own, "Two lifecycle rules of one priority are refused"
        => "InvalidParameterException", otherwise "accept=PutLifecyclePolicy", lifecycle_priorities;
    "lifecycle-count-type", Own, "An unknown count type of a lifecycle is refused"
        => "InvalidParameterException", otherwise "accept=PutLifecyclePolicy", lifecycle_count_type;
    "lifecycle-action", Own, "An unknown action of a lifecycle is refused"
        => "InvalidParameterException", otherwise "accept=PutLifecyclePolicy", lifecycle_action;
    "lifecycle-any", Own, "A lifecycle rule for any tag must be the last one"
        => "InvalidParameterException", otherwise "accept=PutLifecyclePolicy", lifecycle_any;
    "secret-tags", Own, "A secret's tags are returned: they mark the secrets that the program made"
        => "returned", otherwise "otherwise=secret-tags", secret_tags;
    "secret-key", Needs(KMS_KEY), "A secret under a customer managed key tells the key"
        => "the key", otherwise "otherwise=secret-key", secret_key;
}

async fn existing(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.prepared();
    Ok(run.api(|ecr| ecr.create_repository().repository_name(name).send()).await?.outcome())
}

async fn hyphens(run: &ProbeRun) -> Seen {
    let name = run.name("a--b");
    run.will_make(Made::Repository(run.name("a--b")));
    run.prepared();
    Ok(run.api(|ecr| ecr.create_repository().repository_name(name).send()).await?.outcome())
}

async fn kms_dsse(run: &ProbeRun) -> Seen {
    anyhow::ensure!(!run.backend.region.starts_with("us-gov-"), "this is GovCloud");
    let kind = EncryptionConfiguration::builder().encryption_type(EncryptionType::KmsDsse);
    let (name, encryption) = (run.name("a"), kind.build()?);
    run.will_make(Made::Repository(name.clone()));
    run.prepared();
    let create = run.api(|ecr| {
        let create = ecr.create_repository().repository_name(name);
        create.encryption_configuration(encryption).send()
    });
    Ok(create.await?.outcome())
}

async fn describe(run: &ProbeRun) -> Seen {
    let names = vec![run.repository().await?, run.name("missing")];
    run.prepared();
    let describe =
        run.api(|ecr| ecr.describe_repositories().set_repository_names(Some(names)).send());
    Ok(describe.await?.outcome())
}

async fn describe_images(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.push_image(&name, "1").await?;
    let id = |tag: &str| ImageIdentifier::builder().image_tag(tag).build();
    let ids = vec![id("1"), id("missing")];
    run.prepared();
    let describe =
        run.api(|ecr| ecr.describe_images().repository_name(name).set_image_ids(Some(ids)).send());
    Ok(describe.await?.outcome())
}

async fn put_image(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    let image = run.push_image(&name, "1").await?;
    run.prepared();
    let put = run.api(|ecr| {
        let put = ecr.put_image().repository_name(name).image_manifest(image.text);
        put.image_manifest_media_type(IMAGE).image_tag("1").send()
    });
    Ok(put.await?.outcome())
}

async fn check_layers(run: &ProbeRun, name: &str, count: usize) -> Result<Value> {
    let digest = |number: usize| Digest::of(number.to_string().as_bytes()).to_string();
    let digests: Vec<String> = (0..count).map(digest).collect();
    let check = run.api(|ecr| {
        let check = ecr.batch_check_layer_availability().repository_name(name);
        check.set_layer_digests(Some(digests)).send()
    });
    let answer = check.await?;
    Ok(answer.error.map_or(answer.body, |error| json!({ "error": error })))
}

async fn missing_layers(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.prepared();
    let answer = check_layers(run, &name, 1).await?;
    let told = answer["layers"][0]["layerAvailability"].as_str();
    let failure = answer["failures"][0]["failureCode"].as_str();
    Ok(told.or(failure).context("neither a layer nor a failure")?.to_owned())
}

async fn many_layers(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.prepared();
    let answer = check_layers(run, &name, 101).await?;
    Ok(answer["error"].as_str().unwrap_or("accepted").to_owned())
}

async fn filter(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    let filter = ImageTagMutabilityExclusionFilter::builder()
        .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("*a*b*")
        .build()?;
    run.prepared();
    let put = run.api(|ecr| {
        ecr.put_image_tag_mutability()
            .repository_name(name)
            .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
            .image_tag_mutability_exclusion_filters(filter)
            .send()
    });
    Ok(put.await?.outcome())
}

async fn referrer_types(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    let image = run.push_image(&name, "1").await?;
    let kinds = (0..6).map(|number| format!("application/vnd.example.{number}")).collect();
    let filter = ListImageReferrersFilter::builder().set_artifact_types(Some(kinds)).build();
    let subject = SubjectIdentifier::builder().image_digest(image.digest.as_str()).build()?;
    run.prepared();
    let list = run.api(|ecr| {
        ecr.list_image_referrers().repository_name(name).subject_id(subject).filter(filter).send()
    });
    Ok(list.await?.outcome())
}

async fn exclusions(run: &ProbeRun, page: i32) -> Seen {
    run.prepared();
    let list = run.api(|ecr| ecr.list_pull_time_update_exclusions().max_results(page).send());
    Ok(list.await?.outcome())
}

async fn page(run: &ProbeRun) -> Seen {
    exclusions(run, 1000).await
}

async fn page_limit(run: &ProbeRun) -> Seen {
    exclusions(run, 1001).await
}

async fn unknown_template(run: &ProbeRun) -> Seen {
    let prefix = run.short_prefix();
    run.prepared();
    let describe =
        run.api(|ecr| ecr.describe_repository_creation_templates().prefixes(prefix).send());
    let answer = describe.await?;
    let listed = answer.body["repositoryCreationTemplates"].as_array().map(Vec::len);
    Ok(answer.error.unwrap_or_else(|| format!("{} templates", listed.unwrap_or_default())))
}

/// A policy that lets the registry's own account do this.
pub(super) fn grant(run: &ProbeRun, action: &str) -> Value {
    let partition = match run.backend.region.split('-').next() {
        Some("cn") => "aws-cn",
        _ if run.backend.region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let principal = format!("arn:{partition}:iam::{}:root", run.backend.account);
    json!({
        "Sid": "EcrMirrorLiveProbe",
        "Effect": "Allow",
        "Principal": { "AWS": principal },
        "Action": action,
    })
}

async fn set_policy(run: &ProbeRun, name: &str, action: &str) -> Result<(Value, String)> {
    let policy = json!({ "Version": "2012-10-17", "Statement": [grant(run, action)] });
    let text = policy.to_string();
    let set =
        run.api(|ecr| ecr.set_repository_policy().repository_name(name).policy_text(text).send());
    Ok((policy, set.await?.outcome()))
}

async fn policy_action(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.prepared();
    Ok(set_policy(run, &name, "ecr:CreateRepository").await?.1)
}

async fn policy_content(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    let (policy, _) = set_policy(run, &name, "ecr:BatchGetImage").await?;
    run.prepared();
    let read = run.api(|ecr| ecr.get_repository_policy().repository_name(name).send()).await?;
    let text = read.body["policyText"].as_str().unwrap_or_default();
    let sent = policy.to_string();
    run.note(if text == sent { "the same text" } else { "another text" });
    let is_equal = serde_json::from_str::<Value>(text).is_ok_and(|read| read == policy);
    Ok(read.error.unwrap_or_else(|| if is_equal { "equal" } else { "different" }.to_owned()))
}

/// A lifecycle rule with this priority.
fn rule(priority: u32, selection: &Value, action: &Value) -> Value {
    json!({
        "rulePriority": priority,
        "description": "a probe of ecr-mirror, with a text that makes the policy long enough",
        "selection": selection,
        "action": action,
    })
}

async fn put_lifecycle(run: &ProbeRun, rules: Vec<Value>) -> Seen {
    let name = run.repository().await?;
    let text = json!({ "rules": rules }).to_string();
    run.prepared();
    let put = run.api(|ecr| {
        ecr.put_lifecycle_policy().repository_name(name).lifecycle_policy_text(text).send()
    });
    let answer = put.await?;
    run.note(answer.body["message"].as_str().unwrap_or("no message"));
    Ok(answer.outcome())
}

fn selection(tags: &str, count_type: &str) -> Value {
    json!({
        "tagStatus": tags,
        "countType": count_type,
        "countUnit": "days",
        "countNumber": 30,
    })
}

async fn lifecycle_archive(run: &ProbeRun) -> Seen {
    let action = json!({ "type": "transition", "targetStorageClass": "archive" });
    put_lifecycle(run, vec![rule(1, &selection("any", "sinceImagePulled"), &action)]).await
}

async fn lifecycle_expire(run: &ProbeRun) -> Seen {
    let action = json!({ "type": "expire" });
    put_lifecycle(run, vec![rule(1, &selection("any", "sinceImagePulled"), &action)]).await
}

async fn lifecycle_priorities(run: &ProbeRun) -> Seen {
    let expire = json!({ "type": "expire" });
    let untagged = rule(1, &selection("untagged", "sinceImagePushed"), &expire);
    let any = rule(1, &selection("any", "sinceImagePushed"), &expire);
    put_lifecycle(run, vec![untagged, any]).await
}

async fn lifecycle_count_type(run: &ProbeRun) -> Seen {
    let expire = json!({ "type": "expire" });
    put_lifecycle(run, vec![rule(1, &selection("any", "sincePushed"), &expire)]).await
}

async fn lifecycle_action(run: &ProbeRun) -> Seen {
    let delete = json!({ "type": "delete" });
    put_lifecycle(run, vec![rule(1, &selection("any", "sinceImagePushed"), &delete)]).await
}

async fn lifecycle_any(run: &ProbeRun) -> Seen {
    let expire = json!({ "type": "expire" });
    let any = rule(1, &selection("any", "sinceImagePushed"), &expire);
    let untagged = rule(2, &selection("untagged", "sinceImagePushed"), &expire);
    put_lifecycle(run, vec![any, untagged]).await
}

/// Creates a secret, under this key if there is one, and describes it.
async fn described_secret(run: &ProbeRun, key: Option<&str>) -> Result<Value> {
    let name = format!("ecr-pullthroughcache/{}", run.name("secret"));
    run.will_make(Made::Secret(name.clone()));
    let tag = aws_sdk_secretsmanager::types::Tag::builder().key("probe").value("yes").build();
    let create = run.secrets(|secrets| {
        let create = secrets.create_secret().name(&name).tags(tag);
        let text = r#"{"username":"probe","accessToken":"not-a-token"}"#;
        create.set_kms_key_id(key.map(str::to_owned)).secret_string(text).send()
    });
    create.await?.accepted()?;
    run.prepared();
    run.secrets(|secrets| secrets.describe_secret().secret_id(&name).send()).await?.accepted()
}

async fn secret_tags(run: &ProbeRun) -> Seen {
    let described = described_secret(run, None).await?;
    let is_ours = |tag: &Value| tag["Key"] == "probe" && tag["Value"] == "yes";
    let returned = described["Tags"].as_array().is_some_and(|tags| tags.iter().any(is_ours));
    Ok(if returned { "returned" } else { "not returned" }.to_owned())
}

async fn secret_key(run: &ProbeRun) -> Seen {
    let embedded = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012";
    let key = run.backend.variable(KMS_KEY, embedded)?;
    let described = described_secret(run, Some(&key)).await?;
    Ok(match described["KmsKeyId"].as_str() {
        Some(told) if told == key => "the key",
        Some(_) => "another key",
        None => "no key",
    }
    .to_owned())
}
