//! Secrets stay where they belong, and what a registry sends does no harm: seen from outside, at
//! every level of the log. What is sent to whom is held where it is decided, in `src/registry`.

use std::fs;

use ecr_mirror::config::Config;

use super::{process::at_home, world::ECR};

/// A password in all the forms it takes on its way, and what else lets in whoever has it: tokens of
/// the sandbox's services, ECR's login, signatures, the state of uploads.
const SECRETS: [&str; 9] = [
    "hunter2-hunter2",
    "YWxpY2U6aHVudGVyMi1odW50ZXIy",
    "Bearer ",
    "sandbox.ey",
    "authorizationToken",
    "QVdTO",
    "AWS4-HMAC",
    "_state=",
    "X-Amz-Signature",
];

#[test]
fn no_secret_is_printed_at_any_level_of_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n\
         [registry.\"docker.io\"]\nusername = \"alice\"\npassword = \"${{PASSWORD}}\"\n\
         [defaults]\nplatforms = [\"linux/amd64\"]\n\
         [[image]]\nsource = \"busybox\"\ntags = [\"1.36\", \"absent\"]\n"
    );
    fs::write(directory.path().join("mirror.toml"), toml).unwrap();
    for (log, state) in
        [("", "a"), ("debug", "b"), ("trace", "c"), ("aws_smithy_runtime=trace", "d")]
    {
        let sandbox = format!("--sandbox={state}");
        let sync = ["sync", "-vv", "--json", "--report", "report.json", &sandbox];
        let mut program = at_home(directory.path(), &sync);
        program.env("PASSWORD", "hunter2-hunter2").env("RUST_LOG", log);
        let ended = program.output().unwrap();
        let shown = [&ended.stdout[..], &ended.stderr].map(String::from_utf8_lossy).concat();
        let report = fs::read_to_string(directory.path().join("report.json")).unwrap();
        assert!(shown.len() > 1_000 && report.contains("copied"), "{log}: {shown}");
        for secret in SECRETS {
            let line = (shown.lines().chain(report.lines())).find(|line| line.contains(secret));
            assert_eq!(line, None, "`{secret}` at RUST_LOG={log}");
        }
    }
}

#[test]
fn a_configuration_shows_no_password() {
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n\
         [registry.\"docker.io\"]\nusername = \"alice\"\npassword = \"hunter2-hunter2\"\n\
         [[pull_through]]\nupstream = \"docker-hub\"\n\
         credentials = {{ username = \"alice\", access_token = \"hunter2-hunter2\" }}\n"
    );
    let config = Config::parse("mirror.toml", &toml, ".".as_ref(), &|_| None).unwrap();
    let shown = format!("{config:?}");
    assert!(shown.contains("alice") && !shown.contains("hunter2"), "{shown}");
}
