//! Tests of `[images]`, `[[list]]`, naming rules, unions and `[repository."…"]`.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::model::Repository;

const HEAD: &str = "[[destination]]\nregistry = \"r.example\"\nprefix = \"mirror\"\n";

/// A directory with `mirror.toml`, which begins with [`HEAD`], and a list `images.txt`.
fn with_list(list: &str, rest: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("images.txt"), list).unwrap();
    fs::write(directory.path().join("mirror.toml"), format!("{HEAD}{rest}")).unwrap();
    load(&directory, &["mirror.toml"])
}

/// Loads files of the directory. Messages do not name it.
fn load(directory: &tempfile::TempDir, files: &[&str]) -> Result<Config, String> {
    let paths = files.iter().map(|file| match file.contains(':') {
        true => PathBuf::from(file),
        false => directory.path().join(file),
    });
    let environment = |name: &str| match name {
        "CONFIG" => Some(format!("{HEAD}[images]\nredis = \"7\"\n")),
        "REST" => Some("[images]\nredis = \"7\"\n".to_owned()),
        _ => None,
    };
    let config = Config::load(&paths.collect::<Vec<_>>(), &environment);
    let named = format!("{}/", directory.path().display());
    config.map_err(|error| error.to_string().replace(&named, ""))
}

fn shorthand(rest: &str) -> Config {
    parse(&format!("{HEAD}{rest}")).unwrap_or_else(|error| panic!("{error}"))
}

fn filled(text: &str) -> String {
    text.replace("<HEX>", HEX)
}

#[test]
fn an_image_of_a_report_is_found_in_its_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("images.txt", "# ours\r\nnginx:1.27\r\n\r\nquay.io/a/b:1\nnginx:1.26\n");
    let digest = format!("sha256:{HEX}");
    let pinned = format!("grafana = \"11@{digest}\"\n");
    write(
        "more.toml",
        &format!("[images]\nredis = {{ newest = 1, tags = [\n\"7\",\n\"6\"] }}\n{pinned}"),
    );
    write(
        "mirror.toml",
        &format!("{HEAD}[[include]]\nfile = \"more.toml\"\n[[list]]\nfile = \"images.txt\"\n"),
    );
    let config = load(&directory, &["mirror.toml"]).unwrap();
    let find = |source: &str| {
        let (_, name) = source.split_once('/').unwrap();
        let name = name.split(['@', ':']).next().unwrap();
        let (file, line) = config.written_at(name, source)?;
        Some(format!("{}:{line}", Path::new(file).file_name()?.to_str()?))
    };
    for (source, expected) in [
        ("docker.io/library/nginx:1.27", Some("images.txt:2")),
        ("docker.io/library/nginx:1.26", Some("images.txt:5")),
        ("docker.io/library/nginx", Some("images.txt:2")),
        ("quay.io/a/b:1", Some("images.txt:4")),
        ("docker.io/library/redis:7", Some("more.toml:3")),
        ("docker.io/library/redis:6", Some("more.toml:4")),
        ("docker.io/library/redis:7.4.1", Some("more.toml:2")),
        (&format!("docker.io/library/grafana@{digest}"), Some("more.toml:5")),
        // a digest that the sandbox has in place of the pin, and a tag of no line
        (&format!("docker.io/library/grafana@sha256:{}", "0".repeat(64)), Some("more.toml:5")),
        ("quay.io/a/b:2", Some("images.txt:4")),
        ("ghcr.io/a/b:1", None),
        ("quay.io/other:1", None),
    ] {
        assert_eq!(find(source).as_deref(), expected, "{source}");
    }
}

