//! Lists in pages: referrers and tags.
//!
//! The specification's lists continue at a `Link`, or without any at the last name of a full page;
//! other tag listings have numbered pages. A list that is too long, leaves the registry or breaks off
//! is an error, never a shorter list.
//!
//! Source: distribution specification, "Listing Tags"; RFC 8288.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
};

use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, Method, header::LINK};
use reqwest::{Request, Response};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    client::Registry,
    content::RepositoryClient,
    errors::Operation,
    http::{ApiRequest, ApiResponse},
    index_listings::TaggedIndex,
    public_registries::{ListingApi, NumberedListing},
    read_body::read_body,
    tag_page::{NumberedPage, ParseTags, TAGS, TagPage, parse_names},
    transport::{ConnectionPool, authority},
};
use crate::{
    model::{Digest, Error, Kind, Listed, ListedImage, Repository, Result, Tag, TagQuery},
    remote::{Pages, retry::Retry, stall::stalled},
};

/// The largest page that is read, in bytes: some registries list everything at once.
pub(crate) const PAGE_LIMIT: u64 = 32 * 1024 * 1024;

/// The largest number of pages that is read; more are a loop.
const PAGES: usize = 2_000;

/// The page size to ask for; ECR allows no more.
const NAMES_PER_PAGE: u32 = 1_000;

/// Lists every tag of the repository, page by page, in the registry's order.
///
/// Omits names that are not tags. Has push times if the query asks for them and the registry
/// reports them.
///
/// Ends with the first error: [`Kind::RepositoryMissing`] or [`Kind::NotFound`] if the repository
/// does not exist.
pub fn list_tags<'a>(
    registry: &'a Registry,
    repository: &'a Repository,
    query: TagQuery,
) -> Pages<'a> {
    let client = move || registry.pull(repository);
    let names = move || client().linked_tag_pages(NAMES_PER_PAGE, parse_names);
    let pages = match (&registry.public.tag_listing, query) {
        (Some(ListingApi::TagsList { page_size, parse }), _) => {
            client().linked_tag_pages(*page_size, *parse)
        }
        (Some(ListingApi::Numbered(listing)), TagQuery::Times { since }) => {
            let numbered = stream::try_unfold(Some(1), move |page| async move {
                let Some(page) = page else { return Ok(None) };
                let client = registry.pull(repository);
                if page > PAGES {
                    return Err(client.too_many(PAGES, "pages of tags"));
                }
                let retry = Retry { attempts: 4, ..registry.context.policy.retry };
                let fetch = || client.numbered_page(listing, page);
                let fetched = registry.context.retry_with(retry, fetch).await?;
                let next = fetched.has_next && !fetched.is_before(since);
                Ok(Some((fetched.tags, next.then_some(page + 1))))
            });
            or_else(numbered.boxed(), names)
        }
        _ => names(),
    };
    let limit = registry.context.policy.stall.listing;
    let end = Instant::now() + limit;
    let limited = stream::try_unfold(pages, move |mut pages| async move {
        let page = timeout_at(end, pages.try_next()).await;
        let page = page.map_err(|_| stalled("the list is incomplete after", limit).exhausted())?;
        Ok(page?.map(|page| (page, pages)))
    });
    limited.boxed()
}

/// Falls back to the other listing if the first page fails: listings of other APIs know public
/// repositories only.
fn or_else<'a>(listing: Pages<'a>, other: impl FnOnce() -> Pages<'a> + Send + 'a) -> Pages<'a> {
    let begun = async {
        let mut listing = listing;
        match listing.next().await {
            Some(Err(error)) => {
                tracing::debug!(?error, "cannot list push times");
                other()
            }
            first => stream::iter(first).chain(listing).boxed(),
        }
    };
    stream::once(begun).flatten().boxed()
}

/// The next page of a tag list.
struct TagCursor {
    url: Url,
    /// From 1.
    page: usize,
    /// Tags on the pages before.
    tags: usize,
    /// True if a page before has a link: then one without it is the last.
    has_links: bool,
    /// The page before, if it has no link: a registry that ignores `last` repeats it.
    before: Option<Vec<Listed>>,
}

