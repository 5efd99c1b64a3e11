//! Tests tag selections and lock files.

use std::{fs, process::Stdio};

use ecr_mirror::{
    engine::{Mode, Shutdown},
    model::outcome::Outcome,
    sandbox::{self, Options, Sandbox, upstream::Manifest},
};
use http::StatusCode;
use serde_json::Value;

use super::{
    memory::{LIMIT, wait_and_measure},
    process::{Registry, ecr_mirror_in, run},
    world::{ECR, Run, World},
};

const PROMETHEUS: &str = "[[image]]\nsource = \"quay.io/prometheus/prometheus\"\n\
    select = { semver = \">=2.50, <4\", newest = 3, exclude = [\"*-rc*\"] }\n";

/// An `[[image]]` table with these keys.
fn image(source: &str, keys: &str) -> String {
    format!("[[image]]\nsource = \"{source}\"\n{keys}\n")
}

/// Tags of the sources, in the order of the rows.
fn tags(run: &Run) -> Vec<&str> {
    let tag = |source: &'_ str| source.rfind(':').map_or(source.len(), |at| at + 1);
    run.report.images.iter().map(|row| &row.source[tag(&row.source)..]).collect()
}

/// Counts the tag listings. Later pages of a listing are not counted.
fn listings(run: &Run) -> usize {
    let is_first = |path: &str| {
        (path.contains("/tags/list") && !path.contains("last="))
            || (path.contains("/tags?") || path.contains("/tag/?")) && path.contains("page=1&")
            || path.ends_with("page=1")
    };
    run.journal
        .iter()
        .filter(|entry| is_first(&entry.path) && entry.status == Some(StatusCode::OK))
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_tags_of_a_range_are_mirrored_and_a_second_run_moves_nothing() {
    let world = World::new().await.configured(PROMETHEUS);
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(tags(&first), ["v3.1.0", "v3.0.1", "v3.0.0"]);
    assert_eq!(listings(&first), 1);
    let second = world.sync().await;
    second.assert_no_op();
    assert_eq!((tags(&second), listings(&second)), (tags(&first), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_one_repository_share_one_listing_and_exact_tags_need_none() {
    let world = World::new()
        .await
        .configured(PROMETHEUS)
        .configured(&image(
            "quay.io/prometheus/prometheus",
            "select = { max_age = \"36500d\", regex = [\".*rc.*\"], at_least = 4 }\nrepository = \"rc\"",
        ))
        .configured(&image("quay.io/coreos/etcd", "tags = [\"v3.5.17\", \"v3.5.16\"]"));
    let both = world.plan(Mode::Plan).await;
    both.assert_exit(0);
    let expected = [
        "v3.1.0",
        "v3.0.1",
        "v3.0.0",
        "v3.1.0-rc.1",
        "v3.1.0-rc.0",
        "v3.0.0-rc.1",
        "v3.0.0-rc.0",
        "v3.5.17",
        "v3.5.16",
    ];
    assert_eq!(tags(&both), expected);
    assert_eq!(listings(&both), 1);

    let exact = World::new().await.select("docker.io/library/nginx:1.27", "");
    let run = exact.sync().await;
    run.assert_exit(0);
    assert_eq!(listings(&run), 0, "{:#?}", run.source_requests());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_too_few_tags_fails_and_the_others_are_mirrored() {
    let world = World::new()
        .await
        .select("registry.k8s.io/pause:3.10", "")
        .configured(&image("quay.io/coreos/etcd", "select = { semver = \">=4\" }"))
        .configured(&image("ghcr.io/team/missing", "select = { newest = 1 }"))
        .select("quay.io/coreos/etcd:v3.5.17", "");
    let run = world.sync().await;
    run.assert_exit(1);
    let outcomes: Vec<Outcome> = run.report.images.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Copied, Outcome::Failed, Outcome::Failed, Outcome::Copied]);
    let [_, few, gone, _] = &run.report.images[..] else { panic!("{:?}", run.report.images) };
    assert_eq!(
        (few.source.as_str(), few.destination.as_str()),
        ("quay.io/coreos/etcd", format!("{ECR}/coreos/etcd").as_str())
    );
    let error = few.error.as_deref().unwrap();
    assert!(
        error.contains("`select` matches 0 of 5 tags, `at_least` is 1\n  4 tags: not in"),
        "{error}"
    );
    let error = gone.error.as_deref().unwrap();
    assert!(error.starts_with("cannot list the tags of ghcr.io/team/missing: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_stopped_before_its_listing_reports_the_selection_as_not_started() {
    let world = World::new().await.configured(PROMETHEUS);
    let shutdown = Shutdown::default();
    shutdown.stop();
    let run = world.run(Mode::Mirror, shutdown).await;
    run.assert_exit(3).assert_all(Outcome::NotStarted);
    assert_eq!(run.report.images[0].source, "quay.io/prometheus/prometheus");
    assert_eq!(run.writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_below_the_minimum_age_are_not_selected() {
    let rule = |age: &str| {
        image(
            "python",
            &format!("select = {{ glob = [\"3.13*\"], min_age = \"{age}\", at_least = 0 }}"),
        )
    };
    let mut world = World::new().await.configured(&rule("1d"));
    let old = world.plan(Mode::Plan).await;
    assert_eq!(tags(&old).len(), 6, "{:?}", tags(&old));
    assert_eq!(listings(&old), 1, "{:#?}", old.source_requests());
    world.reconfigure(rule("36500d"));
    let young = world.plan(Mode::Plan).await;
    young.assert_exit(0);
    assert_eq!(young.report.images.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_without_a_push_time_are_omitted_with_a_warning() {
    let world = World::new().await.configured(&image(
        "ghcr.io/fluxcd/source-controller",
        "select = { semver = \">=1.3\", min_age = \"3d\" }",
    ));
    let run = world.sync().await;
    run.assert_exit(0);
    assert_eq!(run.report.images.len(), 0);
    assert_eq!(
        run.warnings,
        [
            "ghcr.io/fluxcd/source-controller: 3 tags are skipped: ghcr.io does not report push times"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_write_the_same_tag_fail_before_the_first_write() {
    let world = World::new()
        .await
        .configured(&image("quay.io/coreos/etcd", "select = { newest = 2 }\nrepository = \"one\""))
        .configured(&image("registry.k8s.io/etcd", "tags = [\"v3.5.17\"]\nrepository = \"one\""));
    let run = world.sync().await;
    run.assert_exit(1);
    let outcomes: Vec<Outcome> = run.report.images.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Copied, Outcome::Failed]);
    let error = |at: usize| run.report.images[at].error.clone().unwrap();
    let place = format!("also writes {ECR}/one:v3.5.17");
    assert_eq!(error(0), format!("registry.k8s.io/etcd:v3.5.17 {place}"));
    assert_eq!(error(2), format!("quay.io/coreos/etcd:v3.5.17 {place}"));
    let writes = run.writes();
    assert!(!writes.iter().any(|write| write.ends_with("/manifests/v3.5.17")), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn retag_can_put_the_digest_into_the_tag() {
    let world = World::new()
        .await
        .select("docker.io/library/alpine:3.20", "retag = \"{tag}-{digest8}\"")
        .configured(&image(
            "quay.io/coreos/etcd",
            "select = { newest = 1 }\nretag = \"{digest8}\"",
        ));
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    let digest = world.source("docker.io/library/alpine:3.20").digest;
    assert_eq!(
        first.row("/alpine").destination,
        format!("{ECR}/library/alpine:3.20-{}", &digest.hex()[..8])
    );
    world.sync().await.assert_no_op();
    world.upstream().content().rebuild_tag("docker.io", "library/alpine", "3.20");
    let moved = world.sync().await;
    assert_ne!(moved.row("/alpine").destination, first.row("/alpine").destination);
    assert_eq!(moved.row("/alpine").outcome, Outcome::Copied);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_ecr_are_selected_by_push_time_without_a_pull() {
    let mut world = World::new().await.configured(PROMETHEUS);
    world.sync().await.assert_exit(0);
    world.reconfigure(
        image(
            &format!("{ECR}/prometheus/prometheus"),
            "select = { by = \"pushed\", newest = 2, max_age = \"1d\" }\nrepository = \"copy\"",
        ) + "\n[[destination]]\nregistry = \"210987654321.dkr.ecr.eu-west-1.amazonaws.com\"\n",
    );
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.images.len(), 2);
    let described =
        run.journal.iter().filter(|entry| entry.operation.as_deref() == Some("DescribeImages"));
    assert_eq!(described.count(), 1);
}

/// A standing sandbox, and the address of its upstreams.
async fn standing() -> (Sandbox, String) {
    let options = Options { mode: sandbox::Mode::Standing, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let address = sandbox.address().to_string();
    (sandbox, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_run_mirrors_the_locked_digests_after_tags_moved() {
    let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sandbox, upstream) = standing().await;
    let registry = Registry::serve(state.path());
    let configure = |prefix: &str| {
        let toml = format!(
            "[[destination]]\nregistry = \"{}\"\nprefix = \"{prefix}\"\n\
             [[image]]\nsource = \"{upstream}/quay.io/prometheus/prometheus\"\n\
             select = {{ semver = \">=3\", newest = 2 }}\nrepository = \"prometheus\"\n\
             [[image]]\nsource = \"{upstream}/quay.io/coreos/etcd\"\ntags = [\"v3.5.17\"]\n",
            registry.address
        );
        fs::write(home.path().join("mirror.toml"), toml).unwrap();
    };
    let sync = |more: &[&str]| {
        let ended = run(home.path(), &[&["sync", "--json"], more].concat());
        assert_eq!(ended.status, Some(0), "{}\n{}", ended.out, ended.talk);
        let report: Value = serde_json::from_str(&ended.out).unwrap();
        let digests = report["images"].as_array().unwrap().iter();
        digests.map(|row| row["digest"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    configure("then");
    let then = sync(&["--lock", "mirror.lock"]);
    let lock = fs::read_to_string(home.path().join("mirror.lock")).unwrap();
    assert_eq!(lock.matches("[[image]]").count(), 3, "{lock}");
    assert!(then.iter().all(|digest| lock.contains(digest)), "{lock}");
    assert_eq!(sync(&["--lock", "mirror.lock"]), then);
    assert_eq!(fs::read_to_string(home.path().join("mirror.lock")).unwrap(), lock);

    let content = sandbox.upstream().content();
    content.rebuild_tag("quay.io", "coreos/etcd", "v3.5.17");
    content.remove_tag("quay.io", "prometheus/prometheus", "v3.1.0");
    configure("locked");
    let listed = sandbox.journal().len();
    let mut locked = sync(&["--locked", "mirror.lock"]);
    let mut expected = then.clone();
    locked.sort();
    expected.sort();
    assert_eq!(locked, expected);
    let requests = sandbox.journal().split_off(listed);
    assert!(!requests.iter().any(|entry| entry.path.contains("/tags/")), "nothing is listed");
    configure("now");
    let now = sync(&[]);
    assert!(now.iter().zip(&then).all(|(now, then)| now != then), "{now:?}");

    let other = fs::read_to_string(home.path().join("mirror.toml")).unwrap();
    fs::write(home.path().join("mirror.toml"), other.replace("v3.5.17", "v3.5.16")).unwrap();
    let ended = run(home.path(), &["sync", "--locked", "mirror.lock"]);
    assert_eq!(ended.status, Some(2));
    assert!(ended.talk.contains("coreos/etcd:v3.5.16` is not in the lock"), "{}", ended.talk);
}

#[test]
fn a_verbose_plan_explains_the_decision_for_every_tag() {
    let home = tempfile::tempdir().unwrap();
    let toml = format!("[[destination]]\nregistry = \"{ECR}\"\n{PROMETHEUS}");
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let plan = run(home.path(), &["plan", "--sandbox=state", "-v"]);
    assert_eq!(plan.status, Some(0), "{}", plan.talk);
    let about = |tag: &str| {
        let subject = format!("quay.io/prometheus/prometheus:{tag} ");
        let lines: Vec<&str> = plan.talk.lines().filter(|line| line.contains(&subject)).collect();
        assert_eq!(lines.len(), 1, "{tag}: {}", plan.talk);
        lines[0].split_once(&subject).unwrap().1.to_owned()
    };
    for (tag, expected) in [
        ("v3.1.0", "is selected: in the range `>=2.50, <4`, among the 3 newest by version"),
        ("v3.1.0-rc.1", "is skipped: `*-rc*` of `exclude` matches"),
        ("v2.55.1", "is skipped: 3 newer tags are selected"),
        ("v2.48.1", "is skipped: not in the range `>=2.50, <4`"),
        ("latest", "is skipped: not a version"),
    ] {
        assert_eq!(about(tag), expected);
    }
    let explained = plan.talk.lines().filter(|line| line.contains("/prometheus:")).count();
    assert_eq!(explained, 17, "{}", plan.talk);
    let quiet = run(home.path(), &["plan", "--sandbox=state"]);
    assert!(!quiet.talk.contains("is left"), "{}", quiet.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn selecting_from_twenty_thousand_tags_takes_little_memory_and_one_listing() {
    const TAGS: usize = 20_000;
    let (sandbox, upstream) = standing().await;
    let content = sandbox.upstream().content();
    let Manifest { digest, media_type, bytes } = content
        .manifest("quay.io", "a/b", &"1".parse().map(ecr_mirror::model::TagOrDigest::Tag).unwrap())
        .unwrap();
    for number in 0..TAGS {
        let manifest = Manifest {
            digest: digest.clone(),
            media_type: media_type.clone(),
            bytes: bytes.clone(),
        };
        let tag = format!(
            "{}.{}.{}-a-rather-long-variant-{number}",
            number / 400,
            number / 20 % 20,
            number % 20
        );
        content.put_manifest("registry.example.com", "big/app", Some(&tag), manifest);
    }
    let home = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[[image]]\nsource = \"{upstream}/registry.example.com/big/app\"\n\
         select = {{ glob = [\"*\"], semver = \">=1\", newest = 3 }}\n"
    );
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let before = sandbox.journal().len();
    let mut client = ecr_mirror_in(home.path(), &["images", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (status, measured) = tokio::task::block_in_place(|| wait_and_measure(&mut client));
    assert!(status.success(), "{status}");
    assert!(measured.peak > 0 && measured.peak < LIMIT, "{measured:?}");
    let listing: Value = serde_json::from_reader(client.stdout.take().unwrap()).unwrap();
    let sources: Vec<&str> = listing["images"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["source"].as_str())
        .collect();
    let last =
        format!("{upstream}/registry.example.com/big/app:49.19.19-a-rather-long-variant-19999");
    assert_eq!((sources.len(), sources[0]), (3, last.as_str()));
    let requests = sandbox.journal().split_off(before);
    let mut pages: Vec<&str> = requests
        .iter()
        .filter(|entry| entry.path.contains("/tags/list") && entry.status == Some(StatusCode::OK))
        .map(|entry| entry.path.as_str())
        .collect();
    assert_eq!(pages.len(), TAGS / 1000);
    pages.sort_unstable();
    pages.dedup();
    assert_eq!(pages.len(), TAGS / 1000, "no page is read twice");
}
