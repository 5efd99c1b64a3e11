//! Tests everything that a person sees of a run, at three widths.
//!
//! Each test runs the program with its stdout and stderr in one file, and compares the whole of it
//! with a file of `screen/`. `ECR_MIRROR_BLESS=1` writes the files.

use std::{
    fs::{self, File},
    path::Path,
    process::Command,
};

use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use regex::Regex;

use super::process::{ecr_mirror_in, signal, signal_until_ended, until};

const WIDTHS: [usize; 3] = [50, 80, 120];

/// Compares a text with the file of the repository, or writes the file.
pub(crate) fn assert_document(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("ECR_MIRROR_BLESS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, text, "{file}: run it once with ECR_MIRROR_BLESS=1");
}

/// The output of one command at each width.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    /// Adds the command, its output and its exit status.
    fn add(&mut self, width: usize, arguments: &str, status: Option<i32>, output: &str) {
        assert_fits(output, width);
        let status = status.expect("it exits");
        self.0 += &format!("=== {width} columns: ecr-mirror {arguments}\n");
        self.0 += &format!("{}=== exit status {status}\n\n", normal(output));
    }

    fn compare(&self, name: &str) {
        assert_document(&format!("tests/mirror/screen/{name}.txt"), &self.0);
    }
}

/// Asserts that no line is wider than the terminal, except for one word, and that nothing is cut.
fn assert_fits(output: &str, width: usize) {
    for line in output.lines() {
        // an arrow belongs to its name, and a mark to its line of JSON
        let text = line.trim_start_matches([' ', '→', '+', '-']);
        let can_wrap = text.contains(' ') && !text.starts_with(['"', '{', '}', '[', ']']);
        assert!(line.chars().count() <= width || !can_wrap, "{width}: {line}\n{output}");
        assert!(!line.contains('…'), "{line}");
    }
}

/// The output without the parts that differ from run to run: times, sizes, counts of requests,
/// ports, and the order in which images end.
fn normal(output: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    for line in output.lines() {
        match blocks.last_mut() {
            Some(block) if line.starts_with(' ') => *block += &format!("\n{line}"),
            _ => blocks.push(line.to_owned()),
        }
    }
    // images share blobs: which of them pushes one differs from run to run
    let size = Regex::new(r" *[0-9]+\.[0-9] [kM]B").unwrap();
    for block in &mut blocks {
        let aligned = |size: &regex::Captures<'_>| format!("{:>1$}", "N MB", size[0].len());
        *block = size.replace_all(block, aligned).into_owned();
    }
    let is_copied = |block: &String| block.starts_with("copied ");
    if let Some(first) = blocks.iter().position(is_copied) {
        let end = first + blocks[first..].iter().take_while(|block| is_copied(block)).count();
        blocks[first..end].sort();
    }
    let mut text = blocks.join("\n") + "\n";
    for (pattern, replacement) in [
        // where a line breaks depends on the digits of its numbers
        (" · ", "\n"),
        (r"\bin [0-9.]+ s\b", "in N s"),
        (r"[0-9,]+ requests?, [0-9,]+ AWS API calls?", "N requests, N AWS API calls"),
        (r"(127\.0\.0\.1|localhost):[0-9]{5}", "$1:PORT0"),
        (r"( · |\n)[0-9]+ retr(y|ies), [0-9]+ throttled", ""),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, replacement).into_owned();
    }
    text
}

/// Runs the command in this directory at a width; returns its exit status and its output.
fn run(directory: &Path, width: usize, arguments: &str) -> (Option<i32>, String) {
    let mut command = command(directory, width, arguments);
    let status = command.status().unwrap().code();
    (status, output(directory))
}

