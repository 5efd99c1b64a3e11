//! A small world made from a seed: registries, images, and where they are to go.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    content::{self, Root},
    fake_destination::FakeDestination,
    fault_injection::FaultInjection,
    rng::Rng,
    upstream::{FakeUpstream, ReadCounts},
};
use crate::{
    engine::{Endpoint, Endpoints, Mirror, Mode, Options, Shutdown, SourceEndpoint},
    model::{
        Attestations, DestinationId, Digest, Filter, Image, Location, Origin, Platforms,
        Repository, Shape, Tag, TagOrDigest, Target, event::Silent,
    },
    remote::{Mounting, Mutability, SideContexts},
};

/// Where a root is to be had.
type TargetName = (Location, Repository);

pub(crate) struct EngineFixture {
    pub(crate) images: Vec<Image>,
    pub(crate) upstreams: HashMap<Location, Arc<FakeUpstream>>,
    pub(crate) ends: Vec<Arc<Endpoint<FakeDestination>>>,
    /// Every image goes to every destination, and none is filtered.
    pub(crate) uniform: bool,
    pub(crate) sky: Arc<FaultInjection>,
    connections: usize,
    transfers: usize,
    stock: Vec<(TargetName, Vec<Root>)>,
}

impl EngineFixture {
    pub(crate) fn new(dice: &mut Rng) -> Self {
        let sky = Arc::new(FaultInjection::new(Rng::new(dice.next())));
        let transfers = dice.of(1..=5) as usize;
        // uploads that share a download move at one pace: each transfer must have its connection
        let connections = transfers + dice.of(0..=2) as usize;
        let stock = stock(dice);
        let mut world = Self {
            images: Vec::new(),
            upstreams: upstreams(dice, &stock, connections, &sky),
            ends: Vec::new(),
            uniform: dice.chance(400),
            sky,
            connections,
            transfers,
            stock,
        };
        for at in 0..dice.of(1..=3) {
            world.ends.push(world.end(dice, at));
        }
        // rarely more than may be under way at once
        let most = if dice.chance(100) { 14 } else { 8 };
        for at in 0..dice.of(1..=most) {
            let image = world.image(dice, at);
            world.images.push(image);
        }
        world
    }

    fn end(&self, dice: &mut Rng, at: u64) -> Arc<Endpoint<FakeDestination>> {
        let all = [Mounting::Never, Mounting::OnceUploaded, Mounting::OnceCommitted];
        let mounting = *dice.pick(if self.uniform { &all[1..] } else { &all });
        let mutability = match dice.chance(150) {
            true => Mutability::Immutable,
            false => Mutability::Mutable,
        };
        let destination =
            FakeDestination::new(mounting, mutability, self.connections, Arc::clone(&self.sky));
        let host = format!("harbour-{at}.example").parse().unwrap();
        Arc::new(Endpoint { location: Location::Registry(host), destination })
    }

    /// An image under a tag of its own, at the source or only at the destinations.
    fn image(&self, dice: &mut Rng, at: u64) -> Image {
        let ((host, repository), roots) = dice.pick(&self.stock);
        let root = dice.pick(roots);
        let tag: Tag =
            format!("t{}", if dice.chance(300) { dice.of(0..=at) } else { at }).parse().unwrap();
        let books = &self.upstreams[host].books;
        let mut books = books.lock();
        // the first image of a tag says what it points to
        let known = books.tags.entry((repository.clone(), tag.clone()));
        let digest = known.or_insert_with(|| root.manifest.digest().clone()).clone();
        let root = roots.iter().find(|root| *root.manifest.digest() == digest).unwrap();
        let pinned = dice.chance(150);
        let origin = Origin {
            location: host.clone(),
            repository: repository.clone(),
            at: if pinned { TagOrDigest::Digest(digest) } else { TagOrDigest::Tag(tag) },
        };
        let want = if self.uniform { Filter::default() } else { want(dice, root) };
        Image { name: format!("i{at}"), origin, targets: self.targets(dice, at), filter: want }
    }

    fn targets(&self, dice: &mut Rng, at: u64) -> Vec<Target> {
        let all: Vec<usize> = (0..self.ends.len()).collect();
        let chosen = if self.uniform { all } else { dice.some(&all) };
        let target = |id| Target {
            destination: DestinationId(id),
            repository: dice.pick(&["m/one", "m/one", "m/two", "n/three"]).parse().unwrap(),
            tag: format!("i{at}").parse().unwrap(),
        };
        chosen.into_iter().map(target).collect()
    }