#[test]
fn an_image_that_no_file_has_has_no_file_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("{HEAD}[images]\nnginx = \"1.27\"\n");
    fs::write(directory.path().join("mirror.toml"), &text).unwrap();
    let variable = Config::load(&["env:CONFIG"], &|_| Some(text.clone())).unwrap();
    let generated = Config::generated(text.clone()).unwrap();
    let file = load(&directory, &["mirror.toml"]).unwrap();
    for (config, has_file) in [(variable, false), (generated, false), (file, true)] {
        let written = config.written_at("library/nginx", "docker.io/library/nginx:1.27");
        assert_eq!(written.is_some(), has_file, "{:?}", config.file_names);
    }
    let names = ["standard input", "env:CONFIG", "the images that are used", "mirror.toml"];
    assert_eq!(names.map(is_file_name), [false, false, false, true]);
}

#[test]
fn the_forms_of_images_become_the_same_entries() {
    let expected = [
        "docker.io/library/nginx:1.27 → mirror/library/nginx:1.27",
        "docker.io/library/nginx:1.26 → mirror/library/nginx:1.26",
        "quay.io/a/b@sha256:<HEX> → mirror/a/b:1",
    ]
    .map(filled);
    let table = shorthand(&filled(
        "[[image]]\nsource = \"nginx\"\ntags = [\"1.27\", \"1.26\"]\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1@sha256:<HEX>\"]\n",
    ));
    let short = shorthand(&filled(
        "[images]\nnginx = [\"1.27\", \"1.26\"]\n\"quay.io/a/b\" = \"1@sha256:<HEX>\"\n",
    ));
    let list = filled("nginx:1.27\ndocker.io/nginx:1.26\nquay.io/a/b:1@sha256:<HEX>\n");
    let list = with_list(&list, "[[list]]\nfile = \"images.txt\"\n").unwrap();
    let lists = shorthand(&filled(
        "[images]\n\"docker.io/\" = [\"nginx:1.27\", \"nginx:1.26\"]\n\"quay.io/a/\" = [\"b:1@sha256:<HEX>\"]\n",
    ));
    for config in [table, short, list, lists] {
        assert_eq!(arrows(&config), expected);
        assert_eq!((config.written, config.warnings.len()), (2, 0));
        let names: Vec<&str> = config.entries.iter().map(|entry| &*entry.name).collect();
        assert_eq!(names, ["library/nginx", "a/b"]);
    }
}

#[test]
fn an_image_of_the_shorthand_has_the_keys_of_an_entry_and_of_its_selection() {
    let config = shorthand(
        "[images]\n\
         \"quay.io/a/b\" = { semver = \">=2.50, <4\", newest = 3, tags = [\"latest\"], name = \"x\" }\n\
         \"quay.io/a/c\" = { tags = \"7\", platforms = [\"linux/amd64\"], flatten = true }\n\
         \"ghcr.io/x/busybox\" = { attestations = \"drop\" }\n",
    );
    // in the order of the file; the union of tags and a selection is two entries
    let shown: Vec<String> = config
        .entries
        .iter()
        .map(|entry| match &entry.tags {
            Tags::Exact(tags) => format!("{} {tags:?}", entry.name),
            Tags::Selected(selection) => format!("{} {selection}", entry.name),
            Tags::Pinned { .. } => unreachable!("nothing is pinned"),
        })
        .collect();
    assert_eq!(shown[0], "x [\"latest\"]");
    assert!(shown[1].starts_with("x ") && shown[1].contains("2.50"), "{}", shown[1]);
    assert_eq!(shown[2..], ["a/c [\"7\"]", "x/busybox [\"latest\"]"]);
    assert_eq!(config.entries[2].filter.shape, Shape::Flat);
    assert_eq!(config.written, 3);
}

#[test]
fn tags_and_a_selection_in_one_entry_are_the_union() {
    let config = shorthand(
        "[[image]]\nsource = \"nginx\"\ntags = [\"stable\"]\nselect = { newest = 3 }\nretag = \"v{tag}\"\n",
    );
    assert_eq!(arrows(&config), ["docker.io/library/nginx:stable → mirror/library/nginx:vstable"]);
    assert!(matches!(config.entries[1].tags, Tags::Selected(_)));
    assert!(config.entries.iter().all(|entry| entry.retag.to_string() == "v{tag}"));
}

