//! Registry to layout to registry: every kind of image, bit for bit, and nothing twice.

use super::*;
use crate::model::{Attestations, Platforms, Shape};

/// An image of every kind, at an upstream: the reference of each.
fn every_kind(world: &LayoutFixture) -> Vec<&'static str> {
    let upstream = world.upstream.upstream();
    upstream.image("r.example/kinds/index:1").attestations().push();
    upstream.image("r.example/kinds/list:1").docker().push();
    upstream.image("r.example/kinds/oci:1").single().push();
    upstream.image("r.example/kinds/docker:1").docker().single().push();
    let three = ["linux/amd64", "linux/arm64", "linux/s390x"];
    upstream.image("r.example/kinds/nested:1").platforms(three).nested().push();
    let helm = "ghcr.io/prometheus-community/charts/prometheus:26.0.0";
    vec![
        "r.example/kinds/index:1",
        "r.example/kinds/list:1",
        "r.example/kinds/oci:1",
        "r.example/kinds/docker:1",
        "r.example/kinds/nested:1",
        helm,
    ]
}

fn wants() -> [Filter; 3] {
    let amd64 = Platforms::only(["linux/amd64".parse().unwrap()]).unwrap();
    [
        Filter::default(),
        Filter { platforms: amd64.clone(), ..Filter::default() },
        Filter {
            platforms: amd64,
            attestations: Attestations::Drop,
            shape: Shape::Flat,
            ..Filter::default()
        },
    ]
}

#[tokio::test]
async fn every_kind_of_image_survives_the_trip_bit_for_bit() {
    let world = LayoutFixture::new().await;
    let all = Filter::default();
    for source in every_kind(&world) {
        for (number, want) in wants().iter().enumerate() {
            let origin = reference(source);
            let (direct, early, late) = (
                format!("direct/a{number}:1"),
                format!("early/a{number}:1"),
                format!("late/a{number}:1"),
            );
            let layout = || world.layout(Naming::RepositoryAndTag);
            let straight = world.copy(origin.clone(), (world.plain(), &direct), want).await;
            assert_eq!(straight.outcome(), "Copied", "{source}, {number}");

            // filtered on the way in
            let stored = world.copy(origin.clone(), (layout(), &early), want).await;
            assert_eq!(stored.outcome(), "Copied", "{source}, {number}");
            let back = world.copy(of(layout(), &early), (world.plain(), &early), &all).await;
            assert_eq!(back.outcome(), "Copied", "{source}, {number}");

            // filtered on the way out
            let stored = world.copy(origin.clone(), (layout(), &late), &all).await;
            assert!(["Copied", "UpToDate"].contains(&&*stored.outcome()), "{}", stored.outcome());
            let last = world.copy(of(layout(), &late), (world.plain(), &late), want).await;
            assert!(["Copied", "UpToDate"].contains(&&*last.outcome()), "{}", last.outcome());

            let registry = || world.registry(&world.plain(), &Arc::default());
            let expected = LayoutFixture::tree(registry(), &direct).await;
            assert!(
                LayoutFixture::tree(registry(), &early).await == expected,
                "{source}, {number}"
            );
            assert!(LayoutFixture::tree(registry(), &late).await == expected, "{source}, {number}");
        }
        world.plain.plain().store().delete_repository("late/a0").unwrap();
        std::fs::remove_dir_all(world.directory()).unwrap();
    }
}

#[tokio::test]
async fn a_second_run_moves_nothing_and_writes_nothing() {
    let world = LayoutFixture::new().await;
    for source in every_kind(&world) {
        let layout = || world.layout(Naming::Tag);
        let want = &wants()[1];
        let first = world.copy(reference(source), (layout(), "x:1"), want).await;
        assert_eq!(first.outcome(), "Copied", "{source}");
        let moved = first.meters.destination.stats.bytes.value();
        assert!(
            moved > 0 && moved <= first.meters.source.stats.bytes.value(),
            "{moved} B of {source}"
        );
        let before = stamps(&world.directory());
        let second = world.copy(reference(source), (layout(), "x:1"), want).await;
        assert_eq!(second.outcome(), "UpToDate", "{source}");
        assert_eq!(second.meters.destination.stats.bytes.value(), 0);
        assert_eq!(stamps(&world.directory()), before, "{source}");
    }
}

/// Every file with the time it was written.
fn stamps(directory: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        found.insert(entry.path(), entry.metadata().unwrap().modified().unwrap());
        if entry.path().is_dir() {
            found.extend(stamps(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn many_repositories_share_what_is_the_same() {
    let world = LayoutFixture::new().await;
    let upstream = world.upstream.upstream();
    upstream.image("r.example/a/x:1").seed(7).push();
    upstream.image("r.example/b/y:1").seed(7).push();
    let layout = || world.layout(Naming::RepositoryAndTag);
    let all = Filter::default();
    world.copy(reference("r.example/a/x:1"), (layout(), "mirror/a/x:1"), &all).await;
    let second = world.copy(reference("r.example/b/y:1"), (layout(), "mirror/b/y:1"), &all).await;
    assert_eq!(second.outcome(), "Copied");
    assert_eq!(second.meters.destination.stats.bytes.value(), 0);
    let names: Vec<String> = (document(&world.directory())["manifests"].as_array().unwrap())
        .iter()
        .map(|entry| {
            entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["mirror/a/x:1", "mirror/b/y:1"]);
    let row = &second.summary.rows[0];
    let shown = format!("oci:{}:mirror/b/y:1", world.directory().display());
    assert_eq!((row.source.as_str(), &row.destination), ("r.example/b/y:1", &shown));
}

#[tokio::test]
async fn a_tag_that_moves_is_replaced_in_its_place() {
    let world = LayoutFixture::new().await;
    let upstream = world.upstream.upstream();
    let all = Filter::default();
    for (tag, seed) in [("a", 1), ("b", 2), ("a", 3)] {
        upstream.image(&format!("r.example/x:{tag}")).seed(seed).push();
        let from = reference(&format!("r.example/x:{tag}"));
        let name = format!("x:{tag}");
        let copied = world.copy(from, (world.layout(Naming::Tag), &name), &all).await;
        assert_eq!(copied.outcome(), "Copied");
        let document = document(&world.directory());
        let entries = document["manifests"].as_array().unwrap();
        let at = entries
            .iter()
            .position(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == tag);
        assert_eq!(entries[at.unwrap()]["digest"], copied.digest().as_str());
        assert_eq!(
            (at.unwrap(), entries.len()),
            ([0, 1, 0][seed as usize - 1], seed.min(2) as usize)
        );
    }
    assert_valid(&world.directory());
}
