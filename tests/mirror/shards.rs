//! Tests several processes that mirror one configuration between them, and the merge of their
//! reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use futures::future::join_all;
use http::Method;
use serde_json::Value;

use super::process::{Ended, ecr_mirror_in, run};

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
        let options = Options {
            mode: Mode::Standing,
            rates: vec![("PutImage", RATE)],
            faults: faults.iter().map(|fault| fault.parse().unwrap()).collect(),
            ..Options::default()
        };
        let sandbox = Sandbox::start(options).await.unwrap();
        let mut toml = format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n\
             endpoint_url = \"http://{}\"\nrates = {{ put_image = {RATE} }}\n",
            sandbox.ecr_address()
        );
        for number in 0..IMAGES {
            let name = format!("team/app{number}");
            let image = sandbox.upstream().image(&format!("docker.io/{name}:1"));
            image.platforms(["linux/amd64"]).single().layers(1).layer_size(1 << 10).push();
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
            tokio::task::spawn_blocking(move || {
                let arguments = format!(
                    "sync -q --shard {index}/{of} --report {{shard}}.json --lock {{shard}}.lock"
                );
                start(&home, &arguments)
            })
        });
        join_all(shards).await.into_iter().for_each(|ended| drop(ended.unwrap()));
        let files = (1..=of).flat_map(|index| [format!("{index}.json"), format!("{index}.lock")]);
        files.filter(|name| self.home.path().join(name).exists()).collect()
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

fn start(home: &Path, line: &str) -> Ended {
    let mut command = ecr_mirror_in(home, &line.split(' ').collect::<Vec<_>>());
    command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
    command.env("AWS_EC2_METADATA_DISABLED", "true").env_remove("AWS_PROFILE");
    command.output().unwrap().into()
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
