//! Tests of the problems and warnings; the expected texts are `problems.txt` and `warnings.txt`.

use std::fs;

use proptest::prelude::*;

use super::*;

#[test]
fn every_problem_points_at_its_value_and_has_the_expected_words() {
    let mut cases = 0;
    let mut wrong = String::new();
    for case in include_str!("problems.txt").split("\n### ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("\n>>>\n").unwrap();
        let filled = |text: &str| text.replace("<HEX>", HEX).replace("<LONG>", &"a".repeat(250));
        let shown = parse(&filled(text)).expect_err(name).to_string();
        if shown != filled(expected.trim_end()) {
            wrong += &format!("\n### {name}\n{text}\n>>>\n{shown}\n");
        }
        assert!(!shown.contains("hunter2"), "{name} shows a secret:\n{shown}");
        cases += 1;
    }
    assert!(cases > 180);
    assert!(wrong.is_empty(), "not as expected, but:\n{wrong}");
}

#[test]
fn every_warning_points_at_its_value_and_is_not_an_error() {
    let mut wrong = String::new();
    for case in include_str!("warnings.txt").split("\n### ").skip(1) {
        let (name, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("\n>>>\n").unwrap();
        let config = parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let shown = config.warnings.join("\n");
        if shown != expected.trim_end() {
            wrong += &format!("\n### {name}\n{text}\n>>>\n{shown}\n");
        }
        assert!(!shown.contains("hunter2"), "{name} shows a secret:\n{shown}");
    }
    assert!(wrong.is_empty(), "not as expected, but:\n{wrong}");
}

#[test]
fn an_unreadable_file_is_an_error_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let load = |name: &str| {
        let shown = Config::load(&[directory.path().join(name)], &unset).unwrap_err().to_string();
        shown.replace(&format!("{}/", directory.path().display()), "")
    };
    assert_eq!(
        load("mirror.toml"),
        "error: cannot read `mirror.toml`: the file does not exist\n\
         hint: copy `mirror.toml.example` to `mirror.toml`, or name another file with `-c FILE`"
    );
    fs::create_dir(directory.path().join("mirror.toml")).unwrap();
    assert_eq!(
        load("mirror.toml"),
        "error: cannot read `mirror.toml`: is a directory\nhint: name another file with `-c FILE`"
    );
    fs::write(directory.path().join("latin.toml"), b"# caf\xe9\nname = \"caf\xe9\"\n").unwrap();
    assert_eq!(
        load("latin.toml"),
        "error: latin.toml:1:6\n\
         1 | # caf\u{fffd}\n\
         \u{20} |      ^ byte 0xE9 at offset 5 is not UTF-8\n\
         hint: save the file as UTF-8"
    );
    let split = b"[registry.x]\npassword = \"abc\nhunter2 caf\xe9\"";
    fs::write(directory.path().join("split.toml"), split).unwrap();
    assert_eq!(
        load("split.toml"),
        "error: split.toml:3:12\n\
         3 | (not shown: it may hold a secret)\n\
         \u{20} | byte 0xE9 at offset 40 is not UTF-8\n\
         hint: save the file as UTF-8"
    );
}

#[test]
fn a_secret_that_a_line_end_splits_is_not_shown() {
    let (mut cases, secret) = (0, "hunter2 hunter2");
    for (before, key, value) in [
        ("[registry.x]\nusername = 'joe'\n", "password", format!(" = \"{secret}\"\nmirrors = []")),
        ("[registry.x]\n", "password", format!(" = '{secret}'\n[[image]]\nsource = 'nginx'")),
        ("[registry]\nx = { username = 'joe', ", "password", format!(" = \"{secret}\" }}")),
        ("[registry]\nx = {\nusername = 'joe',\n", "password", format!(" = \"{secret}\",\n}}")),
        (
            "[[pull_through]]\n",
            "credentials",
            format!(" = {{\nusername = 'joe',\nx = '{secret}' }}"),
        ),
    ] {
        for (at, cut) in (0..=value.len()).flat_map(|at| CUTS.map(|cut| (at, cut))) {
            let text = [before, key, &value[..at], cut, &value[at..]].concat();
            let Err(error) = parse(&text) else { continue };
            assert!(!error.to_string().contains("hunter2"), "{text}\n>>>\n{error}");
            cases += 1;
        }
    }
    assert!(cases > 500);
}

/// Ways in which people split a line.
const CUTS: [&str; 7] = ["\n", "\"\n", "\n\"", "\"\n\"", "'\n'", ",\n", "\\\n"];

#[test]
fn control_characters_are_not_printed() {
    let text = "[[destination]]\nregistry = \"r.example\" \u{1b}[2J\u{202e}";
    let shown = parse(text).unwrap_err().to_string();
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
}

/// Pieces of almost valid configurations.
const PIECES: &[&str] = &[
    "[[destination]]",
    "[[image]]",
    "[images]",
    "[[list]]",
    "[[include]]",
    "[repository.\"*\"]",
    "file",
    "on_conflict",
    "[defaults]",
    "[[pull_through]]",
    "[pull_through.template]",
    "[pull_through.access]",
    "[registry.\"r.example\"]",
    "[registry]",
    "registry",
    "source",
    "tags",
    "tag",
    "name",
    "prefix",
    "password",
    "platforms",
    "retag",
    "flatten",
    "destinations",
    "repository",
    "via",
    "upstream",
    "url",
    "upstream_prefix",
    "credentials",
    "secret_arn",
    "role_arn",
    "create",
    " = ",
    "\"r.example\"",
    "\"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"",
    "\"docker-hub\"",
    "\"quay\"",
    "\"ecr\"",
    "\"ROOT\"",
    "\"auto\"",
    "\"pull-through\"",
    "\"on-push\"",
    "\"arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/x\"",
    "\"nginx\"",
    "\"é${X\"",
    "\"1\"",
    "\"alpine@sha256:\"",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\n",
    "\r\n",
    "\t",
    "\"",
    "\"\"\"",
    "'",
    "#",
    "\\",
    "true",
    "-1",
    "1.5",
    "$",
    "\u{feff}",
    "日本",
    "\u{0}",
    ".",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_almost_valid_configuration_makes_the_parser_panic(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)
    ) {
        let _ = parse(&pieces.concat());
    }

    #[test]
    fn no_cut_of_the_example_makes_the_parser_panic(
        from in 0..10_000_usize, length in 0..300_usize
    ) {
        let example = include_str!("../../../mirror.toml.example");
        let from = example.floor_char_boundary(from);
        let to = example.floor_char_boundary(from + length);
        let _ = parse(&[&example[..from], &example[to..]].concat());
    }
}
