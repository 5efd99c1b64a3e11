//! Tests that an interrupted run leaves a correct destination at every point, and that the next run
//! completes it.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::outcome::Outcome,
    sandbox::{self, Options, Sandbox, Store},
};
use futures::{StreamExt, stream};

use super::{
    content::{assert_whole, state},
    process::{ecr_mirror_in, until},
    signals::deadlines,
    world::{ACCOUNT, ECR, Run, World},
};

async fn small(latency: Duration) -> World {
    let world = World::with(Options { latency, ..Options::default() }).await;
    world.upstream().image("quay.io/team/app:1").attestations().push();
    world.upstream().image("quay.io/team/app:2").docker().push();
    world
        .select("quay.io/team/app:1", "platforms = [\"linux/arm64\"]")
        .select("quay.io/team/app:2", "")
}

/// The destination of [`small`] after a run, and one source tag that has moved since.
async fn moved(latency: Duration) -> World {
    let world = small(latency).await;
    world.sync().await.assert_exit(0);
    world.upstream().image("quay.io/team/app:2").seed(2).push();
    world
}

/// Runs until this number of requests is answered, then drops the run, as a kill would.
async fn killed_after(world: &World, requests: usize) {
    let before = world.sandbox.journal().len();
    let answered = || world.sandbox.journal().len() - before >= requests;
    tokio::select! {
        _ = world.sync() => {}
        () = until("the requests are answered", answered) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_killed_after_any_request_leaves_no_incomplete_tag() {
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
async fn a_moving_tag_points_to_its_old_or_new_image_when_the_run_is_killed() {
    let latency = Duration::from_millis(1);
    let whole = moved(latency).await;
    let tags = |world: &World| world.ecr().tags("team/app");
    let (old, before) = (&tags(&whole), whole.sandbox.journal().len());
    whole.sync().await.assert_exit(0);
    let (new, expected) = (&tags(&whole), &state(&whole.ecr()));
    assert_ne!(old, new);
    let requests = whole.sandbox.journal().len() - before;
    let killed = stream::iter(1..=requests).map(|n| async move {
        let world = moved(latency).await;
        killed_after(&world, n).await;
        assert_whole(&world.ecr());
        let found = tags(&world);
        assert!(found == *old || found == *new, "killed after {n} requests: {found:?}");
        world.sync().await.assert_exit(0);
        assert_eq!(state(&world.ecr()), *expected, "killed after {n} requests");
    });
    killed.buffer_unordered(32).collect::<()>().await;
}

/// Registries, and the program as a process that mirrors between them.
struct Program {
    sandbox: Sandbox,
    home: tempfile::TempDir,
}

impl Program {
    /// Creates this number of images. Every answer is delayed.
    async fn new(images: usize) -> Self {
        let latency = Duration::from_millis(5);
        let standing = Options { mode: sandbox::Mode::Standing, latency, ..Options::default() };
        let sandbox = Sandbox::start(standing).await.unwrap();
        let mut toml = format!(
            "[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"http://{}\"\n",
            sandbox.ecr_address()
        );
        for n in 0..images {
            sandbox.upstream().image(&format!("quay.io/team/app{n}:1")).attestations().push();
            toml += &format!(
                "[[image]]\nsource = \"{}/quay.io/team/app{n}\"\ntags = [\"1\"]\n\
                 repository = \"app{n}\"\nplatforms = [\"linux/arm64\"]\n",
                sandbox.address()
            );
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("mirror.toml"), toml).unwrap();
        Self { sandbox, home }
    }

    fn ecr(&self) -> Arc<Store> {
        self.sandbox.ecr_store(ACCOUNT, "us-east-1")
    }

    fn spawn(&self, more: &[&str]) -> Child {
        self.command(more).spawn().unwrap()
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = ecr_mirror_in(self.home.path(), &[&["sync"], more].concat());
        command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
        command.env_remove("AWS_PROFILE").env_remove("AWS_SESSION_TOKEN");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs the program to its end and returns its exit status.
    async fn ended(&self, more: &[&str]) -> Option<i32> {
        let mut child = self.spawn(more);
        tokio::task::spawn_blocking(move || child.wait().unwrap().code()).await.unwrap()
    }

    /// Runs the program until this number of requests is answered, and kills it.
    async fn killed_after(&self, requests: usize, more: &[&str]) {
        let mut child = self.spawn(more);
        until("the requests are answered, or the process ends", || {
            self.sandbox.journal().len() >= requests || child.try_wait().unwrap().is_some()
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Runs the program past this deadline and kills it. Returns `true` if it was copying an image.
    async fn killed_after_deadline(&self, deadline: &str) -> bool {
        let log = self.home.path().join("log");
        let before = self.sandbox.journal().len();
        let mut command = self.command(&["--concurrency", "1", "--deadline", deadline]);
        let mut child = command.stderr(File::create(&log).unwrap()).spawn().unwrap();
        until("the deadline is reached, or the process ends", || {
            fs::read_to_string(&log).unwrap().contains("deadline reached")
                || child.try_wait().unwrap().is_some()
        })
        .await;
        let reads_blob =
            self.sandbox.journal()[before..].iter().any(|e| e.path.contains("/blobs/"));
        let is_copying = reads_blob && child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        is_copying
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_no_incomplete_tag_and_the_next_one_completes() {
    let whole = Program::new(2).await;
    assert_eq!(whole.ended(&[]).await, Some(0));
    let (expected, requests) = (&state(&whole.ecr()), whole.sandbox.journal().len());
    assert!(requests > 20, "{requests}");
    let killed = stream::iter((1..requests).step_by(requests / 10)).map(|n| async move {
        let program = Program::new(2).await;
        program.killed_after(n, &[]).await;
        assert_whole(&program.ecr());
        assert_eq!(program.ended(&[]).await, Some(0), "killed after {n} requests");
        assert_whole(&program.ecr());
        assert_eq!(state(&program.ecr()), *expected, "killed after {n} requests");
    });
    killed.buffer_unordered(4).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_after_its_deadline_leaves_no_incomplete_tag() {
    let program = Program::new(8).await;
    // a running image has a grace period, and the kill falls into it
    program.sandbox.faults().add("slow=2000@upstream".parse().unwrap());
    let mut is_in_grace = false;
    for deadline in deadlines() {
        is_in_grace = program.killed_after_deadline(&deadline).await;
        assert_whole(&program.ecr());
        if is_in_grace {
            break;
        }
    }
    assert!(is_in_grace, "the kill falls into the grace period");
    program.sandbox.faults().clear();
    assert_eq!(program.ended(&["--deadline", "1h"]).await, Some(0));
    assert_whole(&program.ecr());
    let reached = (0..8).filter(|n| program.ecr().tag(&format!("app{n}"), "1").is_some());
    assert_eq!(reached.count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_reports_the_images_that_it_copied_as_interrupted() {
    let world = small(Duration::ZERO).await;
    // no image gets further than its first manifest
    world.fault("silent@ecr:PUT/manifests/");
    let run = interrupt_after_faults(&world).await;
    for row in &run.report.images {
        assert_eq!(row.outcome, Outcome::Interrupted, "{row:?}");
        assert!(row.hint.as_deref().is_some_and(|hint| hint.contains("run again")), "{row:?}");
    }
    run.assert_exit(3);
    assert_whole(&world.ecr());
    world.sandbox.faults().clear();
    world.sync().await.assert_exit(0);
}

/// Runs until each fault has occurred, then drops the running images.
async fn interrupt_after_faults(world: &World) -> Run {
    let shutdown = Shutdown::default();
    let (run, ()) = tokio::join!(world.run(Mode::Mirror, shutdown.clone()), async {
        until("the faults strike", || world.sandbox.faults().idle().is_empty()).await;
        shutdown.drop_running();
    });
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stopped_before_its_start_writes_nothing() {
    let world = small(Duration::ZERO).await;
    let shutdown = Shutdown::default();
    shutdown.stop();
    let run = world.run(Mode::Mirror, shutdown).await;
    run.assert_exit(3).assert_all(Outcome::NotStarted);
    assert_eq!(run.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_interrupted_while_listing_or_logging_in_reports_its_images_as_not_started() {
    let listing = World::new()
        .await
        .configured("[[image]]\nsource = \"quay.io/team/app\"\nselect = { glob = [\"*\"] }");
    let signing_in = small(Duration::ZERO).await.configured(
        "[registry.\"quay.io\"]\n\
         secret = \"arn:aws:secretsmanager:us-east-1:123456789012:secret:quay-AbCdEf\"",
    );
    for (world, silent) in [(listing, "silent@upstream"), (signing_in, "silent@ecr:POST")] {
        world.fault(silent);
        let run = interrupt_after_faults(&world).await;
        run.assert_exit(3).assert_all(Outcome::NotStarted);
        assert_eq!(run.writes(), Vec::<String>::new());
    }
}
