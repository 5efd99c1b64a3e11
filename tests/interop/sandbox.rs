//! Tests the sandbox as a registry for other clients.

use std::collections::BTreeMap;

use aws_sdk_ecr::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use ecr_mirror::model::Digest;

use super::{
    docker_registry::{Registry, RegistryVariant},
    layout::{Layout, PLATFORMS, children},
    peer::{Server, directory, text},
    product::{Run, ecr_mirror},
    skopeo::Skopeo,
};

/// The registry of the standing sandbox's account, by its AWS name.
const ECR: &str = "123456789012.dkr.ecr.us-east-1.amazonaws.com";

/// One upstream image of each kind: with attestations, with Docker's media types, generated from
/// its name.
const IMAGES: [&str; 5] = [
    "docker.io/library/nginx:1.27",
    "docker.io/library/redis:7.4",
    "quay.io/prometheus/prometheus:v3.1.0",
    "registry.k8s.io/pause:3.10",
    "ghcr.io/nobody/made-this-up:1.0",
];

/// A sandbox in its own process.
struct Sandbox(Server);

impl Sandbox {
    fn start(options: &[&str], last: &str) -> Self {
        let files = directory();
        let content = files.path().join("content");
        let mut command = ecr_mirror(&["sandbox", text(&content)]);
        command.args(options);
        Self(Server::start(command, files, last))
    }

    /// Starts a sandbox with upstreams and ECR.
    fn standing() -> Self {
        Self::start(&[], "unset AWS_SESSION_TOKEN ")
    }

    fn plain() -> Self {
        Self::start(&["--plain"], "export SANDBOX_REGISTRY=")
    }

    /// The environment that the sandbox prints for its clients.
    fn environment(&self) -> BTreeMap<String, String> {
        let log = self.0.log();
        let exports = log.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        exports.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn address(&self, of: &str) -> String {
        self.environment()[of].clone()
    }

    /// A client of the AWS SDK, configured by the printed environment.
    fn ecr(&self) -> Client {
        let environment = self.environment();
        let (key, secret) =
            (&environment["AWS_ACCESS_KEY_ID"], &environment["AWS_SECRET_ACCESS_KEY"]);
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(environment["AWS_REGION"].clone()))
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(&environment["AWS_ENDPOINT_URL_ECR"])
            .credentials_provider(Credentials::new(key, secret, None, None, "interop"));
        Client::from_conf(config.build())
    }
}

/// The password from `GetAuthorizationToken`, as `aws ecr get-login-password` prints it.
async fn password(ecr: &Client) -> String {
    let answer = ecr.get_authorization_token().send().await.expect("the sandbox gives tokens");
    let token = answer.authorization_data()[0].authorization_token().expect("it has one");
    let token = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, token);
    let token = String::from_utf8(token.expect("it is base64")).expect("it is text");
    token.strip_prefix("AWS:").expect("the user is AWS").to_owned()
}

#[test]
fn skopeo_pulls_from_the_upstreams() {
    let Some(skopeo) = Skopeo::find() else { return };
    let sandbox = Sandbox::standing();
    let upstream = sandbox.address("SANDBOX_UPSTREAM");
    for image in IMAGES {
        let at = format!("{upstream}/{image}");
        let files = skopeo.pull_all(&at);
        let manifest = std::fs::read(files.path().join("manifest.json")).unwrap();
        assert_eq!(Digest::of(&manifest), Digest::of(&skopeo.raw(&at)), "{image}");
    }
    assert!(
        skopeo
            .tags(&format!("{upstream}/docker.io/library/nginx"))
            .contains(&"1.27-alpine".to_owned())
    );
}

