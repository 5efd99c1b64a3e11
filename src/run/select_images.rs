//! Turns entries of the configuration into images to mirror and references to warm.
//!
//! Lists each repository once for all selections on it, and resolves digests only for a `retag`
//! that needs them. Exact tags need no request. A failed entry does not affect others. Images that
//! would write the same tag all fail before the first of them is written.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::Arc,
    time::SystemTime,
};

use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::registries::{ListableSource, Registries};
use crate::{
    config::{CacheTarget, Config, Entry, Tags, between_listed, target_reference},
    engine::{self, SourceEndpoint},
    model::{
        DestinationId, Digest, Error, Host, Image, Kind, Listed, Repository, Result, Selection,
        Tag, TagOrDigest, Target,
        event::{Event, Observer, Silent},
        outcome::{Outcome, Row},
        select::{SelectedTags, Selector, SkippedTag, TagSelection},
    },
    remote::{Source, current::work_for},
};

/// Repositories that are listed, and tags that are resolved, in parallel.
const CONCURRENCY: usize = 8;

/// One result of an entry, or of one of its tags.
#[derive(Debug)]
pub(crate) enum SelectedItem<'a> {
    Image(MirrorItem<'a>),
    Cached(CacheItem<'a>),
    /// The rows of images that cannot be selected.
    Rows(Vec<Row>),
}

/// An image to mirror.
#[derive(Debug)]
pub(crate) struct MirrorItem<'a> {
    pub(crate) entry: &'a Entry,
    /// The selected tag, even if `retag` pins the image to its digest.
    pub(crate) at: TagOrDigest,
    pub(crate) image: Image,
}

/// A reference that ECR caches, at one destination.
#[derive(Debug)]
pub(crate) struct CacheItem<'a> {
    pub(crate) entry: &'a Entry,
    /// The reference at the source.
    pub(crate) source: String,
    pub(crate) target: &'a CacheTarget,
    /// The tag, or the pinned digest.
    pub(crate) at: TagOrDigest,
}

impl MirrorItem<'_> {
    /// The reference at the source, as it was selected.
    pub(crate) fn source(&self) -> String {
        self.entry.reference(&self.at)
    }

    /// Returns `true` if the source is pinned to a digest, and the destination gets another one.
    pub(crate) fn changes_pin(&self) -> bool {
        self.entry.pin().is_some() && !self.image.filter.keeps_digests()
    }
}

impl CacheItem<'_> {
    /// The reference to pull it from.
    pub(crate) fn reference(&self, config: &Config) -> String {
        let location = &config.destination(self.target.destination).registry;
        location.reference(&self.target.repository, &self.at)
    }

    /// Its row before the pull.
    pub(crate) fn row(&self, config: &Config) -> Row {
        let source_digest = match &self.at {
            TagOrDigest::Digest(digest) => Some(digest.clone()),
            TagOrDigest::Tag(_) => None,
        };
        let row = Row::new(&self.entry.name, self.source.clone(), self.reference(config));
        Row { source_digest, ..row }
    }
}

/// Selects the images and references of these entries, in the order of entries and tags. For each
/// tag the image comes before the references. Rows of failures stand in their place.
pub(crate) async fn select_images<'a>(
    registries: &Registries,
    config: &Config,
    entries: &[&'a Entry],
    observer: &dyn Observer,
) -> Result<Vec<SelectedItem<'a>>> {
    let mut sources: HashMap<&Host, ListableSource> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry_offline(entry).is_none()) {
        if !sources.contains_key(&entry.host) {
            sources.insert(&entry.host, registries.listable(config, &entry.host).await?);
        }
    }
    let mut selected = select_tags(&sources, entries, observer).await;
    let mut items = Vec::new();
    for (index, &entry) in entries.iter().enumerate() {
        if let Some(offline) = entry_offline(entry) {
            items.extend(offline);
            continue;
        }
        let tags = match (&entry.tags, selected.remove(&index)) {
            (Tags::Exact(tags), _) => Ok(tags.clone()),
            (_, selected) => selected.unwrap_or_else(|| Ok(Vec::new())),
        };
        match tags {
            Ok(tags) => {
                items.extend(resolve_tags(config, entry, &sources[&entry.host], &tags).await)
            }
            Err(error) => items.push(SelectedItem::Rows(failed(entry_rows(config, entry), &error))),
        }
    }
    Ok(settle_overlaps(config, items, observer))
}

