//! The images at the sources, their changes, and the expected state of the destination.
//!
//! Memory stays bounded: tags and builds come from short lists.

use std::collections::{BTreeMap, BTreeSet};

use ecr_mirror::{
    model::Digest,
    sandbox::{Store, Upstream},
};
use serde_json::Value;

/// Registries and repositories of which every tag is mirrored.
const SOURCES: [(&str, &str); 5] = [
    ("docker.io", "team/hub"),
    ("quay.io", "team/a"),
    ("quay.io", "team/b"),
    ("registry.example.com", "team/c"),
    ("ghcr.io", "team/d"),
];
/// The source that is also mirrored for one platform, and the repository for that copy.
const PARTIAL: (usize, &str) = (1, "part");
/// A tag that every repository has.
const STABLE: &str = "stable";
/// Limit of further tags per repository.
const TAGS: u64 = 10;
/// Number of different builds.
const BUILDS: u64 = 60;

/// Repository and tag.
type RepositoryTag = (String, String);

/// The images at the sources, and the expected content of the destination.
pub(super) struct Catalogue {
    random_state: u64,
    /// Tags with their digests, per source.
    sources: [BTreeMap<String, Digest>; SOURCES.len()],
    /// Tags of the destination after the last clean run. Tags that disappeared from the sources
    /// stay.
    expected: BTreeMap<RepositoryTag, Digest>,
    /// Digests of the filtered indexes, by the digest of their source.
    parts: BTreeMap<Digest, Digest>,
}

impl Catalogue {
    /// One seed always gives the same changes.
    pub(super) fn new(seed: u64) -> Self {
        let (sources, expected, parts) = Default::default();
        Self { random_state: seed << 32, sources, expected, parts }
    }

