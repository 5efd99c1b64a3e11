//! Tests several processes that mirror one configuration between them, and the merge of their
//! reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::Duration,
};

use ecr_mirror::sandbox::{Mode, Options, Sandbox, Store};
use futures::{StreamExt, future::join_all, stream};
use http::Method;
use serde_json::Value;

use super::{
    content::{assert_whole, state},
    process::{Ended, ecr_mirror_in, run, until},
    world::{ACCOUNT, ECR},
};

/// Images on Docker Hub in as many repositories: one manifest each.
const IMAGES: usize = 24;

/// The requests a second that the embedded ECR allows.
const RATE: u32 = 60;

/// A standing sandbox and a directory with a configuration.
struct Setup {
    sandbox: Sandbox,
    home: tempfile::TempDir,
}

impl Setup {
    async fn new(faults: &[&str]) -> Self {
        let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let rates = vec![("PutImage", RATE)];
        Self::with(IMAGES, Options { rates, faults, ..Options::default() }).await
    }

    /// This number of images, and registries with these options.
    async fn with(images: usize, options: Options) -> Self {
        let options = Options { mode: Mode::Standing, ..options };
        let sandbox = Sandbox::start(options).await.unwrap();
        let mut toml = format!(
            "[[destination]]\nregistry = \"{ECR}\"\n\
             endpoint_url = \"http://{}\"\nrates = {{ put_image = {RATE} }}\n",
            sandbox.ecr_address()
        );
        for number in 0..images {
            let name = format!("team/app{number}");
            push(&sandbox, &format!("docker.io/{name}"));
            let source = format!("{}/docker.io/{name}", sandbox.address());
            toml += &format!(
                "[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\nrepository = \"{name}\"\n"
            );
        }
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("mirror.toml"), toml).unwrap();
        Self { sandbox, home }
    }

    /// Runs every shard at the same time. Returns the names of the reports and the lock files.
    async fn sync(&self, of: usize) -> Vec<String> {
        let shards = (1..=of).map(|index| {
            let home = self.home.path().to_owned();
            tokio::task::spawn_blocking(move || start(&home, &sync_line(index, of)))
        });
        join_all(shards).await.into_iter().for_each(|ended| drop(ended.unwrap()));
        let files = (1..=of).flat_map(|index| [format!("{index}.json"), format!("{index}.lock")]);
        files.filter(|name| self.home.path().join(name).exists()).collect()
    }

    /// Runs the first of two shards until this number of requests is answered, and kills it.
    async fn kill_first_shard_after(&self, requests: usize) {
        let mut child = command(self.home.path(), &sync_line(1, 2)).spawn().unwrap();
        until("the requests are answered, or the process ends", || {
            self.sandbox.journal().len() >= requests || child.try_wait().unwrap().is_some()
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn ecr(&self) -> Arc<Store> {
        self.sandbox.ecr_store(ACCOUNT, "us-east-1")
    }

    /// Merges these files; returns the report and the end of the process.
    fn merge(&self, files: &[String], options: &str) -> (Value, Ended) {
        let line = format!("report merge {} --json {options}", files.join(" "));
        let ended = run(self.home.path(), &line.split_whitespace().collect::<Vec<_>>());
        let report = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.talk));
        (report, ended)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.home.path().join(name)).unwrap()
    }

    /// The pushes of manifests, by repository.
    fn pushes(&self) -> BTreeMap<String, usize> {
        let mut pushes = BTreeMap::new();
        for entry in self.sandbox.journal() {
            if entry.method == Method::PUT
                && let Some((repository, _)) = entry.path.split_once("/manifests/")
            {
                *pushes.entry(repository.to_owned()).or_default() += 1;
            }
        }
        pushes
    }
}

/// Pushes a small image with the tag `1` to a repository of the embedded upstream.
fn push(sandbox: &Sandbox, repository: &str) {
    let image = sandbox.upstream().image(&format!("{repository}:1"));
    image.platforms(["linux/amd64"]).single().layers(1).layer_size(1 << 10).push();
}

fn sync_line(index: usize, of: usize) -> String {
    format!("sync -q --shard {index}/{of} --report {{shard}}.json --lock {{shard}}.lock")
}

fn start(home: &Path, line: &str) -> Ended {
    command(home, line).output().unwrap().into()
}

fn command(home: &Path, line: &str) -> Command {
    let mut command = ecr_mirror_in(home, &line.split(' ').collect::<Vec<_>>());
    command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_PROFILE");
    command
}

