//! Tests the forms of images, and configurations from several places, through the program.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use ecr_mirror::model::outcome::Outcome;
use serde_json::Value;

use super::{
    process::{Ended, ecr_mirror_in, run},
    world::World,
};

const HEAD: &str = "[[destination]]\nregistry = \"r.example\"\nprefix = \"mirror\"\n";

/// Runs the program with this text on standard input, and the variable `MIRROR`.
fn fed(directory: &Path, input: &str, arguments: &[&str]) -> Ended {
    let mut command = ecr_mirror_in(directory, arguments);
    command.env("MIRROR", "[images]\nredis = \"7\"\n");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // the program may end without reading all of it
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap().into()
}

#[test]
fn a_configuration_comes_from_standard_input_and_a_variable() {
    let home = tempfile::tempdir().unwrap();
    let text = format!("{HEAD}[images]\nnginx = [\"1.27\", \"1.26\"]\n");
    let checked = fed(home.path(), &text, &["check", "-c", "-", "-c", "env:MIRROR"]);
    assert_eq!(checked.status, Some(0), "{}", checked.talk);
    assert_eq!(checked.out, "ok: 2 entries, 1 destination; 3 images\n");
    // a link to the pipe
    let checked = fed(home.path(), &text, &["check", "-c", "/dev/stdin"]);
    assert_eq!(checked.out, "ok: 1 entry, 1 destination; 2 images\n", "{}", checked.talk);
    let wrong = text.replace("1.26", "-1");
    let checked = fed(home.path(), &wrong, &["check", "-c", "-"]);
    assert_eq!(checked.status, Some(2), "{}", checked.out);
    assert!(checked.talk.starts_with("error: standard input:5:18\n"), "{}", checked.talk);

    // a list on standard input
    fs::write(home.path().join("mirror.toml"), format!("{HEAD}[[list]]\nfile = \"-\"\n")).unwrap();
    let checked = fed(home.path(), "nginx:1\nredis:7\n", &["check"]);
    assert_eq!(checked.out, "ok: 2 entries, 1 destination; 2 images\n", "{}", checked.talk);
    let both =
        fed(home.path(), "[images]\nredis = \"7\"\n", &["-c", "mirror.toml", "check", "-c", "-"]);
    assert_eq!(both.status, Some(2), "{}", both.out);
    assert!(both.talk.contains("standard input can be read only once"), "{}", both.talk);
}

#[test]
fn check_shows_an_image_of_each_naming_rule() {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "{HEAD}[registry.\"quay.io\"]\nrepository = \"{{registry}}/{{name}}\"\n[images]\n\
         nginx = \"1\"\nredis = \"7\"\n\"quay.io/a/b\" = {{ newest = 1 }}\n"
    );
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    let checked = run(home.path(), &["check", "-v"]);
    assert_eq!(
        checked.out,
        "ok: 3 entries, 1 destination; 2 images and 1 selection\n\
         \u{20} docker.io/library/nginx:1 → r.example/mirror/library/nginx:1 (the default, `{repository}`)\n\
         \u{20} quay.io/a/b → r.example/mirror/quay.io/b (`repository = \"{registry}/{name}\"` in line 5)\n",
        "{}",
        checked.talk
    );
    let json: Value = serde_json::from_str(&run(home.path(), &["check", "--json"]).out).unwrap();
    assert_eq!(
        (&json["valid"], &json["entries"], &json["images"]),
        (&true.into(), &3.into(), &2.into())
    );
    fs::write(home.path().join("mirror.toml"), "[[image]]\nsource = nginx\nsorce = 1\n").unwrap();
    let wrong = run(home.path(), &["check", "--json"]);
    let json: Value = serde_json::from_str(&wrong.out).unwrap();
    assert_eq!((wrong.status, &json["valid"]), (Some(2), &false.into()));
    assert!(json["errors"][0].as_str().unwrap().starts_with("error: mirror.toml:2:10\n"), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_several_entries_select_is_mirrored_once() {
    let world = World::new().await.configured(
        "[[image]]\nsource = \"quay.io/prometheus/prometheus\"\nselect = { newest = 2 }\n\
         [images]\n\"quay.io/prometheus/prometheus\" = { tags = [\"v3.1.0\"], newest = 1 }\n",
    );
    let first = world.sync().await;
    first.assert_exit(0).assert_all(Outcome::Copied);
    let sources: Vec<&str> = first.report.images.iter().map(|row| row.source.as_str()).collect();
    let repository = "quay.io/prometheus/prometheus";
    assert_eq!(sources, [format!("{repository}:v3.1.0"), format!("{repository}:v3.0.1")]);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_listed_at_each_kind_of_registry() {
    for (source, expected) in [
        ("quay.io/coreos/*", "quay.io/coreos/etcd"),
        ("library/*", "docker.io/library/nginx"),
        ("ghcr.io/fluxcd/*", "ghcr.io/fluxcd/source-controller"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let text =
            format!("{HEAD}[images]\n\"{source}\" = {{ tags = \"latest\", at_most = 20 }}\n");
        fs::write(home.path().join("mirror.toml"), text).unwrap();
        let listed = run(home.path(), &["images", "--json", "--sandbox=state"]);
        assert_eq!(listed.status, Some(0), "{source}: {}", listed.talk);
        let listing: Value = serde_json::from_str(&listed.out).unwrap();
        let images = listing["images"].as_array().unwrap();
        let is_expected = |image: &Value| image["source"].as_str().unwrap().starts_with(expected);
        assert!(images.iter().any(is_expected), "{source}: {}", listed.out);
        let few = format!(
            "{HEAD}[images]\n\"{source}\" = {{ tags = \"latest\", at_most = 20, exclude_repositories = [\"*\"] }}\n"
        );
        fs::write(home.path().join("mirror.toml"), few).unwrap();
        let none = run(home.path(), &["sync", "--sandbox=state"]);
        assert_eq!(none.status, Some(2), "{source}: {}", none.out);
        assert!(none.talk.contains("matches none of"), "{}", none.talk);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_of_two_images_for_one_tag_is_mirrored_with_a_warning() {
    let entries = "[[image]]\nsource = \"quay.io/coreos/etcd\"\ntags = [\"v3.5.17\"]\nrepository = \"xy\"\n\
         [[image]]\nsource = \"quay.io/prometheus/prometheus\"\nselect = { glob = [\"v3.1.0\"] }\n\
         repository = \"xy\"\nretag = \"v3.5.17\"\n";
    let refused = World::new().await.configured(entries).sync().await;
    refused.assert_exit(1).assert_all(Outcome::Failed);
    let hint = refused.report.images[0].hint.as_deref().unwrap();
    assert!(hint.contains("on_conflict = \"first\""), "{hint}");

    let world =
        World::new().await.configured("[defaults]\non_conflict = \"first\"\n").configured(entries);
    let settled = world.sync().await;
    settled.assert_exit(0).assert_all(Outcome::Copied);
    let [row] = &settled.report.images[..] else { panic!("{:?}", settled.report.images) };
    assert_eq!(row.source, "quay.io/coreos/etcd:v3.5.17");
    assert!(
        settled.warnings.iter().any(|warning| warning.contains("is the first for this tag")),
        "{:?}",
        settled.warnings
    );
}
