//! Rates and quotas. The requests of these probes use the account's quotas for some seconds.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    made::Made,
    probe::{Scope::*, Seen, probes},
    probe_run::{Answer, IMAGE, ProbeRun},
};

/// Pushes until ECR refuses one; a tag each, of which an image has at most 1,000.
const MOST_PUSHES: usize = 400;
const AT_ONCE: usize = 25;
/// Templates that the program may need: as many as a registry may have pull-through rules.
const TEMPLATES: usize = 50;
const DESCRIPTIONS: usize = 20;

probes! {
    "push-burst", Rates, "Ten manifests can be pushed at once"
        => "at least 10", otherwise "throttle@ecr:PUT/manifests/", [given "quotas"] burst;
    "throttled-push", Rates, "Too many pushes are answered 429, without `Retry-After`"
        => "429 TOOMANYREQUESTS, no Retry-After", otherwise "throttle=1@ecr:PUT/manifests/",
        [given "quotas"] throttled;
    "templates", Rates, "A registry may have 50 creation templates"
        => "50", otherwise "limit=CreateRepositoryCreationTemplate", templates;
    "description-rate", Rates, "Twenty repositories can be described at once"
        => "20", otherwise "limit=DescribeRepositories", descriptions;
}

/// Pushes manifests until ECR refuses one. Returns the number of accepted ones and the refusal.
async fn push_many(run: &ProbeRun) -> Result<(usize, Option<Answer>)> {
    let repository = run.repository().await?;
    let image = run.push_blobs(&repository, "content").await?;
    run.prepared();
    let tags: Vec<String> = (0..MOST_PUSHES).map(|number| format!("t{number}")).collect();
    let push = |tag: &String| {
        let (repository, text, tag) = (repository.clone(), image.text.clone(), tag.clone());
        async move { run.put_manifest(&repository, &tag, IMAGE, &text).await }
    };
    let mut answers = stream::iter(tags.iter().map(push)).buffer_unordered(AT_ONCE);
    let mut accepted = 0;
    while let Some(answer) = answers.next().await {
        match answer? {
            answer if answer.status == Some(201) => accepted += 1,
            refusal => return Ok((accepted, Some(refusal))),
        }
    }
    Ok((accepted, None))
}

async fn throttled(run: &ProbeRun) -> Seen {
    let (accepted, refusal) = push_many(run).await?;
    run.note(format!("after {accepted} pushes"));
    let Some(refusal) = refusal else { return Ok("no refusal".to_owned()) };
    let wait = refusal.header("retry-after").map(|it| format!("Retry-After {it}"));
    Ok(format!("{}, {}", refusal.code(), wait.as_deref().unwrap_or("no Retry-After")))
}

async fn burst(run: &ProbeRun) -> Seen {
    let (accepted, _) = push_many(run).await?;
    run.note(accepted.to_string());
    Ok(if accepted >= 10 { "at least 10".to_owned() } else { accepted.to_string() })
}

async fn templates(run: &ProbeRun) -> Seen {
    run.prepared();
    for number in 0..TEMPLATES {
        let prefix = format!("{}/{number}", run.short_prefix());
        run.will_make(Made::Template(prefix.clone()));
        let create = run.api(|ecr| {
            let create = ecr.create_repository_creation_template().prefix(prefix);
            create.applied_for(aws_sdk_ecr::types::RctAppliedFor::PullThroughCache).send()
        });
        if let Some(error) = create.await?.error {
            run.note(error);
            return Ok(number.to_string());
        }
    }
    Ok(TEMPLATES.to_string())
}

async fn descriptions(run: &ProbeRun) -> Seen {
    let name = run.repository().await?;
    run.prepared();
    let describe = |_| run.api(|ecr| ecr.describe_repositories().repository_names(&name).send());
    let answers: Vec<_> = stream::iter(0..DESCRIPTIONS)
        .map(describe)
        .buffer_unordered(DESCRIPTIONS)
        .try_collect()
        .await?;
    Ok(answers.iter().filter(|answer| answer.error.is_none()).count().to_string())
}
