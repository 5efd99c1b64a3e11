//! Lists every tag of an ECR repository with its digest and push time, for ECR as a source.

use std::{sync::Arc, time::SystemTime};

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, TagStatus};
use futures::{StreamExt, stream};

use super::{api::Api, pages::PageToken};
use crate::{
    model::{Listed, Repository, Result},
    remote::Pages,
};

/// Images per page. Source: API_DescribeImages, `maxResults`.
const PAGE: i32 = 1000;

/// The tags of the account's repository, page by page, in ECR's order. Does not count as a pull.
pub(crate) fn tags<'a>(
    api: Arc<Api>,
    account: Option<String>,
    repository: &'a Repository,
) -> Pages<'a> {
    let action = "DescribeImages";
    let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
    let page = move |token: Option<PageToken>| {
        let (api, account, filter) = (Arc::clone(&api), account.clone(), filter.clone());
        async move {
            let Some(mut token) = token else { return Ok(None) };
            let answer = api.call(action, |ecr| {
                in_repository!(ecr.describe_images(), account, repository)
                    .filter(filter.clone())
                    .max_results(PAGE)
                    .set_next_token(token.current())
                    .send()
            });
            let answer = answer.await?;
            let tags = answer.image_details().iter().flat_map(tags_of).collect();
            let next = token.advance(answer.next_token)?.then_some(token);
            Result::Ok(Some((tags, next)))
        }
    };
    stream::try_unfold(Some(PageToken::first(action)), page).boxed()
}

/// The repositories of the account.
pub(crate) async fn repositories(api: &Api, account: &str) -> Result<Vec<Repository>> {
    let action = "DescribeRepositories";
    let mut token = PageToken::first(action);
    let mut repositories = Vec::new();
    loop {
        let answer = api.call(action, |ecr| {
            let request = ecr.describe_repositories().registry_id(account).max_results(PAGE);
            request.set_next_token(token.current()).send()
        });
        let answer = answer.await?;
        let names = answer.repositories().iter().filter_map(|it| it.repository_name());
        repositories.extend(names.filter_map(|name| name.parse().ok()));
        if !token.advance(answer.next_token)? {
            return Ok(repositories);
        }
    }
}

fn tags_of(image: &ImageDetail) -> Vec<Listed> {
    let digest = image.image_digest().and_then(|digest| digest.parse().ok());
    let pushed = image.image_pushed_at().and_then(|at| SystemTime::try_from(*at).ok());
    let tags = image.image_tags().iter().filter_map(|tag| tag.parse().ok());
    tags.map(|tag| Listed { tag, digest: digest.clone(), pushed }).collect()
}
