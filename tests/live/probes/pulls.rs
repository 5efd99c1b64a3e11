//! The requests that count as a pull, for lifecycles and for the archive.

use anyhow::Result;
use http::Method;

use super::LONG;
use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{IMAGE, ProbeRun},
};

probes! {
    "list-is-no-pull", Slow, "A list of images is not a pull of them"
        => "no pull", otherwise "otherwise=listing-pulls", list;
    "head-is-a-pull", Slow, "HEAD of a manifest is a pull"
        => "a pull", otherwise "otherwise=head-pulls-nothing", head;
    "exclusion-arn", Account, "The ARN of a principal whose pulls do not count has at most 200 characters"
        => "InvalidParameterException", otherwise "accept=RegisterPullTimeUpdateExclusion", arn;
}

/// Returns `Some` if ECR has recorded a pull of the only image.
async fn pull(run: &ProbeRun, name: &str) -> Result<Option<String>> {
    let describe = run.api(|ecr| ecr.describe_images().repository_name(name).send()).await?;
    let details = describe.accepted()?;
    let pulled = !details["imageDetails"][0]["lastRecordedPullTime"].is_null();
    Ok(pulled.then(|| "a pull".to_owned()))
}

async fn list(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.push_image(&name, "1").await?;
    run.prepared();
    run.api(|ecr| ecr.list_images().repository_name(&name).send()).await?.accepted()?;
    run.backend.wait(LONG).await;
    Ok(pull(run, &name).await?.unwrap_or_else(|| "no pull".to_owned()))
}

async fn head(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.push_image(&name, "1").await?;
    run.prepared();
    run.read(Method::HEAD, &format!("{name}/manifests/1"), IMAGE).await?;
    let pulled = run.until(LONG, || pull(run, &name)).await?;
    Ok(pulled.unwrap_or_else(|| "no pull".to_owned()))
}

async fn arn(run: &ProbeRun) -> Seen {
    let account = &run.backend.account;
    let mut arn = format!("arn:aws:iam::{account}:role/ecr-mirror-live/");
    arn += &"x".repeat(201 - arn.len());
    run.will_make(Made::PullExclusion(arn.clone()));
    run.prepared();
    let register =
        run.api(|ecr| ecr.register_pull_time_update_exclusion().principal_arn(arn).send());
    Ok(register.await?.outcome())
}
