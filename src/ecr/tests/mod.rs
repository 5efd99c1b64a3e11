//! ECR's API through the AWS SDK, over a socket; this module has the shared helpers.

mod images;
mod repository;
mod session;

use serde_json::Value;

use super::fake::{Answer, refusal};
use crate::model::{Digest, Repository, Tag};

pub(super) const ACCOUNT: &str = "210987654321";

pub(super) fn account() -> Option<String> {
    Some(ACCOUNT.to_owned())
}

pub(super) fn repository() -> Repository {
    "mirror/nginx".parse().unwrap()
}

pub(super) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

pub(super) fn digest(of: impl ToString) -> Digest {
    Digest::of(of.to_string().as_bytes())
}

pub(super) fn no_repository() -> Answer {
    refusal("RepositoryNotFoundException", "The repository does not exist")
}

pub(super) fn denied() -> Answer {
    refusal("AccessDeniedException", "User: me is not authorized to perform: ecr:X")
}

pub(super) fn ids(body: &Value, key: &str) -> Vec<String> {
    let ids = body["imageIds"].as_array().into_iter().flatten();
    ids.filter_map(|id| id[key].as_str()).map(str::to_owned).collect()
}