#[test]
fn skopeo_pushes_to_a_plain_sandbox_and_pulls_the_same_image() {
    let Some(skopeo) = Skopeo::find() else { return };
    let sandbox = Sandbox::plain();
    let at = format!("{}/team/app:1.0", sandbox.address("SANDBOX_REGISTRY"));
    let layout = Layout::new("app");
    skopeo.push(&layout, &at);
    assert_eq!(skopeo.raw(&at), layout.raw());
    for platform in PLATFORMS {
        let root = skopeo.pull(&at, platform);
        assert!(root.path().join("bin/bash").is_file(), "{platform}");
    }
    let docker = at.replace("1.0", "docker");
    skopeo.push_docker(&layout, &docker);
    assert_eq!(children(&skopeo.raw(&docker)).len(), PLATFORMS.len());
    let repository = at.trim_end_matches(":1.0");
    assert_eq!(skopeo.tags(repository), ["1.0", "docker"]);
    skopeo.delete(&docker);
    assert_eq!(skopeo.tags(repository), ["1.0"]);
}

#[tokio::test]
async fn skopeo_pushes_to_the_embedded_ecr_and_pulls_the_same_image() {
    let Some(skopeo) = Skopeo::find() else { return };
    let sandbox = Sandbox::standing();
    let ecr = sandbox.ecr();
    let (registry, layout) = (sandbox.address("SANDBOX_ECR"), Layout::new("app"));
    skopeo.login(&registry, "AWS", &password(&ecr).await);
    ecr.create_repository().repository_name("team/app").send().await.unwrap();

    let at = format!("{registry}/team/app:1.0");
    skopeo.push(&layout, &at);
    assert_eq!(skopeo.raw(&at), layout.raw());
    for platform in PLATFORMS {
        let root = skopeo.pull(&at, platform);
        assert!(root.path().join("bin/bash").is_file(), "{platform}");
    }
    let listed = ecr.list_images().repository_name("team/app").send().await.unwrap();
    let tagged: Vec<_> = listed.image_ids().iter().filter_map(|id| id.image_tag()).collect();
    assert_eq!((tagged, listed.image_ids().len()), (vec!["1.0"], 1 + PLATFORMS.len()));
}

#[tokio::test]
async fn skopeo_pulls_an_image_that_the_program_mirrored_to_the_embedded_ecr() {
    let Some(skopeo) = Skopeo::find() else { return };
    let sandbox = Sandbox::standing();
    let (upstream, registry) =
        (sandbox.address("SANDBOX_UPSTREAM"), sandbox.address("SANDBOX_ECR"));
    skopeo.login(&registry, "AWS", &password(&sandbox.ecr()).await);
    let from = format!("{upstream}/docker.io/library/nginx:1.27");
    let to = format!("{ECR}/mirror/nginx:1.27");
    let copy = || Run::of(ecr_mirror(&["copy", &from, &to]).envs(sandbox.environment()));

    copy().ended(0, &["copied"]);
    let at = format!("{registry}/mirror/nginx:1.27");
    assert_eq!(skopeo.raw(&at), skopeo.raw(&from));
    skopeo.pull_all(&at);
    let again = copy().ended(0, &["up_to_date"]);
    assert_eq!(again.number("/bytes/to_destination"), 0);
}

#[test]
fn docker_registry_accepts_every_kind_of_upstream_image() {
    let (Some(registry), Some(skopeo)) =
        (Registry::start(RegistryVariant::default()), Skopeo::find())
    else {
        return;
    };
    let sandbox = Sandbox::standing();
    for image in IMAGES {
        let from = format!("{}/{image}", sandbox.address("SANDBOX_UPSTREAM"));
        let (whole, part) =
            (registry.reference(image), registry.reference(&format!("part/{image}")));
        Run::copy(&from, &whole, &[]).ended(0, &["copied"]);
        assert_eq!(skopeo.raw(&whole), skopeo.raw(&from), "{image}");
        skopeo.pull_all(&whole);
        let filter = ["--platform", "linux/amd64", "--attestations", "drop"];
        Run::copy(&from, &part, &filter).ended(0, &["copied"]);
        let kept: Vec<_> = children(&skopeo.raw(&part)).into_iter().map(|(of, _)| of).collect();
        assert_eq!(kept, ["linux/amd64"], "{image}");
        skopeo.pull_all(&part);
    }
}
