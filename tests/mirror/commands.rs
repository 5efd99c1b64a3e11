//! Tests the other commands from a shell.

use std::{fs, process::Command};

use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use serde_json::Value;

use super::process::{Registry, run};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn copy_needs_no_configuration_and_is_idempotent() {
    let home = tempfile::tempdir().unwrap();
    let target = format!("{REGISTRY}/pause");
    let arguments = ["copy", "registry.k8s.io/pause:3.10", &target, "--platform", "linux/arm64"];
    let copy = |more: &[&str]| {
        run(home.path(), &[&arguments[..], &["--sandbox=state", "--json"], more].concat())
    };
    let ended = copy(&[]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    let row = &report["images"][0];
    assert_eq!(row["destination"], format!("{target}:3.10"));
    assert_eq!(
        (&row["outcome"], &row["platforms"][0]),
        (&"copied".into(), &"linux/arm64/v8".into())
    );
    let again: Value = serde_json::from_str(&copy(&[]).out).unwrap();
    assert_eq!(again["images"][0]["outcome"], "up_to_date");
    let flat: Value = serde_json::from_str(&copy(&["--flatten"]).out).unwrap();
    assert_eq!(flat["images"][0]["outcome"], "copied");
    assert_eq!(flat["bytes"]["to_destination"], 0, "its blobs existed");

    // by digest, with a new tag
    let digest = row["source_digest"].as_str().unwrap();
    let pinned = format!("registry.k8s.io/pause@{digest}");
    let target = format!("{REGISTRY}/pause:whole");
    let ended = run(home.path(), &["copy", &pinned, &target, "--sandbox=state", "--json"]);
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(report["images"][0]["digest"], digest);
}

#[test]
fn copy_between_other_registries_reports_a_missing_image() {
    let (home, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::serve(state.path());
    // the registry is empty: the error names the source
    let (from, to) = (format!("{}/a:1", registry.address), format!("{}/b", registry.address));
    let ended = run(home.path(), &["copy", &from, &to]);
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert!(ended.out.contains("404") && ended.out.contains("hint: "), "{}", ended.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_waits_for_a_source_at_most_as_long_as_it_is_told_to() {
    let fault = "throttle=40@upstream".parse().unwrap();
    let standing = Options { mode: Mode::Standing, faults: vec![fault], ..Options::default() };
    let upstream = Sandbox::start(standing).await.unwrap();
    upstream.upstream().image("quay.io/team/app:1").push();
    let plain = Options { mode: Mode::Plain, ..Options::default() };
    let plain = Sandbox::start(plain).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let (to, from) = (plain.address(), upstream.address());
    let toml = format!(
        "[[destination]]\nregistry = \"{to}\"\n\
         [[image]]\nsource = \"{from}/quay.io/team/app\"\ntags = [\"1\"]\n"
    );
    fs::write(home.path().join("mirror.toml"), toml).unwrap();
    let planned = run(home.path(), &["sync", "--dry-run", "--max-wait", "1s", "--json"]);
    let report: Value = serde_json::from_str(&planned.out).unwrap();
    let row = &report["images"][0];
    assert_eq!(row["outcome"], "deferred", "{row}");
    assert!(row["hint"].as_str().unwrap().contains("--max-wait"), "{row}");
}

#[test]
fn check_and_images_work_without_a_registry() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), include_str!("../../mirror.toml.example")).unwrap();
    let checked = run(home.path(), &["check"]);
    assert_eq!(checked.status, Some(0), "{}", checked.talk);
    assert_eq!(checked.out, "ok: 9 entries, 1 destination; 9 images and 1 selection\n");

    let listed = run(home.path(), &["images", "--json", "--only", "cache"]);
    let listing: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!(
        listing,
        serde_json::json!({ "version": 1, "images": [{
            "name": "cache", "source": "docker.io/library/redis:7.4",
            "destination": format!("{REGISTRY}/mirror/library/redis:7.4"), "digest": null,
            "via": "mirrored",
        }] })
    );
    let table = run(home.path(), &["images", "--only", "flux*", "--only", "library/*"]).out;
    assert_eq!(table.lines().count(), 7, "{table}");
    assert!(table.contains(&format!("{REGISTRY}/mirror/flux/source-controller:v1.4.1-mirrored")));
    let found: Vec<_> = fs::read_dir(home.path()).unwrap().collect();
    assert_eq!(found.len(), 1, "no file was created");
}

#[test]
fn images_prints_forms_offline_and_names_what_a_form_omits() {
    let home = tempfile::tempdir().unwrap();
    let example = include_str!("../../mirror.toml.example");
    let second = "[[destination]]\nname = \"second\"\nregistry = \"registry.example\"\n";
    fs::write(home.path().join("mirror.toml"), example).unwrap();
    fs::write(home.path().join("two.toml"), format!("{second}{example}")).unwrap();
    let form = |arguments: &[&str]| run(home.path(), &[&["images"], arguments].concat());

    let map = form(&["--format", "map", "--only", "cache"]);
    assert_eq!(map.status, Some(0), "{}", map.talk);
    let map: Value = serde_json::from_str(&map.out).unwrap();
    assert_eq!(
        map["images"][0],
        serde_json::json!({
            "source": "docker.io/library/redis:7.4", "via": "mirrored", "uses": [],
            "destination": format!("{REGISTRY}/mirror/library/redis:7.4"), "digest": null,
            "platforms": ["linux/arm64"],
        })
    );
    let policy = form(&["--format", "source-policy", "--only", "library/*"]);
    assert_eq!(policy.status, Some(0), "{}", policy.talk);
    assert!(serde_json::from_str::<Value>(&policy.out).unwrap()["rules"].is_array());
    assert!(policy.talk.contains("BuildKit 0.12") && policy.talk.contains("docker login"));

    let conf = form(&["--format", "registries.conf", "--only", "flux*"]);
    assert_eq!(conf.status, Some(1), "{}", conf.out);
    assert!(conf.talk.contains("source-controller:v1.4.1 has another tag"), "{}", conf.talk);
    let mirrors = form(&["--format", "registry-mirrors"]);
    assert_eq!(mirrors.status, Some(2), "{}", mirrors.talk);
    assert!(mirrors.talk.contains("does not work with private ECR"), "{}", mirrors.talk);

    let two = ["-c", "two.toml", "--format", "map", "--only", "cache"];
    let unnamed = form(&two);
    assert_eq!(unnamed.status, Some(2), "{}", unnamed.talk);
    assert!(unnamed.talk.contains("`--destination` one of `second`"), "{}", unnamed.talk);
    let named = form(&[&two[..], &["--destination", "second"]].concat());
    assert!(named.out.contains("\"registry.example/library/redis:7.4\""), "{}", named.out);
}

#[test]
fn check_and_plan_warn_of_likely_mistakes_and_succeed() {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[[destination]]\nregistry = \"{REGISTRY}\"\n[[pull_through]]\nupstream = \"quay\"\n\
         [pull_through.template]\ntag_mutability = \"immutable\"\n"
    );
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    let warning = "warning: mirror.toml:6:18\n6 | tag_mutability = \"immutable\"\n";
    let checked = run(home.path(), &["check"]);
    assert_eq!(checked.status, Some(0), "{}", checked.talk);
    assert_eq!(checked.out, "ok: 0 entries, 1 destination, 1 cache; 0 images\n");
    assert!(checked.talk.starts_with(warning), "{}", checked.talk);
    assert!(
        checked.talk.contains("\nhint: write `tag_mutability = \"mutable\"`"),
        "{}",
        checked.talk
    );
    let planned = run(home.path(), &["plan", "--sandbox=state"]);
    assert_eq!(planned.status, Some(0), "{}", planned.talk);
    assert!(planned.talk.starts_with(warning), "{}", planned.talk);
    assert!(!planned.out.contains("warning"), "{}", planned.out);
}

