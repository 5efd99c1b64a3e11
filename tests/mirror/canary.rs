//! Checks that no output contains a secret: runs every command and every known kind of failure with
//! a canary in place of each secret, then searches all output and files.
//!
//! The sandbox simulates the services that store secrets: in its directory, and in the one output for
//! credentials, a secret must be in a file that only its owner can read.

mod aws;
mod echo;
mod failing;
mod search;
mod values;

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use clap::CommandFactory;
use ecr_mirror::sandbox::{Options, Sandbox};

use self::search::{Canary, assert_no_canary, assert_no_canary_below};
use super::{
    process::{Ended, ecr_mirror_in, signal},
    world::ECR,
};

const TEMPLATE: &str = "[pull_through.template]\nlifecycle = { expire_after_days = 30 }\n";

/// A directory with a configuration that uses every kind of secret.
struct Workspace {
    directory: tempfile::TempDir,
    canaries: Vec<Canary>,
}

impl Workspace {
    /// Creates images and a secret in a sandbox, and a configuration that uses them.
    async fn new() -> Self {
        let canaries = vec![
            Canary::with_symbols("the password in the configuration", "Q1confPassword9Zx"),
            Canary::with_symbols("the token of the cache", "Q2cacheToken8Yw7Vu"),
            Canary::with_symbols("the password in Docker's configuration", "Q3dockerAuth6Tsr5"),
            Canary::with_symbols("the token in Docker's configuration", "Q4identity4Pon3Ml"),
            Canary::with_symbols("the password in Secrets Manager", "Q5keptSecret2Kj1Ih"),
            Canary::part("the secret access key", "Q6secretAccessKey0Gf9"),
            Canary::part("the session token", "Q7sessionToken8Ed7Cb"),
            Canary::part("a token of the token service", "sandbox.eyJpc3Mi"),
            Canary::part("a login of ECR", "eyJwYXlsb2FkIjoi"),
            Canary::part("a signature", "&signature="),
        ];
        let workspace = Self { directory: tempfile::tempdir().unwrap(), canaries };
        let options =
            Options { directory: Some(workspace.path().join("state")), ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        for image in [
            "docker.io/team/configured:1",
            "docker.io/team/cached:1",
            "quay.io/team/kept:1",
            "ghcr.io/team/docker:1",
        ] {
            sandbox.upstream().image(image).push();
        }
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(aws_sdk_ecr::config::BehaviorVersion::latest())
            .region(aws_sdk_ecr::config::Region::new("us-east-1"))
            .credentials_provider(aws_sdk_ecr::config::Credentials::for_tests())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .endpoint_url(format!("http://{}", sandbox.address()))
            .build();
        let token = fetch_token(&sandbox).await;
        assert!(workspace.canaries[7].find_in(&token).is_some(), "tokens look like this: {token}");
        let secrets = aws_sdk_secretsmanager::Client::from_conf(config);
        let text = serde_json::json!({ "username": "kept", "password": workspace.value(4) });
        let made = secrets.create_secret().name("quay").secret_string(text.to_string());
        let arn = made.send().await.unwrap().arn.unwrap();
        sandbox.stop().await;
        workspace.write(&arn);
        workspace
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn value(&self, at: usize) -> &str {
        &self.canaries[at].value
    }

    fn write(&self, secret: &str) {
        let image = |source: &str, keys: &str| {
            format!("[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\n{keys}\n")
        };
        let tables = [
            format!("[[destination]]\nregistry = \"{ECR}\"\n"),
            format!(
                "[registry.\"docker.io\"]\nusername = \"me\"\npassword = \"{}\"\n",
                self.value(0)
            ),
            format!("[registry.\"quay.io\"]\nsecret = \"{secret}\"\n"),
            "[[pull_through]]\nupstream = \"docker-hub\"\n\
             credentials = { username = \"it\", access_token = \"${CACHE_TOKEN}\" }\n"
                .to_owned(),
            TEMPLATE.to_owned(),
            image("team/configured", ""),
            image("quay.io/team/kept", ""),
            image("ghcr.io/team/docker", ""),
            image("team/cached", "via = \"pull-through\""),
        ];
        fs::write(self.path().join("mirror.toml"), tables.concat()).unwrap();
        let auth = STANDARD.encode(format!("robot:{}", self.value(2)));
        let config = serde_json::json!({ "auths": {
            "ghcr.io": { "auth": auth },
            "registry.gitlab.com": { "auth": auth, "identitytoken": self.value(3) },
        } });
        fs::write(self.path().join("config.json"), config.to_string()).unwrap();
    }

    /// A command in the sandbox, with canaries in its environment.
    fn command(&self, arguments: &[&str], log: &Log) -> Command {
        let mut command = ecr_mirror_in(self.path(), arguments);
        command
            .args(log.arguments)
            .env("CACHE_TOKEN", self.value(1))
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", self.value(5))
            .env("AWS_SESSION_TOKEN", self.value(6));
        if let Some(directives) = log.directives {
            command.env("RUST_LOG", directives);
        }
        command
    }

    /// Runs the command. Asserts its exit status, and that it prints no canary.
    #[track_caller]
    fn run(&self, status: i32, line: &str, log: &Log) -> Ended {
        let arguments: Vec<&str> = line.split(' ').collect();
        let ended: Ended = self.command(&arguments, log).output().unwrap().into();
        let tail = ended.talk.get(ended.talk.len().saturating_sub(2000)..).unwrap_or_default();
        assert_eq!(ended.status, Some(status), "{line}\n{}\n{tail}", ended.out);
        assert_no_canary(&self.canaries, &format!("stdout of {line}"), &ended.out);
        assert_no_canary(&self.canaries, &format!("stderr of {line}"), &ended.talk);
        ended
    }
}

/// A token from Docker Hub's token service.
async fn fetch_token(sandbox: &Sandbox) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
    let service = format!("http://{}/token?scope=repository:team/app:pull", sandbox.address());
    let answer = client.get(service).header("host", "auth.docker.io").send().await.unwrap();
    answer.text().await.unwrap()
}

/// Log options: arguments and the value of `RUST_LOG`.
struct Log {
    arguments: &'static [&'static str],
    directives: Option<&'static str>,
}

