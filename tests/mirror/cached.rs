//! Tests images that come through ECR's pull-through cache: pulled in the same run as mirrored
//! images, and listed in the same report.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use ecr_mirror::{
    config::{Cache, CacheTarget, Config},
    engine::{Mode, Options, Shutdown},
    model::{
        DestinationId,
        event::Silent,
        outcome::{Outcome, Report},
        pull_through::{SecretSettings, Upstream, UpstreamCredentials},
    },
    run::{
        registries,
        sync::{self, ImagesToSync, SyncRequest},
    },
    sandbox,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    process::{run, until},
    world::{ECR, TRANSFERS, World, blobs, entry, is_ecr, secrets},
};

const OTHER: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

const QUAY: &str = "[[pull_through]]\nupstream = \"quay\"\n";

/// Creates the rule of [`QUAY`] in the registry of [`ECR`].
async fn create_rule(world: &World) {
    let rule = world.aws().create_pull_through_cache_rule();
    rule.ecr_repository_prefix("quay").upstream_registry_url("quay.io").send().await.unwrap();
}

/// A configuration in which each entry uses a cache of Quay at the destinations with these indexes,
/// and is mirrored to the others.
fn config_with_caches(toml: &str, cached: &[&[usize]]) -> Config {
    let mut config = Config::parse("mirror.toml", toml, Path::new(""), &|_| None).unwrap();
    config.caches = vec![Cache {
        upstream: Upstream::Quay,
        url: "quay.io".to_owned(),
        prefix: "quay".parse().unwrap(),
        upstream_prefix: "ROOT".parse().unwrap(),
        credentials: UpstreamCredentials::Nothing,
        secret: SecretSettings::default(),
        template: None,
        access: None,
        destinations: vec![DestinationId(0)],
    }];
    for (entry, cached) in config.entries.iter_mut().zip(cached) {
        entry.mirrored.retain(|place| !cached.contains(&place.destination.0));
        let repository = format!("quay/{}", entry.repository);
        entry.cached = (cached.iter())
            .map(|&at| CacheTarget {
                destination: DestinationId(at),
                cache: 0,
                repository: repository.parse().unwrap(),
            })
            .collect();
    }
    config
}

async fn run_sync(world: &World, config: &Config, mode: Mode, shutdown: &Shutdown) -> Report {
    let registries = registries::Registries::with_sandbox(world.sandbox.address(), TRANSFERS);
    let options = Options { mode, ..Options::default() };
    let work = SyncRequest { config, images: ImagesToSync::all(config), options };
    sync::run(&registries, work, Arc::new(Silent), shutdown).await.unwrap()
}

/// Puts an image into the repository that a cache of Quay would use.
async fn with_cached_image(world: World, reference: &str) -> World {
    world.upstream().image(reference).push();
    let (_, path) = reference.split_once('/').unwrap();
    let (path, _) = path.split_once(':').unwrap();
    let mut world = world;
    world.reconfigure(entry(reference, &format!("repository = \"quay/{path}\"")));
    world.sync().await.assert_exit(0);
    world
}

