//! Tests every registry of `sandbox --like` with twelve scenarios.
//!
//! Each run tests three scenarios per registry, in rotation. `ECR_MIRROR_PROFILES=all` tests all of
//! them, and the name of a registry all of its own.

use std::{any::Any, env, panic::AssertUnwindSafe, path::Path, sync::Arc, time::Duration};

use ecr_mirror::{
    config::Config,
    engine::{Mode, Shutdown},
    model::{
        Digest, Error,
        event::Silent,
        outcome::{Outcome, Report},
    },
    registry::{Network, Transport},
    remote::{OutagePolicy, RetryPolicy, StallTimeouts, retry::Retry},
    run::{registries, wildcards},
    sandbox::{self, Options, Profile, Sandbox, profile::PROFILES, upstream::media},
};
use futures::{FutureExt, StreamExt, stream};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    content::assert_whole,
    world::{ECR, Run, TRANSFERS, World, entry, mirror},
};

/// The scenarios, in the order of the rotation.
const SCENARIOS: [Scenario; 12] = [
    Scenario::FirstCopy,
    Scenario::SecondRun,
    Scenario::FilteredPlatforms,
    Scenario::TagsOfSeveralPages,
    Scenario::MovedTag,
    Scenario::PinnedDigest,
    Scenario::Referrers,
    Scenario::PrivateRepository,
    Scenario::WrongCredentials,
    Scenario::MissingTag,
    Scenario::CutBlob,
    Scenario::PlainDestination,
];

/// The scenarios of each registry in an ordinary run: all registries together cover all scenarios.
const PER_RUN: usize = 3;

/// Scenarios that run at once.
const CONCURRENT: usize = 6;

#[derive(Debug, Clone, Copy)]
enum Scenario {
    FirstCopy,
    SecondRun,
    FilteredPlatforms,
    TagsOfSeveralPages,
    MovedTag,
    PinnedDigest,
    Referrers,
    PrivateRepository,
    WrongCredentials,
    MissingTag,
    CutBlob,
    PlainDestination,
}

impl Scenario {
    async fn run(self, profile: &'static Profile) {
        match self {
            Self::FirstCopy => first_copy(profile).await,
            Self::SecondRun => second_run(profile).await,
            Self::FilteredPlatforms => filtered_platforms(profile).await,
            Self::TagsOfSeveralPages => tags_of_several_pages(profile).await,
            Self::MovedTag => moved_tag(profile).await,
            Self::PinnedDigest => pinned_digest(profile).await,
            Self::Referrers => referrers(profile).await,
            Self::PrivateRepository => private_repository(profile).await,
            Self::WrongCredentials => wrong_credentials(profile).await,
            Self::MissingTag => missing_tag(profile).await,
            Self::CutBlob => cut_blob(profile).await,
            Self::PlainDestination => plain_destination(profile).await,
        }
    }
}