impl<'a> RepositoryClient<'a> {
    /// Digests of these tags from a listing; omits tags if a request for each of them costs less.
    pub(crate) async fn listed_digests(self, tags: &[Tag]) -> Result<HashMap<Tag, Digest>> {
        let mut missing: HashSet<&Tag> = tags.iter().collect();
        let mut found = HashMap::new();
        let mut add = |page: Vec<Listed>| {
            for listed in page {
                if let Some(digest) = listed.digest
                    && missing.remove(&listed.tag)
                {
                    found.insert(listed.tag, digest);
                }
            }
            missing.len()
        };
        match &self.registry.public.tag_listing {
            None => {}
            Some(ListingApi::TagsList { page_size, parse }) => {
                let mut pages = self.linked_tag_pages(*page_size, *parse);
                add(pages.try_next().await?.unwrap_or_default());
            }
            Some(ListingApi::Numbered(listing)) => {
                for page in 1..=tags.len() / listing.tags_per_page {
                    let fetched = self.numbered_page(listing, page).await?;
                    let missing = add(fetched.tags);
                    let is_costly = fetched.pages.is_some_and(|pages| {
                        let pages_left = pages.saturating_sub(page);
                        pages_left == 0 || pages_left >= missing
                    });
                    if !fetched.has_next || missing == 0 || is_costly {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }

    /// A request for the repository's `tags/list` with this page size.
    pub(crate) fn tags_request(&self, page_size: u32) -> ApiRequest<'_> {
        let mut request = self.request(Method::GET, "tags/list", Operation::Read);
        request.url.set_query(Some(&format!("n={page_size}")));
        request
    }

    fn linked_tag_pages(self, page_size: u32, parse: ParseTags) -> Pages<'a> {
        let url = self.tags_request(page_size).url;
        let first = TagCursor { url, page: 1, tags: 0, has_links: false, before: None };
        let next = move |(client, cursor): (Self, Option<TagCursor>)| async move {
            let Some(TagCursor { url, page, tags, has_links, before }) = cursor else {
                return Ok(None);
            };
            if page > PAGES {
                return Err(client.too_many(PAGES, "pages of tags"));
            }
            let request = ApiRequest::new(Method::GET, url.clone(), &client.scope, Operation::Read);
            let parse = |page: &[u8]| {
                parse(page).map_err(|error| Error::new(Kind::Protocol, "not a list").because(error))
            };
            let read = linked_page(client.registry, &request, parse).await;
            let (TagPage { tags: found, names, last }, next) =
                read.map_err(|error| client.on_page(page, error))?;
            if before.is_some_and(|before| before == found) {
                return Ok(None);
            }
            let tags = tags + found.len();
            if tags > TAGS {
                return Err(client.too_many(TAGS, "tags"));
            }
            // some registries end a full page without a link: sonatype/nexus-public#209
            let has_links = has_links || next.is_some();
            let is_full = !has_links && names == page_size as usize;
            let asked = last.filter(|_| is_full).map(|last| {
                let mut url = url;
                let size = page_size.to_string();
                url.query_pairs_mut().clear().append_pair("n", &size).append_pair("last", &last);
                url
            });
            let before = asked.is_some().then(|| found.clone());
            let next = next.or(asked);
            let next = next.map(|url| TagCursor { url, page: page + 1, tags, has_links, before });
            Ok(Some((found, (client, next))))
        };
        stream::try_unfold((self, Some(first)), next).boxed()
    }

    /// The error of a page of tags.
    fn on_page(&self, page: usize, error: Error) -> Error {
        if page == 1 {
            return error;
        }
        let (host, repository) = (&self.registry.host, &self.scope.repository);
        let problem = format!("cannot read page {page} of the tags of {host}/{repository}");
        match error.kind() {
            // the first page shows that the repository exists
            Kind::NotFound | Kind::RepositoryMissing | Kind::Protocol => Error::new(
                Kind::Protocol,
                problem,
            )
            .because(error)
            .hint(
                "check the registry, or the proxy in front of it: its `Link` or `last` leads to \
                     a page that it does not serve",
            ),
            _ => error.context(problem),
        }
    }

    /// Fetches one page of another API, and remembers the indexes that it names.
    async fn numbered_page(&self, listing: &NumberedListing, page: usize) -> Result<NumberedPage> {
        let url = (listing.url)(&self.scope.repository, page);
        let mut fetched = other_api(self.registry, &url, listing.parse).await?;
        self.registry.index_listings.remember(mem::take(&mut fetched.indexes));
        Ok(fetched)
    }

    /// The entries of an index that the tag points to, from a listing.
    pub(crate) async fn listed_images(
        &self,
        tag: &Tag,
        index: &Digest,
    ) -> Option<Arc<[ListedImage]>> {
        let Some(ListingApi::Numbered(listing)) = &self.registry.public.tag_listing else {
            return None;
        };
        let api = listing.one_tag.as_ref()?;
        let (repository, tag, index) = (self.scope.repository.clone(), tag.clone(), index.clone());
        let url = (api.url)(&repository, &tag);
        let wanted = TaggedIndex { repository, tag, index };
        let fetch = || other_api(self.registry, &url, api.parse);
        self.registry.index_listings.entries(&wanted, &self.registry.context, fetch).await
    }

    /// The error for a list that is longer than any real one.
    pub(crate) fn too_many(&self, limit: usize, items: &str) -> Error {
        let (host, repository) = (&self.registry.host, &self.scope.repository);
        Error::new(Kind::Protocol, format!("{host}/{repository} has more than {limit} {items}"))
    }
}

/// Asks another API of the registry: one attempt, without credentials.
pub(crate) async fn other_api<T>(
    registry: &Registry,
    url: &str,
    parse: fn(&[u8]) -> serde_json::Result<T>,
) -> Result<T> {
    let url = Url::parse(url).expect("a repository's name and a tag fit into a URL");
    let (subject, sent) = send_once(registry, Request::new(Method::GET, url)).await?;
    let stall = registry.context.policy.stall.read;
    let body = read_body(sent, PAGE_LIMIT, &subject, stall).await?;
    let problem = || format!("{subject}: the response is not a list");
    parse(&body).map_err(|cause| Error::new(Kind::Protocol, problem()).because(cause))
}

/// Sends a request for another API of the registry: one attempt. Returns its subject and a 2xx response.
pub(crate) async fn send_once(registry: &Registry, request: Request) -> Result<(String, Response)> {
    let subject = registry.subject(request.method(), request.url());
    let pool = ConnectionPool::Calls;
    let mut sent = registry.transport.send(pool, request, &registry.context, &subject).await?;
    registry.secrets().add_to_response(&mut sent);
    match sent.status().is_success() {
        true => Ok((subject, sent)),
        false => Err(registry.rejected(sent, &subject, Operation::Read, None).await.error),
    }
}

/// A page, and the URL of the next one.
pub(crate) async fn linked_page<T>(
    registry: &Registry,
    request: &ApiRequest<'_>,
    parse: impl Fn(&[u8]) -> Result<T>,
) -> Result<(T, Option<Url>)> {
    let fetch = || async {
        let response = registry.send(request).await?;
        let next = next_url(registry, &request.url, &response)?;
        Ok((response.document(PAGE_LIMIT, |page| parse(&page)).await?, next))
    };
    registry.context.retry(fetch).await
}

/// The URL of the next page; `None` for a link to the same page, from a registry that lists
/// everything at once.
///
/// Takes only the query of the link, because proxies get its host and its path wrong: the path of
/// this page works, and no other host receives the login.
///
/// Source: sonatype/nexus-public#1011, renovatebot/renovate#15030.
///
/// # Errors
/// [`Kind::Protocol`] without a query that continues the list: an incomplete list would look
/// complete.
fn next_url(registry: &Registry, from: &Url, response: &ApiResponse) -> Result<Option<Url>> {
    let Some(link) = next_link(response.headers()) else { return Ok(None) };
    let wrong = |problem: &str| {
        response.protocol_error(problem).hint(
            "let the proxy in front of the registry rewrite `Link`, or configure the registry's \
             external name",
        )
    };
    let target = from.join(&link).map_err(|_| wrong("the link to the next page is not a URL"))?;
    let target = registry.over_tls(target);
    if target == *from {
        return Ok(None);
    }
    let mut next = from.clone();
    next.set_query(target.query());
    if target.query().is_some() && next != *from {
        return Ok(Some(next));
    }
    if !registry.owns(&target) {
        let host = response.secrets().redact(&authority(&target));
        return Err(wrong(&format!("the next page is on another host, `{host}`")));
    }
    Err(wrong("the link to the next page has no query that continues the list"))
}

/// The target of the link to the next page.
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    let values = headers.get_all(LINK).iter();
    values.filter_map(|value| parse_next_link(&String::from_utf8_lossy(value.as_bytes()))).next()
}

/// The target of `<target>; rel="next"` among the links of one header value.
pub(crate) fn parse_next_link(value: &str) -> Option<String> {
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

/// Splits the parameters of one link from the rest of the text, which begins with a comma.
fn split_params(text: &str) -> (Vec<(String, String)>, &str) {
    let mut params = vec![(String::new(), String::new())];
    let (mut quoted, mut escaped, mut in_value) = (false, false, false);
    for (at, c) in text.char_indices() {
        let (name, value) = params.last_mut().expect("there is always one");
        match c {
            _ if escaped => (escaped, _) = (false, value.push(c)),
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return (params, &text[at..]),
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
    fn the_next_page_is_found_among_other_links() {
        for (value, expected) in [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"<https://r/v2/a?x=1>;rel=next"#, Some("https://r/v2/a?x=1")),
            (r#"<a>; rel="prev", <b>; title="x, <c>; rel=next"; REL = "last NEXT""#, Some("b")),
            (r#"<a>; title="\""; rel=next"#, Some("a")),
            (r#"<a>; title="\\"; rel=next"#, Some("a")),
            (r#"<a>; title=x"y;=z"; rel="next"; x"#, Some("a")),
            (r#"<a>; x=rel=next, <b>; rel==next, <c>; rel=next=, <d>; rel=next"#, Some("d")),
            ("<a>; rel=nexta, <b>; re l=next", Some("b")),
            (r#"<a>; title=\; rel=next"#, Some("a")),
            (r#"<a>; rel="next;x", <b>; rel="x; next""#, Some("b")),
            ("<a>, <b>; rel=next", Some("b")),
            ("<a>; rel=prev", None),
            ("<a>", None),
            ("<a", None),
            ("", None),
        ] {
            assert_eq!(parse_next_link(value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_header_parses(value in ".*") {
            parse_next_link(&value);
        }

        #[test]
        fn links_of_all_kinds_parse(value in r#"([<>;,="\\ a-z]|rel=next)*"#) {
            parse_next_link(&value);
        }
    }
}
