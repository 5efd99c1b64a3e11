//! Divides a configuration among shards, offline: every process computes the same assignment.
//!
//! A group is everything that shares a repository of a source or of a destination, so that no
//! repository is listed, created or pushed to by two shards. The heaviest group goes first, to the
//! shard with the least weight; ties are decided by name.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
};

use crate::{
    config::{AccountSettings, Config, DestinationConfig, Entry, Tags, Wildcard},
    model::{
        Digest, Host, Platforms, Result,
        outcome::{Report, ReportShard},
        shard::{Shard, ShardPulls},
        text::{count, grouped},
    },
};

/// The tags of a selection without `newest`.
const UNKNOWN_TAGS: u64 = 20;
/// The platforms of an image that is mirrored with all of them.
const ALL_PLATFORMS: u64 = 4;
/// The bytes that take as long as the requests of one more platform.
const BYTES_OF_A_PLATFORM: u64 = 4 << 20;

/// The input of an assignment, the same for every shard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Division<'a> {
    /// Divides the entries with these names or sources only.
    pub(crate) only: &'a [String],
    /// The sources with a `*`. Each is one group, however many repositories it lists.
    pub(crate) wildcards: &'a [Wildcard],
    /// Weighs by the bytes of this report.
    pub(crate) by: Option<&'a Report>,
    pub(crate) pulls: ShardPulls,
}

impl<'a> Division<'a> {
    /// The source with a `*` that the entry may come from, and its number.
    fn wildcard(&self, entry: &Entry) -> Option<(usize, &'a Wildcard)> {
        let mut wildcards = self.wildcards.iter().enumerate();
        wildcards.find(|(_, wildcard)| wildcard.covers(&entry.host, &entry.repository))
    }
}

/// The part of a configuration that one shard mirrors.
#[derive(Debug)]
pub(crate) struct ShardPart {
    /// For the report.
    pub(crate) shard: ReportShard,
    /// The part in words.
    pub(crate) description: String,
}

impl ShardPart {
    /// The configuration of this shard: its entries, and its shares of ECR's rates and of pull limits.
    /// Only the first shard has the settings of accounts.
    ///
    /// # Errors
    /// Those of [`Config::only`].
    pub(crate) fn of(
        config: Config,
        shard: Shard,
        division: Division<'_>,
    ) -> Result<(Config, Self)> {
        let entries: Vec<&Entry> = config.only(division.only)?;
        let groups = groups(&config, &entries, division);
        let shards = assign(groups, shard.of);
        let configuration = fingerprint(&config, &entries, division);
        let own = &shards[shard.index as usize - 1];
        let mut users = Users::default();
        for (index, assigned) in shards.iter().enumerate() {
            let theirs = assigned.entries().map(|at| entries[at]);
            theirs.for_each(|entry| users.add(&config, index, entry));
        }
        let description = describe(shard, own, &shards);
        let own: BTreeSet<usize> = own.entries().collect();
        let own = own.into_iter().map(|at| entries[at].clone()).collect();
        let destination = |to: &DestinationConfig| DestinationConfig {
            rates: to.rates.shared(users.of_destination(to)),
            account: match shard.index {
                1 => to.account.clone(),
                _ => AccountSettings::default(),
            },
            ..to.clone()
        };
        let destinations = config.destinations.iter().map(destination).collect();
        let pull_shares = match division.pulls {
            ShardPulls::Divided => users.of_sources(),
            ShardPulls::Own => BTreeMap::new(),
        };
        let shard = ReportShard { index: shard.index, of: shard.of.get(), configuration };
        let config = Config { entries: own, destinations, pull_shares, ..config };
        Ok((config, Self { shard, description }))
    }
}

/// Entries that no two shards may mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The first of its source repositories.
    name: String,
    weight: u64,
    /// Indexes, in order.
    entries: Vec<usize>,
}

/// The groups of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Assigned {
    groups: Vec<Group>,
    weight: u64,
}

impl Assigned {
    fn entries(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|group| group.entries.iter().copied())
    }
}

/// The shards that use each destination and each source.
#[derive(Debug, Default)]
struct Users {
    destinations: HashMap<String, BTreeSet<usize>>,
    sources: BTreeMap<Host, BTreeSet<usize>>,
}

impl Users {
    fn add(&mut self, config: &Config, shard: usize, entry: &Entry) {
        for (id, _) in repositories(entry) {
            let key = rates_key(&config.destinations[id]);
            self.destinations.entry(key).or_default().insert(shard);
        }
        self.sources.entry(entry.host.clone()).or_default().insert(shard);
    }

    fn of_destination(&self, to: &DestinationConfig) -> NonZeroU32 {
        number(self.destinations.get(&rates_key(to)))
    }

    fn of_sources(&self) -> BTreeMap<Host, NonZeroU32> {
        self.sources.iter().map(|(host, users)| (host.clone(), number(Some(users)))).collect()
    }
}

