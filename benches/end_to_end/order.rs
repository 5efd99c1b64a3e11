//! What a copier that knows everything may do when: each blob, mount and manifest, and what it
//! waits for.
//!
//! Guards that there is no barrier: what became possible last is done first, so that manifests go
//! out while other images' layers still come in. A few large blobs are always under way, because
//! they take processor and link, and everything else beside them, because it takes round trips.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::corpus::{Blob, Corpus, Manifest};

/// From so many bytes on, a blob is large.
const LARGE: u64 = 1_000_000;
/// How many large blobs are under way at once.
const LARGE_AT_ONCE: usize = 8;

/// One thing to do.
pub(crate) enum Work {
    /// A blob, into the first repository that needs it.
    Place(Blob),
    Mount(Mount),
    Put(Manifest),
}

/// A blob that another repository has.
pub(crate) struct Mount {
    pub(crate) to: String,
    pub(crate) digest: String,
    pub(crate) from: String,
}

/// Everything there is to do.
#[derive(Default)]
pub(crate) struct Order {
    items: Vec<Item>,
    ready: VecDeque<usize>,
    large: VecDeque<usize>,
    large_running: usize,
    over: usize,
}

struct Item {
    is_large: bool,
    /// None: somebody is at it.
    work: Option<Work>,
    /// How many others come first.
    waits: usize,
    /// Who waits for this one.
    then: Vec<usize>,
}

impl Order {
    /// The order of a corpus: large blobs first.
    ///
    /// # Errors
    /// When a manifest names what is not part of the corpus.
    pub(crate) fn of(corpus: Corpus) -> Result<Order> {
        let mut order = Order::default();
        // where each digest is, by repository
        let mut places = HashMap::<(String, String), usize>::new();
        for blob in corpus.blobs {
            let (digest, repositories) = (blob.digest.clone(), blob.repositories.clone());
            let placed = order.add(Work::Place(blob), &[]);
            let from = &repositories[0];
            places.insert((from.clone(), digest.clone()), placed);
            for to in &repositories[1..] {
                let (to, digest, from) = (to.clone(), digest.clone(), from.clone());
                let key = (to.clone(), digest.clone());
                let mounted = order.add(Work::Mount(Mount { to, digest, from }), &[placed]);
                places.insert(key, mounted);
            }
        }
        for manifest in corpus.manifests {
            let repository = &manifest.repository;
            let place = |digest| {
                let place = places.get(&(repository.clone(), digest));
                place.copied().context("a manifest names what nobody has")
            };
            let named = named(&manifest)?.into_iter().map(place).collect::<Result<Vec<_>>>()?;
            let key = (repository.clone(), manifest.digest.clone());
            places.insert(key, order.add(Work::Put(manifest), &named));
        }
        Ok(order)
    }

    fn add(&mut self, work: Work, after: &[usize]) -> usize {
        let number = self.items.len();
        let is_large = matches!(&work, Work::Place(blob) if blob.size >= LARGE);
        let (work, waits) = (Some(work), after.len());
        self.items.push(Item { is_large, work, waits, then: Vec::new() });
        for &before in after {
            self.items[before].then.push(number);
        }
        match (after, is_large) {
            ([], true) => self.large.push_back(number),
            ([], false) => self.ready.push_back(number),
            _ => {}
        }
        number
    }

    /// Something that can be done now, and its number.
    pub(crate) fn next(&mut self) -> Option<(usize, Work)> {
        let large = (self.large_running < LARGE_AT_ONCE).then(|| self.large.pop_front()).flatten();
        self.large_running += usize::from(large.is_some());
        let number = large.or_else(|| self.ready.pop_front())?;
        Some((number, self.items[number].work.take()?))
    }

    /// What waited for this may wait no longer.
    pub(crate) fn done(&mut self, number: usize) {
        self.over += 1;
        self.large_running -= usize::from(self.items[number].is_large);
        for then in std::mem::take(&mut self.items[number].then) {
            let item = &mut self.items[then];
            item.waits -= 1;
            if item.waits == 0 {
                self.ready.push_front(then);
            }
        }
    }

    /// Whether everything is done.
    pub(crate) fn is_over(&self) -> bool {
        self.over == self.items.len()
    }
}

/// The digests that a manifest needs: a configuration and layers, or children.
fn named(manifest: &Manifest) -> Result<Vec<String>> {
    let document: Value = serde_json::from_str(&manifest.content)?;
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let configuration = document.get("config").cloned();
    let all = configuration.into_iter().chain(list("layers")).chain(list("manifests"));
    all.map(|entry| Ok(entry["digest"].as_str().context("an entry has a digest")?.to_owned()))
        .collect()
}