#[test]
fn the_most_specific_naming_rule_wins() {
    let text = |keys: [&str; 5]| {
        let [defaults, destination, registry, list, entry] = keys;
        format!(
            "[[list]]\nfile = \"images.txt\"\n{list}\n[images]\n\"quay.io/a/b\" = {{ tags = [\"1\"]{entry} }}\n\
             [defaults]\n{defaults}\n[registry.\"quay.io\"]\n{registry}\n\
             [[destination]]\nregistry = \"s.example\"\n{destination}\n"
        )
    };
    let rule = |name: &str| format!("repository = \"{name}/{{name}}\"");
    let names = ["defaults", "destination", "registry", "list"].map(rule);
    let [defaults, destination, registry, list] = names.each_ref().map(String::as_str);
    let entry = ", repository = \"entry/{name}\"";
    let targets = |keys: [&str; 5]| {
        let config = with_list("quay.io/x/y:1\n", &text(keys)).unwrap();
        let of =
            |entry: &Entry| entry.mirrored.iter().map(|it| it.repository.to_string()).collect();
        config.entries.iter().map(of).collect::<Vec<Vec<String>>>()
    };
    let (first, other) = ("mirror/", "");
    let both = |name: &str, image| [first, other].map(|prefix| format!("{prefix}{name}/{image}"));
    assert_eq!(targets(["", "", "", "", ""]), [both("a", "b"), both("x", "y")]);
    assert_eq!(targets([defaults, "", "", "", ""]), [both("defaults", "b"), both("defaults", "y")]);
    let own = |image: &str| [format!("mirror/defaults/{image}"), format!("destination/{image}")];
    assert_eq!(targets([defaults, destination, "", "", ""]), [own("b"), own("y")]);
    assert_eq!(
        targets([defaults, destination, registry, "", ""]),
        [both("registry", "b"), both("registry", "y")]
    );
    assert_eq!(
        targets([defaults, destination, registry, list, entry]),
        [both("entry", "b"), both("list", "y")]
    );
}

#[test]
fn general_keys_apply_to_images_without_their_own() {
    let text = "[[destination]]\nregistry = \"s.example\"\nname = \"s\"\n\
         [defaults]\nretag = \"d-{tag}\"\ndestinations = [\"s\"]\n\
         [registry.\"quay.io\"]\nretag = { from = \"^v\", to = \"\" }\n\
         [images]\nnginx = \"1\"\n\"quay.io/a/b\" = [\"v2\", \"3\"]\n\
         \"quay.io/a/c\" = { tags = [\"v4\"], retag = \"{tag}\", destinations = [\"r.example\"] }\n";
    let config = shorthand(text);
    assert_eq!(
        arrows(&config),
        [
            "docker.io/library/nginx:1 → library/nginx:d-1",
            "quay.io/a/b:v2 → a/b:2",
            "quay.io/a/b:3 → a/b:3",
            "quay.io/a/c:v4 → mirror/a/c:v4",
        ]
    );
    let samples: Vec<String> = config
        .samples
        .iter()
        .map(|it| format!("{} → {} ({})", it.source, it.destination, it.rule))
        .collect();
    assert_eq!(
        samples[0],
        "docker.io/library/nginx:1 → s.example/library/nginx:d-1 (the default, `{repository}`, \
         `retag = \"d-{tag}\"` in line 8)"
    );
    assert_eq!(samples.len(), 3, "{samples:?}");
}

