//! A run that ends anywhere leaves the destination correct, and running again is the recovery.

use std::time::Duration;

use ecr_mirror::{
    engine::{Intent, Shutdown},
    model::outcome::Outcome,
    sandbox::Options,
};
use futures::{StreamExt, stream};

use super::{
    content::{assert_whole, state},
    world::World,
};

async fn small(latency: Duration) -> World {
    let world = World::with(Options { latency, ..Options::default() }).await;
    world.upstream().image("quay.io/team/app:1").attestations().push();
    world.upstream().image("quay.io/team/app:2").docker().push();
    world
        .select("quay.io/team/app:1", "platforms = [\"linux/arm64\"]")
        .select("quay.io/team/app:2", "")
}

/// Runs until so many requests were answered, then is no more: like a process that is killed.
async fn killed_after(world: &World, requests: usize) {
    let watch = async {
        while world.sandbox.journal().len() < requests {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    };
    tokio::select! {
        _ = world.sync() => {}
        () = watch => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_after_any_request_leaves_nothing_half_done() {
    let latency = Duration::from_millis(1);
    let whole = small(latency).await;
    whole.sync().await.assert_exit(0);
    let expected = state(&whole.ecr());
    let requests = whole.sandbox.journal().len();
    assert!(requests > 20, "{requests}");

    let killed = stream::iter(1..requests).map(|n| async move {
        let world = small(latency).await;
        killed_after(&world, n).await;
        assert_whole(&world.ecr());
        world.sync().await.assert_exit(0);
        assert_whole(&world.ecr());
        (n, state(&world.ecr()))
    });
    // most of the time is waiting
    let mut recovered = killed.buffer_unordered(32);
    while let Some((n, state)) = recovered.next().await {
        assert_eq!(state, expected, "killed after {n} requests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_end_says_what_it_did_not_do() {
    let world = small(Duration::from_millis(5)).await;
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run(Intent::Mirror, shutdown.clone()), async {
        while world.sandbox.journal().len() < 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        shutdown.drop_running();
    });
    for row in &run.report.images {
        assert_eq!(row.outcome, Outcome::NotStarted, "{row:?}");
        assert!(row.hint.as_deref().is_some_and(|hint| hint.contains("run again")), "{row:?}");
    }
    run.assert_exit(3);
    assert_whole(&world.ecr());
    world.sync().await.assert_exit(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_before_it_began_starts_nothing() {
    let world = small(Duration::ZERO).await;
    let shutdown = Shutdown::default();
    shutdown.stop();
    let run = world.run(Intent::Mirror, shutdown).await;
    run.assert_exit(3).assert_all(Outcome::NotStarted);
    assert_eq!(run.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_ended_while_it_lists_or_signs_in_reports_what_is_left() {
    let listing = World::new()
        .await
        .configured("[[image]]\nsource = \"quay.io/team/app\"\nselect = { glob = [\"*\"] }");
    let signing_in = small(Duration::ZERO).await.configured(
        "[registry.\"quay.io\"]\n\
         secret = \"arn:aws:secretsmanager:us-east-1:123456789012:secret:quay-AbCdEf\"",
    );
    for (world, silent) in [(listing, "silent@upstream"), (signing_in, "silent@ecr:POST")] {
        world.fault(silent);
        let shutdown = Shutdown::default();
        let ended = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            shutdown.drop_running();
        };
        let (run, ()) = tokio::join!(world.run(Intent::Mirror, shutdown.clone()), ended);
        run.assert_exit(3).assert_all(Outcome::NotStarted);
        assert_eq!(run.writes(), Vec::<String>::new());
    }
}
