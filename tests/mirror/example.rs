//! Tests the promise of the README: the example works on an empty machine, and the second run moves
//! nothing.

use std::collections::BTreeSet;

use ecr_mirror::{model::outcome::Outcome, sandbox::Entry};
use http::Method;

use super::world::{Run, World, blobs, entry, is_ecr};

#[tokio::test(flavor = "multi_thread")]
async fn the_example_is_mirrored_completely_and_a_second_run_moves_nothing() {
    let world = World::new().await.configured(include_str!("../../mirror.toml.example"));

    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(first.report.images.len(), 11);
    assert_numbers_match_journal(&first);

    let second = world.sync().await;
    second.assert_no_op();
    assert_eq!(second.report.totals.up_to_date, 11);
    assert_eq!(second.report.bytes.from_source, Some(0));
    assert_eq!(second.report.blobs.pushed, Some(0));
    // the first image of a source over TLS is read and not asked for, while the connections open
    let reads: BTreeSet<String> = second.manifests(Method::GET).into_iter().collect();
    let hosts: BTreeSet<&str> = reads.iter().filter_map(|read| read.split('/').next()).collect();
    assert_eq!(hosts.len(), reads.len(), "one per source: {reads:#?}");
    // also not of the flattened image: Docker Hub's listing names the entries of its index
    assert!(!reads.iter().any(|read| read.contains("docker.io")), "{reads:#?}");
    assert_numbers_match_journal(&second);
    for (before, after) in first.report.images.iter().zip(&second.report.images) {
        assert_eq!(
            (&before.digest, &before.source_digest),
            (&after.digest, &after.source_digest),
            "{}",
            before.source
        );
    }
}

/// Counts every number of the report again in the journal of the registries.
#[track_caller]
fn assert_numbers_match_journal(run: &Run) {
    let report = &run.report;
    let count = |wanted: &dyn Fn(&Entry) -> bool| {
        run.journal.iter().filter(|entry| wanted(entry)).count() as u64
    };
    let api = count(&|entry| is_ecr(entry) && !entry.path.starts_with("/v2"));
    let destination = count(&|entry| is_ecr(entry) && entry.path.starts_with("/v2"));
    let source = count(&|entry| !is_ecr(entry));
    assert_eq!(
        (report.requests.source, report.requests.destination, report.requests.ecr_api),
        (source, destination, api)
    );
    assert_eq!((report.requests.retries, report.requests.throttled), (0, 0));

    let is_upload =
        |entry: &&Entry| entry.method == Method::PUT && entry.path.contains("/blobs/uploads/");
    let uploaded: u64 = run.journal.iter().filter(is_upload).map(|entry| entry.request_bytes).sum();
    assert_eq!(report.bytes.to_destination, Some(uploaded));
    let by_row: u64 = report.images.iter().map(|row| row.bytes_pushed.unwrap()).sum();
    assert_eq!(by_row, uploaded, "each pushed byte is counted in one row");
    assert_eq!(report.blobs.pushed, Some(run.uploads().len() as u64));

    let is_blob = |entry: &&Entry| !is_ecr(entry) && entry.path.contains("/blobs/");
    let read = run.journal.iter().filter(is_blob).filter(|e| e.status.is_some_and(|s| s == 200));
    let read: u64 = read.map(|entry| entry.response_bytes).sum();
    assert_eq!(report.bytes.from_source, Some(read));
}

const APP: &str = "quay.io/team/app:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_filter_copies_only_the_missing_content() {
    let platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le"];
    let mut world = World::new().await.image("quay.io/team/other:1", platforms);
    let original = world.upstream().image(APP).platforms(platforms).push();
    let images = children(&world);
    let other = entry("quay.io/team/other:1", "platforms = [\"linux/amd64\"]");
    let filtered =
        |platforms: &str| other.clone() + &entry(APP, &format!("platforms = {platforms}"));

    world.reconfigure(filtered(r#"["linux/amd64", "linux/arm64"]"#));
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);

    world.reconfigure(filtered(r#"["linux/amd64", "linux/arm64", "linux/s390x"]"#));
    let wider = world.sync().await;
    let lacked = blobs(&world.source(&format!("quay.io/team/app@{}", images[2])));
    assert_change(&wider, Change { uploads: lacked, manifest_pushes: 2 });

    world.reconfigure(filtered(r#"["linux/amd64"]"#));
    let narrower = world.sync().await;
    assert_change(&narrower, Change { uploads: BTreeSet::new(), manifest_pushes: 1 });

    world.reconfigure(filtered(r#""all""#));
    let all = world.sync().await;
    let lacked = blobs(&world.source(&format!("quay.io/team/app@{}", images[3])));
    assert_change(&all, Change { uploads: lacked, manifest_pushes: 2 });
    assert_eq!(all.row("team/app").digest, Some(original), "nothing was removed, nothing changed");

    world.reconfigure(filtered(r#"["linux/amd64"]"#));
    let again = world.sync().await;
    assert_change(&again, Change { uploads: BTreeSet::new(), manifest_pushes: 1 });
    assert_eq!(again.row("team/app").digest, narrower.row("team/app").digest);
    world.sync().await.assert_no_op();
}

/// The uploads and manifests that a changed filter needs.
struct Change {
    uploads: BTreeSet<ecr_mirror::model::Digest>,
    manifest_pushes: usize,
}

/// Asserts that the changed image, and only it, was copied with these uploads and manifests.
#[track_caller]
fn assert_change(run: &Run, change: Change) {
    run.assert_exit(0);
    assert_eq!(run.row("team/app").outcome, Outcome::Copied);
    assert_eq!(run.row("team/other").outcome, Outcome::UpToDate);
    let uploads = run.uploads();
    assert_eq!(uploads.len(), change.uploads.len(), "no blob twice");
    assert_eq!(uploads.into_iter().collect::<BTreeSet<_>>(), change.uploads);
    assert_eq!(run.manifest_pushes(), change.manifest_pushes);
}

/// Digests of the images in the source's index, in order.
fn children(world: &World) -> Vec<String> {
    let index: serde_json::Value = serde_json::from_slice(&world.source(APP).bytes).unwrap();
    let entries = index["manifests"].as_array().unwrap();
    entries.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()).collect()
}
