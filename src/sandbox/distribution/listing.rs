//! Pages of tag lists and of the catalogue.

use axum::{
    http::{HeaderValue, StatusCode, Uri, header},
    response::Response,
};
use serde_json::Value;

use super::{Refusal, json, query};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub names: Vec<String>,
    /// True if names follow after this page.
    pub has_more: bool,
}

/// The page that the query's `n` and `last` select; everything without `n`.
///
/// `n=0` gives an empty last page. Source: distribution specification, "Listing tags".
pub(crate) fn page(sorted: impl IntoIterator<Item = String>, uri: &Uri) -> Result<Page, Refusal> {
    let last = query(uri, "last");
    let after = |name: &String| last.as_ref().is_none_or(|last| name > last);
    let mut left = sorted.into_iter().filter(after);
    let Some(n) = query(uri, "n") else {
        return Ok(Page { names: left.collect(), has_more: false });
    };
    let wrong = |_| Refusal::bad("PAGINATION_NUMBER_INVALID", "`n` is not a number");
    let n: usize = n.parse().map_err(wrong)?;
    let names: Vec<String> = left.by_ref().take(n).collect();
    let has_more = n > 0 && left.next().is_some();
    Ok(Page { names, has_more })
}

fn link(page: &Page, uri: &Uri) -> Option<HeaderValue> {
    let last = page.names.last().filter(|_| page.has_more)?;
    let n = query(uri, "n")?;
    let next = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("last", last)
        .append_pair("n", &n)
        .finish();
    HeaderValue::from_str(&format!("<{}?{next}>; rel=\"next\"", uri.path())).ok()
}

pub(crate) fn json_page(body: &Value, page: &Page, uri: &Uri) -> Response {
    let mut response = json(StatusCode::OK, "application/json", body);
    if let Some(link) = link(page, uri) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_with_the_list() {
        let names = || ["a", "b", "c"].map(str::to_owned);
        for (path, expected, next) in [
            ("/l", &["a", "b", "c"][..], None),
            ("/l?n=2", &["a", "b"], Some("</l?last=b&n=2>; rel=\"next\"")),
            ("/l?n=2&last=b", &["c"], None),
            ("/l?n=3", &["a", "b", "c"], None),
            ("/l?n=0", &[], None),
            ("/l?last=aa", &["b", "c"], None),
            ("/l?n=9&last=z", &[], None),
        ] {
            let uri: Uri = path.parse().unwrap();
            let page = page(names(), &uri).unwrap();
            assert_eq!(page.names, expected, "{path}");
            let link = link(&page, &uri);
            assert_eq!(link.as_ref().map(|link| link.to_str().unwrap()), next, "{path}");
        }
        assert!(page(names(), &"/l?n=x".parse().unwrap()).is_err());
    }
}
