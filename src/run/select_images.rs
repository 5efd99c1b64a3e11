//! Turns entries of the configuration into images to mirror and references to warm: lists tags
//! where they are selected, once for both, and asks for digests where `retag` needs them. Exact
//! tags ask for nothing.
//!
//! Guards that one entry's failure is no other's, and that images which write the same tag fail
//! before the first of them is written.

use std::{
    collections::{BTreeMap, HashMap},
    time::SystemTime,
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::registries::{ListableSource, Registries};
use crate::{
    config::{CacheTarget, Config, Entry, Tags, between_listed},
    model::{
        DestinationId, Error, Host, Image, Kind, Listed, Repository, Result, Tag, TagOrDigest,
        event::{Event, Observer},
        outcome::{Outcome, Row},
        select::{SelectedTags, Selector, SkippedTag, TagSelection},
    },
};

/// Repositories that are listed, and tags that are resolved, at once.
const AT_ONCE: usize = 8;

/// What an entry, or a tag of it, comes to.
#[derive(Debug)]
pub(crate) enum SelectedItem<'a> {
    /// An image.
    Image(MirrorItem<'a>),
    /// A reference that ECR caches.
    Cached(CacheItem<'a>),
    /// What the report says instead of either.
    Rows(Vec<Row>),
}

/// An image, and what it was before its digest was known.
#[derive(Debug)]
pub(crate) struct MirrorItem<'a> {
    /// The entry that chose it.
    pub(crate) entry: &'a Entry,
    /// Its reference at the source.
    pub(crate) source: String,
    /// The image.
    pub(crate) image: Image,
}

/// A reference that ECR caches, at one destination.
#[derive(Debug)]
pub(crate) struct CacheItem<'a> {
    /// The entry that chose it.
    pub(crate) entry: &'a Entry,
    /// Its reference at the source.
    pub(crate) source: String,
    /// Where it is cached.
    pub(crate) target: &'a CacheTarget,
    /// The tag, or the pinned digest.
    pub(crate) at: TagOrDigest,
}

impl CacheItem<'_> {
    /// The reference to pull it from.
    pub(crate) fn reference(&self, config: &Config) -> String {
        let site = &config.destination(self.target.destination).registry;
        site.reference(&self.target.repository, &self.at)
    }

    /// Its row, before anything became of it.
    pub(crate) fn row(&self, config: &Config) -> Row {
        let source_digest = match &self.at {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => None,
        };
        let row = Row::new(&self.entry.name, self.source.clone(), self.reference(config));
        Row { source_digest, ..row }
    }
}

/// What these entries come to, in their order and that of their tags, for each tag what is
/// mirrored before what is cached; what failed stands in its place.
///
/// # Errors
/// [`Kind::Configuration`] when a registry's settings cannot be used.
pub(crate) async fn select_images<'a>(
    world: &Registries,
    config: &Config,
    entries: &[&'a Entry],
    observer: &dyn Observer,
) -> Result<Vec<SelectedItem<'a>>> {
    let mut readings: HashMap<&Host, ListableSource> = HashMap::new();
    for entry in entries.iter().filter(|entry| selected_offline(entry).is_none()) {
        if !readings.contains_key(&entry.host) {
            readings.insert(&entry.host, world.listable_source(config, &entry.host).await?);
        }
    }
    let mut selected = select(&readings, entries, observer).await;
    let mut items = Vec::new();
    for (at, &entry) in entries.iter().enumerate() {
        if let Some(known) = selected_offline(entry) {
            items.extend(known);
            continue;
        }
        let tags = match (&entry.tags, selected.remove(&at)) {
            (Tags::Exact(tags), _) => Ok(tags.clone()),
            (_, taken) => taken.unwrap_or_else(|| Ok(Vec::new())),
        };
        match tags {
            Ok(tags) => {
                items.extend(selected_items(config, entry, &readings[&entry.host], &tags).await)
            }
            Err(error) => items.push(SelectedItem::Rows(failed(rows(config, entry), &error))),
        }
    }
    Ok(reject_collisions(config, items))
}

/// What these entries come to, where no registry has to be asked for it.
pub(crate) fn offline<'a>(entries: &[&'a Entry]) -> Option<Vec<SelectedItem<'a>>> {
    let items: Option<Vec<Vec<_>>> = entries.iter().map(|entry| selected_offline(entry)).collect();
    Some(items?.into_iter().flatten().collect())
}

/// What an entry comes to; `None` where a registry has to be asked for it.
fn selected_offline(entry: &Entry) -> Option<Vec<SelectedItem<'_>>> {
    let (pulls, images) = (entry.pulls()?, entry.images()?);
    // one for each tag, or none where the entry is not mirrored anywhere
    let mut images = images.into_iter();
    Some(pulls.into_iter().flat_map(|at| items(entry, at, images.next())).collect())
}

