//! Tests `bootstrap --emit` and `--write` from a shell: each form, the edits, and what stdout has.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::Value;

use super::process::{Ended, ecr_mirror_in, run};

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

fn write(home: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(home.join(name), text).unwrap();
    }
}

fn read(home: &Path, name: &str) -> String {
    fs::read_to_string(home.join(name)).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Runs `bootstrap` to the registry's prefix `m`.
fn bootstrap(home: &Path, options: &str) -> Ended {
    let to = format!("--to={REGISTRY}/m");
    let options: Vec<&str> = options.split_whitespace().collect();
    run(home, &[&["bootstrap", to.as_str(), "--sandbox=state"], &options[..]].concat())
}

/// Each source of the report with its reference at the destination, with tag and digest.
fn mirrored(report: &str) -> BTreeMap<String, String> {
    let report = json(report);
    let rows = report["images"].as_array().unwrap().iter();
    rows.map(|row| {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("source"), format!("{}@{}", text("destination"), text("digest")))
    })
    .collect()
}

/// The images that a source policy converts. Asserts that it denies every other image.
fn converted(policy: &str) -> BTreeMap<String, String> {
    let policy = json(policy);
    let image = |rule: &Value, key: &str| {
        let name = rule[key]["identifier"].as_str().unwrap();
        name.strip_prefix("docker-image://").unwrap().to_owned()
    };
    let rules = policy["rules"].as_array().unwrap();
    let (refusals, rest): (Vec<_>, Vec<_>) =
        rules.iter().partition(|rule| rule["action"] == "DENY");
    assert_eq!(refusals.iter().map(|it| image(it, "selector")).collect::<Vec<_>>(), ["*"]);
    assert_eq!(rules.first(), refusals.first().copied(), "the last match counts");
    let (allowed, conversions): (Vec<_>, Vec<_>) =
        rest.into_iter().partition(|rule| rule["action"] == "ALLOW");
    for rule in allowed {
        assert_eq!(image(rule, "selector"), format!("{REGISTRY}/*"));
    }
    conversions.iter().map(|it| (image(it, "selector"), image(it, "updates"))).collect()
}

#[test]
fn each_form_names_the_digests_that_the_run_mirrored() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(
        home,
        &[
            (
                "Dockerfile",
                "# syntax=docker/dockerfile:1\nARG BASE=alpine\nFROM $BASE\n\
                 COPY --from=registry.k8s.io/pause:3.10 /pause /\n",
            ),
            ("compose.yaml", "services:\n  web:\n    image: nginx:1.27\n"),
            ("pod.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: redis:7.4}]}\n"),
            (
                "docker-bake.json",
                "{\"target\": {\"app\": {\"contexts\": {\"base\": \"docker-image://debian:12\"}}}}",
            ),
            (
                "mirror.toml",
                &format!(
                    "[[destination]]\nregistry = \"{REGISTRY}\"\nprefix = \"m\"\n\
                     repository = \"{{registry}}/{{repository}}\"\n"
                ),
            ),
        ],
    );
    let forms = [
        "map=map.json",
        "source-policy=policy.json",
        "build-contexts=contexts",
        "bake=mirror.json",
        "registries.conf=registries.conf",
        "hosts.toml=certs.d",
        "buildkitd=buildkitd.toml",
        "kustomize=kustomization.yaml",
        "build-args=args",
        "compose=mirror.yaml",
        "env=build.env",
    ];
    let mut arguments = vec!["bootstrap", "--sandbox=state", "--json", "--platform=linux/amd64"];
    arguments.extend(forms.iter().flat_map(|form| ["--emit", *form]));
    let ended = run(home, &arguments);
    // `build-args` cannot replace what the Dockerfile names without a build argument
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert!(
        ended.talk.contains("registry.k8s.io/pause:3.10 at Dockerfile:4 has no build argument")
    );
    let images = mirrored(&ended.out);
    assert_eq!(images.len(), 6, "{images:?}");
    assert_eq!(converted(&read(home, "policy.json")), images);

    let alpine = &images["docker.io/library/alpine:latest"];
    let expected = [
        ("contexts", format!("--build-context alpine=docker-image://{alpine}\n")),
        ("mirror.json", images["docker.io/library/debian:12"].clone()),
        ("registries.conf", "blocked = true".to_owned()),
        ("certs.d/docker.io/hosts.toml", format!("https://{REGISTRY}/v2/m/docker.io\"")),
        ("certs.d/registry.k8s.io/hosts.toml", "/v2/m/registry.k8s.io\"".to_owned()),
        ("buildkitd.toml", format!("mirrors = [\"{REGISTRY}/m/docker.io\"]")),
        ("kustomization.yaml", format!("newName: \"{REGISTRY}/m/docker.io/library/redis\"")),
        ("args", format!("--build-arg BASE={alpine}\n")),
        ("mirror.yaml", images["docker.io/library/nginx:1.27"].clone()),
        ("build.env", format!("ECR_MIRROR_ALPINE={alpine}\n")),
    ];
    for (file, text) in &expected {
        assert!(read(home, file).contains(text), "{file} lacks {text}:\n{}", read(home, file));
    }
    let map = json(&read(home, "map.json"));
    let one = map["images"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["source"] == "docker.io/library/alpine:latest");
    let place = &one.unwrap()["uses"][0];
    assert_eq!((&place["file"], &place["spelling"]), (&"Dockerfile".into(), &"$BASE".into()));
    assert!(ended.talk.contains("requires BuildKit 0.12"), "{}", ended.talk);
    assert!(ended.talk.contains("aws ecr get-login-password --region eu-west-1"), "{}", ended.talk);
}

