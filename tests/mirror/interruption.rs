//! A run that ends anywhere leaves the destination correct, and running again is the recovery.

use std::{collections::BTreeMap, time::Duration};

use ecr_mirror::{
    engine::{Intent, Shutdown},
    model::{Digest, outcome::Outcome},
    sandbox::{Options, Store},
};
use futures::{StreamExt, stream};

use super::{content::assert_whole, world::World};

async fn small(latency: Duration) -> World {
    let world = World::with(Options { latency, ..Options::default() }).await;
    world.upstream().image("quay.io/team/app:1").attestations().push();
    world.upstream().image("quay.io/team/app:2").docker().push();
    world
        .select("quay.io/team/app:1", "platforms = [\"linux/arm64\"]")
        .select("quay.io/team/app:2", "")
}

/// The tags of a repository with what they point to, and its manifests.
type Content = (Vec<(String, Digest)>, Vec<Digest>);

/// All that a registry tells its users, by repository.
fn state(store: &Store) -> BTreeMap<String, Content> {
    let of = |name: String| (name.clone(), (store.tags(&name), store.manifests(&name)));
    store.repositories().into_iter().map(of).collect()
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
        assert!(row.outcome != Outcome::Copied, "{row:?}");
        assert!(row.hint.as_deref().is_some_and(|hint| hint.contains("run again")), "{row:?}");
    }
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