const LOGS: [Log; 3] = [
    Log { arguments: &["-vv", "--log-format", "text"], directives: None },
    Log { arguments: &["-vv", "--log-format", "json"], directives: None },
    Log { arguments: &["--log-format", "json"], directives: Some("trace") },
];

/// Exit status and arguments of every command, in an order in which each has work to do.
const COMMANDS: [(i32, &str); 35] = [
    (0, "check --sandbox=state"),
    (0, "images --sandbox=state"),
    (0, "images --sandbox=state --json"),
    (0, "iam mirror"),
    (0, "iam pull"),
    (0, "iam pull-through"),
    (1, "pull-through status --sandbox=state"),
    (1, "pull-through validate --sandbox=state"),
    (1, "sync --sandbox=state --only team/cached"),
    (0, "pull-through plan --sandbox=state"),
    (1, "pull-through plan --sandbox=state --json --check"),
    (2, "pull-through apply --sandbox=state"),
    (0, "pull-through apply --sandbox=state --yes"),
    (0, "pull-through apply --sandbox=state --yes --json"),
    (0, "pull-through status --sandbox=state"),
    (0, "pull-through status --sandbox=state --json"),
    (0, "pull-through validate --sandbox=state"),
    (0, "pull-through validate --sandbox=state --json"),
    (0, "doctor --sandbox=state --write"),
    (0, "doctor --sandbox=state --json"),
    (0, "pull-through export terraform --sandbox=state"),
    (0, "pull-through export kubernetes --namespace web --output pull.yaml"),
    (0, "plan --sandbox=state --json --resolve --report plan.json"),
    (0, "sync --sandbox=state --json --report report.json --lock mirror.lock"),
    (0, "sync --sandbox=state --report again.json"),
    (0, "sync --sandbox=state --locked mirror.lock --json"),
    (0, "pull-through warm --sandbox=state --json"),
    (0, "copy ghcr.io/team/docker:1 oci:layout --sandbox=state --json"),
    (0, "copy registry.gitlab.com/team/app:1 oci:layout --sandbox=state --json"),
    (0, "pull-through destroy --sandbox=state --yes"),
    (0, "pull-through destroy --sandbox=state --yes --json"),
    (2, "plan --sandbox=state --only nothing-of-this-name"),
    (0, "schema report"),
    (0, "completions bash"),
    (0, "man pages"),
];