#[test]
fn stdout_has_the_form_alone_and_the_report_is_on_stderr() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    let ended = bootstrap(home.path(), "--emit env");
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let variable = format!("ECR_MIRROR_PAUSE={REGISTRY}/m/pause:3.10@sha256:");
    assert!(ended.out.starts_with(&variable), "{}", ended.out);
    assert_eq!(ended.out.lines().count(), 1);
    assert!(ended.talk.contains("1 copied"), "{}", ended.talk);
    let quiet = bootstrap(home.path(), "--emit env=- -q");
    assert_eq!((quiet.status, &quiet.out), (Some(0), &ended.out));
    assert!(!quiet.talk.contains("up to date") && !quiet.talk.contains("login"), "{}", quiet.talk);
}

#[test]
fn a_command_line_whose_outputs_mix_is_refused_before_any_request() {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), &[("Dockerfile", "FROM alpine:3.20\nFROM quay.io/coreos/etcd:v3.5.17\n")]);
    for (options, expected) in [
        ("--emit env --list", "cannot be used with"),
        ("--write --list", "cannot be used with"),
        ("--emit env --emit map", "prints env and map on stdout"),
        ("--emit map --json", "both write to stdout"),
        ("--emit map=a --emit env=./a", "twice"),
        ("--emit env=out --report ./out", "`--emit` and `--report` name `./out`"),
        ("--metrics out --summary out", "`--metrics` and `--summary` name `out`"),
        ("--list --metrics-format emf", "cannot be used with"),
        ("--write -", "cannot edit standard input"),
        ("--emit registry-mirrors", "accepts no path"),
        ("--emit policy", "`bootstrap --emit` also has `build-args`"),
        ("--emit env --destination other", "no destination is named `other`"),
        ("--destination other", "--emit"),
        ("--emit map=missing/map.json", "cannot write the form"),
        // two registries share the prefix
        ("--emit hosts.toml=certs.d", "{registry}/{repository}"),
    ] {
        let ended = bootstrap(home.path(), options);
        assert_eq!(ended.status, Some(2), "{options}: {}", ended.talk);
        assert!(ended.talk.contains(expected), "{options}: {}", ended.talk);
    }
    assert!(!home.path().join("state").exists(), "nothing was attempted");
}