#[test]
fn images_lists_selected_tags_and_reports_failed_selections() {
    let home = tempfile::tempdir().unwrap();
    let example = include_str!("../../mirror.toml.example");
    fs::write(home.path().join("mirror.toml"), example).unwrap();
    let listed = run(home.path(), &["images", "--sandbox=state"]);
    assert_eq!(listed.status, Some(0), "{}", listed.talk);
    assert_eq!(listed.out.lines().count(), 12, "{}", listed.out);
    for tag in ["v3.1.0", "v3.0.1"] {
        let image = format!("{REGISTRY}/mirror/prometheus/prometheus:{tag}");
        assert!(listed.out.contains(&image), "{}", listed.out);
    }
    let wrong = example.replace(">=2.50, <4", ">=4");
    fs::write(home.path().join("mirror.toml"), wrong).unwrap();
    let listed = run(home.path(), &["images", "--sandbox=state"]);
    assert_eq!((listed.status, listed.out.lines().count()), (Some(1), 10), "{}", listed.out);
    let cause = "`select` matches 0 of 17 tags, `at_least` is 1";
    assert!(listed.talk.contains(cause), "{}", listed.talk);
}

#[test]
fn the_iam_policy_allows_the_actions_of_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), include_str!("../../mirror.toml.example")).unwrap();
    let printed = run(home.path(), &["iam", "mirror"]);
    assert_eq!(printed.status, Some(0), "{}", printed.talk);
    let policy: Value = serde_json::from_str(&printed.out).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let text = policy.to_string();
    for part in [
        "ecr:GetAuthorizationToken",
        "ecr:CreateRepository",
        "ecr:PutImage",
        "arn:aws:ecr:eu-west-1:123456789012:repository/mirror/library/nginx",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("ecr:*") && !text.contains("BatchDeleteImage"), "{text}");
}

