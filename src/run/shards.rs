//! Divides a configuration among shards, offline: every process computes the same assignment.
//!
//! A group is everything that shares a repository of a source or of a destination, so that no
//! repository is listed, created or pushed to by two shards. The heaviest group goes first, to the
//! shard with the least weight; ties are decided by name. Everything that a source with a `*` lists is
//! one group: only its shard lists it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU32,
};

use crate::{
    config::{
        AccountSettings, Config, DestinationConfig, Entry, NameFilter, Tags, Wildcard, can_be_equal,
    },
    model::{
        DestinationId, Digest, Host, Platforms, Repository, Result,
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
    /// Weighs by the bytes of this report.
    pub(crate) by: Option<&'a Report>,
    pub(crate) pulls: ShardPulls,
}

/// Something that one shard mirrors.
#[derive(Debug, Clone, Copy)]
enum ShardItem<'a> {
    Entry(&'a Entry),
    /// Every repository that the source lists.
    Wildcard(&'a Wildcard),
}

impl<'a> ShardItem<'a> {
    /// The items that the division is about.
    fn all(config: &'a Config, division: Division<'_>) -> Result<Vec<Self>> {
        let entries = config.only(division.only)?.into_iter().map(Self::Entry);
        let wildcards = config.only_wildcards(division.only).into_iter().map(Self::Wildcard);
        Ok(entries.chain(wildcards).collect())
    }

    fn host(self) -> &'a Host {
        match self {
            Self::Entry(entry) => &entry.host,
            Self::Wildcard(wildcard) => &wildcard.host,
        }
    }

    /// The source repository, with `*` for any text.
    fn source(self) -> String {
        match self {
            Self::Entry(entry) => format!("{}/{}", entry.host, entry.repository),
            Self::Wildcard(wildcard) => wildcard.full_source(),
        }
    }

    /// The destinations and the repositories there, with `*` for any text.
    fn targets(self) -> Vec<(DestinationId, String)> {
        match self {
            Self::Entry(entry) => entry.targets().map(|(id, it)| (id, it.to_string())).collect(),
            Self::Wildcard(wildcard) => wildcard.targets().collect(),
        }
    }
}

/// The part of a configuration that one shard mirrors.
#[derive(Debug)]
pub(crate) struct ShardPart {
    /// For the report.
    pub(crate) shard: ReportShard,
    /// The part in words.
    pub(crate) description: String,
    filter: NameFilter,
    /// The names and patterns that only its sources with a `*` can match.
    unlisted: Vec<String>,
    /// The source repositories of its entries.
    sources: BTreeSet<(Host, Repository)>,
    /// The sources with a `*` that it lists.
    wildcards: Vec<Wildcard>,
    /// The shards that use each destination.
    rate_shares: Vec<NonZeroU32>,
    /// The shards that use each source with a pull limit.
    pull_shares: BTreeMap<Host, NonZeroU32>,
}

impl ShardPart {
    /// The part of this shard. Sends no request.
    ///
    /// # Errors
    /// Those of [`Config::only`].
    pub(crate) fn of(config: &Config, shard: Shard, division: Division<'_>) -> Result<Self> {
        let items = ShardItem::all(config, division)?;
        let shards = assign(groups(config, &items, division.by), shard.of);
        let configuration = fingerprint(config, &items, division.by);
        let own = &shards[shard.index as usize - 1];
        let mut users = Users::default();
        for (index, assigned) in shards.iter().enumerate() {
            assigned.items().for_each(|at| users.add(config, index, items[at]));
        }
        let description = describe(shard, own, &shards);
        let (mut sources, mut wildcards) = (BTreeSet::new(), BTreeMap::new());
        for at in own.items() {
            match items[at] {
                ShardItem::Entry(entry) => {
                    sources.insert((entry.host.clone(), entry.repository.clone()));
                }
                ShardItem::Wildcard(wildcard) => {
                    wildcards.insert(at, wildcard.clone());
                }
            }
        }
        let own_wildcards: BTreeSet<usize> = wildcards.keys().copied().collect();
        let mut unlisted = Vec::new();
        for pattern in division.only {
            let filter = NameFilter::new(std::slice::from_ref(pattern))?;
            let others = (0..).zip(&items).filter(|(at, _)| !own_wildcards.contains(at));
            let mut others = others.map(|(_, item)| match item {
                ShardItem::Entry(entry) => filter.accepts(entry),
                ShardItem::Wildcard(wildcard) => wildcard.can_be_named(pattern),
            });
            if !others.any(|is_match| is_match) {
                unlisted.push(pattern.clone());
            }
        }
        let destinations = config.destinations.iter();
        Ok(Self {
            shard: ReportShard { index: shard.index, of: shard.of.get(), configuration },
            description,
            filter: NameFilter::new(division.only)?,
            unlisted,
            sources,
            wildcards: wildcards.into_values().collect(),
            rate_shares: destinations.map(|to| users.of_destination(to)).collect(),
            pull_shares: match division.pulls {
                ShardPulls::Divided => users.of_sources(),
                ShardPulls::Own => BTreeMap::new(),
            },
        })
    }

    /// The configuration without the sources with a `*` of other shards.
    pub(crate) fn without_other_wildcards(&self, config: Config) -> Config {
        Config { wildcards: self.wildcards.clone(), ..config }
    }

    /// The configuration of this shard: its entries, and its shares of ECR's rates and of pull limits.
    /// Only the first shard has the settings of accounts. The configuration has the entries of this
    /// shard's sources with a `*`.
    ///
    /// # Errors
    /// Those of [`Config::only`], for a pattern that only this shard can match.
    pub(crate) fn of_expanded(&self, config: Config) -> Result<Config> {
        config.only(&self.unlisted)?;
        let Config { mut entries, destinations, .. } = config;
        // everything of one source repository is in one group
        entries.retain(|entry| {
            let key = (entry.host.clone(), entry.repository.clone());
            let covers = |it: &Wildcard| it.covers(&entry.host, &entry.repository);
            let is_own = self.sources.contains(&key) || self.wildcards.iter().any(covers);
            is_own && self.filter.accepts(entry)
        });
        let destinations = destinations.into_iter().zip(&self.rate_shares);
        let destinations = destinations.map(|(to, shares)| DestinationConfig {
            rates: to.rates.shared(*shares),
            account: match self.shard.index {
                1 => to.account,
                _ => AccountSettings::default(),
            },
            ..to
        });
        Ok(Config {
            entries,
            destinations: destinations.collect(),
            pull_shares: self.pull_shares.clone(),
            wildcards: Vec::new(),
            ..config
        })
    }
}

/// Items that no two shards may mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    /// The first of its source repositories.
    name: String,
    weight: u64,
    /// Indexes, in order.
    items: Vec<usize>,
}