fn outcomes(report: &Report) -> Vec<(&str, &str, Outcome)> {
    let rows = report.images.iter();
    rows.map(|row| (row.source.as_str(), row.destination.as_str(), row.outcome)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_image_is_pulled_from_ecr_without_requests_to_its_source() {
    let world = with_cached_image(World::new().await, "quay.io/team/app:1").await;
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n{}",
        entry("quay.io/team/app:1", "platforms = [\"linux/arm64\"]")
    );
    let before = world.sandbox.journal().len();
    let config = config_with_caches(&toml, &[&[0]]);
    let report = run_sync(&world, &config, Mode::Mirror, &Shutdown::default()).await;
    assert_eq!(report.exit, 0, "{:?}", report.images);
    let [row] = &report.images[..] else { panic!("{:?}", report.images) };
    assert_eq!(row.outcome, Outcome::Warmed);
    assert_eq!(row.destination, format!("{ECR}/quay/team/app:1"));
    assert_eq!(row.digest, Some(world.source("quay.io/team/app:1").digest));
    assert_eq!(row.platforms, ["linux/arm64"]);
    assert_eq!((row.bytes_pushed, report.totals.warmed), (Some(0), 1));
    assert_eq!((report.bytes.from_source, report.bytes.to_destination), (Some(0), Some(0)));
    assert_eq!((report.requests.source, report.requests.destination), (0, 2));
    let requests = world.sandbox.journal().split_off(before);
    assert!(requests.iter().all(is_ecr), "{requests:?}");
    assert!(!requests.iter().any(|entry| entry.is_write() || entry.path.contains("/blobs/")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_keep_the_order_of_the_configuration_and_failures_stay_separate() {
    let world = with_cached_image(World::new().await, "quay.io/team/app:1").await;
    world.upstream().image("quay.io/team/app:2").push();
    let here = format!("destinations = [\"{ECR}\"]");
    let toml = format!(
        "[[destination]]\nregistry = \"{OTHER}\"\n[[destination]]\nregistry = \"{ECR}\"\n\
         [[image]]\nsource = \"quay.io/team/app\"\ntags = [\"1\", \"2\"]\nretag = \"v{{tag}}\"\n{}{}",
        entry("quay.io/team/absent:1", &here),
        entry("quay.io/team/app:2", &here)
    );
    let config = config_with_caches(&toml, &[&[1], &[1], &[]]);
    let report = run_sync(&world, &config, Mode::Mirror, &Shutdown::default()).await;
    let app = |tag| format!("quay.io/team/app:{tag}");
    let there = |path: &str| format!("{ECR}/{path}");
    let expected = [
        (app(1), format!("{OTHER}/team/app:v1"), Outcome::Copied),
        (app(1), there("quay/team/app:1"), Outcome::Warmed),
        (app(2), format!("{OTHER}/team/app:v2"), Outcome::Copied),
        (app(2), there("quay/team/app:2"), Outcome::Failed),
        ("quay.io/team/absent:1".to_owned(), there("quay/team/absent:1"), Outcome::Failed),
        (app(2), there("team/app:2"), Outcome::Copied),
    ];
    let expected: Vec<_> = expected.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), *c)).collect();
    assert_eq!(outcomes(&report), expected, "{:#?}", report.images);
    assert_eq!((report.exit, report.totals.warmed, report.totals.failed), (1, 1, 2));
    let hint = |at: usize| report.images[at].hint.as_deref().unwrap();
    assert!(hint(3).contains("check that `quay.io` has this image"), "{}", hint(3));
    assert!(hint(4).contains("pull-through apply"), "{}", hint(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_run_stopped_before_its_start_send_no_request_to_ecr() {
    let world = World::new().await;
    let toml =
        format!("[[destination]]\nregistry = \"{ECR}\"\n{}", entry("quay.io/team/app:1", ""));
    let config = config_with_caches(&toml, &[&[0]]);
    let ended = Shutdown::default();
    ended.stop();
    for (mode, shutdown, outcome, exit) in [
        (Mode::Plan, Shutdown::default(), Outcome::Planned, 0),
        (Mode::PlanWithoutPulls, Shutdown::default(), Outcome::Planned, 0),
        (Mode::Mirror, ended, Outcome::NotStarted, 3),
    ] {
        let report = run_sync(&world, &config, mode, &shutdown).await;
        let expected = [("quay.io/team/app:1", &*format!("{ECR}/quay/team/app:1"), outcome)];
        assert_eq!((outcomes(&report), report.exit), (expected.to_vec(), exit));
        assert_eq!(report.bytes.to_destination, Some(0));
    }
    assert_eq!(world.sandbox.journal().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_cache_pull_is_reported_as_interrupted() {
    let world = World::new().await;
    let toml =
        format!("[[destination]]\nregistry = \"{ECR}\"\n{}", entry("quay.io/team/app:1", ""));
    let config = config_with_caches(&toml, &[&[0]]);
    world.fault("silent@ecr:GET/manifests/");
    let shutdown = Shutdown::default();
    let (report, ()) = tokio::join!(run_sync(&world, &config, Mode::Mirror, &shutdown), async {
        let has_asked = || world.sandbox.faults().idle().is_empty();
        until("the pull is asked for", has_asked).await;
        shutdown.drop_running();
    });
    assert_eq!((report.images[0].outcome, report.exit), (Outcome::Interrupted, 3));
    assert!(report.images[0].hint.as_deref().unwrap().contains("run again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrored_and_cached_images_share_one_tag_listing() {
    let world = World::new().await;
    let toml = format!(
        "[[destination]]\nregistry = \"{OTHER}\"\n[[destination]]\nregistry = \"{ECR}\"\n\
         [[image]]\nsource = \"quay.io/coreos/etcd\"\nselect = {{ newest = 2 }}\n"
    );
    let config = config_with_caches(&toml, &[&[1]]);
    let report = run_sync(&world, &config, Mode::Plan, &Shutdown::default()).await;
    let destinations: Vec<&str> = report.images.iter().map(|row| &*row.destination).collect();
    let [newest, second] = ["v3.5.17", "v3.5.16"];
    assert_eq!(
        destinations,
        [
            format!("{OTHER}/coreos/etcd:{newest}"),
            format!("{ECR}/quay/coreos/etcd:{newest}"),
            format!("{OTHER}/coreos/etcd:{second}"),
            format!("{ECR}/quay/coreos/etcd:{second}"),
        ]
    );
    let listed = world.sandbox.journal();
    let is_listing = |entry: &&sandbox::Entry| {
        entry.path.contains("/tags/list") && entry.status == Some(StatusCode::OK)
    };
    assert_eq!(listed.iter().filter(is_listing).count(), 1);
    // the tags are also listed if no entry is mirrored
    let config = config_with_caches(&toml, &[&[0, 1]]);
    let report = run_sync(&world, &config, Mode::Plan, &Shutdown::default()).await;
    assert_eq!((report.images.len(), report.totals.planned), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_pull_makes_ecr_import_the_image_and_the_second_finds_it() {
    let world = World::new()
        .await
        .configured(QUAY)
        .image("quay.io/team/app:1", ["linux/amd64", "linux/arm64"])
        .configured("[defaults]\nvia = \"pull-through\"\n");
    create_rule(&world).await;
    for _ in 0..2 {
        let run = world.sync().await;
        run.assert_exit(0).assert_all(Outcome::Warmed);
        assert_eq!(run.writes(), Vec::<String>::new(), "ECR imports, nothing is pushed");
        assert_eq!(run.report.requests.source, 0);
        let source = world.source("quay.io/team/app:1");
        assert_eq!(run.row("app").digest.as_ref(), Some(&source.digest));
    }
    let ecr = world.ecr();
    for child in ecr.manifests("quay/team/app") {
        let (_, bytes) = ecr.manifest("quay/team/app", &child).unwrap();
        let links = ecr_mirror::sandbox::store::Links::read(&bytes).unwrap();
        for blob in links.blobs {
            assert!(ecr.blob_size("quay/team/app", &blob).is_some(), "{blob} of {child}");
        }
    }
    assert_eq!(ecr.tags("quay/team/app").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn via_auto_uses_the_cache_when_a_rule_covers_the_source_and_mirrors_otherwise() {
    let world = World::new()
        .await
        .configured(QUAY)
        .configured("[defaults]\nvia = \"auto\"\n")
        .image("quay.io/team/app:1", ["linux/amd64"])
        .image("registry.example.com/team/app:1", ["linux/amd64"]);
    create_rule(&world).await;
    let run = world.sync().await;
    run.assert_exit(0);
    let warmed = run.row("quay.io/team/app:1");
    assert_eq!(warmed.destination, format!("{ECR}/quay/team/app:1"));
    assert_eq!(warmed.outcome, Outcome::Warmed);
    let mirrored = run.row("registry.example.com");
    assert_eq!(mirrored.destination, format!("{ECR}/team/app:1"));
    assert_eq!(mirrored.outcome, Outcome::Copied);
    let uploads = run.uploads();
    assert!(!uploads.is_empty());
    for blob in blobs(&world.source("quay.io/team/app:1")) {
        assert!(!uploads.contains(&blob), "{blob} was pushed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_was_never_pulled_by_tag_fails_with_a_hint() {
    let world = World::new().await.configured(QUAY);
    create_rule(&world).await;
    let digest = world.upstream().image("quay.io/team/app:1").push();
    let pinned = format!("quay.io/team/app:1@{digest}");
    let by_digest = world.select(&pinned, "via = \"pull-through\"");
    let failed = by_digest.sync().await;
    failed.assert_exit(1);
    let row = failed.row("quay.io/team/app");
    assert_eq!(row.destination, format!("{ECR}/quay/team/app@{digest}"));
    assert!(row.hint.as_deref().unwrap().contains("pull a tag of this content once"), "{row:?}");

    let mut by_tag = by_digest;
    let pinned = by_tag.toml();
    by_tag.reconfigure(format!("{QUAY}{}", entry("quay.io/team/app:1", "via = \"pull-through\"")));
    by_tag.sync().await.assert_exit(0);
    by_tag.reconfigure(pinned);
    by_tag.sync().await.assert_exit(0).assert_all(Outcome::Warmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_settings_apply_where_every_image_comes_through_the_cache() {
    let account = "[destination.account]\nblob_mounting = true\n";
    let world = World::new()
        .await
        .configured(&format!("[[destination]]\nregistry = \"{ECR}\"\n{account}{QUAY}"));
    create_rule(&world).await;
    world.upstream().image("quay.io/team/app:1").push();
    let world = world.select("quay.io/team/app:1", "via = \"pull-through\"");
    let changes =
        |report: &Report| report.changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = [format!("~ account 123456789012 of {ECR} (blob_mounting: false → true)")];
    let plan = world.plan(Mode::PlanWithoutPulls).await;
    assert_eq!((changes(&plan.report), plan.writes()), (expected.to_vec(), vec![]));
    let sync = world.sync().await;
    sync.assert_exit(0).assert_all(Outcome::Warmed);
    assert_eq!(changes(&sync.report), expected);
    let set = world.aws().get_account_setting().name("BLOB_MOUNTING").send().await.unwrap();
    assert_eq!(set.value(), Some("ENABLED"));
    assert_eq!(changes(&world.sync().await.report), [""; 0]);

    // a refused setting fails the image: it is not pulled with other settings than configured
    world.fault("deny=GetAccountSetting");
    let denied = world.sync().await;
    denied.assert_exit(1).assert_all(Outcome::Failed);

    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), world.toml()).unwrap();
    let policy = run(home.path(), &["iam", "mirror"]).out;
    assert!(policy.contains("ecr:PutAccountSetting"), "{policy}");
    assert!(!policy.contains("ecr:DescribePullThroughCacheRules"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_library_has_a_hint_where_ecr_blames_the_credentials() {
    let image = entry(&format!("{ECR}/docker-hub/nginx:1.27"), "repository = \"nginx\"");
    let world =
        World::new().await.configured(&format!("[[destination]]\nregistry = \"{OTHER}\"\n{image}"));
    let login = r#"{"username":"u","accessToken":"t"}"#;
    let secret = secrets(&world.sandbox).create_secret().name("ecr-pullthroughcache/hub");
    let secret = secret.secret_string(login).send().await.unwrap();
    let rule = world.aws().create_pull_through_cache_rule().ecr_repository_prefix("docker-hub");
    let rule = rule.upstream_registry_url("registry-1.docker.io");
    rule.set_credential_arn(secret.arn).send().await.unwrap();
    let run = world.sync().await;
    run.assert_exit(1);
    let row = run.row("docker-hub/nginx");
    assert!(row.error.as_deref().unwrap().contains("authentication to the upstream"), "{row:?}");
    assert!(row.hint.as_deref().unwrap().contains("`docker-hub/library/nginx`"), "{row:?}");
}

/// One mirrored image, and one image that uses the cache.
fn mixed_configuration() -> String {
    format!(
        "[[destination]]\nregistry = \"{ECR}\"\n{QUAY}{}{}",
        entry("registry.k8s.io/pause:3.10", "platforms = [\"linux/amd64\"]"),
        entry(
            "quay.io/coreos/etcd:v3.5.17",
            "via = \"pull-through\"\nplatforms = [\"linux/amd64\"]"
        )
    )
}

#[test]
fn warm_pulls_only_cached_images_and_the_lock_file_omits_them() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), mixed_configuration()).unwrap();
    let at = |arguments: &[&str]| {
        let ended = run(home.path(), &[arguments, &["--sandbox=state"]].concat());
        assert_eq!(ended.status, Some(0), "{arguments:?}\n{}\n{}", ended.out, ended.talk);
        ended.out
    };
    let rows = |out: &str| {
        let report: Value = serde_json::from_str(out).unwrap();
        let rows = report["images"].as_array().unwrap().iter();
        rows.map(|row| (row["name"].clone(), row["outcome"].clone())).collect::<Vec<_>>()
    };
    at(&["pull-through", "apply", "--yes"]);
    let (etcd, pause) = (json!("coreos/etcd"), json!("pause"));
    let warmed = (etcd.clone(), json!("warmed"));
    let rows_of_warm = rows(&at(&["pull-through", "warm", "--json"]));
    assert_eq!(rows_of_warm, std::slice::from_ref(&warmed));
    let table = at(&["pull-through", "warm"]);
    assert!(table.contains("1 warmed in "), "{table}");

    let synced = rows(&at(&["sync", "--json", "--lock", "mirror.lock"]));
    assert_eq!(synced, [(pause.clone(), json!("copied")), warmed]);
    let lock = fs::read_to_string(home.path().join("mirror.lock")).unwrap();
    assert!(lock.contains("registry.k8s.io/pause:3.10") && !lock.contains("etcd"), "{lock}");
    let locked = rows(&at(&["sync", "--json", "--locked", "mirror.lock"]));
    assert_eq!(locked, [(pause, json!("up_to_date"))]);
}

#[test]
fn images_and_iam_distinguish_cached_from_mirrored_images() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), mixed_configuration()).unwrap();
    let json = |arguments: &[&str]| -> Value {
        let ended = run(home.path(), arguments);
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        serde_json::from_str(&ended.out).unwrap()
    };
    let images = json(&["images", "--json"]);
    assert_eq!(
        images["images"][1],
        json!({
            "name": "coreos/etcd",
            "source": "quay.io/coreos/etcd:v3.5.17",
            "destination": format!("{ECR}/quay/coreos/etcd:v3.5.17"),
            "digest": null,
            "via": "pull-through",
        })
    );
    let policy = json(&["iam", "mirror"]);
    let granted: BTreeMap<&str, &Value> = (policy["Statement"].as_array().unwrap().iter())
        .flat_map(|it| it["Resource"].as_array().into_iter().flatten().map(move |arn| (arn, it)))
        .map(|(arn, statement)| (arn.as_str().unwrap(), &statement["Action"]))
        .collect();
    let arn = |of: &str| format!("arn:aws:ecr:us-east-1:123456789012:repository/{of}");
    let warm = granted[&*arn("quay/coreos/etcd")];
    assert!(warm.to_string().contains("ecr:BatchImportUpstreamImage"), "{warm}");
    assert!(!warm.to_string().contains("ecr:PutImage"), "{warm}");
    let push = granted[&*arn("pause")];
    assert!(push.to_string().contains("ecr:PutImage"), "{push}");
    assert!(!push.to_string().contains("Import"), "{push}");
}

#[test]
fn one_configuration_uses_the_cache_for_ecr_and_mirrors_everything_to_a_layout() {
    let home = tempfile::tempdir().unwrap();
    let toml = format!(
        "[defaults]\nvia = \"auto\"\nplatforms = [\"linux/amd64\"]\n\
         [[destination]]\nregistry = \"oci:layout\"\n[[destination]]\nregistry = \"{ECR}\"\n\
         {QUAY}{}{}",
        entry("registry.k8s.io/pause:3.10", ""),
        entry("quay.io/coreos/etcd:v3.5.17", "")
    );
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let rows = |arguments: &[&str], column: &str| {
        let ended = run(home.path(), &[arguments, &["--sandbox=state"]].concat());
        assert_eq!(ended.status, Some(0), "{arguments:?}\n{}\n{}", ended.out, ended.talk);
        let found: Value = serde_json::from_str(&ended.out).unwrap_or_default();
        let rows = found["images"].as_array().cloned().unwrap_or_default().into_iter();
        rows.map(|row| json!([row["destination"], row[column]])).collect::<Vec<_>>()
    };
    let [pause, etcd] = ["pause:3.10", "coreos/etcd:v3.5.17"];
    let of = |words: [&str; 4]| {
        let [one, two, three, four] = words;
        vec![
            json!([format!("oci:layout:{pause}"), one]),
            json!([format!("{ECR}/{pause}"), two]),
            json!([format!("oci:layout:{etcd}"), three]),
            json!([format!("{ECR}/quay/{etcd}"), four]),
        ]
    };
    let expected = of(["mirrored", "mirrored", "mirrored", "pull-through"]);
    assert_eq!(rows(&["images", "--json"], "via"), expected);
    rows(&["pull-through", "apply", "--yes"], "");
    let first = rows(&["sync", "--json"], "outcome");
    assert_eq!(first, of(["copied", "copied", "copied", "warmed"]));
    let second = rows(&["sync", "--json"], "outcome");
    assert_eq!(second, of(["up_to_date", "up_to_date", "up_to_date", "warmed"]));
}

#[test]
fn warm_without_cached_images_fails_with_the_key_to_set() {
    let home = tempfile::tempdir().unwrap();
    let toml =
        format!("[[destination]]\nregistry = \"{ECR}\"\n{}", entry("quay.io/team/app:1", ""));
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let ended = run(home.path(), &["pull-through", "warm"]);
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("via = \"pull-through\""), "{}", ended.talk);
    assert!(ended.talk.contains("\"auto\"") && ended.out.is_empty(), "{}", ended.talk);
    let ended = run(home.path(), &["pull-through", "warm", "--destination", "nowhere"]);
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("no destination is named `nowhere`"), "{}", ended.talk);
}
