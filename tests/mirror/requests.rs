//! Counts the requests of runs towards a plain registry, by kind: each count has its formula.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::{Digest, TagOrDigest, event::Silent, outcome::Outcome},
    registry::{Network, Transport},
    remote::RetryPolicy,
    run::registries::Registries,
    sandbox::{self, Entry, Options, Sandbox, store::Links, upstream::Manifest},
};

use super::world::{TRANSFERS, mirror};

/// The number of requests of each kind.
type Counts = BTreeMap<&'static str, usize>;

/// A source and a plain registry, and the images between them.
struct PlainMirror {
    upstream: Sandbox,
    plain: Sandbox,
    /// The repositories with their tags.
    images: BTreeMap<String, Vec<String>>,
}

/// The requests of one run at each side.
struct Requests {
    source: Counts,
    destination: Counts,
}

/// The content of some images.
#[derive(Default)]
struct Contents {
    /// All manifests, in each repository.
    manifests: usize,
    blobs: BTreeSet<Digest>,
    /// All blobs, in each repository.
    placements: BTreeSet<(String, Digest)>,
}

impl PlainMirror {
    async fn new() -> Self {
        let start =
            async |mode| Sandbox::start(Options { mode, ..Options::default() }).await.unwrap();
        let (upstream, plain) =
            (start(sandbox::Mode::Standing).await, start(sandbox::Mode::Plain).await);
        Self { upstream, plain, images: BTreeMap::new() }
    }

    /// Pushes a multi-platform image with attestations to the source. All images share a layer.
    fn push(&mut self, repository: &str, tag: &str, seed: u64) {
        let reference = format!("registry.example/{repository}:{tag}");
        let image = self.upstream.upstream().image(&reference).attestations().base("debian");
        image.seed(seed).push();
        let tags = self.images.entry(repository.to_owned()).or_default();
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
        }
    }

    fn manifest(&self, repository: &str, at: &str) -> Manifest {
        let at = match at.parse() {
            Ok(digest) => TagOrDigest::Digest(digest),
            Err(_) => TagOrDigest::Tag(at.parse().unwrap()),
        };
        self.upstream.upstream().content().manifest("registry.example", repository, &at).unwrap()
    }

    fn contents<'a>(&self, images: impl IntoIterator<Item = (&'a str, &'a str)>) -> Contents {
        let mut contents = Contents::default();
        for (repository, tag) in images {
            let root = Links::read(&self.manifest(repository, tag).bytes).unwrap();
            contents.manifests += 1 + root.children.len();
            for child in &root.children {
                let child = Links::read(&self.manifest(repository, child.as_str()).bytes).unwrap();
                contents.blobs.extend(child.blobs.iter().cloned());
                let placed = child.blobs.into_iter().map(|blob| (repository.to_owned(), blob));
                contents.placements.extend(placed);
            }
        }
        contents
    }

    fn all(&self) -> Contents {
        let images = self.images.iter();
        self.contents(images.flat_map(|(repository, tags)| {
            tags.iter().map(move |tag| (repository.as_str(), tag.as_str()))
        }))
    }

    /// Mirrors all images; every row must have one of these outcomes.
    async fn sync(&self, outcomes: &[Outcome]) -> Requests {
        let mut toml = format!("[[destination]]\nregistry = \"{}\"\n", self.plain.address());
        for (repository, tags) in &self.images {
            let source = format!("{}/registry.example/{repository}", self.upstream.address());
            toml += &format!(
                "[[image]]\nsource = \"{source}\"\nrepository = \"{repository}\"\ntags = {tags:?}\n"
            );
        }
        let before = [&self.upstream, &self.plain].map(|sandbox| sandbox.journal().len());
        let transport = Transport::new(Network::Direct);
        let registries = Registries::with_transport(transport, TRANSFERS, &RetryPolicy::default());
        let shutdown = Shutdown::default();
        let report = mirror(&registries, &toml, Mode::Mirror, Arc::new(Silent), shutdown).await;
        for row in &report.images {
            assert!(outcomes.contains(&row.outcome), "{row:?}");
        }
        super::content::assert_whole(self.plain.plain().store());
        let requests = Requests {
            source: counts(&self.upstream.journal()[before[0]..]),
            destination: counts(&self.plain.journal()[before[1]..]),
        };
        let total = |counts: &Counts| counts.values().sum::<usize>() as u64;
        assert_eq!(report.requests.source, total(&requests.source));
        assert_eq!(report.requests.destination, total(&requests.destination));
        requests
    }
}