    /// A run over this world, ready to go.
    pub(crate) fn mirror(
        &self,
        intent: Mode,
        shutdown: &Shutdown,
    ) -> Arc<Mirror<FakeUpstream, FakeDestination>> {
        let sources = self.upstreams.iter().map(|(host, up)| {
            (host.clone(), SourceEndpoint { source: Arc::clone(up), reserved_pulls: 0 })
        });
        let sides = Endpoints { sources: sources.collect(), destinations: self.ends.clone() };
        let options = Options { mode: intent, transfers: self.transfers };
        let (meters, silent) = (SideContexts::default(), Arc::new(Silent));
        Arc::new(Mirror::new(sides, &meters, options, silent, shutdown.clone()))
    }

    /// Lets some of the source's tags point elsewhere; those of filtered images stay.
    pub(crate) fn move_tags(&self, dice: &mut Rng) {
        let (stay, move_on): (Vec<&Image>, Vec<&Image>) =
            self.images.iter().partition(|image| !image.filter.is_everything());
        let stay: HashSet<&Origin> = stay.into_iter().map(|image| &image.origin).collect();
        for origin in move_on.into_iter().map(|image| &image.origin) {
            if stay.contains(origin) || dice.chance(600) {
                continue;
            }
            if let TagOrDigest::Tag(tag) = &origin.at {
                let place = (origin.location.clone(), origin.repository.clone());
                let roots = &self.stock.iter().find(|(at, _)| *at == place).unwrap().1;
                let digest = dice.pick(roots).manifest.digest().clone();
                let mut books = self.upstreams[&origin.location].books.lock();
                books.tags.insert((origin.repository.clone(), tag.clone()), digest);
            }
        }
    }

    /// Meters pulls, or lifts the limit.
    pub(crate) fn limit_pulls(&self, pulls: Option<u64>) {
        for upstream in self.upstreams.values() {
            upstream.books.lock().pulls = pulls;
        }
    }

    /// How often each blob was read since this was asked last.
    pub(crate) fn take_reads(&self) -> HashMap<Digest, u64> {
        let mut all = HashMap::new();
        for upstream in self.upstreams.values() {
            for (digest, reads) in std::mem::take(&mut upstream.books.lock().reads) {
                *all.entry(digest).or_default() += reads;
            }
        }
        all
    }

    /// The configurations, which a filter may have to read besides.
    pub(crate) fn configs(&self) -> HashSet<&Digest> {
        let roots = self.stock.iter().flat_map(|(_, roots)| roots);
        roots.flat_map(|root| &root.configs).map(|config| &config.digest).collect()
    }

    /// Whether nobody holds a connection any more.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |semaphore: &Semaphore| semaphore.available_permits() == self.connections;
        self.upstreams.values().all(|up| idle(&up.connections))
            && self.ends.iter().all(|end| idle(&end.destination.connections))
    }
}

/// One to three repositories on one or two hosts, each with some of the roots.
fn stock(dice: &mut Rng) -> Vec<(TargetName, Vec<Root>)> {
    let roots = content::roots(dice);
    let places = [("a.example", "app"), ("a.example", "lib/base"), ("b.example", "app")];
    let chosen = dice.some(&places);
    let shelf = |(host, repository): (&str, &str)| {
        ((host.parse().unwrap(), repository.parse().unwrap()), dice.some(&roots))
    };
    chosen.into_iter().map(shelf).collect()
}

fn upstreams(
    dice: &mut Rng,
    stock: &[(TargetName, Vec<Root>)],
    connections: usize,
    sky: &Arc<FaultInjection>,
) -> HashMap<Location, Arc<FakeUpstream>> {
    let mut upstreams: HashMap<Location, FakeUpstream> = HashMap::new();
    for ((host, repository), roots) in stock {
        let upstream = upstreams.entry(host.clone()).or_insert_with(|| FakeUpstream {
            shelves: HashMap::new(),
            books: Mutex::new(ReadCounts::default()),
            connections: Arc::new(Semaphore::new(connections)),
            lists: dice.chance(300),
            sky: Arc::clone(sky),
        });
        let shelf = upstream.shelves.entry(repository.clone()).or_default();
        roots.iter().for_each(|root| root.stock(shelf));
    }
    upstreams.into_iter().map(|(host, upstream)| (host, Arc::new(upstream))).collect()
}

/// A filter that leaves something of this root.
fn want(dice: &mut Rng, root: &Root) -> Filter {
    if dice.chance(400) {
        return Filter::default();
    }
    let platforms = match dice.chance(800) {
        true => Platforms::only(dice.some(&root.platforms)).unwrap(),
        false => Platforms::All,
    };
    let attestations = *dice.pick(&[Attestations::Keep, Attestations::Drop]);
    // flat is what exactly one image answers to
    let admitted = root.platforms.iter().filter(|platform| platforms.matches(platform)).count();
    let one = admitted == 1 && matches!(&platforms, Platforms::Only(wanted) if wanted.len() == 1);
    let flat = one && root.is_index() && dice.chance(400);
    let shape = if flat { Shape::Flat } else { Shape::Index };
    Filter { platforms, attestations, shape, ..Filter::default() }
}