#[test]
fn a_form_overwrites_neither_its_input_nor_a_configuration() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let destination = format!("[[destination]]\nregistry = \"{REGISTRY}\"\nprefix = \"m\"\n");
    let files = [
        ("compose.yaml", "services: {web: {image: \"registry.k8s.io/pause:3.10\"}}\n"),
        ("z.Dockerfile", "FROM registry.k8s.io/pause:${V:-3.10}\n"),
        ("open.Dockerfile", "ARG BASE\nFROM $BASE\n"),
        ("mirror.toml", &destination),
        ("into.toml", &destination),
    ];
    write(home, &files);
    symlink("compose.yaml", home.join("link")).unwrap();
    for options in [
        "compose.yaml --emit compose=compose.yaml",
        "compose.yaml --emit env=./link",
        "z.Dockerfile --emit env=z.Dockerfile --write",
        "open.Dockerfile --ignore-unresolved --emit env=open.Dockerfile",
        "z.Dockerfile --emit map=mirror.toml",
        "z.Dockerfile --emit map=./into.toml --into into.toml",
        // FILE is not changed before the paths are known to be right
        "z.Dockerfile --emit map=missing/map.json --into into.toml",
        "z.Dockerfile --emit map=new.toml --into new.toml",
        "z.Dockerfile --report mirror.toml",
        "z.Dockerfile --metrics ./into.toml --into into.toml",
        "z.Dockerfile --summary z.Dockerfile",
        "compose.yaml --report link",
    ] {
        let ended = bootstrap(home, options);
        assert_eq!(ended.status, Some(2), "{options}: {}", ended.talk);
        assert!(ended.talk.contains("hint: name a"), "{options}: {}", ended.talk);
    }
    for (name, text) in files {
        assert_eq!(read(home, name), text);
    }
    assert!(!home.join("state").exists() && !home.join("new.toml").exists());
    // the forms of the first run are read by the second, and replaced
    let forms = ["compose=compose.override.yaml", "kustomize=kustomization.yaml", "map=map.json"];
    let forms: String = forms.iter().map(|form| format!(" --emit {form}")).collect();
    for _ in 0..2 {
        let ended = bootstrap(home, &format!("--ignore-unresolved{forms}"));
        assert_eq!(ended.status, Some(0), "{}", ended.talk);
        assert!(read(home, "compose.override.yaml").contains("/m/pause:3.10@sha256:"));
    }
}

#[test]
fn a_refused_form_leaves_neither_a_changed_file_nor_a_directory() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let destination = format!("[[destination]]\nregistry = \"{REGISTRY}\"\nprefix = \"m\"\n");
    // two registries share the prefix
    let dockerfile = "FROM alpine:3.20\nFROM quay.io/coreos/etcd:v3.5.17\n";
    write(home, &[("Dockerfile", dockerfile), ("into.toml", &destination)]);
    for emit in ["hosts.toml=a/certs.d", "buildkitd=buildkitd.toml"] {
        for options in ["--into into.toml", "--into new.toml", ""] {
            let ended = bootstrap(home, &format!("{options} --emit env=env --emit {emit}"));
            assert_eq!(ended.status, Some(2), "{emit} {options}: {}", ended.talk);
            assert!(ended.talk.contains("{registry}/{repository}"), "{}", ended.talk);
        }
    }
    assert_eq!(read(home, "into.toml"), destination);
    assert_eq!(fs::read_dir(home).unwrap().count(), 2);
    // the same form of one registry
    write(home, &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    let ended = bootstrap(home, "--into into.toml --emit hosts.toml=a/certs.d");
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(read(home, "into.toml").contains("pause\" = \"3.10\""));
    assert!(read(home, "a/certs.d/registry.k8s.io/hosts.toml").contains("/v2/m\""));
}

#[test]
fn an_image_that_was_not_mirrored_is_in_no_form_and_the_others_are() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let dockerfile = "FROM team.invalid/app:1\nFROM registry.k8s.io/pause:3.10\n";
    write(home, &[("Dockerfile", dockerfile)]);
    let ended = bootstrap(home, "--emit source-policy=policy.json --write --json");
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert!(ended.talk.contains("team.invalid/app:1 is omitted"), "{}", ended.talk);
    let policy = converted(&read(home, "policy.json"));
    assert_eq!(policy.keys().collect::<Vec<_>>(), ["registry.k8s.io/pause:3.10"]);
    let pause = &policy["registry.k8s.io/pause:3.10"];
    assert_eq!(read(home, "Dockerfile"), format!("FROM team.invalid/app:1\nFROM {pause}\n"));
}

