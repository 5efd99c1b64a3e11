//! Layouts as source and destination, layouts of other tools, and broken directories.

mod existing;
mod hostile;
mod referrers;
mod round_trips;
mod writes;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use tempfile::TempDir;

use super::*;
use crate::{
    engine::{Endpoint, Endpoints, Mirror, Options, Shutdown, SourceEndpoint, Summary},
    model::{
        Descriptor, DestinationId, Filter, Image, Manifest, Origin, Reference, Repository, Tag,
        TagOrDigest, Target, event::Silent,
    },
    registry::{ConnectionSettings, Credentials, Network, Registry, Transport},
    remote::{
        Destination, Provision, SideContexts, Source,
        body::verified,
        conformance_tests::{DigestCheck, check_destination, check_source},
    },
    sandbox::{self, Sandbox},
};

/// Upstreams, an ordinary registry, and a directory for layouts.
struct LayoutFixture {
    upstream: Sandbox,
    plain: Sandbox,
    /// To the ordinary registry, and to the upstreams.
    transports: [Transport; 2],
    place: TempDir,
}

impl LayoutFixture {
    async fn new() -> Self {
        let start = |mode| {
            let options = sandbox::Options { mode, ..sandbox::Options::default() };
            async { Sandbox::start(options).await.unwrap() }
        };
        let upstream = start(sandbox::Mode::Cloud).await;
        let reaches = [Network::Direct, Network::Sandbox(upstream.address())];
        Self {
            upstream,
            plain: start(sandbox::Mode::Plain).await,
            transports: reaches.map(Transport::new),
            place: tempfile::tempdir().unwrap(),
        }
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("layout")
    }

    fn layout(&self, naming: Naming) -> Location {
        Location::Layout { directory: self.directory(), naming }
    }

    /// A repository of the ordinary registry.
    fn plain(&self) -> Location {
        Location::Registry(self.plain.address().to_string().parse().unwrap())
    }

    fn registry(&self, location: &Location, context: &Arc<HostContext>) -> Registry {
        let host = location.host().unwrap().clone();
        let [direct, upstream] = &self.transports;
        let transport = if host.is_loopback() { direct } else { upstream };
        let settings = ConnectionSettings {
            credentials: Credentials::Anonymous,
            ..ConnectionSettings::default()
        };
        Registry::new(host, settings, transport, Arc::clone(context)).unwrap()
    }

    /// Copies one image; either end may be a registry or a layout.
    async fn copy(&self, from: Origin, to: (Location, &str), filter: &Filter) -> CopyResult {
        let contexts = SideContexts::default();
        match (&from.location, &to.0) {
            (Location::Registry(_), Location::Registry(_)) => {
                let source = self.registry(&from.location, &contexts.source);
                let destination = self.registry(&to.0, &contexts.destination);
                run(source, destination, contexts, image(from, to, filter)).await
            }
            (Location::Registry(_), Location::Layout { directory, naming }) => {
                let source = self.registry(&from.location, &contexts.source);
                let context = Arc::clone(&contexts.destination);
                let destination = Layout::new(directory, *naming, context);
                run(source, destination, contexts, image(from, to, filter)).await
            }
            (Location::Layout { directory, naming }, Location::Registry(_)) => {
                let source = Layout::new(directory, *naming, Arc::clone(&contexts.source));
                let destination = self.registry(&to.0, &contexts.destination);
                run(source, destination, contexts, image(from, to, filter)).await
            }
            (Location::Layout { .. }, Location::Layout { .. }) => panic!("not tried here"),
        }
    }