fn counts(entries: &[Entry]) -> Counts {
    let mut counts = Counts::new();
    for entry in entries {
        let is_at = |part: &str| entry.path.contains(part);
        let kind = match entry.method.as_str() {
            "HEAD" if is_at("/manifests/sha256:") => "HEAD manifest",
            "HEAD" if is_at("/manifests/") => "HEAD tag",
            "HEAD" if is_at("/blobs/") => "HEAD blob",
            "GET" if is_at("/manifests/") => "GET manifest",
            "GET" if is_at("/blobs/") => "GET blob",
            "GET" if is_at("/tags/list") => "GET tags",
            "POST" if is_at("/blobs/uploads/") => "POST upload",
            "PUT" if is_at("/blobs/uploads/") => "PUT blob",
            "PUT" if is_at("/manifests/") => "PUT manifest",
            _ => panic!("unexpected request: {entry:?}"),
        };
        *counts.entry(kind).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_registry_costs_one_request_per_manifest_and_blob_of_the_source() {
    let mut mirror = PlainMirror::new().await;
    for number in 0..6 {
        mirror.push(&format!("team/app-{}", number % 2), &format!("v{number}"), number);
    }
    let Contents { manifests, blobs, placements } = mirror.all();
    assert!(manifests == 30 && blobs.len() < placements.len(), "{manifests} {}", blobs.len());

    let run = mirror.sync(&[Outcome::Copied]).await;

    let source = [("GET manifest", manifests), ("GET blob", blobs.len())];
    assert_eq!(run.source, Counts::from(source));
    let destination = [
        // each tag, and each repository in which none was found
        ("HEAD tag", 6),
        ("GET tags", 2),
        // a blob is uploaded to one repository and mounted into the others
        ("POST upload", placements.len()),
        ("PUT blob", blobs.len()),
        ("PUT manifest", manifests),
    ];
    assert_eq!(run.destination, Counts::from(destination));

    let run = mirror.sync(&[Outcome::UpToDate]).await;
    assert_eq!(run.source, Counts::from([("HEAD tag", 6)]));
    assert_eq!(run.destination, Counts::from([("HEAD tag", 6)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_tag_costs_one_question_per_manifest_and_shared_layer_of_the_destination() {
    let mut mirror = PlainMirror::new().await;
    for number in 0..20 {
        mirror.push(&format!("team/app-{}", number % 2), &format!("v{number}"), number);
    }
    mirror.sync(&[Outcome::Copied]).await;
    let before = mirror.all().blobs;
    mirror.push("team/app-0", "v0", 100);
    let Contents { manifests, blobs, .. } = mirror.contents([("team/app-0", "v0")]);
    let new = blobs.difference(&before).count();
    // the base, and two layers for each of two platforms
    let layers = 5;

    let run = mirror.sync(&[Outcome::Copied, Outcome::UpToDate]).await;

    let source = [("HEAD tag", 20), ("GET manifest", manifests), ("GET blob", new)];
    assert_eq!(run.source, Counts::from(source));
    let destination = [
        ("HEAD tag", 20),
        // not the root, which is pushed under its tag in any case
        ("HEAD manifest", manifests - 1),
        // the upload itself asks about configurations and attestations
        ("HEAD blob", layers),
        ("POST upload", new),
        ("PUT blob", new),
        ("PUT manifest", manifests),
    ];
    assert_eq!(run.destination, Counts::from(destination));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_the_destination_lacks_is_read_and_not_asked_for_first() {
    let mut mirror = PlainMirror::new().await;
    for number in 0..4 {
        mirror.push("team/app", &format!("v{number}"), number);
    }
    mirror.sync(&[Outcome::Copied]).await;
    let before = mirror.all().blobs;
    mirror.push("team/app", "v4", 4);
    let Contents { manifests, blobs, .. } = mirror.contents([("team/app", "v4")]);
    let new = blobs.difference(&before).count();

    let run = mirror.sync(&[Outcome::Copied, Outcome::UpToDate]).await;

    let source = [("HEAD tag", 4), ("GET manifest", manifests), ("GET blob", new)];
    assert_eq!(run.source, Counts::from(source));
    assert_eq!(run.destination["HEAD tag"], 5);
}