/// What a tag or digest of an entry comes to: the image it is mirrored as, then where it is cached.
fn items(entry: &Entry, at: TagOrDigest, image: Option<Image>) -> Vec<SelectedItem<'_>> {
    let source = format!("{}/{}{at}", entry.host, entry.repository);
    let cached = entry.cached.iter().map(|place| {
        let (source, at) = (source.clone(), at.clone());
        SelectedItem::Cached(CacheItem { entry, source, target: place, at })
    });
    let image =
        image.map(|image| SelectedItem::Image(MirrorItem { entry, source: source.clone(), image }));
    image.into_iter().chain(cached).collect()
}

/// A row for each place of the entry, of a run that did not come so far as to know its images.
pub(crate) fn not_started(config: &Config, entry: &Entry) -> Vec<Row> {
    rows(config, entry)
}

/// A row for each target of the image, of a run that did not come so far as to begin it.
pub(crate) fn not_started_image(config: &Config, image: &Image) -> Vec<Row> {
    rows_of_image(config, image, &image.origin.to_string())
}

/// The tags that each entry with a selection takes, by its place; repositories are listed once.
async fn select(
    readings: &HashMap<&Host, ListableSource>,
    entries: &[&Entry],
    observer: &dyn Observer,
) -> HashMap<usize, Result<Vec<Tag>>> {
    let now = SystemTime::now();
    let mut repositories: BTreeMap<(&Host, &Repository), Vec<(usize, Selector<'_>)>> =
        BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        if let Tags::Selected(selection) = &entry.tags {
            let of = repositories.entry((&entry.host, &entry.repository)).or_default();
            of.push((at, Selector::new(selection, now)));
        }
    }
    // boxed one by one: the compiler does not see through a closure over borrowed names
    let mut listings: Vec<BoxFuture<'_, _>> = Vec::new();
    for ((host, repository), selectors) in repositories {
        let listing = TagListing { host, repository, source: &readings[host] };
        listings.push(async move { listing.choose(selectors, now, observer).await }.boxed());
    }
    let chosen: Vec<_> = stream::iter(listings).buffer_unordered(AT_ONCE).collect().await;
    chosen.into_iter().flatten().collect()
}

/// One repository whose tags are listed.
struct TagListing<'a> {
    host: &'a Host,
    repository: &'a Repository,
    source: &'a ListableSource,
}

impl TagListing<'_> {
    /// Lets every selector see every tag once.
    async fn choose(
        &self,
        mut selectors: Vec<(usize, Selector<'_>)>,
        now: SystemTime,
        observer: &dyn Observer,
    ) -> Vec<(usize, Result<Vec<Tag>>)> {
        let queries = selectors.iter().map(|(_, selector)| selector.selection().query(now));
        let Some(query) = queries.reduce(|one, other| one.and(other)) else { return Vec::new() };
        let mut pages = self.source.tags(self.repository, query);
        loop {
            match pages.try_next().await {
                Ok(None) => break,
                Ok(Some(page)) => {
                    for listed in &page {
                        for (_, selector) in &mut selectors {
                            if let Some(left) = selector.consider(listed) {
                                self.log_skipped(&listed.tag, &left);
                            }
                        }
                    }
                }
                Err(error) => {
                    let error = error.context(format!("cannot list the tags of {self}"));
                    return selectors.iter().map(|(at, _)| (*at, Err(error.clone()))).collect();
                }
            }
        }
        let chosen = selectors.into_iter().map(|(at, selector)| {
            let selection = selector.selection();
            let selected = selector
                .finish()
                .map_err(|error| error.context(format!("cannot choose tags of {self}")));
            (at, selected.map(|selected| self.take(selected, selection, observer)))
        });
        chosen.collect()
    }

    /// Says what was taken and left, and hands what the listing told of it to the engine.
    fn take(
        &self,
        selected: SelectedTags,
        selection: &crate::model::Selection,
        observer: &dyn Observer,
    ) -> Vec<Tag> {
        for tag in &selected.surplus {
            self.log_skipped(tag, &SkippedTag::Surplus(selected.tags.len()));
        }
        if selected.without_time > 0 {
            let text = format!(
                "{} tags are left out, because {} does not tell when they were pushed",
                selected.without_time, self.host
            );
            observer.observe(&Event::Warning { subject: self.to_string(), text });
        }
        let take = |listed: Listed| {
            tracing::info!("{self}:{} is taken: {}", listed.tag, TagSelection(selection, &listed));
            if let Some(digest) = listed.digest {
                self.source.remember(self.repository, listed.tag.clone(), digest);
            }
            listed.tag
        };
        selected.tags.into_iter().map(take).collect()
    }

    fn log_skipped(&self, tag: &Tag, left: &SkippedTag) {
        tracing::info!("{self}:{tag} is left: {left}");
    }
}