#[test]
fn a_dockerfile_is_edited_in_place_once_and_keeps_every_other_byte() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let text = "\u{feff}# syntax=docker/dockerfile:1\r\nARG V=3.10\r\nFROM alpine:3.20 AS a\r\n\
                FROM registry.k8s.io/pause:${V}\r\nCOPY --from=a /etc /\t\r\n\
                copy --from=busybox /bin/sh /sh # alpine:3.20\r\n";
    write(home, &[("real", text)]);
    fs::set_permissions(home.join("real"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("real", home.join("Dockerfile")).unwrap();
    let first = bootstrap(home, "--write --json Dockerfile");
    assert_eq!(first.status, Some(0), "{}", first.talk);
    let images = mirrored(&first.out);
    let pause = format!("{REGISTRY}/m/pause:${{V}}");
    let expected = text
        .replace("FROM alpine:3.20", &format!("FROM {}", images["docker.io/library/alpine:3.20"]))
        .replace("registry.k8s.io/pause:${V}", &pause)
        .replace("=busybox", &format!("={}", images["docker.io/library/busybox:latest"]));
    assert_eq!(read(home, "Dockerfile"), expected);
    assert!(first.talk.contains("changed 3 references in Dockerfile"), "{}", first.talk);
    assert!(first.talk.contains(&format!(":4: registry.k8s.io/pause:${{V}} → {pause}")));
    assert!(first.talk.contains("build with `--build-arg BUILDKIT_SYNTAX="), "{}", first.talk);
    assert!(fs::symlink_metadata(home.join("Dockerfile")).unwrap().is_symlink());
    assert_eq!(fs::metadata(home.join("real")).unwrap().permissions().mode() & 0o777, 0o640);

    let second = bootstrap(home, "--write --json Dockerfile --emit source-policy=policy.json");
    assert_eq!(second.status, Some(0), "{}", second.talk);
    assert_eq!(read(home, "Dockerfile"), expected);
    assert!(!second.talk.contains("changed"), "{}", second.talk);
    // only `# syntax=` still names another registry, and the policy allows the mirror
    let syntax = "docker.io/docker/dockerfile:1";
    assert_eq!(mirrored(&second.out).keys().collect::<Vec<_>>(), [syntax]);
    assert_eq!(converted(&read(home, "policy.json")).keys().collect::<Vec<_>>(), [syntax]);
    assert!(read(home, "policy.json").contains("ALLOW"));
}

#[test]
fn a_build_at_the_mirror_needs_no_run_and_its_policy_allows_the_mirror() {
    let home = tempfile::tempdir().unwrap();
    let dockerfile = format!("FROM {REGISTRY}/m/library/alpine:3.20\n");
    write(home.path(), &[("Dockerfile", &dockerfile)]);
    let ended = bootstrap(home.path(), "--write --emit source-policy");
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(ended.out.contains("ALLOW") && converted(&ended.out).is_empty(), "{}", ended.out);
    assert_eq!(read(home.path(), "Dockerfile"), dockerfile);
}

#[test]
fn a_reference_that_a_form_cannot_express_is_named_and_the_exit_status_is_1() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let text = "ARG BASE=registry.k8s.io/pause:3.10\nFROM $BASE\nFROM alpine:3.20\n";
    write(home, &[("Dockerfile", text)]);
    let ended = bootstrap(home, "--write --report report.json");
    assert_eq!(ended.status, Some(1), "{}", ended.talk);
    assert_eq!(json(&read(home, "report.json"))["exit"], 1);
    assert!(ended.talk.contains("with digests of the sandbox's own images"), "{}", ended.talk);
    let reason = "registry.k8s.io/pause:3.10 at Dockerfile:2 is written with variables";
    assert!(ended.talk.contains(reason), "{}", ended.talk);
    let edited = read(home, "Dockerfile");
    assert!(edited.starts_with("ARG BASE=registry.k8s.io/pause:3.10\nFROM $BASE\nFROM 12345"));
}

#[test]
fn a_form_is_appended_to_the_files_of_github_and_replaces_others() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(home, &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n"), ("env", "A=1")]);
    write(home, &[("other", "A=1")]);
    let to = format!("--to={REGISTRY}/m");
    let arguments = ["bootstrap", &to, "--sandbox=state", "--emit=env=env", "--emit=env=other"];
    let output = ecr_mirror_in(home, &arguments).env("GITHUB_ENV", "env").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(read(home, "env").starts_with("A=1\nECR_MIRROR_PAUSE="), "{}", read(home, "env"));
    assert_eq!(format!("A=1\n{}", read(home, "other")), read(home, "env"));
}

