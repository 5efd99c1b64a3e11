//! Tests from outside that no log level shows a secret, and that damaged content does no harm. The
//! tests of `src/registry` check which host gets which credentials.

use std::fs;

use ecr_mirror::{config::Config, engine::Mode, model::outcome::Outcome};

use super::{
    content::{HOST, assert_whole, put_image},
    process::ecr_mirror_in,
    world::{ECR, World},
};

/// A password in every encoding in which it is sent, and marks of other secrets: tokens of the
/// sandbox's services, ECR's login, signatures, upload states.
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
fn no_log_level_prints_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let toml = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n\
         [registry.\"docker.io\"]\nusername = \"alice\"\npassword = \"${{PASSWORD}}\"\n\
         [defaults]\nplatforms = [\"linux/amd64\"]\n\
         [[image]]\nsource = \"busybox\"\ntags = [\"1.36\", \"absent\"]\n"
    );
    fs::write(directory.path().join("mirror.toml"), toml).unwrap();
    for (log, state) in [("", "a"), ("trace", "b")] {
        let sandbox = format!("--sandbox={state}");
        let sync = ["sync", "-vv", "--json", "--report", "report.json", &sandbox];
        let mut program = ecr_mirror_in(directory.path(), &sync);
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
fn the_debug_form_of_a_configuration_hides_passwords() {
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

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_from_a_mirror_is_read_again_from_the_registry() {
    const MIRROR: &str = "mirror.example.com";
    let layer = b"the content of a layer".repeat(1 << 12);
    let damaged = [&layer[1..], b"x"].concat();
    let world = World::new()
        .await
        .configured(&format!("[registry.\"{HOST}\"]\nmirrors = [\"{MIRROR}\"]"))
        .select("quay.io/team/app:1", "");
    put_image(world.upstream(), "team/app", &layer, &layer);
    let digest = ecr_mirror::model::Digest::of(&layer);
    world.upstream().put_raw_blob(MIRROR, "team/app", &digest, &damaged);
    let run = world.sync().await;
    run.assert_exit(0).assert_all(Outcome::Copied);
    let readings = |host: &str| {
        let prefix = format!("GET {host}/v2/team/app/blobs/{digest}");
        run.source_requests().iter().filter(|request| request.starts_with(&prefix)).count()
    };
    assert!(readings(MIRROR) >= 1 && readings(HOST) >= 1, "{:#?}", run.source_requests());
    assert!(run.report.bytes.from_source >= Some(2 * layer.len() as u64));
    assert_whole(&world.ecr());
    world.plan(Mode::Plan).await.assert_exit(0).assert_all(Outcome::UpToDate);
}
