//! Runs the scripts of the GitHub action against a release on disk, with `curl`, `tar` and `sha256sum`.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

use super::peer::{self, Peer, directory, output, text};

const REPOSITORY: &str = "example/ecr-mirror";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/github").join(name)
}

fn write_program(path: &Path, lines: &str) {
    fs::write(path, format!("#!/bin/sh\n{lines}\n")).expect("its directory exists");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// A release on disk, and a runner. The archive's program starts the built one.
struct Runner {
    home: TempDir,
}

impl Runner {
    fn new() -> Self {
        let runner = Self { home: directory() };
        let release = runner.path("server/example/ecr-mirror/releases/download/v0.1.0");
        for folder in [&release, &runner.path("bin"), &runner.path("temp")] {
            fs::create_dir_all(folder).expect("the directory is new");
        }
        let program = format!("exec '{}' \"$@\"", env!("CARGO_BIN_EXE_ecr-mirror"));
        write_program(&runner.path("ecr-mirror"), &program);
        let architecture = output(Command::new("uname").arg("-m"));
        let architecture = String::from_utf8_lossy(&architecture);
        let archive = format!("ecr-mirror-{}-linux.tar.gz", architecture.trim());
        let mut tar = peer::command("tar");
        tar.args(["-czf", text(&release.join(&archive)), "-C", text(runner.home.path())]);
        output(tar.arg("ecr-mirror"));
        let sums = output(peer::command("sha256sum").arg(&archive).current_dir(&release));
        fs::write(release.join("SHA256SUMS"), sums).expect("the directory is new");
        runner.verify_with("exit 0");
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Puts a `gh` in PATH that notes its arguments and runs these lines.
    fn verify_with(&self, lines: &str) {
        let note = format!("echo \"$@\" >>'{}'\n{lines}", text(&self.path("verified")));
        write_program(&self.path("bin/gh"), &note);
    }

    fn run(&self, script_name: &str, variables: &[(&str, &str)]) -> Output {
        let mut command = peer::command(script(script_name));
        let path = env::var("PATH").unwrap_or_default();
        let tools = self.path("tools/ecr-mirror/0.1.0");
        let installed = fs::read_dir(tools).ok().and_then(|mut entries| entries.next());
        let installed = installed.map(|entry| entry.expect("it can be listed").path());
        let installed = installed.as_deref().map(text).unwrap_or_default();
        command.env("PATH", format!("{}:{installed}:{path}", text(&self.path("bin"))));
        command.env("TMPDIR", self.path("temp")).current_dir(self.home.path());
        command.envs(variables.iter().copied()).output().expect("bash is there")
    }

    fn install(&self) -> Output {
        let server = format!("file://{}", text(&self.path("server")));
        let tools = self.path("tools");
        self.run(
            "install",
            &[
                ("SERVER", &server),
                ("REPOSITORY", REPOSITORY),
                ("VERSION", "0.1.0"),
                ("ATTESTATION", "true"),
                ("TOOL_CACHE", text(&tools)),
            ],
        )
    }
}

#[test]
fn the_action_installs_a_release_once_after_its_checksum_and_provenance() {
    if Peer::Curl.find().is_none() {
        return;
    }
    let runner = Runner::new();
    let first = runner.install();
    assert!(first.status.success(), "{first:?}");
    let directory = PathBuf::from(String::from_utf8(first.stdout).unwrap().trim());
    assert!(directory.starts_with(runner.path("tools")), "{directory:?}");
    assert!(directory.join("ecr-mirror").is_file());
    let verified = fs::read_to_string(runner.path("verified")).unwrap();
    assert!(verified.starts_with("attestation verify ecr-mirror-"), "{verified}");
    assert!(verified.contains("--repo example/ecr-mirror"), "{verified}");
    // the second time it comes from the tool cache
    fs::remove_dir_all(runner.path("server")).unwrap();
    assert!(runner.install().status.success());
    assert_eq!(fs::read_to_string(runner.path("verified")).unwrap(), verified);
}

#[test]
fn the_action_installs_nothing_with_another_checksum_or_without_provenance() {
    if Peer::Curl.find().is_none() {
        return;
    }
    let runner = Runner::new();
    runner.verify_with("exit 1");
    assert!(!runner.install().status.success());
    runner.verify_with("exit 0");
    let sums = runner.path("server/example/ecr-mirror/releases/download/v0.1.0/SHA256SUMS");
    let right = fs::read_to_string(&sums).unwrap();
    let flipped = if right.starts_with('0') { "1" } else { "0" };
    fs::write(&sums, format!("{flipped}{}", &right[1..])).unwrap();
    let damaged = runner.install();
    assert!(!damaged.status.success(), "{damaged:?}");
    assert!(!runner.path("tools").exists());
}

#[test]
fn the_action_writes_outputs_and_a_summary_and_has_the_status_of_the_run() {
    if Peer::Curl.find().is_none() {
        return;
    }
    let runner = Runner::new();
    assert!(runner.install().status.success());
    let toml = "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
        [[image]]\nsource = \"sandbox/flat\"\ntags = [\"1.0\"]\n\
        [[image]]\nsource = \"quay.io/team/private-app\"\ntags = [\"1\"]\n";
    fs::write(runner.path("mirror.toml"), toml).unwrap();
    fs::write(
        runner.path("Dockerfile"),
        "FROM sandbox/flat:1.0\nCOPY --from=quay.io/team/private-app:1 a b\n",
    )
    .unwrap();
    let (temp, outputs, summary) =
        (runner.path("temp"), runner.path("outputs"), runner.path("summary.md"));
    let run = |command: &str, only: &str| {
        fs::write(&outputs, "").unwrap();
        let done = runner.run(
            command,
            &[
                ("CONFIG", "mirror.toml"),
                ("ONLY", only),
                ("ARGUMENTS", "--sandbox=state\n--progress=none\n"),
                ("RUNNER_TEMP", text(&temp)),
                ("GITHUB_OUTPUT", text(&outputs)),
                ("GITHUB_STEP_SUMMARY", text(&summary)),
            ],
        );
        (done.status.code(), fs::read_to_string(&outputs).unwrap())
    };
    let (status, written) = run("sync", "");
    assert_eq!(status, Some(1), "{written}");
    assert!(written.contains("\ncopied=1\nfailed=1\nexit-code=1\n"), "{written}");
    let report = written.lines().find_map(|line| line.strip_prefix("report=")).unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["totals"]["failed"], 1);
    assert!(fs::read_to_string(&summary).unwrap().contains("private-app"));
    let (status, written) = run("sync", "sandbox/*\n");
    assert_eq!(status, Some(0), "{written}");
    assert!(written.contains("\ncopied=0\nfailed=0\nexit-code=0\n"), "{written}");
    fs::write(&summary, "").unwrap();
    let (status, written) = run("bootstrap", "");
    assert_eq!(status, Some(1), "{written}");
    assert!(fs::read_to_string(&summary).unwrap().contains("private-app"));
    assert!(written.contains("\ncopied=0\nfailed=1\nexit-code=1\n"), "{written}");
    fs::write(runner.path("mirror.toml"), "[[image]]\n").unwrap();
    for command in ["sync", "bootstrap"] {
        assert_eq!(run(command, ""), (Some(2), "exit-code=2\n".to_owned()), "{command}");
    }
}