/// The digest that a destination gets of an image that is pinned to one; `None` without a pin. Reads
/// the image's manifests if its filter changes the digest: these are pulls.
pub(crate) async fn pinned_digest(
    registries: &Registries,
    config: &Config,
    item: &MirrorItem<'_>,
) -> Result<Option<Digest>> {
    let Some(pin) = item.entry.pin() else { return Ok(None) };
    let mut image = [item.image.clone()];
    registries.replace_unknown_pins(&mut image).await;
    let [image] = &image;
    let pin = match &image.origin.at {
        TagOrDigest::Digest(digest) => digest,
        TagOrDigest::Tag(_) => pin,
    };
    if !item.changes_pin() {
        return Ok(Some(pin.clone()));
    }
    let source = Arc::new(registries.any_source(config, &image.origin.location).await?);
    let endpoint = SourceEndpoint::new(source);
    let context = Arc::clone(&registries.contexts.source);
    let digest = engine::pushed_digest(endpoint, image, pin, context).await;
    let digest =
        digest.map_err(|e| e.context(format!("cannot find the digest of {}", item.source())));
    digest.map(Some)
}

/// The items of these entries; `None` if one of them needs a request.
pub(crate) fn select_offline<'a>(
    config: &Config,
    entries: &[&'a Entry],
) -> Option<Vec<SelectedItem<'a>>> {
    let items: Option<Vec<Vec<_>>> = entries.iter().map(|entry| entry_offline(entry)).collect();
    // `check` has warned of the overlaps that are known without a request
    Some(settle_overlaps(config, items?.into_iter().flatten().collect(), &Silent))
}

fn entry_offline(entry: &Entry) -> Option<Vec<SelectedItem<'_>>> {
    let (pulls, images) = (entry.pulls()?, entry.images()?);
    // one per tag, or empty if the entry is cached only
    let mut images = images.into_iter();
    Some(pulls.into_iter().flat_map(|at| items(entry, at, images.next())).collect())
}

/// The items of one tag or digest.
fn items(entry: &Entry, at: TagOrDigest, image: Option<Image>) -> Vec<SelectedItem<'_>> {
    let cached = entry.cached.iter().map(|target| {
        let (source, at) = (entry.reference(&at), at.clone());
        SelectedItem::Cached(CacheItem { entry, source, target, at })
    });
    let mirrored = image.map(|image| MirrorItem { entry, at: at.clone(), image });
    mirrored.map(SelectedItem::Image).into_iter().chain(cached).collect()
}

/// The selected tags of each entry with a selection, by the entry's index.
async fn select_tags(
    sources: &HashMap<&Host, ListableSource>,
    entries: &[&Entry],
    observer: &dyn Observer,
) -> HashMap<usize, Result<Vec<Tag>>> {
    let now = SystemTime::now();
    let mut repositories: BTreeMap<(&Host, &Repository), Vec<(usize, Selector<'_>)>> =
        BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        if let Tags::Selected(selection) = &entry.tags {
            let selectors = repositories.entry((&entry.host, &entry.repository)).or_default();
            selectors.push((index, Selector::new(selection, now)));
        }
    }
    // boxed one by one: the compiler does not see through a closure over borrowed names
    let mut listings: Vec<BoxFuture<'_, _>> = Vec::new();
    for ((host, repository), selectors) in repositories {
        let listing = TagListing { host, repository, source: &sources[host] };
        let subject = listing.to_string();
        let select = async move {
            work_for(observer, subject, 0, listing.select(selectors, now, observer)).await
        };
        listings.push(select.boxed());
    }
    let selected: Vec<_> = stream::iter(listings).buffer_unordered(CONCURRENCY).collect().await;
    selected.into_iter().flatten().collect()
}