async fn assert_no_command_shows_a_canary(log: &Log) {
    let workspace = Workspace::new().await;
    let mut logged = 0;
    for (status, line) in COMMANDS {
        logged += workspace.run(status, line, log).talk.len();
    }
    assert!(logged > 1000, "something was logged");
    run_standing_sandbox(&workspace, log);
    // files that must contain secrets do: the search works
    let canaries_in = |name: &str| {
        let text = fs::read_to_string(workspace.path().join(name)).unwrap();
        let seen = workspace.canaries.iter().filter(|canary| canary.find_in(&text).is_some());
        seen.map(|canary| canary.name).collect::<Vec<_>>()
    };
    assert_eq!(canaries_in("mirror.toml"), ["the password in the configuration"]);
    assert_eq!(canaries_in("pull.yaml"), ["the token of the cache"]);
    assert_private(&workspace.path().join("pull.yaml"));
    let state = workspace.path().join("state");
    assert!(holders_below(&workspace.canaries, &state) > 0, "the sandbox stores secrets");
    // except the inputs, the one output for credentials, the sandbox, and mirrored content
    let may_hold = ["mirror.toml", "config.json", "pull.yaml", "state", "layout/blobs"];
    let may_hold = |path: &Path| may_hold.iter().any(|name| path == workspace.path().join(name));
    let searched = assert_no_canary_below(&workspace.canaries, workspace.path(), &may_hold);
    assert!(searched > 15, "reports, lock, layout and pages: {searched}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[track_caller]
fn assert_private(path: &Path) {
    assert_eq!(format!("{:o}", mode(path)), "600", "{}", path.display());
}

/// Asserts that only the owner can read the files below the directory and list the directories.
/// Returns the number of files that contain a canary.
#[track_caller]
fn holders_below(canaries: &[Canary], directory: &Path) -> usize {
    assert_eq!(format!("{:o}", mode(directory)), "700", "{}", directory.display());
    let mut holders = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holders += holders_below(canaries, &path);
            continue;
        }
        assert_private(&path);
        let content = fs::read(&path).unwrap();
        let content = String::from_utf8_lossy(&content);
        holders += usize::from(canaries.iter().any(|canary| canary.find_in(&content).is_some()));
    }
    holders
}

/// Starts the sandbox for other clients and stops it.
fn run_standing_sandbox(workspace: &Workspace, log: &Log) {
    let mut command = workspace.command(&["sandbox", "state"], log);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let before: Vec<String> =
        lines.by_ref().take_while(|line| !line.starts_with("unset ")).collect();
    signal(&child, "TERM");
    let out = [before, lines.collect()].concat().join("\n");
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(out.contains("AWS_SECRET_ACCESS_KEY=sandbox"), "{out}");
    assert_no_canary(&workspace.canaries, "stdout of sandbox", &out);
    assert_no_canary(&workspace.canaries, "stderr of sandbox", &ended.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_keeps_secrets_out_of_its_output_and_files() {
    assert_no_command_shows_a_canary(&LOGS[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_keeps_secrets_out_of_the_json_log() {
    assert_no_command_shows_a_canary(&LOGS[1]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_keeps_secrets_out_of_the_trace_log() {
    assert_no_command_shows_a_canary(&LOGS[2]).await;
}

#[test]
fn no_command_takes_a_secret_as_an_argument() {
    fn check_arguments(command: &clap::Command, seen: &mut usize) {
        *seen += 1;
        // a switch has no value: `--read-secrets`
        let has_value = |argument: &&clap::Arg| argument.get_action().takes_values();
        for argument in command.get_arguments().filter(has_value) {
            let name = argument.get_id().as_str().to_ascii_lowercase();
            for secret in ["pass", "token", "secret", "credential", "auth", "user", "login"] {
                assert!(!name.contains(secret), "{name} of {}", command.get_name());
            }
        }
        command.get_subcommands().for_each(|command| check_arguments(command, seen));
    }
    let mut seen = 0;
    check_arguments(&ecr_mirror::cli::Cli::command(), &mut seen);
    assert!(seen > 20, "{seen}");
}