/// The scenarios to test for a registry.
fn selected(number: usize, profile: &Profile) -> Vec<Scenario> {
    let all = SCENARIOS.iter().copied().cycle().skip(number * PER_RUN);
    match env::var("ECR_MIRROR_PROFILES") {
        Ok(wanted) if wanted == "all" || wanted == profile.name => SCENARIOS.to_vec(),
        _ => all.take(PER_RUN).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_registry_with_known_habits_can_be_mirrored() {
    let cases = PROFILES.iter().enumerate().flat_map(|(number, profile)| {
        selected(number, profile).into_iter().map(move |scenario| (profile, scenario))
    });
    let results = stream::iter(cases).map(|(profile, scenario)| async move {
        let run = AssertUnwindSafe(Box::pin(scenario.run(profile))).catch_unwind().await;
        run.err().map(|panic| format!("{} {scenario:?}: {}", profile.name, text(&*panic)))
    });
    let failed: Vec<Option<String>> = results.buffer_unordered(CONCURRENT).collect().await;
    let failed: Vec<String> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// The message of a panic.
fn text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

/// A registry with habits, and the images in it.
struct Registry {
    profile: &'static Profile,
    host: &'static str,
    repository: &'static str,
    world: World,
}

impl Registry {
    async fn new(profile: &'static Profile) -> Self {
        Self::with_repository(profile, "docker/team/app").await
    }

    async fn with_repository(profile: &'static Profile, repository: &'static str) -> Self {
        // the names that the program knows
        let host = match profile.name {
            "docker-hub" => "docker.io",
            "ghcr" => "ghcr.io",
            "artifact-registry" => "europe-docker.pkg.dev",
            "acr" => "example.azurecr.io",
            "gitlab" => "registry.gitlab.com",
            _ => "registry.example.com",
        };
        let world = World::with(Options { like: Some(profile), ..Options::default() }).await;
        Self { profile, host, repository, world }
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.host, self.repository)
    }

    /// Pushes an image of two platforms to the source.
    fn push(&self, tag: &str, seed: u64) -> Digest {
        let image = self.world.upstream().image(&self.reference(tag)).seed(seed);
        image.layers(2).layer_size(48 << 10).push()
    }

    /// Replaces the configuration; with a login if the registry needs one.
    fn configure(&mut self, tables: &str) {
        match self.profile.needs_login() {
            true => self.configure_with("secret", tables),
            false => self.world.reconfigure(tables),
        }
    }

    /// Replaces the configuration, with this password.
    fn configure_with(&mut self, password: &str, tables: &str) {
        let login = format!("username = \"robot\"\npassword = \"{password}\"");
        self.world.reconfigure(format!("[registry.\"{}\"]\n{login}\n{tables}", self.host));
    }

    /// Selects tag `1` with these keys.
    fn select(&mut self, keys: &str) {
        self.configure(&entry(&self.reference("1"), keys));
    }

    async fn sync(&self) -> Run {
        self.world.run_with(&short(), Mode::Mirror, Shutdown::default()).await
    }

    /// The digest of a tag at the destination.
    fn mirrored(&self, tag: &str) -> Option<Digest> {
        self.world.ecr().tag(self.repository, tag)
    }

    /// Asserts that the run failed with one error, and returns its text and hint.
    #[track_caller]
    fn error(run: &Run) -> String {
        run.assert_exit(1).assert_all(Outcome::Failed);
        let row = &run.report.images[0];
        [row.error.as_deref(), row.hint.as_deref()].map(Option::unwrap_or_default).join("; ")
    }
}

/// The default policy with shorter waits. No result depends on their length.
fn short() -> RetryPolicy {
    let (first, longest) = (Duration::from_millis(20), Duration::from_millis(500));
    let retry = Retry { attempts: 6, first, longest };
    RetryPolicy::new(retry, StallTimeouts::default(), OutagePolicy::default())
}

async fn first_copy(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    let root = registry.push("1", 1);
    registry.select("");
    let run = registry.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(registry.mirrored("1"), Some(root));
    assert_eq!(run.warnings, Vec::<String>::new());
    assert_whole(&registry.world.ecr());
}

async fn second_run(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    registry.push("1", 1);
    registry.select("");
    registry.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    registry.sync().await.assert_no_op();
}

async fn filtered_platforms(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    let root = registry.push("1", 1);
    registry.select("platforms = [\"linux/arm64\"]");
    let run = registry.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.report.images[0].platforms, ["linux/arm64"]);
    assert!(registry.mirrored("1").is_some_and(|digest| digest != root));
    assert_whole(&registry.world.ecr());
    registry.sync().await.assert_no_op();
}

async fn tags_of_several_pages(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    registry.push("1", 1);
    let manifest = registry.world.source(&registry.reference("1"));
    // more than the largest page that the program asks for
    for number in 1000..2150 {
        let (host, repository) = (registry.host, registry.repository);
        let tag = format!("1.{number}.0");
        let media_type = &manifest.media_type;
        let upstream = registry.world.upstream();
        upstream.put_manifest(host, repository, Some(&tag), media_type, &manifest.bytes);
    }
    let source = format!("{}/{}", registry.host, registry.repository);
    registry.configure(&format!(
        "[[image]]\nsource = \"{source}\"\nselect = {{ semver = \">=1.1000\", newest = 2 }}\n"
    ));
    let run = registry.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let sources: Vec<&str> = run.report.images.iter().map(|row| &*row.source).collect();
    assert_eq!(sources, [registry.reference("1.2149.0"), registry.reference("1.2148.0")]);
    registry.sync().await.assert_no_op();
}

async fn moved_tag(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    registry.push("1", 1);
    registry.select("");
    registry.sync().await.assert_exit(0);
    let moved = registry.push("1", 2);
    registry.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(registry.mirrored("1"), Some(moved));
    assert_whole(&registry.world.ecr());
}

async fn pinned_digest(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    let pinned = registry.push("1", 1);
    registry.push("1", 2);
    registry.configure(&entry(&format!("{}@{pinned}", registry.reference("1")), ""));
    registry.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(registry.mirrored("1"), Some(pinned));
    registry.sync().await.assert_no_op();
}

async fn referrers(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    let root = registry.push("1", 1);
    let (host, repository) = (registry.host, registry.repository);
    let upstream = registry.world.upstream();
    let blob = upstream.put_blob(host, repository, b"{}");
    let artifact = |subject: bool| {
        let empty = "application/vnd.oci.empty.v1+json";
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": "text/example",
            "config": {"mediaType": empty, "digest": blob, "size": 2}, "layers": [],
        });
        if subject {
            manifest["subject"] = json!({"mediaType": media::OCI_INDEX, "digest": root, "size": 1});
        }
        manifest.to_string().into_bytes()
    };
    let put = |tag: Option<&str>, media_type: &str, bytes: &[u8]| {
        upstream.put_manifest(host, repository, tag, media_type, bytes)
    };
    let cosign = format!("sha256-{}.sig", root.hex());
    let signature = put(Some(&cosign), media::OCI_MANIFEST, &artifact(false));
    let referrer = put(None, media::OCI_MANIFEST, &artifact(true));
    // GitLab's tag names the image itself
    let has_fallback = !profile.lists_referrers() && profile.name != "gitlab";
    if has_fallback {
        let listed = json!({
            "mediaType": media::OCI_MANIFEST, "digest": referrer, "size": artifact(true).len(),
            "artifactType": "text/example",
        });
        let index = json!({
            "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": [listed],
        });
        let tag = format!("sha256-{}", root.hex());
        put(Some(&tag), media::OCI_INDEX, index.to_string().as_bytes());
    }
    registry.select("signatures = \"all\"");
    let run = registry.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(run.warnings, Vec::<String>::new());
    assert_eq!(registry.mirrored(&cosign), Some(signature));
    let has_referrer = registry.world.ecr().manifest(repository, &referrer).is_some();
    assert_eq!(has_referrer, has_fallback || profile.lists_referrers());
    registry.sync().await.assert_no_op();
}

