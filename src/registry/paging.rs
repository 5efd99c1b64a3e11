//! Lists that come in pages: tags, one page after the other by its `Link`.
//!
//! Source: distribution specification, "Listing Tags"; RFC 8288.

use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, header::LINK};
use reqwest::Request;
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    client::Registry,
    errors::Operation,
    http::{ApiRequest, ApiResponse, UrlOwner},
    scope::{Permission, Scope},
    token::limited,
    transport::{ConnectionPool, authority},
};
use crate::{
    model::{Error, Kind, Listed, Repository, Result, Tag},
    remote::{Pages, retry::Retry},
};

/// The largest page that is read, in bytes: some registries list everything at once.
const PAGE_LIMIT: u64 = 32 * 1024 * 1024;

/// How many pages are read; more is a loop.
pub(crate) const PAGES: usize = 2_000;

/// How many tags of a repository are read: as many as this are made up.
const TAGS: usize = 1_000_000;

/// The end of the year 9999, since 1970: who says that a tag was pushed later tells no time.
const CALENDAR: Duration = Duration::from_secs(253_402_300_799);

/// A page of `tags/list`.
#[derive(Deserialize)]
pub(crate) struct TagPage {
    #[serde(default, deserialize_with = "names")]
    tags: Vec<Tag>,
}

impl From<TagPage> for Vec<Listed> {
    fn from(page: TagPage) -> Self {
        let listed = |tag| Listed { tag, digest: None, pushed: None };
        page.tags.into_iter().map(listed).collect()
    }
}

/// Reads names without keeping what is no tag: a page of them may be many times its own size in
/// memory.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Tag>, D::Error> {
    struct Names;

    impl<'de> Visitor<'de> for Names {
        type Value = Vec<Tag>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of tags")
        }

        // Go writes an empty list like this
        fn visit_unit<E>(self) -> Result<Vec<Tag>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<Tag>, A::Error> {
            let mut tags = Vec::new();
            while let Some(name) = from.next_element::<Cow<'de, str>>()? {
                tags.extend(name.parse::<Tag>());
                if tags.len() > TAGS {
                    return Err(de::Error::custom(format!("it has more than {TAGS} tags")));
                }
            }
            Ok(tags)
        }
    }

    from.deserialize_any(Names)
}

impl Registry {
    /// The names of the repository's tags.
    pub(crate) fn tag_names<'a>(&'a self, repository: &'a Repository) -> Pages<'a> {
        // the largest page that ECR gives
        self.pages(
            repository,
            self.tags_url(repository, 1_000),
            <Vec<Listed> as From<TagPage>>::from,
        )
    }

