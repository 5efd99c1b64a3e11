//! The order of a copier that knows everything: each blob, mount and manifest, and its
//! dependencies.
//!
//! There is no barrier: the newest ready item comes first, so that manifests are pushed while
//! layers of other images are still read. Some large blobs are base_calls in progress, because they
//! take processor and bandwidth; everything else runs beside them, because it takes round trips.

use std::collections::{HashMap, VecDeque};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::corpus::{Blob, Corpus, Manifest};

/// Minimum bytes of a large blob.
const LARGE: u64 = 1_000_000;
/// Maximum number of concurrent large blobs.
const LARGE_AT_ONCE: usize = 8;

/// One item to do.
pub(crate) enum Work {
    /// A blob, into the first repository that needs it.
    Upload(Blob),
    Mount(Mount),
    Put(Manifest),
}

/// A mount of a blob from another repository.
pub(crate) struct Mount {
    pub(crate) to: String,
    pub(crate) digest: String,
    pub(crate) from: String,
}

#[derive(Default)]
pub(crate) struct Order {
    items: Vec<Item>,
    ready: VecDeque<usize>,
    large: VecDeque<usize>,
    large_running: usize,
    finished: usize,
}

struct Item {
    is_large: bool,
    /// `None` once it is started.
    work: Option<Work>,
    /// Number of unfinished dependencies.
    pending: usize,
    /// The items that depend on this one.
    dependents: Vec<usize>,
}

impl Order {
    /// The order of a corpus, large blobs first.
    ///
    /// # Errors
    /// If a manifest names content that is not in the corpus.
    pub(crate) fn from_corpus(corpus: Corpus) -> Result<Order> {
        let mut order = Order::default();
        // the item of each digest, by repository
        let mut places = HashMap::<(String, String), usize>::new();
        for blob in corpus.blobs {
            let (digest, repositories) = (blob.digest.clone(), blob.repositories.clone());
            let placed = order.add(Work::Upload(blob), &[]);
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
                place.copied().context("a manifest names content that is not in the corpus")
            };
            let named = named(&manifest)?.into_iter().map(place).collect::<Result<Vec<_>>>()?;
            let key = (repository.clone(), manifest.digest.clone());
            places.insert(key, order.add(Work::Put(manifest), &named));
        }
        Ok(order)
    }

    fn add(&mut self, work: Work, after: &[usize]) -> usize {
        let number = self.items.len();
        let is_large = matches!(&work, Work::Upload(blob) if blob.size >= LARGE);
        let (work, pending) = (Some(work), after.len());
        self.items.push(Item { is_large, work, pending, dependents: Vec::new() });
        for &before in after {
            self.items[before].dependents.push(number);
        }
        match (after, is_large) {
            ([], true) => self.large.push_back(number),
            ([], false) => self.ready.push_back(number),
            _ => {}
        }
        number
    }

    /// The next ready item, and its number.
    pub(crate) fn next(&mut self) -> Option<(usize, Work)> {
        let large = (self.large_running < LARGE_AT_ONCE).then(|| self.large.pop_front()).flatten();
        self.large_running += usize::from(large.is_some());
        let number = large.or_else(|| self.ready.pop_front())?;
        Some((number, self.items[number].work.take()?))
    }

    /// Records the end of an item, and makes its dependents ready.
    pub(crate) fn done(&mut self, number: usize) {
        self.finished += 1;
        self.large_running -= usize::from(self.items[number].is_large);
        for dependent in std::mem::take(&mut self.items[number].dependents) {
            let item = &mut self.items[dependent];
            item.pending -= 1;
            if item.pending == 0 {
                self.ready.push_front(dependent);
            }
        }
    }

    /// True once everything is done.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished == self.items.len()
    }
}

/// The digests that a manifest names: a configuration and layers, or children.
fn named(manifest: &Manifest) -> Result<Vec<String>> {
    let document: Value = serde_json::from_str(&manifest.content)?;
    let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
    let configuration = document.get("config").cloned();
    let all = configuration.into_iter().chain(list("layers")).chain(list("manifests"));
    all.map(|entry| Ok(entry["digest"].as_str().context("an entry has a digest")?.to_owned()))
        .collect()
}