async fn private_repository(profile: &'static Profile) {
    let mut registry = Registry::with_repository(profile, "docker/team/private-app").await;
    let root = registry.push("1", 1);
    registry.configure_with("secret", &entry(&registry.reference("1"), ""));
    registry.sync().await.assert_exit(0).assert_all(Outcome::Copied);
    assert_eq!(registry.mirrored("1"), Some(root));
    registry.sync().await.assert_no_op();
}

async fn wrong_credentials(profile: &'static Profile) {
    let mut registry = Registry::with_repository(profile, "docker/team/private-app").await;
    registry.push("1", 1);
    registry.configure_with("wrong", &entry(&registry.reference("1"), ""));
    let error = Registry::error(&registry.sync().await);
    assert!(error.contains(registry.host) && error.contains("401"), "{error}");
    assert!(error.contains("credentials") || error.contains("password"), "{error}");
    assert_eq!(registry.mirrored("1"), None);
}

async fn missing_tag(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    registry.push("2", 1);
    registry.select("");
    let error = Registry::error(&registry.sync().await);
    assert!(error.contains("/manifests/1:") || error.contains("`1`"), "{error}");
    assert!(error.contains("404") || error.contains("does not exist"), "{error}");
    assert_eq!(registry.mirrored("1"), None);
}

