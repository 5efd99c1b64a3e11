//! Every tag of an ECR repository, with digest and push time: ECR as a source.

use std::{sync::Arc, time::SystemTime};

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageDetail, TagStatus};
use futures::{StreamExt, stream};

use super::api::Api;
use crate::{
    model::{Listed, Repository, Result},
    remote::Pages,
};

/// The most images one page has.
///
/// Source: API_DescribeImages, `maxResults`.
const PAGE: i32 = 1000;

/// Where the listing goes on.
enum NextToken {
    First,
    Token(String),
    Nowhere,
}

/// The tags of this account's repository, page by page, in ECR's order. Does not count as a pull.
pub(crate) fn tags<'a>(
    api: Arc<Api>,
    account: Option<String>,
    repository: &'a Repository,
) -> Pages<'a> {
    let page = move |next| {
        let (api, account) = (Arc::clone(&api), account.clone());
        async move {
            let token = match next {
                NextToken::First => None,
                NextToken::Token(token) => Some(token),
                NextToken::Nowhere => return Ok(None),
            };
            let (images, token) = page(&api, account, (repository, token)).await?;
            let next = token.map_or(NextToken::Nowhere, NextToken::Token);
            Ok(Some((images.iter().flat_map(listed).collect(), next)))
        }
    };
    stream::try_unfold(NextToken::First, page).boxed()
}

async fn page(
    api: &Api,
    account: Option<String>,
    (repository, token): (&Repository, Option<String>),
) -> Result<(Vec<ImageDetail>, Option<String>)> {
    let filter = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
    let answer = api
        .call("DescribeImages", |ecr| {
            ecr.describe_images()
                .set_registry_id(account.clone())
                .repository_name(repository.as_str())
                .filter(filter.clone())
                .max_results(PAGE)
                .set_next_token(token.clone())
                .send()
        })
        .await?;
    Ok((answer.image_details.unwrap_or_default(), answer.next_token))
}

/// An image under each of its tags.
fn listed(image: &ImageDetail) -> Vec<Listed> {
    let digest = image.image_digest().and_then(|digest| digest.parse().ok());
    let pushed = image.image_pushed_at().and_then(|at| SystemTime::try_from(*at).ok());
    let tags = image.image_tags().iter().filter_map(|tag| tag.parse().ok());
    tags.map(|tag| Listed { tag, digest: digest.clone(), pushed }).collect()
}