#[test]
fn a_form_of_images_with_several_destinations_names_the_chosen_one() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let destination = |name: &str| {
        format!(
            "[[destination]]\nname = \"{name}\"\nregistry = \"{REGISTRY}\"\nprefix = \"{name}\"\n"
        )
    };
    write(home, &[("Dockerfile", "FROM registry.k8s.io/pause:3.10\n")]);
    write(home, &[("mirror.toml", &(destination("a") + &destination("b")))]);
    let arguments = ["bootstrap", "--sandbox=state", "--emit=env"];
    let open = run(home, &arguments);
    assert_eq!(open.status, Some(2), "{}", open.talk);
    assert!(open.talk.contains("give `--destination` one of `a`, `b`"), "{}", open.talk);
    assert!(!home.join("state").exists(), "nothing was attempted");
    let chosen = run(home, &[&arguments[..], &["--destination=b"]].concat());
    assert_eq!(chosen.status, Some(0), "{}", chosen.talk);
    assert!(chosen.out.starts_with(&format!("ECR_MIRROR_PAUSE={REGISTRY}/b/pause:3.10@sha256:")));
    // an image that the configuration mirrors to the other one only
    let images =
        "[images]\n\"registry.k8s.io/pause\" = { tags = [\"3.10\"], destinations = [\"a\"] }\n";
    let configuration = destination("a") + &destination("b") + images;
    let dockerfile = "FROM registry.k8s.io/pause:3.10\nFROM alpine:3.20\n";
    write(home, &[("Dockerfile", dockerfile), ("mirror.toml", &configuration)]);
    let partial = run(home, &[&arguments[..], &["--destination=b"]].concat());
    assert_eq!(partial.status, Some(1), "{}", partial.talk);
    assert!(partial.out.starts_with("ECR_MIRROR_ALPINE="), "{}", partial.out);
    let reason = "pause:3.10 is omitted: the configuration mirrors it to other destinations only";
    assert!(partial.talk.contains(reason), "{}", partial.talk);
    write(
        home,
        &[(
            "mirror.toml",
            &format!("{configuration}[registry.\"docker.io\"]\nreserve_pulls = 97\n"),
        )],
    );
    write(home, &[("Dockerfile", "FROM postgres:17\nFROM postgres:16\n")]);
    let deferred =
        run(home, &[&arguments[..], &["--destination=a", "--platform=linux/amd64"]].concat());
    assert_eq!(deferred.status, Some(3), "a deferred image is not a failure: {}", deferred.talk);
    assert!(deferred.talk.contains("postgres:16 is omitted: the destination does not have it"));
}

#[test]
fn a_cached_image_is_pulled_below_the_prefix_of_its_cache() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write(
        home,
        &[
            ("Dockerfile", "FROM quay.io/coreos/etcd:v3.5.17\nFROM registry.k8s.io/pause:3.10\n"),
            (
                "mirror.toml",
                &format!(
                    "[[destination]]\nregistry = \"{REGISTRY}\"\n[[pull_through]]\n\
                     upstream = \"quay\"\n[defaults]\nvia = \"auto\"\n\
                     retag = \"{{tag}}-{{digest8}}\"\n"
                ),
            ),
        ],
    );
    let applied = run(home, &["pull-through", "apply", "--yes", "--sandbox=state"]);
    assert_eq!(applied.status, Some(0), "{}", applied.talk);
    let ended = run(home, &["bootstrap", "--sandbox=state", "--json", "--emit=map=map.json"]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    let report = json(&ended.out);
    let map = json(&read(home, "map.json"));
    let images = map["images"].as_array().unwrap();
    let text = |at: usize, key: &str| images[at][key].as_str().unwrap().to_owned();
    assert_eq!(text(0, "destination"), format!("{REGISTRY}/quay/coreos/etcd:v3.5.17"));
    assert_eq!(
        (text(0, "via"), &images[0]["digest"]),
        ("pull-through".into(), &report["images"][0]["digest"])
    );
    assert_eq!(images[1]["destination"], report["images"][1]["destination"], "with its new tag");
    assert_eq!(text(1, "via"), "mirrored");
}
