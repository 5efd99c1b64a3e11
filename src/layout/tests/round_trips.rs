//! Registry to layout to registry: every kind of image arrives bit for bit, and only once.

use super::*;
use crate::model::{Attestations, Platforms, Shape};

/// Pushes an image of every kind to an upstream and returns the references.
fn every_kind(fixture: &LayoutFixture) -> Vec<&'static str> {
    let upstream = fixture.upstream.upstream();
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

fn filters() -> [Filter; 3] {
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
async fn every_kind_of_image_survives_the_round_trip_bit_for_bit() {
    let fixture = LayoutFixture::new().await;
    let all = Filter::default();
    for source in every_kind(&fixture) {
        for (number, filter) in filters().iter().enumerate() {
            let from = reference(source);
            let (direct, early, late) = (
                format!("direct/a{number}:1"),
                format!("early/a{number}:1"),
                format!("late/a{number}:1"),
            );
            let layout = || fixture.layout(Naming::RepositoryAndTag);
            let straight = fixture.copy(from.clone(), (fixture.plain(), &direct), filter).await;
            assert_eq!(straight.outcome(), "Copied", "{source}, {number}");

            // filtered on the way in
            let stored = fixture.copy(from.clone(), (layout(), &early), filter).await;
            assert_eq!(stored.outcome(), "Copied", "{source}, {number}");
            let back =
                fixture.copy(origin(layout(), &early), (fixture.plain(), &early), &all).await;
            assert_eq!(back.outcome(), "Copied", "{source}, {number}");

            // filtered on the way out
            let stored = fixture.copy(from.clone(), (layout(), &late), &all).await;
            assert!(["Copied", "UpToDate"].contains(&&*stored.outcome()), "{}", stored.outcome());
            let last =
                fixture.copy(origin(layout(), &late), (fixture.plain(), &late), filter).await;
            assert!(["Copied", "UpToDate"].contains(&&*last.outcome()), "{}", last.outcome());

            let registry = || fixture.registry(&fixture.plain(), &Arc::default());
            let expected = LayoutFixture::tree(registry(), &direct).await;
            assert!(
                LayoutFixture::tree(registry(), &early).await == expected,
                "{source}, {number}"
            );
            assert!(LayoutFixture::tree(registry(), &late).await == expected, "{source}, {number}");
        }
        fixture.plain.plain().store().delete_repository("late/a0").unwrap();
        std::fs::remove_dir_all(fixture.directory()).unwrap();
    }
}

#[tokio::test]
async fn a_second_run_moves_nothing_and_writes_nothing() {
    let fixture = LayoutFixture::new().await;
    for source in every_kind(&fixture) {
        let layout = || fixture.layout(Naming::Tag);
        let filter = &filters()[1];
        let first = fixture.copy(reference(source), (layout(), "x:1"), filter).await;
        assert_eq!(first.outcome(), "Copied", "{source}");
        let moved = first.contexts.destination.stats.bytes.value();
        assert!(
            moved > 0 && moved <= first.contexts.source.stats.bytes.value(),
            "{moved} B of {source}"
        );
        let before = modification_times(&fixture.directory());
        let second = fixture.copy(reference(source), (layout(), "x:1"), filter).await;
        assert_eq!(second.outcome(), "UpToDate", "{source}");
        assert_eq!(second.contexts.destination.stats.bytes.value(), 0);
        assert_eq!(modification_times(&fixture.directory()), before, "{source}");
    }
}

/// Every file with its modification time.
fn modification_times(directory: &Path) -> BTreeMap<PathBuf, std::time::SystemTime> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        found.insert(entry.path(), entry.metadata().unwrap().modified().unwrap());
        if entry.path().is_dir() {
            found.extend(modification_times(&entry.path()));
        }
    }
    found
}

#[tokio::test]
async fn repositories_of_a_layout_share_blobs() {
    let fixture = LayoutFixture::new().await;
    let upstream = fixture.upstream.upstream();
    upstream.image("r.example/a/x:1").seed(7).push();
    upstream.image("r.example/b/y:1").seed(7).push();
    let layout = || fixture.layout(Naming::RepositoryAndTag);
    let all = Filter::default();
    fixture.copy(reference("r.example/a/x:1"), (layout(), "mirror/a/x:1"), &all).await;
    let second = fixture.copy(reference("r.example/b/y:1"), (layout(), "mirror/b/y:1"), &all).await;
    assert_eq!(second.outcome(), "Copied");
    assert_eq!(second.contexts.destination.stats.bytes.value(), 0);
    let names: Vec<String> = (document(&fixture.directory())["manifests"].as_array().unwrap())
        .iter()
        .map(|entry| {
            entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(names, ["mirror/a/x:1", "mirror/b/y:1"]);
    let row = &second.summary.rows[0];
    let shown = format!("oci:{}:mirror/b/y:1", fixture.directory().display());
    assert_eq!((row.source.as_str(), &row.destination), ("r.example/b/y:1", &shown));
}

#[tokio::test]
async fn a_moved_tag_replaces_its_entry_in_place() {
    let fixture = LayoutFixture::new().await;
    let upstream = fixture.upstream.upstream();
    let all = Filter::default();
    for (tag, seed) in [("a", 1), ("b", 2), ("a", 3)] {
        upstream.image(&format!("r.example/x:{tag}")).seed(seed).push();
        let from = reference(&format!("r.example/x:{tag}"));
        let name = format!("x:{tag}");
        let copied = fixture.copy(from, (fixture.layout(Naming::Tag), &name), &all).await;
        assert_eq!(copied.outcome(), "Copied");
        let document = document(&fixture.directory());
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
    assert_valid(&fixture.directory());
}
