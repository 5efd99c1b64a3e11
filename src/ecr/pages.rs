//! Follows the `nextToken` of AWS's listings.
//!
//! A listing ends: a repeated token, or more than [`MAX_PAGES`], [`MAX_TOKEN`] and [`MAX_ITEMS`]
//! allow, is an error. The bounds are those of a registry's tag list.

use std::collections::HashSet;

use crate::model::{Error, Kind, Result};

/// 2,000 pages of 1,000 images are 20 times ECR's quota of images per repository.
const MAX_PAGES: usize = 2_000;
/// The longest token, in bytes: all tokens of a listing are remembered.
const MAX_TOKEN: usize = 16 << 10;
const MAX_ITEMS: usize = 1_000_000;

/// The position in a listing.
#[derive(Debug)]
pub(crate) struct PageToken {
    action: &'static str,
    current: Option<String>,
    seen: HashSet<String>,
}

impl PageToken {
    /// The first page of the action, like `ListImages`.
    pub(crate) fn first(action: &'static str) -> Self {
        Self { action, current: None, seen: HashSet::new() }
    }

    /// The token of the page to request; `None` for the first.
    pub(crate) fn current(&self) -> Option<String> {
        self.current.clone()
    }

    /// Moves to the page of this token. Returns `false` if there is no further page.
    pub(crate) fn advance(&mut self, next: Option<String>) -> Result<bool> {
        let Some(next) = next else { return Ok(false) };
        let problem = if next.len() > MAX_TOKEN {
            format!("{} answered with a `nextToken` of {} bytes", self.action, next.len())
        } else if !self.seen.insert(next.clone()) {
            format!("{} answered with the same `nextToken` twice", self.action)
        } else if self.seen.len() >= MAX_PAGES {
            format!("{} did not end after {MAX_PAGES} pages", self.action)
        } else {
            self.current = Some(next);
            return Ok(true);
        };
        Err(Error::new(Kind::Protocol, problem))
    }
}

/// Reads every page. `fetch` takes a page's token and returns its items and the next token.
pub(crate) async fn collect<T, F, Fut>(action: &'static str, fetch: F) -> Result<Vec<T>>
where
    F: Fn(Option<String>) -> Fut,
    Fut: Future<Output = Result<(Vec<T>, Option<String>)>>,
{
    let (mut all, mut token) = (Vec::new(), PageToken::first(action));
    loop {
        let (items, next) = fetch(token.current()).await?;
        all.extend(items);
        if all.len() > MAX_ITEMS {
            let problem = format!("{action} answered with more than {MAX_ITEMS} items");
            return Err(Error::new(Kind::Protocol, problem));
        }
        if !token.advance(next)? {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Lists pages `0`, `1`, … whose next tokens are these; the number of requests.
    async fn listed(next: impl Fn(usize) -> Option<String>) -> (Result<Vec<usize>>, usize) {
        let requests = Cell::new(0);
        let fetch = |token: Option<String>| {
            let page = requests.replace(requests.get() + 1);
            assert_eq!(token.is_none(), page == 0);
            let next = next(page);
            async move { Ok((vec![page], next)) }
        };
        (collect("ListThings", fetch).await, requests.get())
    }

    #[tokio::test]
    async fn every_page_is_read_in_order() {
        let (found, requests) = listed(|page| (page < 2).then(|| page.to_string())).await;
        assert_eq!((found.unwrap(), requests), (vec![0, 1, 2], 3));
    }

    #[tokio::test]
    async fn a_repeated_token_is_an_error() {
        for period in [1, 2] {
            let (found, requests) = listed(|page| Some((page % period).to_string())).await;
            let error = found.unwrap_err();
            assert_eq!((error.kind(), requests), (Kind::Protocol, period + 1));
            assert!(error.to_string().contains("ListThings"), "{error}");
        }
    }

    #[tokio::test]
    async fn large_pages_and_tokens_stop_at_their_bounds() {
        let requests = Cell::new(0_usize);
        let page = async |_| {
            requests.set(requests.get() + 1);
            Ok((vec![(); MAX_ITEMS / 4], Some(requests.get().to_string())))
        };
        let error = collect("ListThings", page).await.unwrap_err();
        assert_eq!((error.kind(), requests.get()), (Kind::Protocol, 5));
        let (found, requests) = listed(|page| Some("x".repeat(MAX_TOKEN << page))).await;
        assert_eq!((found.unwrap_err().kind(), requests), (Kind::Protocol, 2));
    }

    #[tokio::test]
    async fn endless_distinct_tokens_stop_at_the_bound() {
        let (found, requests) = listed(|page| Some(page.to_string())).await;
        let error = found.unwrap_err();
        assert_eq!((error.kind(), requests), (Kind::Protocol, MAX_PAGES));
        assert!(error.to_string().contains("ListThings"), "{error}");
    }
}