/// The groups of one shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Assigned {
    groups: Vec<Group>,
    weight: u64,
}

impl Assigned {
    fn items(&self) -> impl Iterator<Item = usize> {
        self.groups.iter().flat_map(|group| group.items.iter().copied())
    }
}

/// The shards that use each destination and each source.
#[derive(Debug, Default)]
struct Users {
    destinations: HashMap<String, BTreeSet<usize>>,
    sources: BTreeMap<Host, BTreeSet<usize>>,
}

impl Users {
    fn add(&mut self, config: &Config, shard: usize, item: ShardItem<'_>) {
        for (id, _) in item.targets() {
            let key = rates_key(config.destination(id));
            self.destinations.entry(key).or_default().insert(shard);
        }
        self.sources.entry(item.host().clone()).or_default().insert(shard);
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

/// The connected components of the items over the repositories that they share.
fn groups(config: &Config, items: &[ShardItem<'_>], by: Option<&Report>) -> Vec<Group> {
    let weights = weights(items, by);
    let mut components = Components::default();
    // the first item with each name, and the names with a `*`
    let mut owners: HashMap<String, usize> = HashMap::new();
    let mut patterns: Vec<(String, usize)> = Vec::new();
    for (at, item) in items.iter().enumerate() {
        components.add();
        let mut names = vec![format!("from {}", item.source())];
        names.extend(item.targets().into_iter().map(|(id, repository)| {
            format!("to {}/{repository}", config.destination(id).registry)
        }));
        for name in names {
            match item {
                ShardItem::Entry(_) => components.join(at, *owners.entry(name).or_insert(at)),
                ShardItem::Wildcard(_) => patterns.push((name, at)),
            }
        }
    }
    for (index, (pattern, at)) in patterns.iter().enumerate() {
        let names = owners.iter().chain(patterns[..index].iter().map(|(name, at)| (name, at)));
        let shared = names.filter(|(name, _)| can_be_equal(pattern, name));
        shared.for_each(|(_, owner)| components.join(*at, *owner));
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        let name = item.source();
        let group = groups.entry(components.root(at)).or_insert_with(|| Group {
            name: name.clone(),
            weight: 0,
            items: Vec::new(),
        });
        group.name = name.min(std::mem::take(&mut group.name));
        group.weight += weights[at];
        group.items.push(at);
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

/// The weight of each item: tags × platforms, or what the rows of a report moved. Of a source with a `*`:
/// the most repositories that it may list.
fn weights(items: &[ShardItem<'_>], by: Option<&Report>) -> Vec<u64> {
    let estimated = |item: &ShardItem<'_>| match item {
        ShardItem::Entry(entry) => tags(entry) * platforms(entry),
        ShardItem::Wildcard(wildcard) => wildcard.at_most().into(),
    };
    let Some(report) = by else { return items.iter().map(estimated).collect() };
    let mut moved: HashMap<(&str, &str), u64> = HashMap::new();
    for row in &report.images {
        let platforms = row.platforms.len().max(1) as u64 * BYTES_OF_A_PLATFORM;
        let bytes = platforms.saturating_add(row.bytes_pushed.unwrap_or_default());
        let weight = moved.entry((&row.name, repository_of(&row.source))).or_default();
        *weight = weight.saturating_add(bytes);
    }
    let weight = |item: &ShardItem<'_>| {
        let source = item.source();
        let known = match item {
            ShardItem::Entry(entry) => moved.get(&(&*entry.name, source.as_str())).copied(),
            ShardItem::Wildcard(_) => {
                let listed = moved.iter().filter(|((_, listed), _)| can_be_equal(&source, listed));
                listed.map(|(_, weight)| *weight).reduce(u64::saturating_add)
            }
        };
        known.unwrap_or_else(|| estimated(item) * BYTES_OF_A_PLATFORM)
    };
    items.iter().map(weight).collect()
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
fn fingerprint(config: &Config, items: &[ShardItem<'_>], by: Option<&Report>) -> Digest {
    let destinations: Vec<String> = (config.destinations.iter())
        .map(|to| format!("{} {} {:?} {:?}", to.name, to.registry, to.rates, to.repositories))
        .collect();
    let weights = by.map(|report| weights(items, Some(report)));
    let text = format!("{items:?} {destinations:?} {weights:?}");
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
