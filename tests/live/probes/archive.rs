//! The archive: images that cannot be pulled until they are restored.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_ecr::types::{
    ImageIdentifier, ImageStatusFilter, ListImagesFilter, TargetStorageClass,
};
use serde_json::Value;

use crate::{
    probe::{Scope::*, Seen, probes},
    probe_run::{IMAGE, ProbeRun, Pushed},
};

/// The time in which an image becomes archived or active.
const TRANSITION: Duration = Duration::from_secs(120);

probes! {
    "archived-list", Own, "A list without a filter omits archived images, a filter lists them"
        => "0 without, 1 with", otherwise "otherwise=archived-listed", listed;
    "archived-pull", Own, "An archived image is missing for a pull"
        => "404 MANIFEST_UNKNOWN", otherwise "otherwise=archived-pulled", pulled;
    "archived-push", Own, "A push of an archived image restores it"
        => "201, ACTIVE", otherwise "otherwise=archive-stays", pushed;
    "archived-restore", Own, "A request restores an archived image, after a delay"
        => "ACTIVATING", otherwise "otherwise=restore-at-once", restored;
}

/// Moves the image to a storage class. Returns its status.
async fn transition(run: &ProbeRun, name: &str, class: TargetStorageClass) -> Result<String> {
    let id = ImageIdentifier::builder().image_tag("1").build();
    let update = run.api(|ecr| {
        let update = ecr.update_image_storage_class().repository_name(name).image_id(id);
        update.target_storage_class(class).send()
    });
    let answer = update.await?.accepted()?;
    Ok(answer["imageStatus"].as_str().context("no imageStatus")?.to_owned())
}

/// The images that are listed with this status.
async fn list(run: &ProbeRun, name: &str, status: Option<ImageStatusFilter>) -> Result<usize> {
    let filter = status.map(|status| ListImagesFilter::builder().image_status(status).build());
    let list = run.api(|ecr| ecr.list_images().repository_name(name).set_filter(filter).send());
    Ok(list.await?.accepted()?["imageIds"].as_array().map_or(0, Vec::len))
}

/// Pushes and archives an image, and waits until it is archived.
async fn archived(run: &ProbeRun) -> Result<(String, Pushed)> {
    let name = run.repository().await?;
    let image = run.push_image(&name, "1").await?;
    transition(run, &name, TargetStorageClass::Archive).await?;
    let is_archived = run.until(TRANSITION, || async {
        let listed = list(run, &name, Some(ImageStatusFilter::Archived)).await?;
        Ok((listed > 0).then_some(()))
    });
    is_archived.await?.context("the image does not become archived")?;
    Ok((name, image))
}

async fn listed(run: &ProbeRun) -> Seen {
    let (name, _) = archived(run).await?;
    run.prepared();
    let without = list(run, &name, None).await?;
    let with = list(run, &name, Some(ImageStatusFilter::Archived)).await?;
    Ok(format!("{without} without, {with} with"))
}

async fn pulled(run: &ProbeRun) -> Seen {
    let (name, _) = archived(run).await?;
    run.prepared();
    Ok(run.get(&format!("{name}/manifests/1")).await?.code())
}

/// The status of the only image.
async fn status(run: &ProbeRun, name: &str) -> Result<String> {
    let filter = aws_sdk_ecr::types::DescribeImagesFilter::builder();
    let filter = filter.image_status(ImageStatusFilter::Any).build();
    let describe = run.api(|ecr| ecr.describe_images().repository_name(name).filter(filter).send());
    let body: Value = describe.await?.accepted()?;
    Ok(body["imageDetails"][0]["imageStatus"].as_str().unwrap_or("no status").to_owned())
}

async fn pushed(run: &ProbeRun) -> Seen {
    let (name, image) = archived(run).await?;
    run.prepared();
    let answer = run.put_manifest(&name, "1", IMAGE, &image.text).await?;
    let active = run.until(TRANSITION, || async {
        Ok(Some(status(run, &name).await?).filter(|status| status == "ACTIVE"))
    });
    let status = match active.await? {
        Some(status) => status,
        None => status(run, &name).await?,
    };
    Ok(format!("{}, {status}", answer.code()))
}

async fn restored(run: &ProbeRun) -> Seen {
    let (name, _) = archived(run).await?;
    run.prepared();
    transition(run, &name, TargetStorageClass::Standard).await
}