impl std::fmt::Display for TagListing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

/// What each tag comes to, or the rows of what is wrong with it.
async fn selected_items<'a>(
    config: &Config,
    entry: &'a Entry,
    reading: &ListableSource,
    tags: &[Tag],
) -> Vec<SelectedItem<'a>> {
    let mut all: Vec<BoxFuture<'_, Vec<SelectedItem<'a>>>> = Vec::new();
    for tag in tags {
        let at = TagOrDigest::Tag(tag.clone());
        let one = async move {
            if entry.mirrored.is_empty() {
                return items(entry, at, None);
            }
            match image(entry, reading, tag).await {
                Ok(image) => items(entry, at, Some(image)),
                Err(error) => {
                    let source = format!("{}/{}:{tag}", entry.host, entry.repository);
                    let rows = mirrored_rows(config, entry);
                    let rows = rows.map(|row| Row { source: source.clone(), ..row }).collect();
                    let mut all = vec![SelectedItem::Rows(failed(rows, &error))];
                    all.extend(items(entry, at, None));
                    all
                }
            }
        };
        all.push(one.boxed());
    }
    stream::iter(all).buffered(AT_ONCE).flat_map(stream::iter).collect().await
}

/// The image of a tag; it is pinned to the digest that its tag at the destination names.
async fn image(entry: &Entry, reading: &ListableSource, tag: &Tag) -> Result<Image> {
    let digest = match entry.retag.needs_digest() {
        true => Some(reading.resolve(&entry.repository, tag).await?),
        false => None,
    };
    entry.image(tag, digest.as_ref()).map_err(|wrong| {
        let error =
            Error::new(Kind::Configuration, format!("`{}` of `{tag}` {wrong}", entry.retag));
        wrong.hint.into_iter().fold(error, Error::hint)
    })
}

/// The images without those that write what another one writes: these fail, all of them.
fn reject_collisions<'a>(config: &Config, items: Vec<SelectedItem<'a>>) -> Vec<SelectedItem<'a>> {
    let images: Vec<&Image> = items.iter().filter_map(SelectedItem::image).collect();
    let wrong = between_listed(config, &images);
    let mut at = 0;
    let check = |item| match item {
        SelectedItem::Image(chosen) => {
            let problem = wrong.get(&at);
            at += 1;
            match problem {
                None => SelectedItem::Image(chosen),
                Some(problem) => {
                    let error = Error::new(Kind::Configuration, problem.clone())
                        .hint("give one of them another `repository` or `retag`");
                    let rows = rows_of_image(config, &chosen.image, &chosen.source);
                    SelectedItem::Rows(failed(rows, &error))
                }
            }
        }
        other => other,
    };
    items.into_iter().map(check).collect()
}

impl SelectedItem<'_> {
    fn image(&self) -> Option<&Image> {
        match self {
            Self::Image(chosen) => Some(&chosen.image),
            Self::Cached(_) | Self::Rows(_) => None,
        }
    }
}

fn failed(rows: Vec<Row>, error: &Error) -> Vec<Row> {
    rows.into_iter().map(|row| row.with_error(Outcome::Failed, error)).collect()
}

/// A row for each place of the entry; no tags, as none is known.
fn rows(config: &Config, entry: &Entry) -> Vec<Row> {
    let cached =
        entry.cached.iter().map(|it| row_at(config, entry, (it.destination, &it.repository)));
    mirrored_rows(config, entry).chain(cached).collect()
}

fn mirrored_rows(config: &Config, entry: &Entry) -> impl Iterator<Item = Row> {
    entry.mirrored.iter().map(|it| row_at(config, entry, (it.destination, &it.repository)))
}

fn row_at(config: &Config, entry: &Entry, (at, repository): (DestinationId, &Repository)) -> Row {
    let source = format!("{}/{}", entry.host, entry.repository);
    Row::new(&entry.name, source, config.destination(at).registry.repository(repository))
}

fn rows_of_image(config: &Config, image: &Image, source: &str) -> Vec<Row> {
    let row = |target: &crate::model::Target| {
        let site = &config.destination(target.destination).registry;
        let destination = site.reference(&target.repository, &TagOrDigest::Tag(target.tag.clone()));
        Row::new(&image.name, source.to_owned(), destination)
    };
    image.targets.iter().map(row).collect()
}