fn number(users: Option<&BTreeSet<usize>>) -> NonZeroU32 {
    let users = users.map_or(1, BTreeSet::len);
    u32::try_from(users).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// AWS counts requests by account and region.
fn rates_key(to: &DestinationConfig) -> String {
    match to.registry.ecr() {
        Some(ecr) => format!("{} {}", ecr.account(), ecr.region()),
        None => to.registry.to_string(),
    }
}

/// The destinations of the entry, by index, and its repositories there.
fn repositories(entry: &Entry) -> impl Iterator<Item = (usize, &str)> {
    let mirrored = entry.mirrored.iter().map(|to| (to.destination.0, to.repository.as_str()));
    let cached = entry.cached.iter().map(|to| (to.destination.0, to.repository.as_str()));
    mirrored.chain(cached)
}

/// The connected components of the entries over the repositories that they share.
fn groups(config: &Config, entries: &[&Entry], division: Division<'_>) -> Vec<Group> {
    let weights = weights(entries, division.by);
    let mut weighed = BTreeSet::new();
    let mut components = Components::default();
    let mut owners: HashMap<String, usize> = HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        components.add();
        let source = format!("from {}/{}", entry.host, entry.repository);
        let targets = repositories(entry).map(|(id, repository)| {
            format!("to {}/{repository}", config.destinations[id].registry)
        });
        let wildcard = division.wildcard(entry).map(|(number, _)| format!("wildcard {number}"));
        for key in targets.chain([source]).chain(wildcard) {
            components.join(at, *owners.entry(key).or_insert(at));
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        // the repositories of a source with a `*` change, its group does not
        let (name, weight) = match division.wildcard(entry) {
            Some((number, wildcard)) => {
                let weight = if weighed.insert(number) { wildcard.at_most().into() } else { 0 };
                (format!("{}/{}", wildcard.host, wildcard.namespace), weight)
            }
            None => (format!("{}/{}", entry.host, entry.repository), weights[at]),
        };
        let group = groups.entry(components.root(at)).or_insert_with(|| Group {
            name: name.clone(),
            weight: 0,
            entries: Vec::new(),
        });
        group.name = name.min(std::mem::take(&mut group.name));
        group.weight += weight;
        group.entries.push(at);
    }
    groups.into_values().collect()
}

/// Disjoint sets of numbers.
#[derive(Debug, Default)]
struct Components(Vec<usize>);

impl Components {
    fn add(&mut self) {
        self.0.push(self.0.len());
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.0[at] != at {
            self.0[at] = self.0[self.0[at]];
            at = self.0[at];
        }
        at
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }
}

/// The heaviest group first, each to the shard with the least weight.
fn assign(mut groups: Vec<Group>, shards: NonZeroU32) -> Vec<Assigned> {
    groups.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
    let mut all = vec![Assigned::default(); shards.get() as usize];
    for group in groups {
        // the first among equals
        let lightest = all.iter_mut().min_by_key(|shard| shard.weight);
        let lightest = lightest.expect("there is at least one shard");
        lightest.weight += group.weight;
        lightest.groups.push(group);
    }
    all
}

/// The weight of each entry: tags × platforms, or what the rows of a report moved.
fn weights(entries: &[&Entry], by: Option<&Report>) -> Vec<u64> {
    let estimated = |entry: &Entry| tags(entry) * platforms(entry);
    let Some(report) = by else {
        return entries.iter().map(|entry| estimated(entry)).collect();
    };
    let mut moved: HashMap<(&str, &str), u64> = HashMap::new();
    for row in &report.images {
        let platforms = row.platforms.len().max(1) as u64 * BYTES_OF_A_PLATFORM;
        let bytes = platforms.saturating_add(row.bytes_pushed.unwrap_or_default());
        let weight = moved.entry((&row.name, repository_of(&row.source))).or_default();
        *weight = weight.saturating_add(bytes);
    }
    let weight = |entry: &&Entry| {
        let source = format!("{}/{}", entry.host, entry.repository);
        let known = moved.get(&(entry.name.as_str(), source.as_str())).copied();
        known.unwrap_or_else(|| estimated(entry) * BYTES_OF_A_PLATFORM)
    };
    entries.iter().map(weight).collect()
}

/// The repository of a reference.
fn repository_of(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    let slash = name.rfind('/').unwrap_or(0);
    name[slash..].find(':').map_or(name, |colon| &name[..slash + colon])
}

fn tags(entry: &Entry) -> u64 {
    match &entry.tags {
        Tags::Exact(tags) => tags.len() as u64,
        Tags::Pinned { .. } => 1,
        Tags::Selected(selection) => selection.newest.map_or(UNKNOWN_TAGS, |it| it as u64),
    }
}

fn platforms(entry: &Entry) -> u64 {
    match &entry.filter.platforms {
        Platforms::Only(only) => only.len() as u64,
        Platforms::All => ALL_PLATFORMS,
    }
}

/// The digest of everything that decides the assignment and the images. Names no secret.
fn fingerprint(config: &Config, entries: &[&Entry], division: Division<'_>) -> Digest {
    let Division { wildcards, by, .. } = division;
    let entries: Vec<&Entry> =
        entries.iter().copied().filter(|it| division.wildcard(it).is_none()).collect();
    let destinations: Vec<String> = (config.destinations.iter())
        .map(|to| format!("{} {} {:?} {:?}", to.name, to.registry, to.rates, to.repositories))
        .collect();
    let weights = by.map(|report| weights(&entries, Some(report)));
    let text = format!("{entries:?} {wildcards:?} {destinations:?} {weights:?}");
    Digest::of(text.as_bytes())
}

/// Like `shard 2/8: 104 of 833 groups, weight 1,248 (mean 1,250, heaviest 1,252)`.
fn describe(shard: Shard, own: &Assigned, all: &[Assigned]) -> String {
    let groups = all.iter().map(|it| it.groups.len()).sum::<usize>();
    let weight = all.iter().map(|it| it.weight).sum::<u64>();
    let heaviest = all.iter().map(|it| it.weight).max().unwrap_or_default();
    format!(
        "shard {shard}: {} of {}, weight {} (mean {}, heaviest {})",
        grouped(own.groups.len() as u64),
        count(groups as u64, "group"),
        grouped(own.weight),
        grouped(weight / u64::from(shard.of.get())),
        grouped(heaviest)
    )
}

#[cfg(test)]
mod tests;