#[test]
fn a_list_is_read_as_producers_write_it() {
    let list = filled(
        "\u{feff}# images of a release\r\n\r\nnginx\r\ndocker.io/rancher/pause:3.6\n\
         image=quay.io/a/b:1\n\"quay.io/a/b:2\",\n  - quay.io/a/b:1  # again\n\
         registry.k8s.io/pause@sha256:<HEX>\n",
    );
    let config = with_list(&list, "[[list]]\nfile = \"images.txt\"\nname = \"release\"\n").unwrap();
    assert_eq!(
        arrows(&config),
        [
            "docker.io/library/nginx:latest → mirror/library/nginx:latest",
            "docker.io/rancher/pause:3.6 → mirror/rancher/pause:3.6",
            "quay.io/a/b:1 → mirror/a/b:1",
            "quay.io/a/b:2 → mirror/a/b:2",
            "registry.k8s.io/pause@sha256:<HEX> → mirror/pause:sha256-e3b0c44298fc",
        ]
        .map(filled)
    );
    assert!(config.entries.iter().all(|entry| &*entry.name == "release"));
}

#[test]
fn a_list_may_select_tags_of_repositories_without_one() {
    let list = "quay.io/a/b\nquay.io/a/c:1\n";
    let text = "[[list]]\nfile = \"images.txt\"\nselect = { newest = 2 }\n";
    let config = with_list(list, text).unwrap();
    let is_selected = |entry: &Entry| matches!(entry.tags, Tags::Selected(_));
    assert_eq!(config.entries.iter().map(is_selected).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_mistake_in_a_list_points_into_the_list() {
    let list = "nginx:1\n  Quay.io/A/b:1\r\nuser:hunter2@quay.io/a/b:1\nregistry.k8s.io\n";
    let shown = with_list(list, "[[list]]\nfile = \"images.txt\"\n").unwrap_err();
    assert_eq!(
        shown,
        "error: images.txt:2:3\n\
         2 |   Quay.io/A/b:1\n\
         \u{20} |   ^^^^^^^^^^^^^ has uppercase letters, repository names are lowercase\n\
         hint: write `quay.io/a/b:1`\n\n\
         error: images.txt:3:1\n\
         3 | (not shown: it may hold a secret)\n\
         \u{20} | not a digest\n\
         hint: write `sha256:` and 64 lowercase hexadecimal digits\n\n\
         error: images.txt:4:1\n\
         4 | registry.k8s.io\n\
         \u{20} | ^^^^^^^^^^^^^^^ a registry without a repository\n\
         hint: add the repository: `registry.k8s.io/REPOSITORY`"
    );
    let retag = "[[list]]\nfile = \"images.txt\"\nretag = \"-{tag}\"\n";
    let shown = with_list("nginx:1\n", retag).unwrap_err();
    assert!(shown.starts_with("error: images.txt:1:1\n1 | nginx:1\n"), "{shown}");
    assert!(shown.contains("`retag` of `[[list]]` does not result in a valid tag"), "{shown}");
    // a file of another kind is not shown line by line
    let garbage = "{ \"a\": 1 }\n".repeat(1_000);
    let shown = with_list(&garbage, "[[list]]\nfile = \"images.txt\"\n").unwrap_err();
    assert!(shown.contains("980 more lines have a mistake"), "{shown}");
    for (text, expected) in [
        ("[[list]]\n", "`file` is missing"),
        ("[[list]]\nfile = \"other.txt\"\n", "cannot be read: the file does not exist"),
        ("[[list]]\nfile = \"images.txt\"\n", "`images.txt` has no image"),
    ] {
        let shown = with_list("# none\n", text).unwrap_err();
        assert!(shown.contains(expected), "{shown}");
    }
}

#[test]
fn one_image_that_is_written_twice_is_one_image() {
    let config = with_list(
        "quay.io/a/b:1\n",
        "[[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\nname = \"x\"\n\
         [images]\n\"quay.io/a/b\" = \"1\"\n[[list]]\nfile = \"images.txt\"\n",
    )
    .unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let images = images(&config);
    let all: Vec<_> = images.iter().map(|image| (image, OnConflict::Fail)).collect();
    let overlaps = between_listed(&config, &all);
    assert_eq!((overlaps.repeated.len(), overlaps.conflicts.len()), (2, 0));
    let mut images = images.clone();
    overlaps.remove_from(&mut images);
    let targets: Vec<usize> = images.iter().map(|image| image.targets.len()).collect();
    assert_eq!(targets, [1, 0, 0]);
}

#[test]
fn two_sources_of_one_tag_are_an_error_unless_the_first_wins() {
    let text = |defaults: &str, key: &str| {
        format!(
            "{HEAD}[defaults]\n{defaults}\n[images]\n\"quay.io/a/b\" = \"1\"\n\
             \"ghcr.io/a/b\" = {{ tags = [\"1\", \"2\"]{key} }}\n"
        )
    };
    let first = "on_conflict = \"first\"";
    let error = parse(&text("", "")).unwrap_err().to_string();
    assert!(
        error.contains("writes the same tag of the same repository as the tag in line"),
        "{error}"
    );
    for (defaults, key) in [(first, ""), ("", ", on_conflict = \"first\"")] {
        let config = parse(&text(defaults, key)).unwrap();
        let [tag, repository] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(
            tag.contains("not mirrored: the tag in line") || repository.contains("not mirrored")
        );
        let images = images(&config);
        let all: Vec<_> =
            images.iter().zip(&config.entries).map(|(it, entry)| (it, entry.on_conflict)).collect();
        assert!(between_listed(&config, &all).problems(&config, &all).is_empty());
    }
    // another wish for the same source is no repetition
    let text = "[[image]]\nsource = \"nginx\"\ntags = [\"1\"]\n\
         [[image]]\nsource = \"nginx\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\n";
    assert!(parse(&format!("{HEAD}{text}")).is_err());
}

#[test]
fn several_files_are_one_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "mirror.toml",
        &format!("[[include]]\nfile = \"teams/*.toml\"\n{HEAD}[images]\nnginx = [\"1\"]\n"),
    );
    write("teams/b.toml", "[images]\nnginx = [\"1\", \"2\"]\n[[list]]\nfile = \"b.txt\"\n");
    write(
        "teams/a.toml",
        "[[include]]\nfile = \"../mirror.toml\"\n[[image]]\nsource = \"alpine\"\ntags = [\"3\"]\n",
    );
    write("teams/b.txt", "quay.io/a/b:1\n");
    let config = load(&directory, &["mirror.toml", "env:REST"]).unwrap();
    assert_eq!(
        arrows(&config),
        [
            "docker.io/library/alpine:3 → mirror/library/alpine:3",
            "docker.io/library/nginx:1 → mirror/library/nginx:1",
            "docker.io/library/nginx:2 → mirror/library/nginx:2",
            "docker.io/library/redis:7 → mirror/library/redis:7",
            "quay.io/a/b:1 → mirror/a/b:1",
        ]
    );
    assert_eq!(arrows(&load(&directory, &["env:CONFIG"]).unwrap()).len(), 1);
}

