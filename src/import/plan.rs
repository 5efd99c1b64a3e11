//! Turns wishes into the tables of a configuration: destinations, naming rules, defaults and images.
//!
//! Pure. Images of one repository that differ only in their tags become one entry.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{
    naming::{self, Pair, Rules},
    wish::{EntryKeys, Findings, TagWish, Wish, list, string},
};
use crate::{
    config::edit::{Additions, ImageEntry, KnownFile, SELECT},
    model::{EcrHost, Host, Location, Repository, Tag},
};

/// Keys that move to `[defaults]` if all images have them in common.
const COMMON: [&str; 5] = ["platforms", "flatten", "signatures", "foreign_layers", "retag"];

/// The destination that is written if the inputs name none.
const PLACEHOLDER: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// The images of one repository with the same keys.
#[derive(Debug)]
struct PlannedEntry {
    host: Host,
    repository: Repository,
    tags: Vec<TagWish>,
    /// With those of [`SELECT`].
    keys: EntryKeys,
}

/// A destination and the naming rules of its images.
struct Place {
    host: Host,
    /// For `destinations`.
    name: String,
    rules: Rules,
}

/// The tables to add to a file, and the problems that a person must solve.
pub(super) fn additions(found: Findings, file: &KnownFile) -> (Additions, Vec<String>) {
    let Findings { wishes, registries, notes } = found;
    let mut problems = Vec::new();
    let places = places(&wishes, file, &mut problems);
    let mut entries = entries(wishes, &places, file);
    entries
        .sort_by(|one, other| (&one.host, &one.repository).cmp(&(&other.host, &other.repository)));
    let mut additions = Additions { comments: notes.all(), ..Additions::default() };
    if file.destinations.is_empty() {
        additions.defaults = common(&mut entries);
        add_destinations(&places, &mut additions, &mut problems);
    }
    let used: BTreeSet<&Host> =
        entries.iter().map(|it| &it.host).chain(places.iter().map(|it| &it.host)).collect();
    for (host, keys) in registries.iter().filter(|(host, _)| used.contains(host)) {
        additions.registries.insert(host.clone(), keys.clone());
    }
    for (host, template) in places.iter().flat_map(|place| &place.rules.registries) {
        let keys = additions.registries.entry(host.clone()).or_default();
        keys.insert("repository", string(template));
    }
    additions.images = entries.into_iter().map(PlannedEntry::written).collect();
    additions.comments.extend(problems.iter().cloned());
    let mut open = notes.open();
    open.extend(problems);
    (additions, open)
}

/// The destinations of the wishes with the rules that name their images.
fn places(wishes: &[Wish], file: &KnownFile, problems: &mut Vec<String>) -> Vec<Place> {
    let mut pairs: BTreeMap<&Host, BTreeSet<Pair>> = BTreeMap::new();
    for wish in wishes {
        if let Some(target) = &wish.target {
            let (host, repository) = (wish.host.clone(), wish.repository.clone());
            let pair = Pair { host, repository, target: target.clone() };
            pairs.entry(&target.host).or_default().insert(pair);
        }
    }
    let per_registry = pairs.len() == 1 && file.destinations.is_empty();
    let mut place = |host: &Host, pairs: &BTreeSet<Pair>| {
        let rules = naming::find(pairs, per_registry);
        let Some(known) = file.destinations.iter().find(|it| it.registry == host.as_str()) else {
            if !file.destinations.is_empty() {
                problems.push(format!(
                    "`{host}` is not a destination of the file: its images go to those of the file"
                ));
            }
            return Place { host: host.clone(), name: host.to_string(), rules };
        };
        // no template is `""`: every name is written out
        let template = file.has_rules.then(String::new);
        let prefix = known.prefix.clone();
        let rules = Rules { prefix, template, registries: BTreeMap::new() };
        let is_outside = |pair: &&Pair| {
            naming::path_below(pair.target.repository.as_str(), &rules.prefix).is_none()
        };
        if let Some(pair) = pairs.iter().find(is_outside) {
            problems.push(format!(
                "`{}` is not below the prefix `{}` of the destination: it is put there",
                pair.target.repository, rules.prefix
            ));
        }
        Place { host: host.clone(), name: known.name.clone(), rules }
    };
    pairs.iter().map(|(host, pairs)| place(host, pairs)).collect()
}

fn entries(wishes: Vec<Wish>, places: &[Place], file: &KnownFile) -> Vec<PlannedEntry> {
    // images without a target go to every destination
    let mut order: Vec<(PlannedEntry, BTreeSet<usize>)> = Vec::new();
    let mut known: HashMap<(Host, Repository, EntryKeys), Vec<usize>> = HashMap::new();
    for wish in wishes {
        let place = wish
            .target
            .as_ref()
            .and_then(|target| places.iter().position(|place| place.host == target.host));
        for entry in split(wish, place.map(|at| &places[at])) {
            let key = (entry.host.clone(), entry.repository.clone(), entry.keys.clone());
            let same = known.entry(key).or_default();
            let equal = same.iter().find(|at| order[**at].0.tags == entry.tags).copied();
            match (equal, place) {
                (Some(at), Some(place)) => drop(order[at].1.insert(place)),
                (Some(_), None) => {}
                (None, place) => {
                    same.push(order.len());
                    order.push((entry, place.into_iter().collect()));
                }
            }
        }
    }
    let is_known =
        |place: &Place| file.destinations.iter().any(|it| it.registry == place.host.as_str());
    let all = match file.destinations.len() {
        0 => places.len(),
        count if places.iter().all(is_known) => count,
        // the images of other destinations go to all of the file
        _ => 0,
    };
    let mut merged = MergedEntries::default();
    for (mut entry, of) in order {
        if !of.is_empty() && of.len() < all {
            let names: Vec<&str> = of.iter().map(|at| places[*at].name.as_str()).collect();
            entry.keys.insert("destinations", list(&names));
        }
        merged.add(entry);
    }
    merged.entries
}

