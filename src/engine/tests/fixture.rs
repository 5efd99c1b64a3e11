//! A small random configuration: registries, images and their targets.

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
    upstream::{FakeUpstream, UpstreamState},
};
use crate::{
    engine::{Check, Endpoint, Endpoints, Mirror, Mode, Options, Shutdown, SourceEndpoint},
    model::{
        Attestations, DestinationId, Digest, Filter, Image, Location, Origin, Platforms,
        Repository, Shape, Tag, TagOrDigest, Target, event::Silent,
    },
    remote::{Mounting, Mutability, SideContexts},
};

type RepositoryName = (Location, Repository);

pub(crate) struct EngineFixture {
    pub(crate) images: Vec<Image>,
    pub(crate) upstreams: HashMap<Location, Arc<FakeUpstream>>,
    pub(crate) endpoints: Vec<Arc<Endpoint<FakeDestination>>>,
    /// Every image goes to every destination, and none is filtered.
    pub(crate) uniform: bool,
    pub(crate) reserved_pulls: u64,
    pub(crate) check: Check,
    pub(crate) faults: Arc<FaultInjection>,
    connections: usize,
    transfers: usize,
    repositories: Vec<(RepositoryName, Vec<Root>)>,
}

impl EngineFixture {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let faults = Arc::new(FaultInjection::new(Rng::new(rng.next())));
        let transfers = rng.range(1..=5) as usize;
        // uploads that share a download move at one pace: each transfer must have its connection
        let connections = transfers + rng.range(0..=2) as usize;
        let repositories = repositories(rng);
        let mut fixture = Self {
            images: Vec::new(),
            upstreams: upstreams(rng, &repositories, connections, &faults),
            endpoints: Vec::new(),
            uniform: rng.chance(400),
            reserved_pulls: 0,
            check: Check::Tags,
            faults,
            connections,
            transfers,
            repositories,
        };
        for at in 0..rng.range(1..=3) {
            fixture.endpoints.push(fixture.endpoint(rng, at));
        }
        // rarely more images than the limiter admits
        let most = if rng.chance(100) { 14 } else { 8 };
        for at in 0..rng.range(1..=most) {
            let image = fixture.image(rng, at);
            fixture.images.push(image);
        }
        fixture
    }

    fn endpoint(&self, rng: &mut Rng, at: u64) -> Arc<Endpoint<FakeDestination>> {
        let all = [Mounting::Never, Mounting::OnceUploaded, Mounting::OnceCommitted];
        let mounting = *rng.choose(if self.uniform { &all[1..] } else { &all });
        let mutability = match rng.chance(150) {
            true => Mutability::Immutable,
            false => Mutability::Mutable,
        };
        let destination =
            FakeDestination::new(mounting, mutability, self.connections, Arc::clone(&self.faults));
        let host = format!("destination-{at}.example").parse().unwrap();
        Arc::new(Endpoint { location: Location::Registry(host), destination })
    }

    /// An image with its own tag at the destinations, and sometimes at the source.
    fn image(&self, rng: &mut Rng, at: u64) -> Image {
        let ((host, repository), roots) = rng.choose(&self.repositories);
        let root = rng.choose(roots);
        let tag: Tag =
            format!("t{}", if rng.chance(300) { rng.range(0..=at) } else { at }).parse().unwrap();
        let mut state = self.upstreams[host].state.lock();
        // the first image of a tag determines its digest
        let entry = state.tags.entry((repository.clone(), tag.clone()));
        let digest = entry.or_insert_with(|| root.manifest.digest().clone()).clone();
        let root = roots.iter().find(|root| *root.manifest.digest() == digest).unwrap();
        let pinned = rng.chance(150);
        let origin = Origin {
            location: host.clone(),
            repository: repository.clone(),
            at: if pinned { TagOrDigest::Digest(digest) } else { TagOrDigest::Tag(tag) },
        };
        let filter = if self.uniform { Filter::default() } else { filter(rng, root) };
        Image {
            name: format!("i{at}").into(),
            origin,
            targets: self.targets(rng, at),
            filter: filter.into(),
        }
    }

    fn targets(&self, rng: &mut Rng, at: u64) -> Vec<Target> {
        let all: Vec<usize> = (0..self.endpoints.len()).collect();
        let chosen = if self.uniform { all } else { rng.subset(&all) };
        let target = |id| Target {
            destination: DestinationId(id),
            repository: rng.choose(&["m/one", "m/one", "m/two", "n/three"]).parse().unwrap(),
            tag: format!("i{at}").parse().unwrap(),
        };
        chosen.into_iter().map(target).collect()
    }

    pub(crate) fn mirror(
        &self,
        mode: Mode,
        shutdown: &Shutdown,
    ) -> Arc<Mirror<FakeUpstream, FakeDestination>> {
        let sources = self.upstreams.iter().map(|(host, upstream)| {
            let (source, reserved_pulls) = (Arc::clone(upstream), self.reserved_pulls);
            (host.clone(), SourceEndpoint { reserved_pulls, ..SourceEndpoint::new(source) })
        });
        let registries =
            Endpoints { sources: sources.collect(), destinations: self.endpoints.clone() };
        let (check, transfers) = (self.check, self.transfers);
        let options = Options { mode, check, transfers, ..Options::default() };
        let (contexts, observer) = (SideContexts::default(), Arc::new(Silent));
        Arc::new(Mirror::new(registries, &contexts, options, observer, shutdown.clone()))
    }

    /// Moves some of the source's tags, except those of filtered images.
    pub(crate) fn move_tags(&self, rng: &mut Rng) {
        let is_filtered = |image: &&Image| !image.filter.is_everything();
        let filtered = self.images.iter().filter(is_filtered).map(|image| &image.origin);
        let filtered: HashSet<&Origin> = filtered.collect();
        for origin in self.images.iter().map(|image| &image.origin) {
            if filtered.contains(origin) || rng.chance(600) {
                continue;
            }
            if let TagOrDigest::Tag(tag) = &origin.at {
                let name = (origin.location.clone(), origin.repository.clone());
                let roots = &self.repositories.iter().find(|(at, _)| *at == name).unwrap().1;
                let digest = rng.choose(roots).manifest.digest().clone();
                let mut state = self.upstreams[&origin.location].state.lock();
                state.tags.insert((origin.repository.clone(), tag.clone()), digest);
            }
        }
    }

    /// Limits the pulls, or lifts the limit.
    pub(crate) fn limit_pulls(&self, pulls: Option<u64>) {
        for upstream in self.upstreams.values() {
            upstream.state.lock().pulls = pulls;
        }
    }

    /// Starts a window of this many pulls, and returns the pulls spent in the last one.
    pub(crate) fn renew_pulls(&self, pulls: u64) -> u64 {
        let renew = |upstream: &Arc<FakeUpstream>| {
            let mut state = upstream.state.lock();
            (state.limit, state.pulls) = (pulls, Some(pulls));
            std::mem::take(&mut state.spent)
        };
        self.upstreams.values().map(renew).sum()
    }

    /// Makes the sources list the images of their indexes. Filters only images that the listing
    /// describes.
    pub(crate) fn list_images(&mut self) {
        for ((host, repository), roots) in &self.repositories {
            let listed: HashMap<_, _> = (roots.iter())
                .filter_map(|root| Some((root.manifest.digest().clone(), root.listed()?)))
                .collect();
            let mut state = self.upstreams[host].state.lock();
            for image in &mut self.images {
                if (&image.origin.location, &image.origin.repository) != (host, repository) {
                    continue;
                }
                let is_listed = match &image.origin.at {
                    TagOrDigest::Tag(tag) => {
                        let digest = &state.tags[&(repository.clone(), tag.clone())];
                        listed.contains_key(digest)
                    }
                    TagOrDigest::Digest(_) => false,
                };
                if !is_listed {
                    image.filter = Arc::default();
                }
            }
            state.listed.extend(listed);
        }
    }

    /// Reads per blob since the last call.
    pub(crate) fn take_reads(&self) -> HashMap<Digest, u64> {
        let mut all = HashMap::new();
        for upstream in self.upstreams.values() {
            for (digest, reads) in std::mem::take(&mut upstream.state.lock().reads) {
                *all.entry(digest).or_default() += reads;
            }
        }
        all
    }

    /// The configurations, which a filter may read.
    pub(crate) fn configs(&self) -> HashSet<&Digest> {
        let roots = self.repositories.iter().flat_map(|(_, roots)| roots);
        roots.flat_map(|root| &root.configs).map(|config| &config.digest).collect()
    }

    /// Returns `true` if every connection is free.
    pub(crate) fn is_idle(&self) -> bool {
        let idle = |semaphore: &Semaphore| semaphore.available_permits() == self.connections;
        self.upstreams.values().all(|upstream| idle(&upstream.connections))
            && self.endpoints.iter().all(|endpoint| idle(&endpoint.destination.connections))
    }
}

