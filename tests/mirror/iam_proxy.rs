//! Tests that the printed IAM policies are sufficient: a proxy on loopback refuses every request to
//! AWS and to ECR's registry that the policy of the command does not grant.

mod access;
mod policy;

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::Response,
};
use ecr_mirror::{
    engine::{Check, Mode, Options, Shutdown, WithoutSource},
    model::{event::Silent, outcome::Report},
    run::registries::Registries,
    sandbox::{self, Sandbox},
};
use serde_json::json;
use tokio::net::TcpListener;

use self::{
    access::{FirstPulls, accesses},
    policy::{Access, Policy},
};
use super::{
    process::{ecr_mirror_in, run},
    world::{self, ACCOUNT, ECR, TRANSFERS, World, entry},
};

/// The longest body of a test.
const MAX_BODY: usize = 64 << 20;

const AMD64: [&str; 1] = ["linux/amd64"];

const FIRST_PULL: &[&str] = &["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"];
const FIRST_TAGGED_PULL: &[&str] =
    &["ecr:BatchImportUpstreamImage", "ecr:CreateRepository", "ecr:TagResource"];

/// A proxy in front of a sandbox that enforces a policy.
struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    sandbox: SocketAddr,
    client: reqwest::Client,
    caches: &'static FirstPulls,
    policy: Mutex<Policy>,
    /// The actions that were used.
    used: Mutex<BTreeSet<String>>,
    refused: Mutex<BTreeSet<String>>,
}

impl Proxy {
    async fn start(sandbox: SocketAddr, caches: &'static FirstPulls, policy: Policy) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let shared = Arc::new(Shared {
            sandbox,
            client: client.build().unwrap(),
            caches,
            policy: Mutex::new(policy),
            used: Mutex::default(),
            refused: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = async |State(shared): State<Arc<Shared>>, request: Request| {
            shared.answer(request).await
        };
        let service = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        // ends with the test's runtime
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { address, shared }
    }

    /// Enforces another policy from now on.
    fn enforce(&self, policy: Policy) {
        *self.shared.policy.lock().unwrap() = policy;
    }

    fn refused(&self) -> Vec<String> {
        self.shared.refused.lock().unwrap().iter().cloned().collect()
    }

    /// Asserts that the policy granted everything, and that these actions were among it.
    #[track_caller]
    fn assert_sufficient(&self, actions: &[&str]) {
        assert_eq!(self.refused(), [""; 0], "the policy lacks these");
        let used = self.shared.used.lock().unwrap();
        for action in actions {
            assert!(used.contains(*action), "nothing used {action}: {used:?}");
        }
    }

    /// Mirrors and warms with this configuration, through the proxy.
    async fn sync(&self, toml: &str) -> Report {
        self.run(toml, Mode::Mirror, Check::Tags).await
    }

    async fn run(&self, toml: &str, mode: Mode, check: Check) -> Report {
        self.run_with(toml, Options { mode, check, ..Options::default() }).await
    }

    async fn run_with(&self, toml: &str, options: Options) -> Report {
        let registries = Registries::with_sandbox(self.address, TRANSFERS);
        world::mirror_with(&registries, toml, options, Arc::new(Silent), Shutdown::default()).await
    }
}

impl Shared {
    async fn answer(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, MAX_BODY).await.unwrap();
        for access in accesses(&parts, &body, self.caches) {
            self.used.lock().unwrap().insert(access.action.clone());
            if !self.policy.lock().unwrap().allows(&access) {
                self.refused.lock().unwrap().insert(access.to_string());
                return refusal(&access, parts.headers.contains_key("x-amz-target"));
            }
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("http://{}{path}", self.sandbox);
        let forwarded = self.client.request(parts.method, url).headers(parts.headers).body(body);
        let answer = forwarded.send().await.unwrap();
        let mut response = Response::new(Body::empty());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        response.headers_mut().remove(header::TRANSFER_ENCODING);
        *response.body_mut() = answer.bytes().await.unwrap().into();
        response
    }
}