/// One entry for each `retag` of the wish, with the name that the rules do not result in.
fn split(wish: Wish, place: Option<&Place>) -> Vec<PlannedEntry> {
    let Wish { host, repository, tags, target, mut keys } = wish;
    if let (Some(place), Some(target)) = (place, target) {
        let pair = Pair { host: host.clone(), repository: repository.clone(), target };
        if let Some(name) = place.rules.exception(&pair) {
            keys.insert("repository", string(&name));
        }
    }
    let entry = |keys, tags| PlannedEntry {
        host: host.clone(),
        repository: repository.clone(),
        tags,
        keys,
    };
    if tags.is_empty() {
        let selects = keys.keys().any(|key| SELECT.contains(key));
        return if selects { vec![entry(keys, tags)] } else { Vec::new() };
    }
    let mut by_template: Vec<(Option<String>, Vec<TagWish>)> = Vec::new();
    for mut tag in tags {
        let template = tag.renamed.take().map(|renamed| retag(&tag.tag, &renamed));
        match by_template.iter_mut().find(|(known, _)| *known == template) {
            Some((_, tags)) => tags.push(tag),
            None => by_template.push((template, vec![tag])),
        }
    }
    let entries = by_template.into_iter().map(|(template, tags)| {
        let template = template.map(|template| ("retag", string(&template)));
        entry(keys.clone().into_iter().chain(template).collect(), tags)
    });
    entries.collect()
}

/// The template that turns a tag into another one: `{tag}` with a prefix and a suffix, else the tag.
fn retag(tag: &Tag, renamed: &Tag) -> String {
    match renamed.as_str().split_once(tag.as_str()) {
        // a number in a longer one is a coincidence
        Some((before, after))
            if !before.ends_with(|c: char| c.is_ascii_alphanumeric() && c != 'v')
                && !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') =>
        {
            format!("{before}{{tag}}{after}")
        }
        _ => renamed.to_string(),
    }
}

/// Entries whose tags are joined.
#[derive(Default)]
struct MergedEntries {
    entries: Vec<PlannedEntry>,
    /// The entries of a repository with the same keys, those that select tags aside.
    groups: HashMap<(Host, Repository, EntryKeys), Vec<usize>>,
}

impl MergedEntries {
    fn add(&mut self, entry: PlannedEntry) {
        let is_select = |key: &&'static str| SELECT.contains(key);
        let select = |keys: &EntryKeys| -> EntryKeys {
            keys.iter().filter(|(key, _)| is_select(key)).map(|(k, v)| (*k, v.clone())).collect()
        };
        let selected = select(&entry.keys);
        let mut others = entry.keys.clone();
        others.retain(|key, _| !is_select(key));
        let key = (entry.host.clone(), entry.repository.clone(), others);
        let group = self.groups.entry(key).or_default();
        let fits = |at: &&usize| {
            let known = select(&self.entries[**at].keys);
            selected.is_empty() || known.is_empty() || known == selected
        };
        let Some(at) = group.iter().find(fits).copied() else {
            group.push(self.entries.len());
            self.entries.push(entry);
            return;
        };
        let known = &mut self.entries[at];
        known.keys.extend(selected);
        for new in entry.tags {
            match known.tags.iter_mut().find(|tag| tag.tag == new.tag) {
                // the later line wins, as in the tools
                Some(tag) => *tag = new,
                None => known.tags.push(new),
            }
        }
    }
}

/// Takes the keys out that all entries have in common.
fn common(entries: &mut [PlannedEntry]) -> EntryKeys {
    let mut common = EntryKeys::new();
    for key in COMMON {
        let value = entries.first().and_then(|entry| entry.keys.get(key)).cloned();
        let is_shared =
            entries.len() > 1 && entries.iter().all(|it| it.keys.get(key) == value.as_ref());
        if let (Some(value), true) = (value, is_shared) {
            entries.iter_mut().for_each(|entry| drop(entry.keys.remove(key)));
            common.insert(key, value);
        }
    }
    common
}

fn add_destinations(places: &[Place], additions: &mut Additions, problems: &mut Vec<String>) {
    for place in places {
        let mut keys = EntryKeys::from([("registry", string(place.host.as_str()))]);
        if !place.rules.prefix.is_empty() {
            keys.insert("prefix", string(&place.rules.prefix));
        }
        if let Some(template) = &place.rules.template {
            keys.insert("repository", string(template));
        }
        if let Err(error) = Location::Registry(place.host.clone()).check_destination() {
            problems.push(format!("the destination `{}` {error}", place.host));
        } else if EcrHost::parse(&place.host).is_none() {
            additions.comments.push(format!(
                "`{}` is not ECR: replace it if the images shall go to ECR",
                place.host
            ));
        }
        additions.destinations.push(keys);
    }
    if places.is_empty() {
        problems.push("the input names no destination: replace the `registry` below".to_owned());
        additions.destinations.push(EntryKeys::from([("registry", string(PLACEHOLDER))]));
    }
}

impl PlannedEntry {
    fn written(self) -> ImageEntry {
        let text = |wish: TagWish| match wish.digest {
            Some(digest) => format!("{}@{digest}", wish.tag),
            None => wish.tag.to_string(),
        };
        let Self { host, repository, tags, keys } = self;
        ImageEntry { host, repository, tags: tags.into_iter().map(text).collect(), keys }
    }
}
