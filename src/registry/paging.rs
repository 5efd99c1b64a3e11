//! Lists that come in pages: tags, one page after the other by its `Link`.
//!
//! Source: distribution specification, "Listing Tags"; RFC 8288.

use http::{HeaderMap, Method, header::LINK};
use reqwest::Request;
use serde::Deserialize;
use url::Url;

use super::{
    access::{Access, Rights},
    client::Registry,
    errors::Doing,
    exchange::{Call, Whose},
    retry::Retry,
    token::limited,
    transport::Lane,
};
use crate::model::{Error, Kind, Repository, Result, Tag};

/// The largest page that is read, in bytes: some registries list everything at once.
const PAGE_LIMIT: u64 = 32 * 1024 * 1024;

/// How many pages are read; more is a loop.
const PAGES: usize = 2_000;

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Registry {
    /// Every tag of the repository, in the registry's order.
    ///
    /// Names that are no tags are left out.
    ///
    /// # Errors
    /// [`Kind::RepositoryMissing`] or [`Kind::NotFound`] where there is no such repository.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<Tag>> {
        let mut tags = Vec::new();
        // the largest page that ECR gives
        let mut next = Some(self.tags_url(repository, 1_000));
        for _ in 0..PAGES {
            let Some(url) = next else { return Ok(tags) };
            let (page, link) = self.page::<Page>(repository, url).await?;
            let names = page.tags.unwrap_or_default();
            tags.extend(names.iter().filter_map(|name| name.parse::<Tag>().ok()));
            next = link;
        }
        let problem = format!("{}/{repository} has more than {PAGES} pages of tags", self.host);
        Err(Error::new(Kind::Protocol, problem))
    }

    pub(super) fn tags_url(&self, repository: &Repository, page: u32) -> Url {
        let mut url = self.url(&format!("{repository}/tags/list"));
        url.set_query(Some(&format!("n={page}")));
        url
    }

    /// One page, and the URL of the next.
    pub(super) async fn page<T: for<'de> Deserialize<'de>>(
        &self,
        repository: &Repository,
        url: Url,
    ) -> Result<(T, Option<Url>)> {
        let access = Access::new(repository, Rights::Pull);
        let call = Call::new(Method::GET, url, &access, Doing::Read);
        let fetch = || async {
            let answer = self.send(&call).await?;
            let next = next_link(answer.headers()).and_then(|link| call.url.join(&link).ok());
            let subject = answer.subject.clone();
            let page = answer.bytes(PAGE_LIMIT).await?;
            let page = serde_json::from_slice(&page).map_err(|error| {
                Error::new(Kind::Protocol, format!("{subject}: the answer is no list"))
                    .because(error)
            })?;
            Ok((page, next))
        };
        let (page, next) = Retry::default().run(&self.meter, fetch).await?;
        // the login goes along: to this registry only, and onwards only
        let next =
            next.filter(|next| self.transport.same_origin(next, &self.base) && *next != call.url);
        Ok((page, next))
    }
}

impl Registry {
    /// A page of a listing beside the registry: asked once and without credentials.
    pub(super) async fn listing<T: for<'de> Deserialize<'de>>(&self, url: Url) -> Result<T> {
        let subject = self.subject(&Method::GET, &url);
        let request = Request::new(Method::GET, url);
        let response = self.deliver(Lane::Calls, request, &subject).await?;
        if !response.status().is_success() {
            let no = self.refusal(response, subject, Whose::Other).await;
            return Err(no.refusal.error(&no.subject, Doing::Read));
        }
        let page = limited(response, PAGE_LIMIT, &subject).await?;
        serde_json::from_slice(&page).map_err(|error| {
            Error::new(Kind::Protocol, format!("{subject}: the answer is no list")).because(error)
        })
    }
}

/// The target of the link to the next page.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter();
    values.filter_map(|value| next_of(&String::from_utf8_lossy(value.as_bytes()))).next()
}

/// The target of `<target>; rel="next"` among the links of one header.
fn next_of(value: &str) -> Option<String> {
    let mut rest = value;
    loop {
        rest = rest.split_once('<')?.1;
        let (target, after) = rest.split_once('>')?;
        let (params, following) = split_params(after);
        if params.iter().any(|(name, value)| {
            name == "rel" && value.split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
        }) {
            return Some(target.trim().to_owned());
        }
        rest = following;
    }
}

/// The parameters of one link, and what follows its comma.
fn split_params(text: &str) -> (Vec<(String, String)>, &str) {
    let mut params = vec![(String::new(), String::new())];
    let (mut quoted, mut escaped, mut in_value) = (false, false, false);
    for (at, c) in text.char_indices() {
        let (name, value) = params.last_mut().expect("there is always one");
        match c {
            _ if escaped => (escaped, _) = (false, value.push(c)),
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return (params, &text[at + 1..]),
            ';' if !quoted => {
                params.push((String::new(), String::new()));
                in_value = false;
            }
            '=' if !quoted && !in_value => in_value = true,
            c if in_value => value.push(c),
            c if !c.is_whitespace() => name.push(c.to_ascii_lowercase()),
            _ => {}
        }
    }
    (params, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"<https://r/v2/a?x=1>;rel=next"#, Some("https://r/v2/a?x=1")),
            (r#"<a>; rel="prev", <b>; title="x, <c>; rel=next"; REL = "last NEXT""#, Some("b")),
            (r#"<a>; title="\""; rel=next"#, Some("a")),
            ("<a>; rel=prev", None),
            ("<a>", None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(next_of(value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_header_parses(value in ".*") {
            next_of(&value);
        }

        #[test]
        fn links_of_all_kinds_parse(value in r#"([<>;,="\\ a-z]|rel=next)*"#) {
            next_of(&value);
        }
    }
}
