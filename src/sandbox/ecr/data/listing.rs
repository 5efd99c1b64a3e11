//! Lists: tags, the catalogue, referrers.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use serde_json::json;

use super::{DataRequest, EcrError, RegistryResult};
use crate::{
    model::Digest,
    sandbox::{
        distribution::{self, query},
        ecr::{
            archive::{ACTIVE, Archive},
            images,
            model::Input,
            registry::Registry,
        },
        fault::Behaviour,
    },
};

pub(super) fn catalog(registry: &Registry, host: &str, uri: &Uri) -> RegistryResult {
    let names = registry.store.repositories().into_iter().map(|name| (name.clone(), name));
    let (names, next) = cut(uri, names.collect())?;
    let body = json!({ "repositories": names });
    let mut response = distribution::json(StatusCode::OK, "application/json", &body);
    link(&mut response, &format!("http://{host}/v2/_catalog"), uri, next);
    Ok(response)
}

impl DataRequest<'_> {
    /// Not sorted by name, and paged by an opaque token.
    ///
    /// Source: go-containerregistry#681, #1091.
    pub(super) fn tags(&self, uri: &Uri) -> RegistryResult {
        self.authorize_existing("ListImages")?;
        let archive = Archive::of(&self.registry, self.name());
        let tags = self.registry.store.tags(self.name()).into_iter();
        let tags = tags.filter(|(_, it)| archive.is_empty() || archive.status(it) == ACTIVE);
        let mut tags: Vec<(String, String)> =
            tags.map(|(tag, _)| (images::listing_key(&tag), tag)).collect();
        tags.sort();
        let (tags, next) = cut(uri, tags)?;
        let body = json!({ "name": self.name(), "tags": tags });
        let mut response = distribution::json(StatusCode::OK, "application/json", &body);
        let url = match self.ecr.faults.otherwise(Behaviour::RelativeLink) {
            true => format!("/v2/{}/tags/list", self.name()),
            false => self.url("tags/list"),
        };
        link(&mut response, &url, uri, next);
        Ok(response)
    }

    /// An index of the manifests that refer to `subject`, which may be missing.
    pub(super) fn referrers(&self, subject: &Digest, uri: &Uri) -> RegistryResult {
        self.authorize_existing("BatchGetImage")?;
        let manifests = images::referrers(&self.registry, self.name(), subject);
        Ok(distribution::referrers(manifests, query(uri, "artifactType").as_deref()))
    }
}

/// The page that `n` and `last` select, with the API's limits and texts.
fn cut(uri: &Uri, items: Vec<(String, String)>) -> Result<(Vec<String>, Option<String>), EcrError> {
    let mut input = serde_json::Map::new();
    if let Some(n) = query(uri, "n") {
        let wrong = |_| EcrError::parameter("maxResults", "Member must be a number");
        input.insert("maxResults".to_owned(), n.parse::<i64>().map_err(wrong)?.into());
    }
    if let Some(last) = query(uri, "last") {
        input.insert("nextToken".to_owned(), last.into());
    }
    Ok(Input(&input).page(100, 1000, "")?.cut(items))
}

fn link(response: &mut Response, url: &str, uri: &Uri, next: Option<String>) {
    let Some(next) = next else { return };
    let n = query(uri, "n").map(|n| format!("&n={n}")).unwrap_or_default();
    let link = format!("<{url}?last={next}{n}>; rel=\"next\"");
    let link = HeaderValue::from_str(&link).expect("tokens and numbers are visible ASCII");
    response.headers_mut().insert(header::LINK, link);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_limited_as_the_api_limits_them() {
        let items = || (0..3).map(|i| (format!("k{i}"), format!("t{i}"))).collect::<Vec<_>>();
        let page = |text: &str| cut(&text.parse().unwrap(), items());
        let (first, next) = page("/l?n=2").unwrap();
        assert_eq!(first, ["t0", "t1"]);
        let (second, end) = page(&format!("/l?n=2&last={}", next.unwrap())).unwrap();
        assert_eq!((second, end), (vec!["t2".to_owned()], None));
        assert_eq!(page("/l?n=1000").unwrap().0.len(), 3);
        for wrong in ["/l?n=1001", "/l?n=0", "/l?n=-1", "/l?n=x", "/l?last=t1"] {
            assert_eq!(page(wrong).unwrap_err().name, "InvalidParameterException", "{wrong}");
        }
        let text = page("/l?n=1001").unwrap_err().message;
        assert!(text.contains("Member must have value less than or equal to 1000"), "{text}");
    }
}
