//! Tests invalid input: exit status 2, an error with the position and a hint, and no side effect.

use std::fs;

use super::process::run;

const DESTINATION: &str =
    "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n";
const IMAGE: &str = "[[image]]\nsource = \"nginx\"\ntags = [\"1.27\"]\n";

/// A name, tables added to a valid configuration, and parts of the expected error.
const TABLES: &[(&str, &str, &[&str])] = &[
    (
        "an unknown key",
        "[[image]]\nsource = \"redis\"\ntags = [\"7\"]\nplatfroms = \"all\"",
        &["mirror.toml:9:1\n", "9 | platfroms = \"all\"", "^^^^^^^^^", "did you mean `platforms`?"],
    ),
    ("an unknown table", "[[picture]]\nsource = \"redis\"", &["mirror.toml:6:", "`image`"]),
    (
        "a malformed reference",
        "[[image]]\nsource = \"Nginx:::\"\ntags = [\"1\"]",
        &["mirror.toml:7:", "7 | source = \"Nginx:::\"", "hint: "],
    ),
    (
        "a bad platform",
        "[[image]]\nsource = \"redis\"\ntags = [\"7\"]\nplatforms = [\"linux/amd64\", \"arm64\"]",
        &["mirror.toml:9:29\n", "^^^^^^^ not a platform", "hint: write `os/arch`"],
    ),
    (
        "an unset variable",
        "[registry.\"docker.io\"]\nusername = \"${ECR_MIRROR_TEST_UNSET}\"\npassword = \"x\"",
        &["mirror.toml:7:", "ECR_MIRROR_TEST_UNSET", "hint: "],
    ),
    (
        "an invalid CA file",
        "[registry.\"r.example\"]\nca_file = \"mirror.toml\"",
        &["mirror.toml:7:", "hint: "],
    ),
    (
        "a missing CA file",
        "[registry.\"r.example\"]\nca_file = \"nowhere.pem\"",
        &["mirror.toml:7:", "nowhere.pem"],
    ),
    (
        "the same tag from two images",
        "[[image]]\nsource = \"quay.io/library/nginx\"\ntags = [\"1.27\"]",
        &["mirror.toml:8:", "the same tag of the same repository as the tag in line 5"],
    ),
    (
        "the same destination twice",
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"",
        &["mirror.toml:7:", "line 2", "hint: "],
    ),
    (
        "flatten with two platforms",
        "[[image]]\nsource = \"redis\"\ntags = [\"7\"]\nflatten = true\nplatforms = [\"linux/amd64\", \"linux/arm64\"]",
        &["mirror.toml:9:", "exactly one platform"],
    ),
];

/// A name, a complete configuration, and parts of the expected error.
const FILES: &[(&str, &[u8], &[&str])] = &[
    (
        "no destination",
        b"[[image]]\nsource = \"nginx\"\ntags = [\"1\"]\n",
        &["error: mirror.toml: the configuration has no `[[destination]]`", "hint: "],
    ),
    ("an empty one", b"", &["error: mirror.toml: the configuration is empty", "hint: "]),
    ("one that is not UTF-8", b"# caf\xe9\n", &["mirror.toml:1:6\n", "not UTF-8", "hint: "]),
    ("one that is not TOML", b"[[destination]\n", &["error: mirror.toml:1:15\n"]),
];

#[test]
fn an_invalid_configuration_fails_with_its_position_and_starts_nothing() {
    let whole = TABLES.iter().map(|(name, tables, says)| {
        (*name, format!("{DESTINATION}{IMAGE}{tables}\n").into_bytes(), *says)
    });
    let cases = whole.chain(FILES.iter().map(|(name, bytes, says)| (*name, bytes.to_vec(), *says)));
    for (name, bytes, says) in cases {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("mirror.toml"), bytes).unwrap();
        // both commands print the same error
        let checked = run(directory.path(), &["check"]);
        let synced = run(directory.path(), &["sync", "--sandbox=state", "--report", "r.json"]);
        for ended in [&checked, &synced] {
            assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{name}: {ended:?}");
            assert!(ended.talk.starts_with("error: "), "{name}: {}", ended.talk);
            for part in says {
                assert!(ended.talk.contains(part), "{name} lacks {part:?}:\n{}", ended.talk);
            }
        }
        assert_eq!(checked.talk, synced.talk, "{name}");
        assert_untouched(directory.path());
    }
}

#[test]
fn an_invalid_command_line_starts_nothing() {
    let cases: &[(&[&str], &[&str])] = &[
        (&["sync", "-c", "nowhere.toml"], &["cannot read `nowhere.toml`", "hint: "]),
        (&["sync", "--only", "nothing-like-it"], &["nothing-like-it", "hint: "]),
        (&["plan", "--only", "nothing-like-it"], &["nothing-like-it"]),
        (&["images", "--only", "nothing-like-it"], &["nothing-like-it"]),
        (&["sync", "--report", "nowhere/r.json"], &["nowhere/r.json", "hint: "]),
        (&["plan", "--report", "nowhere/r.json"], &["nowhere/r.json"]),
        (&["sync", "--concurrency", "0"], &["--concurrency"]),
        (&["sync", "--no-such-option"], &["--no-such-option"]),
        (&["copy", "nginx:1.27", "r.example/a", "--platform", "arm64"], &["platform", "hint: "]),
        (&["copy", "Nginx", "r.example/a"], &["Nginx"]),
        (
            &["copy", "nginx:1.27", "r.example/a", "-c", "nowhere.toml"],
            &["cannot read `nowhere.toml`"],
        ),
        (&["copy", "nginx:1.27", "public.ecr.aws/a/b"], &["ECR Public", "hint: "]),
        (&["copy", "nginx:1.27", "r.example/a", "--profile", "prod"], &["is not ECR", "hint: "]),
        (
            &[
                "copy",
                "nginx:1.27",
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a",
                "--region",
                "eu-west-2",
            ],
            &["is in `eu-west-1`, not in `eu-west-2`", "hint: "],
        ),
        (
            &["copy", "nginx:1.27", "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a--b"],
            &["contains `--`, which ECR refuses", "hint: "],
        ),
        (&["copy", "nginx:1.27", "r.example/a", "--flatten"], &["--platform"]),
    ];
    for (arguments, says) in cases {
        let directory = tempfile::tempdir().unwrap();
        let toml = format!("{DESTINATION}{IMAGE}");
        fs::write(directory.path().join("mirror.toml"), toml).unwrap();
        let mut all = arguments.to_vec();
        all.push("--sandbox=state");
        let ended = run(directory.path(), &all);
        assert_eq!((ended.status, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {ended:?}");
        assert!(ended.talk.starts_with("error: "), "{arguments:?}: {}", ended.talk);
        for part in *says {
            assert!(ended.talk.contains(part), "{arguments:?} lacks {part:?}:\n{}", ended.talk);
        }
        assert_untouched(directory.path());
    }
}

/// Asserts that the directory contains only the configuration: no sandbox and no report was
/// started.
#[track_caller]
fn assert_untouched(directory: &std::path::Path) {
    let files: Vec<_> = fs::read_dir(directory).unwrap().map(|f| f.unwrap().file_name()).collect();
    assert_eq!(files, ["mirror.toml"]);
}