#[test]
fn a_mistake_in_several_files_names_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("a.toml", &format!("{HEAD}[defaults]\nplatforms = \"all\"\n[images]\nnginx = \"1\"\n"));
    write("b.toml", "# b\n[defaults]\nplatforms = [\"linux/amd64\"]\n[images]\nnginx = \"2\"\n");
    let shown = load(&directory, &["a.toml", "b.toml"]).unwrap_err();
    let [platforms, nginx] = shown.split("\n\n").collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert!(platforms.starts_with("error: b.toml:3:1\n3 | platforms = "), "{shown}");
    assert!(
        platforms.contains("is set in line 5 of `") && platforms.contains("a.toml`"),
        "{shown}"
    );
    assert!(nginx.starts_with("error: b.toml:5:1\n5 | nginx = \"2\"\n"), "{shown}");

    write("c.toml", "[images]\n\"quay.io/a/b\" = \"-1\"\nnginx = { tags = [\"1\"], newset = 3 }\n");
    write("d.toml", "[[image]]\nsource = \"x\"\ntags = 3\n");
    let shown = load(&directory, &["a.toml", "d.toml", "c.toml"]).unwrap_err();
    let lines: Vec<&str> = shown.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(lines[0], "error: d.toml:3:8");
    for (files, expected) in [
        (&["a.toml", "env:MISSING"][..], "the environment variable `MISSING` is not set"),
        (&["a.toml", "e.toml"], "cannot read `e.toml`: the file does not exist"),
    ] {
        assert!(load(&directory, files).unwrap_err().contains(expected));
    }
    for (include, expected) in
        [("teams-*.toml", "matches no file"), ("f.toml", "cannot be read: the file does not exist")]
    {
        write("i.toml", &format!("{HEAD}[[include]]\nfile = \"{include}\"\n"));
        let shown = load(&directory, &["i.toml"]).unwrap_err();
        assert!(shown.starts_with("error: i.toml:5:8\n") && shown.contains(expected), "{shown}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_shown_at_once() {
    let text = "[[destination]]\nregistry = \"https://r.example\"\nname = \"main\"\nprefix = \"A\"\n\
         [defaults]\nvia = \"x\"\nflatten = \"yes\"\n\
         [[image]]\nsorce = \"nginx\"\ntags = [\"-1\", \"ok\", \"a b\"]\nplatforms = [\"arm64\"]\n\
         [[image]]\nsource = \"redis\"\ntags = [\"7\"]\ndestinations = [\"main\"]\nvia = 5\n\
         [images]\nalpine = \"3 20\"\n\"quay.io/a/b\" = { newest = 0, semver = \"one\" }\n\
         [registry.\"quay.io\"]\nusername = \"x\"\nplain_http = 1\n[unknown]\n";
    let shown = parse(text).unwrap_err().to_string();
    let lines: Vec<&str> = shown
        .split("\n\n")
        .map(|block| block.lines().next().unwrap().strip_prefix("error: mirror.toml:").unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            "2:12", "4:10", "6:7", "7:11", "9:1", "10:9", "10:21", "11:14", "16:7", "18:10",
            "19:28", "19:40", "21:12", "22:14", "23:2"
        ],
        "{shown}"
    );
}