/// One repository whose tags are listed.
struct TagListing<'a> {
    host: &'a Host,
    repository: &'a Repository,
    source: &'a ListableSource,
}

impl TagListing<'_> {
    /// Lists the tags once and offers each to every selector.
    async fn select(
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
                            if let Some(reason) = selector.consider(listed) {
                                self.log_skipped(&listed.tag, &reason);
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
        let selected = selectors.into_iter().map(|(index, selector)| {
            let selection = selector.selection();
            let selected = selector.finish().map(|tags| self.accept(tags, selection, observer));
            (index, selected.map_err(|e| e.context(format!("cannot select tags of {self}"))))
        });
        selected.collect()
    }

    /// Logs the selection, and passes the digests of the listing on to the source.
    fn accept(
        &self,
        selected: SelectedTags,
        selection: &Selection,
        observer: &dyn Observer,
    ) -> Vec<Tag> {
        for tag in &selected.floating {
            self.log_skipped(tag, &SkippedTag::Floating);
        }
        for tag in &selected.surplus {
            self.log_skipped(tag, &SkippedTag::Surplus(selected.tags.len()));
        }
        if selected.without_time > 0 {
            let (count, host) = (selected.without_time, self.host);
            let text = format!("{count} tags are skipped: {host} does not report push times");
            let subject = self.to_string();
            observer.observe(&Event::Warning { subject, text, is_in_report: false });
        }
        let accept = |listed: Listed| {
            let reason = TagSelection(selection, &listed);
            tracing::info!("{self}:{} is selected: {reason}", listed.tag);
            if let Some(digest) = listed.digest {
                // the tag is mirrored next
                self.source.registry.remember(self.repository, listed.tag.clone(), digest);
            }
            listed.tag
        };
        selected.tags.into_iter().map(accept).collect()
    }

    fn log_skipped(&self, tag: &Tag, reason: &SkippedTag) {
        tracing::info!("{self}:{tag} is skipped: {reason}");
    }
}

impl fmt::Display for TagListing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)
    }
}

/// The items of these tags. A tag whose image cannot be resolved gets rows instead.
async fn resolve_tags<'a>(
    config: &Config,
    entry: &'a Entry,
    source: &ListableSource,
    tags: &[Tag],
) -> Vec<SelectedItem<'a>> {
    let mut all: Vec<BoxFuture<'_, Vec<SelectedItem<'a>>>> = Vec::new();
    for tag in tags {
        let at = TagOrDigest::Tag(tag.clone());
        let resolved = async move {
            if entry.mirrored.is_empty() {
                return items(entry, at, None);
            }
            match image(entry, source, tag).await {
                Ok(image) => items(entry, at, Some(image)),
                Err(error) => {
                    let source = entry.reference(&at);
                    let rows = mirrored_rows(config, entry);
                    let rows = rows.map(|row| Row { source: source.clone(), ..row }).collect();
                    let mut all = vec![SelectedItem::Rows(failed(rows, &error))];
                    all.extend(items(entry, at, None));
                    all
                }
            }
        };
        all.push(resolved.boxed());
    }
    stream::iter(all).buffered(CONCURRENCY).flat_map(stream::iter).collect().await
}

/// The image of a tag. It is pinned to its digest if `retag` puts the digest into the target's tag.
async fn image(entry: &Entry, source: &ListableSource, tag: &Tag) -> Result<Image> {
    let digest = match entry.retag.needs_digest() {
        true => Some(source.registry.resolve(&entry.repository, tag).await?),
        false => None,
    };
    entry.image(tag, digest.as_ref()).map_err(|wrong| {
        let error =
            Error::new(Kind::Configuration, format!("`{}` of `{tag}` {wrong}", entry.retag));
        wrong.hint.into_iter().fold(error, Error::hint)
    })
}