    /// The next random number (SplitMix64).
    pub(super) fn number(&mut self) -> u64 {
        self.random_state = self.random_state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed =
            (self.random_state ^ (self.random_state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    pub(super) fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    /// A configuration for all tags, with one repository mirrored twice.
    pub(super) fn toml(&self) -> String {
        let all = SOURCES.map(|(host, repository)| {
            format!("[[image]]\nsource = \"{host}/{repository}\"\nselect = {{ glob = [\"*\"] }}\n")
        });
        let ((host, repository), part) = (SOURCES[PARTIAL.0], PARTIAL.1);
        format!(
            "[[destination]]\nregistry = \"{}\"\n{}\
             [[image]]\nsource = \"{host}/{repository}\"\nselect = {{ glob = [\"*\"] }}\n\
             repository = \"{part}\"\nplatforms = [\"linux/arm64\"]\n",
            super::super::world::ECR,
            all.concat(),
        )
    }

    /// Number of images in the configuration.
    pub(super) fn image_count(&self) -> usize {
        let tags = |source: &BTreeMap<_, _>| source.len();
        self.sources.iter().map(tags).sum::<usize>() + self.sources[PARTIAL.0].len()
    }

    /// Moves, adds and removes tags, and sometimes deletes content of the destination.
    pub(super) fn change(&mut self, upstream: &Upstream, ecr: &Store) {
        for source in 0..SOURCES.len() {
            if !self.sources[source].contains_key(STABLE) {
                self.put(upstream, source, STABLE);
            }
        }
        for _ in 0..=self.below(8) {
            let source = self.below(SOURCES.len() as u64) as usize;
            let tag = match self.below(TAGS + 1) {
                TAGS => STABLE.to_owned(),
                number => format!("t{number}"),
            };
            let vanishes = tag != STABLE && self.below(3) == 0;
            match vanishes && self.sources[source].remove(&tag).is_some() {
                true => upstream.remove_tag(SOURCES[source].0, SOURCES[source].1, &tag),
                false => self.put(upstream, source, &tag),
            }
        }
        match self.below(4) {
            0 => self.lose_repository(ecr),
            1 => self.lose_tag(ecr),
            _ => {}
        }
    }

    /// Points a tag to one of the builds.
    fn put(&mut self, upstream: &Upstream, source: usize, tag: &str) {
        let build = self.below(BUILDS);
        let (host, repository) = SOURCES[source];
        let reference = format!("{host}/{repository}:{tag}");
        let image = upstream.image(&reference).seed(build).layers(1 + build as usize % 3);
        let image = image.platforms(["linux/arm64", "linux/amd64"]);
        let image = match build % 5 {
            0 => image.docker(),
            1 => image.single(),
            2 => image.nested(),
            3 => image.attestations(),
            _ => image,
        };
        let image = image.layer_size(1 << (10 + build % 8));
        let digest = image.base(["debian", "alpine"][build as usize % 2]).push();
        self.sources[source].insert(tag.to_owned(), digest);
    }

    fn lose_repository(&mut self, ecr: &Store) {
        let all: BTreeSet<String> = self.expected.keys().map(|(name, _)| name.clone()).collect();
        let Some(lost) = all.into_iter().nth(self.below(6) as usize) else { return };
        ecr.delete_repository(&lost).unwrap();
        self.expected.retain(|(name, _), _| *name != lost);
    }

    fn lose_tag(&mut self, ecr: &Store) {
        let at = self.below(self.expected.len().max(1) as u64) as usize;
        let Some((name, tag)) = self.expected.keys().nth(at).cloned() else { return };
        ecr.delete_tag(&name, &tag).unwrap();
        self.expected.remove(&(name, tag));
    }

    /// The expected tags of the destination, with their digests at the source.
    fn expected_tags(&self) -> impl Iterator<Item = (RepositoryTag, &Digest)> {
        let at = |name: &str, source: usize| {
            let name = name.to_owned();
            self.sources[source].iter().map(move |(tag, to)| ((name.clone(), tag.clone()), to))
        };
        let all = SOURCES.iter().enumerate().flat_map(move |(n, (_, name))| at(name, n));
        all.chain(at(PARTIAL.1, PARTIAL.0))
    }

    /// Asserts that every earlier tag exists, with its old or its expected digest.
    pub(super) fn assert_nothing_lost(&self, ecr: &Store, label: &str) {
        let wanted: BTreeMap<RepositoryTag, &Digest> = self.expected_tags().collect();
        for (place, expected) in &self.expected {
            let (name, tag) = place;
            let found = ecr.tag(name, tag).unwrap_or_else(|| panic!("{label}: {place:?} is gone"));
            let is_wanted = match wanted.get(place) {
                Some(root) if name == PARTIAL.1 => {
                    self.parts.get(root).is_none_or(|part| *part == found)
                }
                Some(root) => **root == found,
                None => false,
            };
            assert!(found == *expected || is_wanted, "{label}: {place:?} points to {found}");
        }
    }

    /// Asserts that the destination has exactly the expected tags, and those that disappeared from
    /// the sources.
    pub(super) fn assert_reached(&mut self, ecr: &Store, report: &Value, label: &str) {
        let digest = |value: &Value| value.as_str().unwrap().parse::<Digest>().unwrap();
        for row in report["images"].as_array().unwrap() {
            if row["destination"].as_str().unwrap().contains(&format!("/{}:", PARTIAL.1)) {
                let (root, part) = (digest(&row["source_digest"]), digest(&row["digest"]));
                let known = self.parts.entry(root).or_insert_with(|| part.clone());
                assert_eq!(*known, part, "{label}: the same index gives the same part");
            }
        }
        let place = |(place, root): (RepositoryTag, &Digest)| {
            let is_part = place.0 == PARTIAL.1;
            let to = if is_part { &self.parts[root] } else { root };
            (place, to.clone())
        };
        let wanted: Vec<(RepositoryTag, Digest)> = self.expected_tags().map(place).collect();
        self.expected.extend(wanted);
        let found = ecr.repositories().into_iter().flat_map(|name| {
            let tags = ecr.tags(&name).into_iter();
            tags.map(move |(tag, to)| ((name.clone(), tag), to)).collect::<Vec<_>>()
        });
        assert_eq!(found.collect::<BTreeMap<_, _>>(), self.expected, "{label}");
    }
}
