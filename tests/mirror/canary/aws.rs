//! Tests that AWS credentials and the content of secrets are never shown: valid, broken, in an
//! unexpected format, or with an unreachable service.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use aws_sdk_ecr::config::{BehaviorVersion, Credentials, Region};
use base64::{Engine, engine::general_purpose::STANDARD};
use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::json;

use super::{
    failing::output_of,
    search::{Canary, assert_no_canary},
};
use crate::{
    process::{Ended, ecr_mirror_in, signal_until_ended, until},
    scripted::{Scripted, image, reply},
    world,
};

const ROLE: &str = "arn:aws:iam::123456789012:role/mirror";

/// Credentials as environment variables.
type Keys = [(&'static str, String); 3];

/// A standing sandbox, and a program that uses its AWS with the logs of all libraries.
struct Setup {
    sandbox: Sandbox,
    endpoint: String,
    home: tempfile::TempDir,
    canaries: Vec<Canary>,
}

/// A client of a service in the sandbox.
macro_rules! client {
    ($service:ident, $endpoint:expr) => {
        $service::Client::from_conf(
            $service::Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::for_tests())
                .http_client(aws_smithy_http_client::Builder::new().build_http())
                .endpoint_url($endpoint)
                .build(),
        )
    };
}

impl Setup {
    async fn new() -> Self {
        let options = Options { mode: Mode::Standing, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let endpoint = format!("http://{}", sandbox.ecr_address());
        let sts = client!(aws_sdk_sts, &endpoint);
        let assumed = sts.assume_role().role_arn(ROLE).role_session_name("it").send().await;
        let assumed = assumed.unwrap().credentials.unwrap();
        let canaries = vec![
            Canary::part("the session token", assumed.session_token()),
            Canary::part("the secret access key", "Q2accessKey8Yw7VuTsr"),
            Canary::part("an unknown session token", "Q3sessionToken6QpOn"),
            Canary::with_symbols("the token of the cache", "Q4cacheToken5MlKj"),
            Canary::with_symbols("what the secret holds", "Q5wrongShape4IhGf"),
            Canary::part("a login of ECR", "eyJwYXlsb2FkIjoi"),
        ];
        let setup = Self { sandbox, endpoint, home: tempfile::tempdir().unwrap(), canaries };
        setup.write(
            "mirror.toml",
            &format!(
                "[[destination]]\nregistry = \"{}\"\nendpoint_url = \"{}\"\n\
                 [[image]]\nsource = \"{}/docker.io/sandbox/flat\"\ntags = [\"1.0\"]\n\
                 [[pull_through]]\nupstream = \"docker-hub\"\n\
                 credentials = {{ username = \"me\", access_token = \"{}\" }}\n",
                world::ECR,
                setup.endpoint,
                setup.sandbox.address(),
                setup.value(3),
            ),
        );
        setup
    }

    fn value(&self, at: usize) -> &str {
        &self.canaries[at].value
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    /// Credentials with the session token of this canary.
    fn keys(&self, token: usize) -> Keys {
        [
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", self.value(1).to_owned()),
            ("AWS_SESSION_TOKEN", self.value(token).to_owned()),
        ]
    }

    fn command(&self, arguments: &[&str], keys: Option<Keys>) -> Command {
        let mut command = ecr_mirror_in(self.path(), arguments);
        command.env_remove("AWS_PROFILE");
        for (name, _) in self.keys(0) {
            command.env_remove(name);
        }
        command
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", self.path().join("config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", self.path().join("credentials"))
            .env("AWS_ENDPOINT_URL_STS", &self.endpoint)
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &self.endpoint)
            .env("RUST_LOG", "trace")
            .envs(keys.into_iter().flatten());
        command
    }

    /// Runs the command, asserts its exit status, and returns its output.
    fn run(&self, arguments: &[&str], keys: Option<Keys>, status: i32) -> String {
        let command = self.command(arguments, keys);
        tokio::task::block_in_place(|| output_of(command, &self.canaries, status))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_and_refused_aws_credentials_are_not_shown() {
    let setup = Setup::new().await;
    let login = world::aws(&setup.sandbox).get_authorization_token().send().await.unwrap();
    let login = login.authorization_data()[0].authorization_token().unwrap();
    assert!(setup.canaries[5].find_in(login).is_some(), "logins look like this: {login}");
    let logged = setup.run(&["sync", "--json"], Some(setup.keys(0)), 0);
    assert!(logged.contains("GetAuthorizationToken"), "the SDK tells what it does: {logged}");
    setup.run(&["pull-through", "apply", "--yes"], Some(setup.keys(0)), 0);
    setup.run(&["pull-through", "plan", "--check"], Some(setup.keys(0)), 0);
    let refused = setup.run(&["sync"], Some(setup.keys(2)), 1);
    assert!(refused.contains("UnrecognizedClient"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_in_an_unexpected_format_is_not_shown() {
    let setup = Setup::new().await;
    let good = || Some(setup.keys(0));
    setup.run(&["pull-through", "apply", "--yes"], good(), 0);
    let secrets = client!(aws_sdk_secretsmanager, &setup.endpoint);
    let shape = setup.value(4);
    for text in
        [shape.to_owned(), format!("[\"{shape}\"]"), format!("{{\"password\":\"{shape}\"}}")]
    {
        let put = secrets.put_secret_value().secret_id("ecr-pullthroughcache/docker-hub");
        put.secret_string(text).send().await.unwrap();
        let planned = setup.run(&["pull-through", "plan", "--json", "--check"], good(), 1);
        assert!(planned.contains("\"value\""), "{planned}");
        setup.run(&["pull-through", "status"], good(), 0);
        setup.run(&["pull-through", "export", "terraform"], good(), 0);
        setup.run(&["pull-through", "validate"], good(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_aws_configuration_files_and_credential_processes_are_not_quoted() {
    let setup = Setup::new().await;
    let key = setup.value(1);
    let id = "aws_access_key_id = AKIAEXAMPLE";
    let answer = format!("echo {{\\\"Version\\\":1,\\\"SecretAccessKey\\\":\\\"{key}\\\"");
    let process = |script: &str| format!("[default]\ncredential_process = sh -c '{script}'\n");
    for (file, broken) in [
        ("config", process(&answer)),
        ("config", process(&format!("echo {key}; exit 1"))),
        ("credentials", format!("[default]\n{id}\naws_secret_access_key {key}\n")),
        ("credentials", format!("[default\naws_secret_access_key = {key}\n")),
        ("credentials", format!("{key}\n[default]\n")),
        ("credentials", format!("[default]\naws_secret_access_key = {key}\n")),
    ] {
        setup.write(file, &broken);
        let output = setup.run(&["sync"], None, 1);
        assert!(output.contains("no AWS credentials"), "{broken}\n{output}");
        setup.write(file, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_shows_no_secret() {
    let setup = Setup::new().await;
    let mut command = setup.command(&["sync", "-vv"], Some(setup.keys(0)));
    setup.sandbox.faults().add("refuse".parse().unwrap());
    let [out, talk] = ["out", "talk"].map(|name| setup.path().join(name));
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&talk).unwrap());
    let mut child = command.spawn().unwrap();
    let [read_out, read_talk] = [&out, &talk].map(|file| move || fs::read_to_string(file).unwrap());
    // the SDK retries until the second signal
    until("a connection is refused", || read_talk().contains("refused")).await;
    signal_until_ended(&mut child, "TERM").await;
    let ended = Ended { status: child.wait().unwrap().code(), out: read_out(), talk: read_talk() };
    assert_eq!(ended.status, Some(143), "{}\n{}", ended.out, ended.talk);
    assert!(ended.talk.contains("refused"), "{}", ended.talk);
    assert_no_canary(
        &setup.canaries,
        "output without a service",
        &format!("{}{}", ended.out, ended.talk),
    );
}

/// A text that repeats the secret in every form in which a server or a proxy may write it.
fn repeated(secret: &str) -> String {
    let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap().replace('/', "\\/");
    let encoded = ["", "a", "ab"].map(|before| STANDARD.encode(format!("{before}{secret}")));
    format!("{secret} {url} {json} {} {}", encoded.join(" "), const_hex::encode(secret))
}

#[test]
fn no_form_of_a_credential_that_aws_or_a_registry_repeats_is_shown() {
    let canaries = [
        Canary::part("the session token", "Q1session/Token+9Zx8Yw7Vu=="),
        Canary::part("the secret access key", "Q2secret/Access+Key8Yw7VuTsr"),
        Canary::part("the password of ECR", "Q3ecr/Password+7VuTsrQpOn"),
    ];
    let [token, key, password] = canaries.each_ref().map(|canary| canary.value.clone());
    for refuses_login in [true, false] {
        let signing = [&token, &key].map(|secret| repeated(secret)).join(" ");
        let (password, login) = (repeated(&password), STANDARD.encode(format!("AWS:{password}")));
        let is_issued = AtomicBool::new(false);
        let server = Scripted::plain(move |request| {
            let action =
                request.header("x-amz-target").and_then(|target| target.rsplit('.').next());
            let issued = if is_issued.load(SeqCst) { password.as_str() } else { "" };
            let sent = request.header("x-amz-security-token").unwrap_or_default();
            let told = format!("no to {sent} {signing} {issued} {}", request.head);
            match action {
                None => image(request),
                Some("GetAuthorizationToken") if !refuses_login => {
                    is_issued.store(true, SeqCst);
                    let data = json!({
                        "authorizationToken": login,
                        "expiresAt": 32_503_680_000_u64,
                        "proxyEndpoint": format!("https://{}", world::ECR),
                    });
                    reply(200, json!({ "authorizationData": [data] }).to_string())
                }
                Some(_) => {
                    let error = json!({ "__type": "AccessDeniedException", "message": told });
                    reply(400, error.to_string())
                }
            }
        });
        let home = tempfile::tempdir().unwrap();
        let host = server.address;
        let configuration = format!(
            "[[destination]]\nregistry = \"{host}\"\nendpoint_url = \"http://{host}\"\nprefix = \"m\"\n\
             [[image]]\nsource = \"{host}/team/app\"\ntags = [\"1\"]\n"
        );
        fs::write(home.path().join("mirror.toml"), configuration).unwrap();
        for (arguments, log) in [
            (&["sync"][..], "trace"),
            (&["sync", "--json", "--report", "report.json", "--log-format", "json"], "trace"),
            (&["sync"], ""),
        ] {
            let mut command = ecr_mirror_in(home.path(), arguments);
            for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "AWS_PROFILE"] {
                command.env_remove(name);
            }
            command
                .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
                .env("AWS_SECRET_ACCESS_KEY", &key)
                .env("AWS_SESSION_TOKEN", &token)
                .env("AWS_ENDPOINT_URL_ECR", format!("http://{host}"))
                .env("RUST_LOG", log);
            let output = output_of(command, &canaries, 1);
            assert!(output.contains("no to ") && output.contains("(hidden)"), "{output}");
        }
        let report = fs::read_to_string(home.path().join("report.json")).unwrap();
        assert_no_canary(&canaries, "the report", &report);
    }
}