    /// Every manifest and blob of an image, by digest; each verified.
    async fn tree<S: Source>(source: S, at: &str) -> BTreeMap<Digest, Vec<u8>> {
        let (repository, tag) = at.rsplit_once(':').unwrap();
        let repository: Repository = repository.parse().unwrap();
        let root = source.resolve(&repository, &tag.parse().unwrap()).await.unwrap();
        let (source, context) = (Arc::new(source), Arc::new(HostContext::default()));
        let (mut found, mut left) = (BTreeMap::new(), vec![root]);
        while let Some(digest) = left.pop() {
            let at = TagOrDigest::Digest(digest.clone());
            let manifest = source.manifest(&repository, &at).await.unwrap();
            match manifest.read().unwrap() {
                Manifest::Index(index) => {
                    left.extend(index.manifests.into_iter().map(|entry| entry.digest));
                }
                Manifest::Image(image) => {
                    for blob in image.blobs() {
                        let body = verified(
                            Arc::clone(&source),
                            repository.clone(),
                            blob.clone(),
                            Arc::clone(&context),
                        );
                        found.insert(blob.digest.clone(), body.read().await.unwrap());
                    }
                }
            }
            found.insert(digest, manifest.bytes().to_vec());
        }
        found
    }
}

struct CopyResult {
    summary: Summary,
    contexts: SideContexts,
}

impl CopyResult {
    fn outcome(&self) -> String {
        let row = &self.summary.rows[0];
        let error = row.error.iter().chain(&row.hint).map(|text| format!(" {text}"));
        format!("{:?}{}", row.outcome, error.collect::<String>())
    }

    fn digest(&self) -> &Digest {
        self.summary.rows[0].digest.as_ref().unwrap()
    }
}

async fn run<S: Source, D: Destination>(
    from: S,
    to: D,
    contexts: SideContexts,
    work: CopyJob,
) -> CopyResult {
    let from = SourceEndpoint::new(Arc::new(from));
    let sides = Endpoints {
        sources: HashMap::from([(work.image.origin.location.clone(), from)]),
        destinations: vec![Arc::new(Endpoint { location: work.to, destination: to })],
    };
    let options = Options { transfers: 4, ..Options::default() };
    let mirror = Mirror::new(sides, &contexts, options, Arc::new(Silent), Shutdown::default());
    let summary = Arc::new(mirror).run(vec![work.image]).await;
    CopyResult { summary, contexts }
}

struct CopyJob {
    image: Image,
    to: Location,
}

fn image(origin: Origin, to: (Location, &str), filter: &Filter) -> CopyJob {
    let (to, name) = to;
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let target = Target {
        destination: DestinationId(0),
        repository: repository.parse().unwrap(),
        tag: tag.parse().unwrap(),
    };
    let image =
        Image { name: "it".into(), origin, targets: vec![target], filter: filter.clone().into() };
    CopyJob { image, to }
}

/// An image of a registry.
fn reference(text: &str) -> Origin {
    let Reference { host, repository, tag, .. } = text.parse().unwrap();
    Origin { location: host.into(), repository, at: TagOrDigest::Tag(tag.unwrap()) }
}

/// An image of a location, as `repository:tag`.
fn origin(location: Location, name: &str) -> Origin {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let at = TagOrDigest::Tag(tag.parse().unwrap());
    Origin { location, repository: repository.parse().unwrap(), at }
}

fn document(directory: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(directory.join("index.json")).unwrap()).unwrap()
}

/// Checks that every file below `blobs` is what its name says, and that the index can be read.
fn assert_valid(directory: &Path) {
    let Ok(files) = std::fs::read_dir(directory.join("blobs/sha256")) else { return };
    for file in files.map(Result::unwrap) {
        let digest = Digest::of(&std::fs::read(file.path()).unwrap());
        assert_eq!(file.file_name().to_str(), Some(digest.hex()));
    }
    if directory.join("oci-layout").exists() {
        let index = LayoutIndex::of_layout(directory).unwrap();
        let store = BlobStore::new(directory.to_owned());
        for entry in document(directory)["manifests"].as_array().unwrap() {
            let digest: Digest = entry["digest"].as_str().unwrap().parse().unwrap();
            assert!(store.is_whole(&digest, index.media_type(&digest)), "{entry}");
        }
    }
}

#[tokio::test]
async fn a_layout_conforms_to_the_traits_of_the_seam() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Layout::new(directory.path(), Naming::RepositoryAndTag, Arc::default());
    check_destination(&open(), DigestCheck::ByBody).await;
    check_source(Arc::new(open())).await;
}
