//! The entries of indexes that tag listings name: an index that a listing tells costs no pull.
//!
//! Requests the answer for a tag once a run, also if it is a failure.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::tag_page::ListedIndexes;
use crate::{
    model::{Digest, ListedImage, Repository, Result, Tag},
    remote::HostContext,
};

/// The largest number of indexes, and of answers for one tag, that are remembered: about 2 KiB each.
const INDEXES: usize = 4_096;

/// Concurrent requests for one tag: other users of the address share the limit of the API.
const CONCURRENT_REQUESTS: usize = 8;

type Entries = Arc<[ListedImage]>;

/// An index, and the tag whose listing may name its entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TaggedIndex {
    pub(crate) repository: Repository,
    pub(crate) tag: Tag,
    pub(crate) index: Digest,
}

#[derive(Debug)]
pub(crate) struct IndexListings {
    known: Mutex<HashMap<Digest, Entries>>,
    /// `None` for a tag whose listing failed, or names other entries.
    answers: Mutex<HashMap<TaggedIndex, Arc<OnceCell<Option<Entries>>>>>,
    permits: Semaphore,
}

impl Default for IndexListings {
    fn default() -> Self {
        let permits = Semaphore::new(CONCURRENT_REQUESTS);
        Self { known: Mutex::default(), answers: Mutex::default(), permits }
    }
}

impl IndexListings {
    /// Remembers indexes of a page. Drops those above the limit.
    pub(crate) fn remember(&self, indexes: ListedIndexes) {
        let mut known = self.known.lock();
        for (index, images) in indexes {
            if known.len() < INDEXES {
                known.insert(index, images.into());
            }
        }
    }

    /// The entries of the index. Fetches the listing of the tag, with retries, unless the entries or
    /// the answer for this tag are known. `None` if the tag's listing does not tell them.
    pub(crate) async fn entries<F: Future<Output = Result<ListedIndexes>>>(
        &self,
        wanted: &TaggedIndex,
        context: &HostContext,
        fetch: impl Fn() -> F,
    ) -> Option<Entries> {
        if let Some(known) = self.known.lock().get(&wanted.index) {
            return Some(Arc::clone(known));
        }
        // above the limit an answer is not kept
        let answer = {
            let mut answers = self.answers.lock();
            match answers.get(wanted) {
                Some(answer) => Arc::clone(answer),
                None if answers.len() >= INDEXES => Arc::default(),
                None => Arc::clone(answers.entry(wanted.clone()).or_default()),
            }
        };
        let attempt = || async {
            // not held during the wait for the next attempt
            let _permit = self.permits.acquire().await.expect("the semaphore is never closed");
            fetch().await
        };
        let ask = || async {
            let found = context.retry(attempt).await.inspect_err(|error| {
                tracing::debug!(?error, "cannot list the images of a tag");
            });
            let found = found.ok()?;
            let entries: Option<Entries> =
                found.get(&wanted.index).map(|images| images.as_slice().into());
            self.remember(found);
            entries
        };
        answer.get_or_init(ask).await.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        time::Duration,
    };

    use futures::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::model::{Error, Kind};

    fn wanted(tag: &str, index: usize) -> TaggedIndex {
        let (repository, tag) = ("a/b".parse().unwrap(), tag.parse().unwrap());
        TaggedIndex { repository, tag, index: digest(index) }
    }

    fn digest(of: usize) -> Digest {
        Digest::of(&of.to_le_bytes())
    }

    fn listed(indexes: impl IntoIterator<Item = usize>) -> ListedIndexes {
        let image =
            |of| ListedImage { platform: "linux/amd64".parse().unwrap(), digest: digest(of) };
        indexes.into_iter().map(|of| (digest(of), vec![image(of)])).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_that_fails_for_a_moment_is_requested_again() {
        let (listings, context) = (IndexListings::default(), HostContext::default());
        let requests = Cell::new(0);
        let fetch = || async {
            match requests.replace(requests.get() + 1) {
                0 | 1 => Err(Error::new(Kind::Unavailable, "503")),
                _ => Ok(listed([1])),
            }
        };
        let entries = listings.entries(&wanted("1", 1), &context, fetch).await.unwrap();
        assert_eq!((entries[0].digest.clone(), requests.get()), (digest(1), 3));
        // the entries belong to the index, under any tag
        assert!(listings.entries(&wanted("latest", 1), &context, fetch).await.is_some());
        assert_eq!((requests.get(), context.stats.retries.value()), (3, 2));
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_its_tag_and_not_for_the_index() {
        let (listings, context) = (IndexListings::default(), HostContext::default());
        let asked = RefCell::new(Vec::new());
        let ask = async |tag: &'static str| {
            let fetch = || async {
                asked.borrow_mut().push(tag);
                match tag {
                    "gone" => Err(Error::new(Kind::NotFound, "404")),
                    "moved" => Ok(listed([2])),
                    _ => Ok(listed([1])),
                }
            };
            listings.entries(&wanted(tag, 1), &context, fetch).await.is_some()
        };
        for (tag, expected) in
            [("gone", false), ("gone", false), ("moved", false), ("moved", false), ("1", true)]
        {
            assert_eq!(ask(tag).await, expected, "{tag}");
        }
        assert_eq!(*asked.borrow(), ["gone", "moved", "1"]);
        assert!(ask("gone").await, "another tag's listing names the entries");
        assert_eq!(asked.borrow().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_eight_listings_are_requested_at_once_and_each_of_them_once() {
        let (listings, context) = (IndexListings::default(), HostContext::default());
        let (running, most, requests) = (Cell::new(0), Cell::new(0), Cell::new(0));
        let fetch = || async {
            running.set(running.get() + 1);
            requests.set(requests.get() + 1);
            most.set(most.get().max(running.get()));
            sleep(Duration::from_secs(1)).await;
            running.set(running.get() - 1);
            Ok(ListedIndexes::new())
        };
        let wanted: Vec<TaggedIndex> = (0..40).map(|it| wanted("1", it / 2)).collect();
        join_all(wanted.iter().map(|it| listings.entries(it, &context, fetch))).await;
        assert_eq!((most.get(), requests.get()), (CONCURRENT_REQUESTS, 20));
    }

    #[tokio::test]
    async fn indexes_and_answers_above_the_limit_are_not_remembered() {
        let (listings, context) = (IndexListings::default(), HostContext::default());
        listings.remember(listed(0..INDEXES - 1));
        let requests = Cell::new(0);
        for index in INDEXES..2 * INDEXES + 10 {
            let fetch = || async {
                requests.set(requests.get() + 1);
                Ok(listed([index]))
            };
            assert!(listings.entries(&wanted("1", index), &context, fetch).await.is_some());
        }
        assert_eq!(requests.get(), INDEXES + 10);
        assert_eq!(listings.known.lock().len(), INDEXES);
        assert_eq!(listings.answers.lock().len(), INDEXES);
    }
}