#[test]
fn another_format_and_missing_quotes_have_a_hint() {
    for (text, place, expected) in [
        ("source = nginx\n", "1:10", "strings need quotes"),
        ("[[image]]\ntags = [1.27-alpine]\n", "2:9", "strings need quotes"),
        ("version: 1\nsync:\n  - source: nginx\n", "1:1", "this is YAML, not TOML"),
        ("# regsync\n---\nversion: 1\n", "2:1", "this is YAML, not TOML"),
        ("- nginx\n", "1:1", "this is YAML, not TOML"),
        ("{ \"images\": {} }\n", "1:1", "this is JSON, not TOML"),
        ("[\n  {}\n]\n", "1:1", "this is JSON, not TOML"),
    ] {
        let shown = parse(text).unwrap_err().to_string();
        assert!(shown.starts_with(&format!("error: mirror.toml:{place}\n")), "{text}: {shown}");
        assert!(shown.contains(expected), "{text}: {shown}");
    }
    let two = parse("[[image]]\nsource = nginx\ntags = [1.27-alpine]\n").unwrap_err().to_string();
    assert_eq!(two.matches("strings need quotes").count(), 2, "{two}");
    let directory = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> =
        [0xFF, 0xFE].into_iter().chain("a = 1".bytes().flat_map(|b| [b, 0])).collect();
    fs::write(directory.path().join("wide.toml"), utf16).unwrap();
    let shown = load(&directory, &["wide.toml"]).unwrap_err();
    assert!(shown.contains("hint: save the file as UTF-8: it begins like UTF-16"), "{shown}");
}