/// The answer of AWS to a request without permission.
///
/// Source: ECR API reference, "Common Errors"; aws-actions/amazon-ecr-login#14 for the registry.
fn refusal(access: &Access, is_api: bool) -> Response {
    let text = format!("not authorized to perform: {access}");
    let (status, body) = match is_api {
        true => (400, json!({ "__type": "AccessDeniedException", "message": text })),
        false => (403, json!({ "errors": [{ "code": "DENIED", "message": text }] })),
    };
    let mut response = Response::new(body.to_string().into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// The policy that `iam` prints for this configuration.
fn printed(policy: &str, toml: &str) -> Policy {
    printed_in(tempfile::tempdir().unwrap().path(), policy, toml)
}

/// The policy for this configuration in a directory, which may have its files.
fn printed_in(directory: &Path, policy: &str, toml: &str) -> Policy {
    Policy::parse(&succeeded(directory, toml, &["iam", policy]))
}

/// The output of the program with this configuration.
fn succeeded(directory: &Path, toml: &str, arguments: &[&str]) -> String {
    fs::write(directory.join("mirror.toml"), toml).unwrap();
    let ended = run(directory, arguments);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    ended.out
}

/// Plans, mirrors twice and checks everything under the policy of `iam mirror`. Returns the proxy and the last report.
async fn synced(world: &World, caches: &'static FirstPulls) -> (Proxy, Report) {
    synced_under(printed("mirror", &world.toml()), world, caches).await
}

/// Plans, mirrors twice and checks everything under this policy. Returns the proxy and the last report.
async fn synced_under(
    policy: Policy,
    world: &World,
    caches: &'static FirstPulls,
) -> (Proxy, Report) {
    let toml = world.toml();
    let proxy = Proxy::start(world.sandbox.address(), caches, policy).await;
    let mut last = None;
    for (mode, check) in [
        (Mode::Plan, Check::Tags),
        (Mode::Mirror, Check::Tags),
        (Mode::Mirror, Check::Tags),
        (Mode::Mirror, Check::Deep),
    ] {
        let report = proxy.run(&toml, mode, check).await;
        assert_eq!(proxy.refused(), [""; 0], "{mode:?} lacks these for\n{toml}");
        assert_eq!(report.exit, 0, "{mode:?}: {:?}\n{toml}", report.images);
        last = Some(report);
    }
    (proxy, last.unwrap())
}

const PUSH: [&str; 6] = [
    "ecr:GetAuthorizationToken",
    "ecr:ListImages",
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_needs_no_permission_outside_its_policy() {
    let world = World::new().await.select("quay.io/team/app:1", "signatures = \"all\"");
    let world = world.select("docker.io/library/other:2", "platforms = [\"linux/amd64\"]");
    // both have the same layers: the second repository gets them by a mount
    for reference in ["quay.io/team/app:1", "docker.io/library/other:2"] {
        world.upstream().image(reference).seed(1).push();
    }
    let mounting = world.aws().put_account_setting().name("BLOB_MOUNTING").value("ENABLED");
    mounting.send().await.unwrap();
    let (proxy, _) = synced(&world, &[]).await;
    // ECR lost a layer
    let digest = world.ecr().tag("library/other", "2").unwrap();
    let (_, index) = world.ecr().manifest("library/other", &digest).unwrap();
    let child = sandbox::store::Links::read(&index).unwrap().children[0].clone();
    let (_, image) = world.ecr().manifest("library/other", &child).unwrap();
    let lost = &sandbox::store::Links::read(&image).unwrap().blobs[1];
    assert!(world.ecr().unlink_blob("library/other", lost).unwrap());
    let report = proxy.run(&world.toml(), Mode::Mirror, Check::Deep).await;
    assert_eq!((report.exit, report.totals.copied), (0, 1), "{:?}", report.images);
    let mounted = ["ecr:CreateRepository", "ecr:GetDownloadUrlForLayer"];
    proxy.assert_sufficient(&[&PUSH[..], &mounted].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciled_settings_need_no_permission_outside_their_policy() {
    let settings = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[destination.repositories]\nreconcile = true\n\
         tag_mutability = \"immutable\"\nscan_on_push = true\ntags = {{ team = \"x\" }}\n\
         lifecycle = {{ untagged_after_days = 14 }}\npolicy = {{ accounts = [\"210987654321\"] }}\n\
         [destination.account]\nblob_mounting = true\npull_time_exclusion = true\n\
         scanning = {{ type = \"enhanced\", continuous = [\"prod-*\"], on_push = [\"*\"] }}"
    );
    let world = World::new().await.configured(&settings);
    let world = world.image("quay.io/team/app:1", AMD64).image("quay.io/team/new:1", AMD64);
    // one repository exists with other settings
    world.aws().create_repository().repository_name("team/app").send().await.unwrap();
    let (proxy, _) = synced(&world, &[]).await;
    proxy.assert_sufficient(&[
        "ecr:PutImageTagMutability",
        "ecr:PutImageScanningConfiguration",
        "ecr:PutLifecyclePolicy",
        "ecr:SetRepositoryPolicy",
        "ecr:TagResource",
        "ecr:PutAccountSetting",
        "ecr:RegisterPullTimeUpdateExclusion",
        "ecr:PutRegistryScanningConfiguration",
        "iam:CreateServiceLinkedRole",
    ]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_creation_templates_need_no_permission_outside_their_policy() {
    let arn = "arn:aws:kms:us-east-1:123456789012:key/0a1b2c3d-0000-4000-8000-0a1b2c3d4e5f";
    for (keys, used) in [
        ("encryption = { type = \"kms\", key = \"alias/ecr\" }", "kms:CreateGrant"),
        (&*format!("encryption = {{ type = \"kms\", key = \"{arn}\" }}"), "kms:DescribeKey"),
        ("create = \"on-push\"", "ecr:DescribeRepositoryCreationTemplates"),
    ] {
        let destination = format!(
            "[[destination]]\nregistry = \"{ECR}\"\nprefix = \"mirror\"\n\
             [destination.repositories]\n{keys}"
        );
        let world = World::new().await.configured(&destination);
        let world = world.image("quay.io/team/app:1", AMD64);
        if keys.contains("on-push") {
            let template = world.aws().create_repository_creation_template().prefix("mirror");
            let template = template.applied_for("CREATE_ON_PUSH".into());
            template.send().await.unwrap();
        }
        let (proxy, _) = synced(&world, &[]).await;
        proxy.assert_sufficient(&[used, "ecr:PutImage"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ecr_source_and_a_secret_need_no_permission_outside_their_policy() {
    let source = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let mut world = World::new().await.image("quay.io/team/app:1", AMD64);
    world.reconfigure(format!(
        "[[destination]]\nregistry = \"{source}\"\n{}",
        entry("quay.io/team/app:1", "")
    ));
    world.sync().await.assert_exit(0);
    let secret = world::secrets(&world.sandbox).create_secret().name("quay");
    let login = json!({ "username": "u", "password": "p" });
    let secret = secret.secret_string(login.to_string()).send().await.unwrap();
    world.reconfigure(format!(
        "[registry.\"quay.io\"]\nsecret = \"{}\"\n{}[[image]]\nsource = \"{source}/team/app\"\n\
         repository = \"base/app\"\nselect = {{ glob = [\"*\"], newest = 1 }}\n",
        secret.arn().unwrap(),
        entry("quay.io/team/app:1", ""),
    ));
    let (proxy, report) = synced(&world, &[]).await;
    assert_eq!(report.images.len(), 2);
    let used =
        ["ecr:DescribeImages", "ecr:GetDownloadUrlForLayer", "secretsmanager:GetSecretValue"];
    proxy.assert_sufficient(&used);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ecr_source_with_a_wildcard_needs_no_permission_outside_its_policy() {
    let source = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let fill = format!(
        "[[destination]]\nregistry = \"{source}\"\n{}",
        entry("quay.io/coreos/etcd:v3.5.17", "platforms = [\"linux/amd64\"]")
    );
    let copy = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n\
         [images]\n\"{source}/coreos/*\" = {{ tags = \"v3.5.17\", at_most = 9 }}\n"
    );
    // `iam` lists the repositories, too
    let home = tempfile::tempdir().unwrap();
    succeeded(home.path(), &fill, &["sync", "--sandbox=state"]);
    let printed = succeeded(home.path(), &copy, &["iam", "mirror", "--sandbox=state"]);
    let mut world = World::new().await;
    world.reconfigure(fill);
    world.sync().await.assert_exit(0);
    world.reconfigure(copy);
    let (proxy, report) = synced_under(Policy::parse(&printed), &world, &[]).await;
    assert_eq!(report.images.len(), 1);
    proxy.assert_sufficient(&["ecr:DescribeRepositories", "ecr:GetDownloadUrlForLayer"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_of_a_configuration_without_images_is_enough_for_later_images() {
    let destination = format!("[[destination]]\nregistry = \"{ECR}\"\nprefix = \"mirror\"\n");
    let world = World::new().await.configured(&destination);
    let policy = printed("mirror", &destination);
    let world = world.configured("[defaults]\narchived = \"restore\"");
    let world = world.image("quay.io/team/app:1", AMD64).image("docker.io/library/b:1", AMD64);
    let (proxy, _) = synced_under(policy, &world, &[]).await;
    proxy.assert_sufficient(&PUSH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warmed_and_a_restored_image_need_no_permission_outside_their_policy() {
    let rule = "[[pull_through]]\nupstream = \"quay\"\n[defaults]\narchived = \"restore\"";
    let world = World::new().await.configured(rule).image("docker.io/library/app:1", AMD64);
    let world = world.select("quay.io/coreos/etcd:v3.5.17", "via = \"pull-through\"");
    let rule = world.aws().create_pull_through_cache_rule().ecr_repository_prefix("quay");
    rule.upstream_registry_url("quay.io").send().await.unwrap();
    let (proxy, _) = synced(&world, &[("quay", FIRST_PULL)]).await;
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("1").build();
    let archive = world.aws().update_image_storage_class().repository_name("library/app");
    let archive = archive.image_id(id).target_storage_class("ARCHIVE".into());
    archive.send().await.unwrap();
    let report = proxy.sync(&world.toml()).await;
    assert_eq!(report.exit, 0, "{:?}", report.images);
    proxy.assert_sufficient(&["ecr:BatchImportUpstreamImage", "ecr:UpdateImageStorageClass"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_image_needs_no_permission_outside_its_policy_and_none_for_its_time() {
    let world = World::new().await;
    let flat = "platforms = [\"linux/amd64\"]\nflatten = true";
    let world = world.select("quay.io/team/app:1", flat);
    world.upstream().image("quay.io/team/app:1").platforms(["linux/amd64", "linux/arm64"]).push();
    world.sync().await.assert_exit(0);
    world.fault("throttle=3600@upstream//quay.io/");
    let toml = world.toml();
    let policy = printed("mirror", &toml);
    let proxy = Proxy::start(world.sandbox.address(), &[], policy.clone()).await;
    let options = Options { without_source: WithoutSource::Keep, ..Options::default() };
    let report = proxy.run_with(&toml, options).await;
    assert_eq!((report.exit, report.totals.kept), (0, 1), "{:?}", report.images);
    assert!(report.images[0].warnings[0].contains(", pushed at "), "{:?}", report.images);
    assert_eq!(report.images[0].platforms, ["linux/amd64"]);
    proxy.assert_sufficient(&["ecr:DescribeImages", "ecr:GetDownloadUrlForLayer"]);
    proxy.enforce(policy.without_action("ecr:DescribeImages"));
    let report = proxy.run_with(&toml, options).await;
    assert_eq!((report.exit, report.totals.kept), (0, 1), "{:?}", report.images);
    assert!(!report.images[0].warnings[0].contains("pushed at"), "{:?}", report.images);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_without_one_statement_of_its_policy_is_refused() {
    let world = World::new().await.image("quay.io/team/app:1", AMD64);
    let toml = world.toml();
    let policy = printed("mirror", &toml).without("ecr:PutImage");
    let proxy = Proxy::start(world.sandbox.address(), &[], policy).await;
    let report = proxy.sync(&toml).await;
    assert_eq!(report.exit, 1);
    let resource = format!("arn:aws:ecr:us-east-1:{ACCOUNT}:repository/team/app");
    let refused = proxy.refused();
    assert!(refused.iter().any(|it| it.ends_with(&format!(" on {resource}"))), "{refused:?}");
    assert_eq!(world.ecr().tag("team/app", "1"), None);
    proxy.enforce(printed("mirror", &toml));
    assert_eq!(proxy.sync(&toml).await.exit, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_needs_no_permission_outside_the_policy_of_iam_pull() {
    let world = World::new().await.configured("[[pull_through]]\nupstream = \"quay\"");
    let world = world.image("docker.io/library/app:1", ["linux/amd64"]);
    let toml = world.toml();
    world.sync().await.assert_exit(0);
    let rule = world.aws().create_pull_through_cache_rule().ecr_repository_prefix("quay");
    rule.upstream_registry_url("quay.io").send().await.unwrap();
    let caches: &FirstPulls = &[("quay", FIRST_PULL)];
    let proxy = Proxy::start(world.sandbox.address(), caches, printed("pull", &toml)).await;
    // a node: it pulls from ECR, and writes to its own disk
    let disk = tempfile::tempdir().unwrap();
    let node = format!(
        "[[destination]]\nregistry = \"oci:{}\"\n{}{}",
        disk.path().display(),
        entry(&format!("{ECR}/library/app:1"), ""),
        entry(&format!("{ECR}/quay/coreos/etcd:v3.5.17"), "platforms = [\"linux/amd64\"]"),
    );
    let report = proxy.sync(&node).await;
    proxy.assert_sufficient(&["ecr:BatchImportUpstreamImage", "ecr:GetDownloadUrlForLayer"]);
    assert_eq!(report.exit, 0, "{:?}", report.images);
}

/// The secret of a cache that another program manages.
const THEIRS: &str = "ecr-pullthroughcache/theirs";

/// A standing sandbox, and the program behind a proxy.
struct ProxiedProgram {
    sandbox: Sandbox,
    proxy: Proxy,
    home: tempfile::TempDir,
}

impl ProxiedProgram {
    async fn new(caches: &'static FirstPulls) -> Self {
        let options = sandbox::Options { mode: sandbox::Mode::Standing, ..Default::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let nothing = Policy::parse(r#"{ "Statement": [] }"#);
        let proxy = Proxy::start(sandbox.ecr_address(), caches, nothing).await;
        Self { sandbox, proxy, home: tempfile::tempdir().unwrap() }
    }

    /// Runs a verb with these tables, under the policy of `iam pull-through` for them.
    async fn run(&self, verb: &str, tables: &str) {
        let endpoint = format!("http://{}", self.proxy.address);
        let toml = format!(
            "[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"{endpoint}\"\n{tables}"
        );
        self.proxy.enforce(printed_in(self.home.path(), "pull-through", &toml));
        let mut command = ecr_mirror_in(self.home.path(), &["pull-through"]);
        command
            .args(verb.split(' '))
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_ENDPOINT_URL_STS", &endpoint)
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &endpoint);
        let ended = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let output = text(&ended.stdout) + &text(&ended.stderr);
        assert_eq!(self.proxy.refused(), [""; 0], "`{verb}` lacks these\n{output}");
        assert!(ended.status.success(), "{verb}: {output}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_of_pull_through_needs_a_permission_outside_its_policy() {
    let caches: &FirstPulls = &[("docker-hub", FIRST_TAGGED_PULL), ("quay", FIRST_PULL)];
    let program = ProxiedProgram::new(caches).await;
    fs::write(
        program.home.path().join("secret.json"),
        r#"{ "Version": "2012-10-17", "Statement": [] }"#,
    )
    .unwrap();
    let quay = "[[pull_through]]\nupstream = \"quay\"\n";
    let everything = format!(
        "[destination.account]\nblob_mounting = true\npull_time_exclusion = true\n\
         scanning = {{ type = \"basic\", on_push = [\"*\"] }}\n\
         [[pull_through]]\nupstream = \"docker-hub\"\n\
         credentials = {{ username = \"robot\", access_token = \"hunter2\" }}\n\
         secret = {{ description = \"ours\", recovery_window_days = 7, policy_file = \"secret.json\" }}\n\
         [pull_through.template]\nreconcile = true\ntag_mutability = \"immutable\"\n\
         tags = {{ team = \"x\" }}\nrole_arn = \"arn:aws:iam::{ACCOUNT}:role/templates\"\n\
         lifecycle = {{ expire_after_days = 30 }}\n\
         [pull_through.access]\naccounts = [\"210987654321\"]\n\
         [[pull_through]]\nupstream = \"github\"\nsecret_arn = \"{THEIRS}\"\n\
         [[pull_through]]\nupstream = \"ecr\"\nprefix = \"shared\"\n\
         url = \"210987654321.dkr.ecr.us-east-1.amazonaws.com\"\n\
         role_arn = \"arn:aws:iam::{ACCOUNT}:role/shared\"\n{quay}{}",
        entry("quay.io/coreos/etcd:v3.5.17", "via = \"pull-through\"")
    );
    let theirs = world::secrets(&program.sandbox).create_secret().name(THEIRS);
    let login = json!({ "username": "u", "accessToken": "p" });
    theirs.secret_string(login.to_string()).send().await.unwrap();
    // a repository with other settings than the template's
    let ecr = world::aws(&program.sandbox);
    ecr.create_repository().repository_name("docker-hub/library/x").send().await.unwrap();
    for verb in [
        "plan",
        "apply --yes",
        "plan --check",
        "status",
        "validate",
        "warm",
        "export terraform --iam pull-through",
        "export kubernetes --namespace web --read-secrets --output secrets.yaml",
        "apply --yes",
    ] {
        program.run(verb, &everything).await;
    }
    let changed = everything.replace("after_days = 30", "after_days = 60");
    let changed = changed.replace("robot", "other").replace("ours", "still ours");
    for verb in ["plan", "apply --yes"] {
        program.run(verb, &changed).await;
    }
    for verb in ["plan --prune", "apply --yes --prune", "destroy --yes --repositories --force"] {
        program.run(verb, quay).await;
    }
    for verb in ["apply --yes", "destroy --yes"] {
        program.run(verb, &everything).await;
    }
    program.proxy.assert_sufficient(&[
        "ecr:BatchImportUpstreamImage",
        "ecr:CreatePullThroughCacheRule",
        "ecr:DeletePullThroughCacheRule",
        "ecr:DeleteRepository",
        "ecr:PutImageTagMutability",
        "ecr:PutRegistryPolicy",
        "ecr:UpdateRepositoryCreationTemplate",
        "ecr:ValidatePullThroughCacheRule",
        "iam:PassRole",
        "secretsmanager:CreateSecret",
        "secretsmanager:RestoreSecret",
        "secretsmanager:UpdateSecret",
    ]);
}
