//! Plans 10,000 tags. Registries in memory answer at once, so only the engine is measured.

use std::{
    collections::{HashMap, HashSet},
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use criterion::Criterion;
use ecr_mirror::{
    engine::{Endpoint, Endpoints, Mirror, Mode, Options, Shutdown, SourceEndpoint, Summary},
    model::{
        Descriptor, DestinationId, Digest, Error, Image, Kind, Location, Origin, RawManifest,
        Repository, Result, Tag, TagOrDigest, Target, event::Silent, outcome::Outcome,
    },
    remote::{
        Body, ByteStream, Destination, Mount, Mounting, Mutability, Provision, PullLimits,
        SideContexts, Source, UploadSession,
    },
};

const TAGS: usize = 10_000;

/// A registry in memory.
struct Memory {
    tags: HashMap<Tag, Digest>,
    manifest: RawManifest,
}

/// The result of the methods that a plan never calls.
fn never_called<T: Send>() -> impl Future<Output = Result<T>> + Send {
    ready(Err(Error::new(Kind::Unsupported, "a plan moves nothing")))
}

impl Source for Memory {
    async fn digests(&self, _: &Repository, tags: &[Tag]) -> HashMap<Tag, Digest> {
        let found = |tag: &Tag| Some((tag.clone(), self.tags.get(tag)?.clone()));
        tags.iter().filter_map(found).collect()
    }

    async fn resolve(&self, _: &Repository, tag: &Tag) -> Result<Digest> {
        Ok(self.tags[tag].clone())
    }

    async fn manifest(&self, _: &Repository, _: &TagOrDigest) -> Result<RawManifest> {
        Ok(self.manifest.clone())
    }

    async fn referrers(&self, _: &Repository, _: &Digest) -> Result<Vec<Descriptor>> {
        Ok(Vec::new())
    }

    fn blob(
        &self,
        _: &Repository,
        _: &Descriptor,
        _: u64,
    ) -> impl Future<Output = Result<ByteStream>> + Send {
        never_called()
    }
}

impl PullLimits for Memory {}

impl Destination for Memory {
    async fn current_tags(
        &self,
        _: &Repository,
        tags: &[Tag],
    ) -> Result<Option<HashMap<Tag, Digest>>> {
        let found = |tag: &Tag| Some((tag.clone(), self.tags.get(tag)?.clone()));
        Ok(Some(tags.iter().filter_map(found).collect()))
    }

    async fn manifests(
        &self,
        _: &Repository,
        _: &[Digest],
    ) -> Result<HashMap<Digest, RawManifest>> {
        Ok(HashMap::new())
    }

    async fn missing_manifests(
        &self,
        _: &Repository,
        digests: &[Digest],
    ) -> Result<HashSet<Digest>> {
        Ok(digests.iter().cloned().collect())
    }

    async fn missing_blobs(&self, _: &Repository, blobs: &[Descriptor]) -> Result<HashSet<Digest>> {
        Ok(blobs.iter().map(|blob| blob.digest.clone()).collect())
    }

    fn mount(
        &self,
        _: &Repository,
        _: &Descriptor,
        _: &Repository,
    ) -> impl Future<Output = Result<Mount>> + Send {
        never_called()
    }

    fn open_upload(
        &self,
        _: &Repository,
        _: &Descriptor,
    ) -> impl Future<Output = Result<UploadSession>> + Send {
        never_called()
    }

    fn push_blob(
        &self,
        _: &Repository,
        _: &Descriptor,
        _: UploadSession,
        _: Body,
    ) -> impl Future<Output = Result<()>> + Send {
        never_called()
    }

    fn push_manifest(
        &self,
        _: &Repository,
        _: &RawManifest,
        _: Option<&Tag>,
    ) -> impl Future<Output = Result<()>> + Send {
        never_called()
    }
}

impl Provision for Memory {
    fn ensure(&self, _: &Repository) -> impl Future<Output = Result<()>> + Send {
        never_called()
    }

    async fn mutability(&self, _: &Repository, _: &Tag) -> Result<Mutability> {
        Ok(Mutability::Mutable)
    }

    async fn mounting(&self) -> Mounting {
        Mounting::OnceCommitted
    }
}

/// An image with one layer.
fn manifest() -> RawManifest {
    let descriptor =
        |of: &str| serde_json::json!({ "digest": Digest::of(of.as_bytes()), "size": 9 });
    let document =
        serde_json::json!({ "config": descriptor("config"), "layers": [descriptor("layer")] });
    RawManifest::new(Bytes::from(document.to_string()), None).expect("it is a manifest")
}

/// A registry whose tags all point to the image, except every `moved_every`th.
fn registry(moved_every: Option<usize>) -> Memory {
    let manifest = manifest();
    let digest = |at: usize| match moved_every {
        Some(every) if at.is_multiple_of(every) => Digest::of(b"something else"),
        _ => manifest.digest().clone(),
    };
    let tags = (0..TAGS).map(|at| (tag(at), digest(at))).collect();
    Memory { tags, manifest }
}

fn tag(at: usize) -> Tag {
    format!("1.{}.{}", at / 100, at % 100).parse().expect("it is a tag")
}

/// Plans all tags, spread over a hundred repositories.
async fn planned(destination: Memory) -> Summary {
    let location = |host: &str| Location::Registry(host.parse().expect("it is a host"));
    let image = |at: usize| {
        let repository: Repository = format!("team/app{}", at % 100).parse().expect("a name");
        let at = tag(at);
        Image {
            name: repository.as_str().into(),
            origin: Origin {
                location: location("source.example"),
                repository: repository.clone(),
                at: TagOrDigest::Tag(at.clone()),
            },
            targets: vec![Target { destination: DestinationId(0), repository, tag: at }],
            filter: Arc::default(),
        }
    };
    let endpoint = Endpoint { location: location("destination.example"), destination };
    let source = SourceEndpoint::new(Arc::new(registry(None)));
    let endpoints = Endpoints {
        sources: [(location("source.example"), source)].into(),
        destinations: vec![Arc::new(endpoint)],
    };
    let options = Options { mode: Mode::Plan, ..Options::default() };
    let mirror = Mirror::new(
        endpoints,
        &SideContexts::default(),
        options,
        Arc::new(Silent),
        Shutdown::default(),
    );
    Arc::new(mirror).run((0..TAGS).map(image).collect()).await
}

pub(crate) fn plan(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = criterion.benchmark_group("plan of 10,000 tags");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for (name, moved_every, expected) in [
        ("that are all up to date", None, 0),
        ("of which one in ten has moved", Some(10), TAGS / 10),
    ] {
        let summary = runtime.block_on(planned(registry(moved_every)));
        let moved = summary.rows.iter().filter(|row| row.outcome == Outcome::Planned).count();
        assert_eq!((summary.rows.len(), moved), (TAGS, expected), "{:?}", summary.rows[0]);
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(planned(registry(moved_every))));
        });
    }
    group.finish();
}