/// One to three repositories on one or two hosts, each with some of the roots.
fn repositories(rng: &mut Rng) -> Vec<(RepositoryName, Vec<Root>)> {
    let roots = content::roots(rng);
    let names = ["a.example/app", "a.example/lib/base", "b.example/app"];
    let chosen = rng.subset(&names);
    let content = |name: &str| {
        let (host, repository) = name.split_once('/').unwrap();
        ((host.parse().unwrap(), repository.parse().unwrap()), rng.subset(&roots))
    };
    chosen.into_iter().map(content).collect()
}

fn upstreams(
    rng: &mut Rng,
    repositories: &[(RepositoryName, Vec<Root>)],
    connections: usize,
    faults: &Arc<FaultInjection>,
) -> HashMap<Location, Arc<FakeUpstream>> {
    let mut upstreams: HashMap<Location, FakeUpstream> = HashMap::new();
    for ((host, repository), roots) in repositories {
        let upstream = upstreams.entry(host.clone()).or_insert_with(|| FakeUpstream {
            repositories: HashMap::new(),
            state: Mutex::new(UpstreamState { limit: 100, ..UpstreamState::default() }),
            connections: Arc::new(Semaphore::new(connections)),
            lists_digests: rng.chance(300),
            faults: Arc::clone(faults),
        });
        let content = upstream.repositories.entry(repository.clone()).or_default();
        roots.iter().for_each(|root| root.add_to(content));
    }
    upstreams.into_iter().map(|(host, upstream)| (host, Arc::new(upstream))).collect()
}

/// A filter that keeps at least one image of this root.
fn filter(rng: &mut Rng, root: &Root) -> Filter {
    if rng.chance(400) {
        return Filter::default();
    }
    let platforms = match rng.chance(800) {
        true => Platforms::only(rng.subset(&root.platforms)).unwrap(),
        false => Platforms::All,
    };
    let attestations = *rng.choose(&[Attestations::Keep, Attestations::Drop]);
    // only a filter that matches exactly one image can flatten
    let matching = root.platforms.iter().filter(|platform| platforms.matches(platform)).count();
    let is_single = matching == 1 && matches!(&platforms, Platforms::Only(only) if only.len() == 1);
    let is_flat = is_single && root.is_index() && rng.chance(400);
    let shape = if is_flat { Shape::Flat } else { Shape::Index };
    Filter { platforms, attestations, shape, ..Filter::default() }
}