#[test]
fn an_iam_policy_above_the_limit_is_shortened_by_its_prefix_or_split() {
    let home = tempfile::tempdir().unwrap();
    let config = |prefix: &str| {
        let images: String = (0..120)
            .map(|n| {
                format!("[[image]]\nsource = \"quay.io/a-team/some-app-{n}\"\ntags = [\"1\"]\n")
            })
            .collect();
        let text = format!("[[destination]]\nregistry = \"{REGISTRY}\"\n{prefix}{images}");
        fs::write(home.path().join("mirror.toml"), text).unwrap();
    };
    let length =
        |policy: &Value| policy.to_string().split_whitespace().map(str::len).sum::<usize>();
    for verb in ["mirror", "pull"] {
        config("");
        let refused = run(home.path(), &["iam", verb]);
        assert_eq!((refused.status, refused.out.as_str()), (Some(1), ""), "{}", refused.talk);
        assert!(refused.talk.contains("--split"), "{}", refused.talk);
        let split = run(home.path(), &["iam", verb, "--split"]);
        assert_eq!((split.status, split.talk.as_str()), (Some(0), ""));
        let documents: Vec<Value> = serde_json::from_str(&split.out).unwrap();
        assert!(documents.len() > 1 && documents.iter().all(|it| length(it) <= 6144));

        config("prefix = \"mirror\"\n");
        let short = run(home.path(), &["iam", verb]);
        assert_eq!(short.status, Some(0), "{}", short.talk);
        let policy: Value = serde_json::from_str(&short.out).unwrap();
        assert!(length(&policy) <= 6144 && short.out.contains("repository/mirror/*"));
        assert!(short.talk.contains("note: "), "{}", short.talk);
    }
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let home = tempfile::tempdir().unwrap();
    let script = run(home.path(), &["completions", "bash"]);
    assert_eq!((script.status, script.talk.as_str()), (Some(0), ""));
    fs::write(home.path().join("script"), &script.out).unwrap();
    let parsed = Command::new("bash").arg("-n").arg(home.path().join("script")).status();
    assert!(parsed.unwrap().success(), "bash reads it");
    let made = run(home.path(), &["man", "pages/man1"]);
    assert_eq!(made.status, Some(0), "{}", made.talk);
    let pages = fs::read_dir(home.path().join("pages/man1")).unwrap().count();
    assert!(pages >= 10, "{pages}");
}

#[test]
fn every_help_text_ends_with_its_exit_status() {
    let home = tempfile::tempdir().unwrap();
    for verb in [
        &["sync"][..],
        &["plan"],
        &["copy"],
        &["check"],
        &["images"],
        &["iam", "mirror"],
        &["sandbox"],
        &["schema"],
        &["completions"],
        &["man"],
        &[],
    ] {
        let help = run(home.path(), &[verb, &["--help"]].concat());
        assert_eq!((help.status, help.talk.as_str()), (Some(0), ""), "{verb:?}");
        let (_, codes) =
            help.out.rsplit_once("Exit status:\n").unwrap_or_else(|| panic!("{verb:?}"));
        assert!(codes.lines().all(|line| line.starts_with("  ")), "{verb:?}: {codes}");
    }
}