    /// Pages of this form, from the first one's URL on by their links.
    pub(crate) fn pages<'a, T>(
        &'a self,
        repository: &'a Repository,
        first: Url,
        read: fn(T) -> Vec<Listed>,
    ) -> Pages<'a>
    where
        T: for<'de> Deserialize<'de> + Send + 'a,
    {
        let next = move |(url, pages, tags): (Option<Url>, usize, usize)| async move {
            let Some(url) = url else { return Ok(None) };
            if pages == PAGES {
                return Err(self.too_many(repository, PAGES, "pages of tags"));
            }
            let (page, next) = self.page::<T>(repository, url).await?;
            let page = read(page);
            let tags = tags + page.len();
            if tags > TAGS {
                return Err(self.too_many(repository, TAGS, "tags"));
            }
            Ok(Some((page, (next, pages + 1, tags))))
        };
        stream::try_unfold((Some(first), 0, 0), next).boxed()
    }

    /// Pages of a listing beside the registry, by their numbers from 1 on; `read` tells
    /// whether there are more.
    pub(crate) fn numbered_pages<'a, T>(
        &'a self,
        repository: &'a Repository,
        url: impl Fn(usize) -> String + Send + Sync + 'a,
        read: impl Fn(T) -> (Vec<Listed>, NextPage) + Send + Sync + 'a,
    ) -> Pages<'a>
    where
        T: for<'de> Deserialize<'de> + Send + 'a,
    {
        let (url, read) = (Arc::new(url), Arc::new(read));
        let next = move |page: Option<usize>| {
            let (url, read) = (Arc::clone(&url), Arc::clone(&read));
            async move {
                let Some(page) = page else { return Ok(None) };
                if page > PAGES {
                    return Err(self.too_many(repository, PAGES, "pages of tags"));
                }
                let Ok(url) = Url::parse(&url(page)) else { return Ok(None) };
                let patience = Retry { attempts: 4, ..self.context.retry() };
                let answer = patience.run(&self.context, || self.listing(url.clone())).await?;
                let (tags, more) = read(answer);
                Ok(Some((tags, (more == NextPage::Follow).then_some(page + 1))))
            }
        };
        stream::try_unfold(Some(1), next).boxed()
    }

    pub(crate) fn tags_url(&self, repository: &Repository, page: u32) -> Url {
        let mut url = self.url(&format!("{repository}/tags/list"));
        url.set_query(Some(&format!("n={page}")));
        url
    }

    /// One page, and the URL of the next.
    pub(crate) async fn page<T: for<'de> Deserialize<'de>>(
        &self,
        repository: &Repository,
        url: Url,
    ) -> Result<(T, Option<Url>)> {
        let access = Scope::new(repository, Permission::Pull);
        let call = ApiRequest::new(Method::GET, url, &access, Operation::Read);
        let read = |page: &[u8]| {
            serde_json::from_slice(page)
                .map_err(|error| Error::new(Kind::Protocol, "it is no list").because(error))
        };
        self.page_as(&call, read).await
    }

    /// What `read` makes of one page, and the URL of the next.
    pub(crate) async fn page_as<T>(
        &self,
        call: &ApiRequest<'_>,
        read: impl Fn(&[u8]) -> Result<T>,
    ) -> Result<(T, Option<Url>)> {
        let fetch = || async {
            let answer = self.send(call).await?;
            let next = match next_link(answer.headers()) {
                Some(link) => self.onwards(&call.url, &link, &answer)?,
                None => None,
            };
            Ok((answer.document(PAGE_LIMIT, |page| read(&page)).await?, next))
        };
        self.context.retry().run(&self.context, fetch).await
    }

    /// Where a link leads from this page; `None` for one to the page itself, of a registry that
    /// gives everything at once.
    ///
    /// # Errors
    /// [`Kind::Protocol`] when it leads to another host: the login would go along, and without
    /// the rest the list would pass for whole.
    fn onwards(&self, from: &Url, link: &str, answer: &ApiResponse) -> Result<Option<Url>> {
        let wrong = |problem: String| {
            Error::new(Kind::Protocol, format!("{}: {problem}", answer.subject)).hint(
                "the list goes on where it must not be followed; a proxy in front of a registry \
                 has to rewrite `Link`, or the registry has to know its own name",
            )
        };
        let next = from.join(link).map_err(|_| wrong("its next page is at no URL".to_owned()))?;
        let next = self.over_tls(next);
        if !self.transport.same_origin(&next, &self.base) {
            let host = answer.sent().redact(&authority(&next));
            return Err(wrong(format!("its next page is at another host, `{host}`")));
        }
        Ok(Some(next).filter(|next| next != from))
    }

    /// The error for a list that goes on and on.
    pub(crate) fn too_many(&self, repository: &Repository, most: usize, of: &str) -> Error {
        let host = self.host();
        Error::new(Kind::Protocol, format!("{host}/{repository} has more than {most} {of}"))
    }

    /// A page of a listing beside the registry: asked once and without credentials.
    pub(crate) async fn listing<T: for<'de> Deserialize<'de>>(&self, url: Url) -> Result<T> {
        let subject = self.subject(&Method::GET, &url);
        let request = Request::new(Method::GET, url);
        let response =
            self.transport.send(ConnectionPool::Calls, request, &self.context, &subject).await?;
        if !response.status().is_success() {
            let no = self.refusal(response, subject, UrlOwner::Other).await;
            return Err(no.refusal.error(&no.subject, Operation::Read));
        }
        let stall = self.context.policy.stall.read;
        let page = limited(response, PAGE_LIMIT, &subject, stall).await?;
        serde_json::from_slice(&page).map_err(|error| {
            Error::new(Kind::Protocol, format!("{subject}: the answer is no list")).because(error)
        })
    }
}

/// The same pages, and an error once they have taken this long in all.
pub(crate) fn within<'a>(longest: Duration, pages: Pages<'a>) -> Pages<'a> {
    let end = Instant::now() + longest;
    let next = move |mut pages: Pages<'a>| async move {
        match timeout_at(end, pages.try_next()).await {
            Ok(page) => Ok(page?.map(|page| (page, pages))),
            Err(_) => {
                let problem = format!("the list has not ended after {} s", longest.as_secs());
                Err(Error::new(Kind::Stalled, problem).exhausted())
            }
        }
    };
    stream::try_unfold(pages, next).boxed()
}

/// Whether pages of a list follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextPage {
    /// They do, and are wanted.
    Follow,
    /// They do not, or are of no interest.
    End,
}

/// A tag of a listing; `None` where the name is none.
pub(crate) fn listed(
    name: &str,
    digest: Option<&str>,
    pushed: Option<SystemTime>,
) -> Option<Listed> {
    let digest = digest.and_then(|digest| digest.parse().ok());
    let is_told =
        |time: &SystemTime| time.duration_since(UNIX_EPOCH).is_ok_and(|since| since <= CALENDAR);
    let pushed = pushed.filter(is_told);
    Some(Listed { tag: name.parse().ok()?, digest, pushed })
}

/// Whether a page of a listing that is newest first has nothing in it from that time on.
pub(crate) fn is_before(
    mut times: impl Iterator<Item = Option<SystemTime>>,
    since: Option<SystemTime>,
) -> bool {
    since.is_some_and(|since| times.all(|time| time.is_some_and(|time| time < since)))
}

/// The target of the link to the next page.
fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter();
    values.filter_map(|value| next_of(&String::from_utf8_lossy(value.as_bytes()))).next()
}

/// The target of `<target>; rel="next"` among the links of one header.
pub(crate) fn next_of(value: &str) -> Option<String> {
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