/// The command, with both streams in one file.
fn command(directory: &Path, width: usize, arguments: &str) -> Command {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let mut command = ecr_mirror_in(directory, &arguments);
    let file = File::create(directory.join("output")).unwrap();
    command.stdout(file.try_clone().unwrap()).stderr(file);
    for name in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command.env("COLUMNS", width.to_string()).env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn output(directory: &Path) -> String {
    fs::read_to_string(directory.join("output")).unwrap()
}

/// A directory with this configuration.
fn home(toml: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mirror.toml"), toml).unwrap();
    directory
}

/// Runs the commands one after another, in a new directory for each width.
fn compare(name: &str, toml: &str, commands: &[&str]) {
    let mut transcript = Transcript::default();
    for width in WIDTHS {
        let home = home(toml);
        for arguments in commands {
            let (status, output) = run(home.path(), width, arguments);
            transcript.add(width, arguments, status, &output);
        }
    }
    transcript.compare(name);
}

const EXAMPLE: &str = include_str!("../../mirror.toml.example");

#[test]
fn a_first_run_and_one_with_nothing_to_do_are_as_documented() {
    let sync = "sync --sandbox=state";
    compare("sync", EXAMPLE, &[sync, sync]);
}

#[test]
fn a_plan_is_as_documented() {
    compare("plan", EXAMPLE, &["plan --sandbox=state", "plan --sandbox=state --resolve"]);
}

const FAILING: &str = r#"
[[destination]]
registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
prefix = "mirror"
[[image]]
source = "nginx"
tags = ["1.27", "nosuch-1", "nosuch-2"]
[[image]]
source = "quay.io/team/private-app"
tags = ["1", "2"]
[[image]]
source = "registry.k8s.io/pause"
tags = ["3.10"]
platforms = ["linux/s390x", "plan9/mips"]
[[image]]
source = "ghcr.io/fluxcd/source-controller"
tags = ["v1.4.1"]
repository = "flux/source-controller"
retag = "{tag}-mirrored"
"#;

#[test]
fn failures_are_written_once_with_the_reason_and_the_fix() {
    compare("failures", FAILING, &["sync --sandbox=state", "sync --sandbox=state -q"]);
}

const CACHE: &str = r#"
[[destination]]
registry = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
[[pull_through]]
upstream = "quay"
[pull_through.template]
lifecycle = { expire_after_days = 30 }
[pull_through.access]
accounts = ["210987654321"]
"#;

#[test]
fn changes_of_policies_are_readable() {
    let mut transcript = Transcript::default();
    for width in WIDTHS {
        let home = home(CACHE);
        let mut add = |arguments: &str| {
            let (status, output) = run(home.path(), width, arguments);
            transcript.add(width, arguments, status, &output);
        };
        add("pull-through plan --sandbox=state");
        add("pull-through apply --yes --sandbox=state");
        let changed = CACHE.replace("= 30", "= 60").replace("\"2109", "\"333333333333\", \"2109");
        fs::write(home.path().join("mirror.toml"), changed).unwrap();
        add("pull-through plan --sandbox=state");
        add("pull-through apply --yes --sandbox=state");
        add("pull-through plan --sandbox=state");
    }
    transcript.compare("pull-through");
}

/// A standing sandbox with two images.
async fn standing(faults: &[String]) -> (Sandbox, tempfile::TempDir) {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let options = Options { mode: Mode::Standing, faults, ..Options::default() };
    let sandbox = Sandbox::start(options).await.unwrap();
    let mut toml = format!(
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"\n\
         endpoint_url = \"http://{}\"\n",
        sandbox.ecr_address()
    );
    for name in ["app", "web"] {
        sandbox.upstream().image(&format!("quay.io/team/{name}:1")).push();
        let source = format!("{}/quay.io/team/{name}", sandbox.address());
        toml += &format!(
            "[[image]]\nsource = \"{source}\"\ntags = [\"1\"]\nrepository = \"team/{name}\"\n"
        );
    }
    (sandbox, home(&toml))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_run_says_so_at_once_and_has_one_hint() {
    let mut transcript = Transcript::default();
    for width in WIDTHS {
        let faults = ["app", "web"].map(|name| format!("silent@ecr:PUT/team/{name}/manifests/"));
        let (sandbox, home) = standing(&faults).await;
        let mut command = command(home.path(), width, "sync");
        command.env("AWS_ACCESS_KEY_ID", "sandbox").env("AWS_SECRET_ACCESS_KEY", "sandbox");
        let mut child = command.spawn().unwrap();
        until("both images push", || sandbox.faults().idle().is_empty()).await;
        signal(&child, "INT");
        until("the program says that it stops", || output(home.path()).contains("stopping")).await;
        signal_until_ended(&mut child, "INT").await;
        let status = child.wait().unwrap().code();
        transcript.add(width, "sync", status, &output(home.path()));
    }
    transcript.compare("interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_without_credentials_has_one_error() {
    let mut transcript = Transcript::default();
    for width in WIDTHS {
        let (_sandbox, home) = standing(&[]).await;
        let path = home.path().to_owned();
        let ended = tokio::task::spawn_blocking(move || run(&path, width, "sync"));
        let (status, output) = ended.await.unwrap();
        transcript.add(width, "sync", status, &output);
    }
    transcript.compare("no-credentials");
}

#[test]
fn every_line_of_the_json_log_is_an_object_whatever_happens() {
    let home = home(FAILING);
    for arguments in [
        "sync --sandbox=state",
        "sync --sandbox=state -q",
        "sync --sandbox=state --json",
        "plan --sandbox=state -c missing.toml",
        "pull-through apply --sandbox=state",
        "sync --nonsense",
    ] {
        let more = ["--log-format", "json"];
        let arguments: Vec<&str> = arguments.split(' ').chain(more).collect();
        let ended = super::process::run(home.path(), &arguments);
        assert!(!ended.talk.is_empty(), "{arguments:?}");
        for line in ended.talk.lines() {
            let object: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{arguments:?}: {line}"));
            assert!(object["message"].is_string() && object["level"].is_string(), "{line}");
        }
    }
}
