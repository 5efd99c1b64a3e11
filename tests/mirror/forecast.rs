//! Tests that a plan forecasts the bytes and blobs that the run moves, and the cost of a run with nothing
//! to do.

use std::collections::BTreeMap;

use ecr_mirror::{
    engine::Mode,
    model::{
        Digest,
        outcome::{Outcome, Report},
    },
    sandbox::{BlobMounting, Options},
};

use super::world::{World, entry};

/// Several repositories with a common base, one existing image, two destinations.
async fn world(blob_mounting: BlobMounting) -> World {
    let mut world = World::with(Options { blob_mounting, ..Options::default() }).await;
    let there = "quay.io/team/there:1";
    world.upstream().image(there).base("debian").push();
    world.reconfigure(destinations() + &entry(there, ""));
    world.sync().await.assert_exit(0);
    // with mounting, the order of images decides whether the base is read for one destination or
    // both, so every image goes to both
    let only_one = match blob_mounting {
        BlobMounting::Off => "destinations = [\"east\"]",
        BlobMounting::On => "",
    };
    for (name, keys) in [
        ("a", ""),
        ("b", "platforms = [\"linux/arm64\"]"),
        ("c", "attestations = \"drop\""),
        ("d", only_one),
        ("e", "flatten = true\nplatforms = [\"linux/amd64\"]"),
    ] {
        let reference = format!("quay.io/team/{name}:1");
        world.upstream().image(&reference).base("debian").attestations().push();
        world = world.select(&reference, keys);
    }
    world.upstream().image("quay.io/team/there:2").base("debian").push();
    world.select("quay.io/team/there:2", "")
}

fn destinations() -> String {
    let destination = |name: &str, region: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\n\
             registry = \"123456789012.dkr.ecr.{region}.amazonaws.com\"\n"
        )
    };
    destination("east", "us-east-1") + &destination("west", "eu-west-1")
}

fn bytes_by_row(report: &Report) -> Vec<(&str, Option<u64>)> {
    report.images.iter().map(|row| (row.destination.as_str(), row.bytes_pushed)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_forecasts_the_exact_bytes_and_blobs_of_the_run() {
    let modes = [BlobMounting::Off, BlobMounting::On].map(assert_exact_forecast);
    futures::future::join_all(modes).await;
}

async fn assert_exact_forecast(mounting: BlobMounting) {
    let world = world(mounting).await;
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    plan.assert_exit(0);
    assert_eq!(plan.writes(), Vec::<String>::new(), "{mounting:?}");
    let sync = world.sync().await;
    sync.assert_exit(0);
    let (plan, sync) = (&plan.report, &sync.report);
    assert_eq!(plan.totals.planned, sync.totals.copied);
    assert_eq!(plan.totals.up_to_date, sync.totals.up_to_date);
    assert_eq!(plan.bytes.to_destination, sync.bytes.to_destination, "{mounting:?}");
    // images that need a blob at the same time share one read
    assert!(sync.bytes.from_source <= plan.bytes.from_source, "{mounting:?}");
    assert_eq!(plan.blobs, sync.blobs, "{mounting:?}");
    assert_eq!(digests(plan), digests(sync), "filtered digests included");
    if mounting == BlobMounting::Off {
        assert_eq!(bytes_by_row(plan), bytes_by_row(sync));
    }
    let again = world.plan(Mode::PlanWithoutPulls).await;
    again.assert_exit(0).assert_all(Outcome::UpToDate);
    assert_eq!(again.report.bytes.to_destination, Some(0));
}

/// The formula of `docs/aws.md`, "Cost".
#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_nothing_to_do_sends_the_documented_requests() {
    let mut world = World::new().await;
    let push = |world: &World, reference: &str| world.upstream().image(reference).push();
    for (repository, tags, keys) in [
        ("registry.example/team/whole", 3, ""),
        ("registry.example/team/part", 2, "platforms = [\"linux/arm64\"]"),
        ("ghcr.io/team/one", 1, ""),
        ("ghcr.io/team/two", 2, ""),
    ] {
        for tag in 1..=tags {
            let reference = format!("{repository}:{tag}");
            push(&world, &reference);
            world = world.select(&reference, keys);
        }
    }
    let pinned = push(&world, "registry.example/team/pinned:1");
    world = world.select(&format!("registry.example/team/pinned:1@{pinned}"), "");
    for tag in ["1.0.0", "1.1.0", "1.2.0"] {
        push(&world, &format!("registry.example/team/selected:{tag}"));
    }
    world = world.configured(
        "[[image]]\nsource = \"registry.example/team/selected\"\nselect = { newest = 2 }\n",
    );
    world.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    let run = world.sync().await;
    run.assert_no_op();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &run.journal {
        let path = entry.path.split('?').next().unwrap_or_default();
        let last: Vec<&str> = path.rsplit('/').take(2).collect();
        let of_registry = match &last[..] {
            [_, "manifests"] => "manifests",
            [last, ..] => last,
            [] => "",
        };
        let what = entry.operation.as_deref().unwrap_or(of_registry);
        // one of a source over TLS is a GET: it opens the connection while ECR is asked
        let method = if what == "manifests" { "HEAD" } else { entry.method.as_str() };
        *counts.entry(format!("{method} {what}")).or_default() += 1;
    }
    let tags = 3 + 2 + 3 + 2;
    let expected = [
        ("GET list", 1),
        ("GET token", 2),
        ("HEAD manifests", tags + 1),
        ("POST BatchGetImage", 1),
        ("POST ListImages", 6),
    ];
    let counts: Vec<(&str, usize)> =
        counts.iter().map(|(it, count)| (it.as_str(), *count)).collect();
    assert_eq!(counts, expected);
}

fn digests(report: &Report) -> Vec<Option<Digest>> {
    report.images.iter().map(|row| row.digest.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_reports_the_failures_of_the_run() {
    let world = World::new()
        .await
        .image("quay.io/team/app:1", ["linux/amd64"])
        .select("quay.io/team/private-app:1", "")
        .select("quay.io/team/app:2", "platforms = [\"linux/riscv64\"]");
    world.upstream().image("quay.io/team/app:2").push();
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    plan.assert_exit(1);
    assert_eq!(plan.row("quay.io/team/app:1").outcome, Outcome::Planned);
    assert_eq!(plan.row("quay.io/team/app:2").outcome, Outcome::Failed);
    assert_eq!(plan.row("private").outcome, Outcome::Failed);
}