/// The images of a report with their outcome and digest.
fn images(report: &Value) -> BTreeSet<String> {
    let rows = report["images"].as_array().unwrap().iter();
    let key = |row: &Value| {
        let name = row["destination"].as_str().unwrap();
        format!("{name} {} {} {}", row["outcome"], row["digest"], row["source_digest"])
    };
    rows.map(key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_four_and_eight_shards_together_do_what_one_run_does() {
    let runs = [1, 2, 4, 8].map(async |of| {
        let setup = Setup::new(&[]).await;
        let files = setup.sync(of).await;
        assert_eq!(files.len(), 2 * of);
        let (report, ended) = setup.merge(&files, "--lock all.lock --metrics all.prom");
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        assert_eq!(report["totals"]["copied"], IMAGES, "{report}");
        assert_eq!(report["requests"]["throttled"], 0, "PutImage is above its rate");
        let pushes = setup.pushes();
        assert!(pushes.len() == IMAGES && pushes.values().all(|count| *count == 1), "{pushes:?}");
        let metrics = setup.text("all.prom");
        assert!(metrics.contains(&format!("ecr_mirror_images{{outcome=\"copied\"}} {IMAGES}\n")));
        // the addresses differ
        let lock = setup.text("all.lock").replace(&setup.sandbox.address().to_string(), "");
        (images(&report), lock)
    });
    let runs = join_all(runs).await;
    assert_eq!(runs[0].0.len(), IMAGES);
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_together_stay_within_the_pull_limit_and_the_next_runs_copy_the_rest() {
    let setup = Setup::new(&["pull-limit=16"]).await;
    let (first, ended) = setup.merge(&setup.sync(2).await, "");
    assert_eq!(ended.status, Some(3), "{}", ended.talk);
    let spent = first["pulls"][0]["spent"].as_u64().unwrap();
    let copied = first["totals"]["copied"].as_u64().unwrap();
    assert!((8..=16).contains(&spent), "{first}");
    assert_eq!((copied, first["totals"]["failed"].as_u64()), (spent, Some(0)), "{first}");
    setup.sandbox.faults().clear();
    let (second, _) = setup.merge(&setup.sync(2).await, "");
    assert_eq!(second["totals"]["copied"], IMAGES as u64 - copied);
    assert_eq!(second["totals"]["up_to_date"], copied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_shard_is_a_failure_and_a_foreign_one_is_refused() {
    let setup = Setup::new(&[]).await;
    // no image of the others exists: a shard without images has nothing to do
    let line = "sync --shard 2/3 --only docker.io/team/app1 --report empty.json -q";
    let empty = start(setup.home.path(), line);
    assert_eq!((empty.status, empty.out.as_str()), (Some(0), ""), "{}", empty.talk);
    assert!(setup.pushes().is_empty());
    let planned = start(setup.home.path(), "plan -v --shard 1/3 --report 1.json");
    assert!(planned.out.starts_with("shard 1/3: 8 of 24 groups, weight 32 (mean 32, heaviest 32)"));
    let files = ["1.json".to_owned()];
    let (merged, ended) = setup.merge(&files, "--summary all.md");
    assert_eq!((ended.status, &merged["totals"]["planned"]), (Some(1), &Value::from(8)));
    for index in [2, 3] {
        assert!(ended.talk.contains(&format!("error: shard {index} has no report\n")));
    }
    assert!(setup.text("all.md").starts_with("**report merge failed**: 8 planned"));
    let foreign = run(setup.home.path(), &["report", "merge", "1.json", "empty.json"]);
    assert_eq!(foreign.status, Some(2), "{}", foreign.talk);
    assert!(foreign.talk.contains("are of different configurations"), "{}", foreign.talk);
    let unset = start(setup.home.path(), "sync --shard auto");
    assert_eq!(unset.status, Some(2), "{}", unset.talk);
    assert!(unset.talk.contains("`--shard auto` finds no shard"), "{}", unset.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incomplete_shard_leaves_no_merged_lock_file_and_its_own_exit_status() {
    let setup = Setup::with(4, Options::default()).await;
    let files = setup.sync(2).await;
    let whole = setup.text("2.json");
    let mut incomplete: Value = serde_json::from_str(&whole).unwrap();
    incomplete["exit"] = 3.into();
    incomplete["images"][0]["outcome"] = "deferred".into();
    let copied = incomplete["totals"]["copied"].as_u64().unwrap() - 1;
    incomplete["totals"]["copied"] = copied.into();
    incomplete["totals"]["deferred"] = 1.into();
    let write = |report: &str| fs::write(setup.home.path().join("2.json"), report).unwrap();
    write(&incomplete.to_string());
    // with and without the lock file of an earlier run
    let without: Vec<String> = files.iter().filter(|it| *it != "2.lock").cloned().collect();
    for files in [&files, &without] {
        let (report, ended) = setup.merge(files, "--lock all.lock --report all.json");
        assert_eq!((ended.status, &report["exit"]), (Some(3), &3.into()), "{}", ended.talk);
        assert!(ended.talk.contains("warning: the lock file `all.lock` is not written"));
        assert!(!setup.home.path().join("all.lock").exists());
        assert_eq!(setup.text("all.json").parse::<Value>().unwrap(), report);
    }
    // the files of the merge are not its input
    write(&whole);
    for _ in 0..2 {
        let (_, ended) = setup.merge(&[".".to_owned()], "--lock all.lock --report all.json");
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        assert!(setup.text("all.lock").contains("digest = "));
    }
    // complete shards without a lock file each
    let (_, ended) = setup.merge(&without, "--lock all.lock");
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert!(ended.talk.contains("the number of lock files is 1"), "{}", ended.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_was_killed_after_any_request_and_runs_again_has_the_same_result() {
    const IMAGES: usize = 6;
    /// The points of a run at which its process is killed.
    const KILLS: usize = 8;
    let setup = async || {
        let latency = Duration::from_millis(2);
        Setup::with(IMAGES, Options { latency, ..Options::default() }).await
    };
    let whole = setup().await;
    let home = whole.home.path().to_owned();
    let first = tokio::task::spawn_blocking(move || start(&home, &sync_line(1, 2))).await.unwrap();
    assert_eq!(first.status, Some(0), "{}", first.talk);
    let requests = whole.sandbox.journal().len();
    assert!(requests > 4 * KILLS, "{requests}");
    whole.sync(2).await;
    let expected = &state(&whole.ecr());
    let killed = stream::iter((1..requests).step_by(requests / KILLS)).map(|n| async move {
        let setup = setup().await;
        setup.kill_first_shard_after(n).await;
        assert_whole(&setup.ecr());
        let (report, ended) = setup.merge(&setup.sync(2).await, "--lock all.lock");
        assert_eq!(ended.status, Some(0), "killed after {n} requests: {}", ended.talk);
        let count = |outcome: &str| report["totals"][outcome].as_u64().unwrap();
        assert_eq!(count("copied") + count("up_to_date"), IMAGES as u64, "{report}");
        assert_whole(&setup.ecr());
        assert_eq!(state(&setup.ecr()), *expected, "killed after {n} requests");
    });
    killed.buffer_unordered(4).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_shard_lists_a_source_with_a_wildcard_and_all_together_copy_each_image_once() {
    let setup = Setup::with(4, Options::default()).await;
    let listed = ["one", "two", "three"];
    for name in listed {
        push(&setup.sandbox, &format!("ghcr.io/org/{name}"));
    }
    // the last one shares its destination with the namespace
    let more = format!(
        "[[image]]\nsource = \"{0}/ghcr.io/org/*\"\ntags = [\"1\"]\nat_most = 9\n\
         repository = \"org/{{name}}\"\n\
         [[image]]\nsource = \"{0}/docker.io/team/app0\"\ntags = [\"1\"]\n\
         repository = \"org/app0\"\n",
        setup.sandbox.address()
    );
    fs::write(setup.home.path().join("mirror.toml"), setup.text("mirror.toml") + &more).unwrap();
    let (report, ended) = setup.merge(&setup.sync(3).await, "");
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let mut copied: Vec<&str> = Vec::new();
    for row in report["images"].as_array().unwrap() {
        copied.push(row["destination"].as_str().unwrap().split_once('/').unwrap().1);
    }
    copied.sort_unstable();
    let mut expected: Vec<String> = (0..4).map(|number| format!("team/app{number}:1")).collect();
    expected.extend(["app0"].iter().chain(&listed).map(|name| format!("org/{name}:1")));
    expected.sort_unstable();
    assert_eq!(copied, expected);
    let lists = setup.sandbox.journal().into_iter().filter(|it| it.path.contains("/_catalog"));
    assert_eq!(lists.count(), 1, "the other shards do not ask for the namespace");
    let pushes = setup.pushes();
    assert!(pushes.values().all(|count| *count == 1), "{pushes:?}");
    // the weights: 1 image of 4 platforms each, and the largest number of repositories
    let planned = start(setup.home.path(), "plan -v --shard 1/3");
    let line = planned.out.lines().next().unwrap();
    assert!(line.starts_with("shard 1/3: 1 of 4 groups, weight 17 "), "{line}");
}