#[test]
fn two_sources_of_one_repository_are_a_warning() {
    let config = shorthand(
        "[images]\n\"quay.io/a/b\" = \"1\"\n\"ghcr.io/a/b\" = \"2\"\n\"ghcr.io/a/c\" = \"1\"\n",
    );
    let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
    assert!(warning.contains("fills the same repository as the source in line"), "{warning}");
}

#[test]
fn settings_of_matching_repositories_precede_those_of_the_destination() {
    let eu = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    let text = |more: &str| {
        format!(
            "[[destination]]\nregistry = \"{eu}\"\nprefix = \"mirror\"\n\
             [destination.repositories]\nscan_on_push = true\ntags = {{ a = \"1\" }}\n\
             [repository.\"mirror/prod/*\"]\nencryption = {{ type = \"kms\" }}\ntags = {{ b = \"2\" }}\n\
             [repository.\"mirror/prod/lambda\"]\nscan_on_push = false\ncreate = false\n{more}\n\
             [images]\n\"quay.io/prod/x\" = \"1\"\n\"quay.io/prod/lambda\" = \"1\"\n\"quay.io/x\" = \"1\"\n"
        )
    };
    let config = parse(&text("")).unwrap();
    let rules = |name: &str| {
        let repository: Repository = format!("mirror/{name}").parse().unwrap();
        let rules = config.destinations[0].repositories.of(&repository);
        let settings = rules.settings;
        let tags: Vec<String> = settings.tags.into_keys().collect();
        (rules.create, settings.scan_on_push, settings.encryption.is_some(), tags.join(" "))
    };
    assert_eq!(rules("x"), (Create::Missing, Some(true), false, "a".to_owned()));
    assert_eq!(rules("prod/x"), (Create::Missing, Some(true), true, "a b".to_owned()));
    // the longest beginning wins alone
    assert_eq!(rules("prod/lambda"), (Create::Never, Some(false), false, "a".to_owned()));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);

    let unused = parse(&text("[repository.\"prod/*\"]\nscan_on_push = true")).unwrap();
    assert!(unused.warnings[0].contains("no image goes to a repository that matches"));
    let tie = parse(&text("[repository.\"mirror/prod/*x\"]\nscan_on_push = true")).unwrap_err();
    assert!(
        tie.to_string().contains("matches `mirror/prod/x`, as the table in line 7 does"),
        "{tie}"
    );
}

