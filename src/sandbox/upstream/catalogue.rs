//! The repositories, tags and images of the embedded upstream.
//!
//! The tables list well-known repositories at about a fortieth of their size. Other repositories
//! are generated from their names, so that any configuration runs: each has a dozen versions, and
//! every repository has any requested tag. Names that start with `missing` or `nosuch` do not exist; signatures
//! and fallback tags of referrers (`sha256-…`) exist only if they are listed. An image of `small.example`
//! is one manifest with one small layer, so that a registry can have many thousands.
//!
//! Pure: host, repository, tag and generation determine every byte.

use std::borrow::Cow;

use super::synthesis::{Layer, PlatformImage, Recipe, number};

/// Declares the table `ENTRIES`: host, repository { tags, push date, recipe; … }.
macro_rules! entries {
    ($($host:literal, $repository:literal { $($tags:literal, $pushed:literal, $make:expr;)* })*) => {
        pub(super) const ENTRIES: &[Entry] = &[$(Entry {
            host: $host,
            repository: $repository,
            images: &[$(Image { tags: $tags, pushed: $pushed, make: $make }),*],
        }),*];
    };
}

mod docker_hub;
mod other_registries;
mod recipes;

use recipes::Make;

#[derive(Debug)]
struct Entry {
    host: &'static str,
    repository: &'static str,
    /// Newest first.
    images: &'static [Image],
}

/// One image of a repository, under one or more tags.
#[derive(Debug)]
struct Image {
    /// Separated by spaces; the first is the image's full version.
    tags: &'static str,
    pushed: &'static str,
    make: Make,
}

/// An image that is not made yet, and the tags that point to it.
#[derive(Debug, Clone)]
pub(crate) struct Planned {
    /// At least one.
    pub tags: Vec<String>,
    pub pushed: String,
    pub recipe: Recipe,
}

/// The registry and repository that provide the content: Docker Hub's mirrors serve Docker Hub's
/// bytes, a regional registry of Kubernetes serves `registry.k8s.io`'s.
pub(crate) fn canonical<'a>(host: &'a str, repository: &'a str) -> (&'a str, Cow<'a, str>) {
    if host == "mirror.gcr.io" {
        return ("docker.io", repository.into());
    }
    if host == "public.ecr.aws"
        && let Some(official) = repository.strip_prefix("docker/library/")
    {
        return ("docker.io", format!("library/{official}").into());
    }
    if host.ends_with("-docker.pkg.dev")
        && let Some(image) = repository.strip_prefix("k8s-artifacts-prod/images/")
    {
        return ("registry.k8s.io", image.into());
    }
    (host, repository.into())
}

pub(crate) fn is_listed(host: &str, repository: &str) -> bool {
    entry(host, repository).is_some()
}

pub(crate) fn repositories() -> impl Iterator<Item = (&'static str, &'static str)> {
    entries().map(|entry| (entry.host, entry.repository))
}

/// The images that a tag listing shows, newest first.
pub(crate) fn listed(host: &str, repository: &str) -> Vec<Planned> {
    let Some(entry) = entry(host, repository) else { return generated(host, repository) };
    let name = Name { host, repository };
    let plan = |image: &Image| {
        let tags: Vec<String> = image.tags.split(' ').map(str::to_owned).collect();
        name.plan(tags, image.pushed, &image.make)
    };
    entry.images.iter().map(plan).collect()
}

/// True for the name of a tag or repository that must not exist.
pub(crate) fn is_missing(name: &str) -> bool {
    name.starts_with("missing") || name.starts_with("nosuch")
}

/// The image of a tag that no listing shows; `None` for a tag that must not exist.
pub(crate) fn on_demand(host: &str, repository: &str, tag: &str) -> Option<Planned> {
    if is_missing(tag) || tag.starts_with("sha256-") {
        return None;
    }
    let name = Name { host, repository };
    let make = match entry(host, repository) {
        Some(entry) => &entry.images[0].make,
        None => name.make(),
    };
    Some(name.plan(vec![tag.to_owned()], "2025-03-01", make))
}

/// A newer build of the image: one small layer is added on top.
pub(crate) fn rebuilt(mut planned: Planned, generation: u32) -> Planned {
    for image in &mut planned.recipe.images {
        let seed = format!("{}/{}/rebuilt/{generation}", planned.recipe.name, image.platform);
        image.layers.push(Layer::about(seed, 20));
    }
    planned
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    docker_hub::ENTRIES.iter().chain(other_registries::ENTRIES)
}

fn entry(host: &str, repository: &str) -> Option<&'static Entry> {
    entries().find(|entry| entry.host == host && entry.repository == repository)
}

/// The versions of a repository that the tables do not list.
fn generated(host: &str, repository: &str) -> Vec<Planned> {
    let name = Name { host, repository };
    let chance = name.number();
    let major = 1 + chance % 3;
    let prefix = if chance & 64 == 0 { "" } else { "v" };
    let mut planned = Vec::new();
    for minor in (0..6).rev() {
        for patch in (0..2).rev() {
            let version = format!("{prefix}{major}.{minor}.{patch}");
            let mut tags = vec![version];
            if patch == 1 {
                tags.push(format!("{prefix}{major}.{minor}"));
            }
            if (minor, patch) == (5, 1) {
                tags.push("latest".to_owned());
            }
            let pushed = format!("2025-{:02}-{:02}", 2 * minor + 1 + patch, 1 + chance % 28);
            planned.push(name.plan(tags, &pushed, name.make()));
        }
    }
    planned
}