/// Leaves each image once, however often it is selected. Replaces images that would write the same tag
/// by rows with the error, unless the first one wins.
fn settle_overlaps<'a>(
    config: &Config,
    mut items: Vec<SelectedItem<'a>>,
    observer: &dyn Observer,
) -> Vec<SelectedItem<'a>> {
    let images = items.iter().filter_map(|item| match item {
        SelectedItem::Image(item) => Some((&item.image, item.entry.on_conflict)),
        SelectedItem::Cached(_) | SelectedItem::Rows(_) => None,
    });
    let images: Vec<_> = images.collect();
    let overlaps = between_listed(config, &images);
    let problems = overlaps.problems(config, &images);
    for overlap in &overlaps.yielded {
        let (first, later) = (&images[overlap.first].0.origin, images[overlap.later].0);
        let target = target_reference(config, &later.targets[overlap.target]);
        let text = format!("not mirrored to {target}: {first} is the first for this tag");
        observer.observe(&Event::Warning {
            subject: later.origin.to_string(),
            text,
            is_in_report: false,
        });
    }
    overlaps.remove_from(items.iter_mut().filter_map(|item| match item {
        SelectedItem::Image(item) => Some(&mut item.image),
        SelectedItem::Cached(_) | SelectedItem::Rows(_) => None,
    }));
    let mut warmed = HashSet::new();
    let mut index = 0;
    let check = |item| {
        let item = match item {
            SelectedItem::Image(item) => item,
            SelectedItem::Cached(item) => {
                let target = item.target;
                let key = (target.destination, target.repository.clone(), item.at.clone());
                return warmed.insert(key).then_some(SelectedItem::Cached(item));
            }
            rows @ SelectedItem::Rows(_) => return Some(rows),
        };
        index += 1;
        if let Some(problem) = problems.get(&(index - 1)) {
            let error = Error::new(Kind::Configuration, problem.clone()).hint(
                "give one of them another `repository` or `retag`, or write `on_conflict = \"first\"`",
            );
            let rows = image_rows(config, &item.image, &item.source());
            return Some(SelectedItem::Rows(failed(rows, &error)));
        }
        (!item.image.targets.is_empty()).then_some(SelectedItem::Image(item))
    };
    items.into_iter().filter_map(check).collect()
}

fn failed(rows: Vec<Row>, error: &Error) -> Vec<Row> {
    rows.into_iter().map(|row| row.with_error(Outcome::of(error), error)).collect()
}

/// One row for each target of the entry, without tags. For entries whose tags are not known.
pub(super) fn entry_rows(config: &Config, entry: &Entry) -> Vec<Row> {
    let row = |to: &CacheTarget| target_row(config, entry, to.destination, &to.repository);
    let cached = entry.cached.iter().map(row);
    mirrored_rows(config, entry).chain(cached).collect()
}

fn mirrored_rows(config: &Config, entry: &Entry) -> impl Iterator<Item = Row> {
    let targets = entry.mirrored.iter();
    targets.map(|target| target_row(config, entry, target.destination, &target.repository))
}

fn target_row(config: &Config, entry: &Entry, id: DestinationId, repository: &Repository) -> Row {
    let source = format!("{}/{}", entry.host, entry.repository);
    Row::new(&entry.name, source, config.destination(id).registry.repository(repository))
}

/// One row for each target of the image.
pub(crate) fn image_rows(config: &Config, image: &Image, source: &str) -> Vec<Row> {
    let row = |target: &Target| {
        let location = &config.destination(target.destination).registry;
        let at = TagOrDigest::Tag(target.tag.clone());
        let destination = location.reference(&target.repository, &at);
        Row::new(&image.name, source.to_owned(), destination)
    };
    image.targets.iter().map(row).collect()
}