async fn cut_blob(profile: &'static Profile) {
    let mut registry = Registry::new(profile).await;
    let reference = registry.reference("1");
    let image = registry.world.upstream().image(&reference).single();
    let root = image.layers(1).layer_size(2 << 20).push();
    registry.select("");
    let manifest = registry.world.source(&reference);
    let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    let layer: Digest = manifest["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    // in place, or where it is redirected to
    for path in ["blobs/sha256:", "blobs/sha256/"] {
        registry.world.fault(&format!("cut=1000000@upstream:GET/{path}{}*1", layer.hex()));
    }
    let run = registry.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let is_rest = |status| status == Some(StatusCode::PARTIAL_CONTENT);
    assert!(run.journal.iter().any(|entry| is_rest(entry.status)), "it is resumed");
    assert_eq!(registry.mirrored("1"), Some(root));
    assert_whole(&registry.world.ecr());
}

async fn plain_destination(profile: &'static Profile) {
    let start = async |mode, like| {
        Sandbox::start(Options { mode, like, ..Options::default() }).await.unwrap()
    };
    let source = start(sandbox::Mode::Standing, None).await;
    let plain = start(sandbox::Mode::Plain, Some(profile)).await;
    let root = source.upstream().image("quay.io/team/app:1").push();
    let from = format!("{}/quay.io/team/app", source.address());
    let to = plain.address();
    let pushed = format!(
        "[[destination]]\nregistry = \"{to}\"\n\
         [[image]]\nsource = \"{from}\"\ntags = [\"1\"]\nrepository = \"team/whole\"\n\
         [[image]]\nsource = \"{from}\"\ntags = [\"1\"]\nrepository = \"team/part\"\n\
         platforms = [\"linux/amd64\"]\n"
    );
    let first = sync_directly(&pushed).await;
    assert_eq!((first.exit, first.totals.copied), (0, 2), "{:#?}", first.images);
    assert_eq!(plain.plain().store().tag("team/whole", "1"), Some(root.clone()));
    assert_whole(plain.plain().store());
    let second = sync_directly(&pushed).await;
    assert_eq!((second.exit, second.totals.up_to_date), (0, 2), "{:#?}", second.images);
    assert_eq!(second.bytes.to_destination, Some(0));

    let layout = tempfile::tempdir().unwrap();
    let read = format!(
        "[[destination]]\nregistry = \"oci:{}\"\n\
         [[image]]\nsource = \"{to}/team/whole\"\ntags = [\"1\"]\n",
        layout.path().display()
    );
    let back = sync_directly(&read).await;
    assert_eq!((back.exit, back.totals.copied), (0, 1), "{:#?}", back.images);
    assert!(layout.path().join("blobs/sha256").join(root.hex()).exists());
    // chunks are for registries that refuse a whole blob
    let idle = plain.faults().idle().into_iter().map(|fault| format!("{fault:?}"));
    assert_eq!(idle.filter(|fault| !fault.contains("PATCH")).collect::<Vec<_>>(), [""; 0]);
}

/// The repositories of `PATH/*`, with this user.
async fn namespace(registry: &Registry, path: &str, user: &str) -> Result<String, Error> {
    let host = registry.host;
    let login = match user.split_once(':') {
        Some((name, password)) => format!("username = \"{name}\"\npassword = \"{password}\"\n"),
        None => String::new(),
    };
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[registry.\"{host}\"]\nmax_connections = 4\n{login}\
         [images]\n\"{host}/{path}/*\" = {{ tags = \"1\", at_most = 200 }}\n"
    );
    let config = Config::parse("mirror.toml", &toml, Path::new(""), &|_| None).unwrap();
    let transport = Transport::new(Network::Sandbox(registry.world.sandbox.address()));
    let registries = registries::Registries::with_transport(transport, TRANSFERS, &short());
    let expanded = wildcards::expand(&registries, config).await?;
    let names = expanded.entries.iter().map(|entry| entry.repository.to_string());
    Ok(names.collect::<Vec<_>>().join(" "))
}

/// A registry of this profile with 103 repositories in `docker`.
async fn registry_with_namespace(profile: &str) -> Registry {
    let registry = Registry::new(profile.parse().unwrap()).await;
    registry.push("1", 1);
    let manifest = registry.world.source(&registry.reference("1"));
    let many = (100..200).map(|number| format!("docker/many/r{number}"));
    for name in
        many.chain(["docker/team/web", "docker/team/private-x", "other/app"].map(Into::into))
    {
        let (media_type, bytes) = (&manifest.media_type, &manifest.bytes);
        registry.world.upstream().put_manifest(registry.host, &name, Some("1"), media_type, bytes);
    }
    registry
}

/// The requests for lists of repositories since the entry with this number, without the host.
fn lists(registry: &Registry, before: usize) -> Vec<String> {
    let asked = registry.world.sandbox.journal().split_off(before).into_iter();
    let asked = asked.filter(|it| it.path.starts_with("/api/") || it.path.contains("_catalog"));
    asked.map(|it| it.path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repositories_of_a_group_of_gitlab_are_listed_by_its_api() {
    let registry = registry_with_namespace("gitlab").await;
    for (path, user, expected) in [
        ("docker/team", "", "docker/team/app docker/team/web"),
        ("docker/team", "me:token", "docker/team/app docker/team/private-x docker/team/web"),
        (
            "docker/team",
            "gitlab-ci-token:job",
            "docker/team/app docker/team/private-x docker/team/web",
        ),
    ] {
        assert_eq!(namespace(&registry, path, user).await.unwrap(), expected, "{path} {user}");
    }
    let before = registry.world.sandbox.journal().len();
    let all = namespace(&registry, "docker", "").await.unwrap();
    assert_eq!((all.split(' ').count(), all.contains("other")), (102, false));
    assert_eq!(
        lists(&registry, before),
        [1, 2].map(|page| format!(
            "/api/v4/groups/docker/registry/repositories?per_page=100&page={page}"
        ))
    );
    let error = namespace(&registry, "docker/team", "me:wrong").await.unwrap_err();
    assert!(error.chain().join(": ").contains("registry.gitlab.com"), "{error:?}");
    let error = namespace(&registry, "missing-group", "me:token").await.unwrap_err();
    let text = error.chain().join(": ");
    for part in
        ["gitlab.com/api/v4/groups/missing-group/registry/repositories: 404", "/v2/_catalog: 401"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(error.remedy().unwrap().contains("`read_api`"), "{error:?}");
    // a registry that cannot answer now still has the API
    registry.world.fault("status=503@upstream:GET/v2/*1");
    let before = registry.world.sandbox.journal().len();
    let listed = namespace(&registry, "docker/team", "me:token").await.unwrap();
    assert_eq!(listed, "docker/team/app docker/team/private-x docker/team/web");
    assert!(lists(&registry, before).iter().all(|path| path.starts_with("/api/v4/")));
    // a list that breaks off is no refusal, also for an administrator
    registry.world.fault("status=404@upstream:GET/repositories?per_page=100&page=2*1");
    let before = registry.world.sandbox.journal().len();
    let error = namespace(&registry, "docker", "admin:token").await.unwrap_err();
    assert!(error.chain().join(": ").contains("404"), "{error:?}");
    assert_eq!(lists(&registry, before).len(), 2);
    // a version without the API
    registry.world.fault("status=404@upstream:GET/api/v4");
    assert_eq!(namespace(&registry, "other", "admin:token").await.unwrap(), "other/app");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repositories_of_a_project_of_harbor_are_listed_by_its_api() {
    let registry = registry_with_namespace("harbor-2.7").await;
    for (path, user, expected) in [
        ("docker/team", "", "docker/team/app docker/team/web"),
        ("docker/team", "robot$x:secret", "docker/team/app docker/team/private-x docker/team/web"),
        ("other", "", "other/app"),
    ] {
        assert_eq!(namespace(&registry, path, user).await.unwrap(), expected, "{path} {user}");
    }
    let before = registry.world.sandbox.journal().len();
    assert_eq!(namespace(&registry, "docker", "").await.unwrap().split(' ').count(), 102);
    assert_eq!(
        lists(&registry, before),
        [1, 2].map(|page| format!(
            "/api/v2.0/projects/docker/repositories?page_size=100&page={page}"
        ))
    );
    let error = namespace(&registry, "nothing", "robot:secret").await.unwrap_err();
    let text = error.chain().join(": ");
    for part in ["/api/v2.0/projects/nothing/repositories: 403", "/v2/_catalog: 401"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(error.remedy().unwrap().contains("robot account"), "{error:?}");
    // an old version without the API
    registry.world.fault("status=404@upstream:GET/api/v2.0");
    assert_eq!(namespace(&registry, "other", "admin:secret").await.unwrap(), "other/app");
}

/// Runs with registries on loopback.
async fn sync_directly(toml: &str) -> Report {
    let transport = Transport::new(Network::Direct);
    let registries = registries::Registries::with_transport(transport, TRANSFERS, &short());
    mirror(&registries, toml, Mode::Mirror, Arc::new(Silent), Shutdown::default()).await
}