#[test]
fn a_source_with_a_wildcard_becomes_an_entry_for_each_repository() {
    let text = format!(
        "{HEAD}[images]\n\"quay.io/a/*\" = {{ newest = 1, tags = \"latest\", at_most = 2, exclude_repositories = [\"*-dev\", \"a/old\"] }}\n\
         [[image]]\nsource = \"grafana/graf*\"\ntags = [\"1\"]\nat_most = 5\nretag = \"v{{tag}}\"\n"
    );
    let config = parse(&text).unwrap();
    let places: Vec<String> =
        config.wildcards.iter().map(|it| format!("{}/{}", it.host, it.namespace)).collect();
    assert_eq!(places, ["docker.io/grafana", "quay.io/a"]);
    assert!(config.entries.is_empty() && config.warnings.is_empty(), "{:?}", config.warnings);
    let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<_>>();
    let place = |host: &str, namespace: &str| (host.parse().unwrap(), namespace.parse().unwrap());
    let listed = |quay: &[&str]| {
        let hub = names(&["grafana/grafana", "grafana/loki"]);
        ListedRepositories::from([
            (place("docker.io", "grafana"), KnownRepositories::All(hub)),
            (place("quay.io", "a"), KnownRepositories::All(names(quay))),
        ])
    };
    let all = ["a/c", "a/b", "a/b", "a/x-dev", "a/old", "other/b"];
    let expanded = config.expanded(&listed(&all), &unset).unwrap();
    assert_eq!(
        arrows(&expanded),
        [
            "docker.io/grafana/grafana:1 → mirror/grafana/grafana:v1",
            "quay.io/a/b:latest → mirror/a/b:latest",
            "quay.io/a/c:latest → mirror/a/c:latest",
        ]
    );
    assert!(expanded.wildcards.is_empty());
    assert_eq!(expanded.listed_hosts, config.listed_hosts, "the registries were asked");
    let error = |quay: &[&str]| config.expanded(&listed(quay), &unset).unwrap_err().to_string();
    assert!(error(&["a/b", "a/c", "a/d"]).contains("3 repositories match\nhint: raise `at_most`"));
    assert!(error(&["a/old"]).contains("matches none of 1 repositories"));
    // the repositories that are used
    let place = place("quay.io", "a");
    let used = KnownRepositories::Used(names(&["a/b", "a/old", "other/b"]));
    let used = config.expanded(&ListedRepositories::from([(place, used)]), &unset).unwrap();
    assert_eq!(arrows(&used), ["quay.io/a/b:latest → mirror/a/b:latest"]);
    assert_eq!(used.wildcards.len(), 2, "the registries may have others");
    for (image, expected) in [
        ("\"quay.io/a/*\" = \"1\"", "a source with a `*` requires `at_most`"),
        ("\"quay.io/*\" = { at_most = 1 }", "requires a namespace before the `*`"),
        ("\"*\" = { at_most = 1 }", "requires a namespace before the `*`"),
        ("\"quay.io/a\" = { at_most = 1 }", "`at_most` requires a `*` in the source"),
        ("\"quay.io/A/*\" = { at_most = 1 }", "has uppercase letters"),
    ] {
        let shown = parse(&format!("{HEAD}[images]\n{image}\n")).unwrap_err().to_string();
        assert!(shown.contains(expected), "{shown}");
    }
}

/// A list of about this many images: three in each repository, spread over public registries.
fn generated(count: usize) -> Vec<(String, Vec<String>)> {
    let hosts = ["docker.io/library", "quay.io/coreos", "ghcr.io/fluxcd", "registry.k8s.io"];
    let repository = |number: usize| {
        let name = format!("{}/agent-{number}", hosts[number % hosts.len()]);
        let style = ["", "v"][number % 2];
        let tags = 0..1 + (number * 7) % 5;
        (name, tags.map(|tag| format!("{style}{}.{tag}.{}-alpine", number % 6, tag * 3)).collect())
    };
    let mut repositories = Vec::new();
    let mut images = 0;
    for number in 0.. {
        let (name, tags): (String, Vec<String>) = repository(number);
        if images >= count {
            break;
        }
        images += tags.len();
        repositories.push((name, tags));
    }
    repositories
}

#[test]
fn a_list_of_300_images_takes_few_lines() {
    let repositories = generated(300);
    let short: Vec<String> =
        repositories.iter().map(|(name, tags)| format!("\"{name}\" = {tags:?}")).collect();
    let text = format!("{HEAD}\n[images]\n{}\n", short.join("\n"));
    let list: Vec<String> = repositories
        .iter()
        .flat_map(|(name, tags)| tags.iter().map(move |tag| format!("{name}:{tag}")))
        .collect();
    assert!(list.len() >= 300);
    // three images a repository on average
    assert!(text.lines().count() <= 5 + list.len() / 3 + 1, "{} lines", text.lines().count());
    let short = arrows(&parse(&text).unwrap());
    let table = "[[list]]\nfile = \"images.txt\"\n";
    assert!(table.lines().count() <= 3);
    let listed = with_list(&list.join("\n"), table).unwrap();
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(sorted(short), sorted(arrows(&listed)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_makes_the_reader_of_lists_panic(text in any::<String>()) {
        let _ = with_list(&text, "[[list]]\nfile = \"images.txt\"\n");
    }
}