#[derive(Clone, Copy)]
struct Name<'a> {
    host: &'a str,
    repository: &'a str,
}

impl Name<'_> {
    fn number(self) -> u64 {
        number(&format!("{}/{}", self.host, self.repository))
    }

    /// The recipe of a repository that the tables do not list.
    fn make(self) -> &'static Make {
        if self.host == "small.example" {
            return &recipes::SMALL;
        }
        &recipes::GENERATED[self.number() as usize % recipes::GENERATED.len()]
    }

    fn plan(self, tags: Vec<String>, day: &str, make: &Make) -> Planned {
        let name = format!("{}/{}:{}", self.host, self.repository, tags[0]);
        let chance = number(&name);
        let pushed = format!(
            "{day}T{:02}:{:02}:{:02}Z",
            chance % 24,
            (chance >> 8) % 60,
            (chance >> 16) % 60
        );
        let images = make.platforms.iter().map(|platform| self.image(platform, &name, make));
        let recipe = Recipe {
            format: make.format,
            shape: make.shape,
            attestations: make.attestations,
            created: pushed.clone(),
            images: images.collect(),
            name,
        };
        Planned { tags, pushed, recipe }
    }

    /// The base's layers, the image's own, and those that all images of the repository share.
    fn image(self, platform: &str, name: &str, make: &Make) -> PlatformImage {
        let (host, repository, base) = (self.host, self.repository, make.base.name);
        let mut layers = Vec::new();
        for (n, &kib) in make.base.layers.iter().enumerate() {
            layers.push(Layer::about(format!("{base}/{platform}/{n}"), kib));
        }
        for (n, &kib) in make.own.iter().enumerate() {
            layers.push(Layer::about(format!("{name}/{base}/{platform}/{n}"), kib));
        }
        for (n, &kib) in make.common.iter().enumerate() {
            layers.push(Layer::about(format!("{host}/{repository}/common/{n}"), kib));
        }
        let platform = platform.parse().expect("the tables' platforms are well written");
        PlatformImage { platform, layers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_listed_tag_is_a_tag_and_is_listed_once() {
        for (host, repository) in repositories() {
            assert!(repository.parse::<crate::model::Repository>().is_ok(), "{repository}");
            let mut seen = HashSet::new();
            let mut last = None;
            for image in listed(host, repository) {
                assert!(humantime::parse_rfc3339(&image.pushed).is_ok(), "{}", image.pushed);
                let day = image.pushed[..10].to_owned();
                assert!(last.is_none_or(|last| last >= day), "{repository} is not newest first");
                last = Some(day);
                for tag in image.tags {
                    assert!(tag.parse::<crate::model::Tag>().is_ok(), "{tag}");
                    assert!(seen.insert(tag.clone()), "{repository}:{tag} twice");
                }
            }
        }
    }

    #[test]
    fn images_on_one_base_share_its_layers() {
        let layers = |repository: &str, tag: &str| -> HashSet<Layer> {
            let listed = listed("docker.io", repository);
            let image = listed.iter().find(|image| image.tags.iter().any(|t| t == tag)).unwrap();
            image.recipe.images.iter().flat_map(|image| image.layers.clone()).collect()
        };
        for (one, other) in [
            (("library/nginx", "1.27"), ("library/python", "3.13")),
            (("library/nginx", "1.27"), ("library/redis", "7.4")),
            (("library/nginx", "1.27-alpine"), ("library/alpine", "3.20")),
            (("library/nginx", "1.27"), ("library/nginx", "1.26")),
        ] {
            let (one, other) = (layers(one.0, one.1), layers(other.0, other.1));
            assert!(!one.is_disjoint(&other));
            assert_ne!(one, other);
        }
    }

    #[test]
    fn any_repository_has_versions_and_any_tag_except_missing_ones() {
        let tags: Vec<String> =
            listed("example.com", "team/app").into_iter().flat_map(|image| image.tags).collect();
        assert!(tags.len() >= 12 && tags.contains(&"latest".to_owned()), "{tags:?}");
        assert!(on_demand("example.com", "team/app", "2024-w7").is_some());
        for tag in ["missing", "nosuch", "nosuchtag-1"] {
            assert!(on_demand("example.com", "team/app", tag).is_none(), "{tag}");
        }
        assert!(on_demand("docker.io", "library/nginx", "sha256-0000.sig").is_none());
    }

    #[test]
    fn mirrors_of_docker_hub_have_its_content() {
        for (host, repository, expected) in [
            ("mirror.gcr.io", "library/nginx", ("docker.io", "library/nginx")),
            ("public.ecr.aws", "docker/library/nginx", ("docker.io", "library/nginx")),
            ("public.ecr.aws", "nginx/nginx", ("public.ecr.aws", "nginx/nginx")),
            (
                "us-west1-docker.pkg.dev",
                "k8s-artifacts-prod/images/pause",
                ("registry.k8s.io", "pause"),
            ),
        ] {
            let (host, repository) = canonical(host, repository);
            assert_eq!((host, &*repository), expected);
        }
    }
}
