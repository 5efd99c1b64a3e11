//! Tests of the configuration.

mod problems;
mod pull_through;
mod selections;
mod shorthand;

use std::{fs, path::PathBuf};

use secrecy::ExposeSecret;

use super::*;
use crate::model::{Archived, Create, DestinationId, Digest, Host, Kind, Shape};

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// The directory of the files that these tests read.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/tests")
}

fn unset(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse("mirror.toml", text, &directory(), &|name| match name {
        // errors must not show it
        "WRONG" => Some("https://hunter2.example".to_owned()),
        "NAME" => Some("joe".to_owned()),
        "PASSWORD" => Some("\" # hunter2 = [".to_owned()),
        _ => None,
    })
}

/// A valid configuration with the destination `r.example` and these tables.
fn with_destination(rest: &str) -> Config {
    parse(&format!("[[destination]]\nregistry = \"r.example\"\n{rest}")).unwrap()
}

/// The images that need no request.
fn images(config: &Config) -> Vec<crate::model::Image> {
    config.entries.iter().filter_map(Entry::images).flatten().collect()
}

/// The images as `source → repository:tag`.
fn arrows(config: &Config) -> Vec<String> {
    let images = images(config);
    let arrow = |image: &crate::model::Image| {
        let target = &image.targets[0];
        format!("{} → {}:{}", image.origin, target.repository, target.tag)
    };
    images.iter().map(arrow).collect()
}

#[test]
fn an_image_goes_to_the_target_of_its_entry() {
    for (prefix, entry, expected) in [
        (
            "",
            "source = \"nginx\"\ntags = [\"1.27\"]",
            "docker.io/library/nginx:1.27 → library/nginx:1.27",
        ),
        (
            "prefix = \"mirror\"",
            "source = \"quay.io/a/b\"\ntags = [\"1\"]",
            "quay.io/a/b:1 → mirror/a/b:1",
        ),
        (
            "prefix = \"mirror\"",
            "source = \"nginx\"\ntags = [\"1\"]\nrepository = \"base/nginx\"",
            "docker.io/library/nginx:1 → mirror/base/nginx:1",
        ),
        (
            "",
            "source = \"nginx\"\ntags = [\"1\"]\nretag = \"v{tag}-eu\"",
            "docker.io/library/nginx:1 → library/nginx:v1-eu",
        ),
        (
            "",
            "source = \"alpine@sha256:<HEX>\"\ntag = \"3\"\nretag = \"{tag}-{digest8}\"",
            "docker.io/library/alpine@sha256:<HEX> → library/alpine:3-e3b0c442",
        ),
        (
            "",
            "source = \"alpine:3.20@sha256:<HEX>\"",
            "docker.io/library/alpine@sha256:<HEX> → library/alpine:3.20",
        ),
    ] {
        let text =
            format!("[[destination]]\nregistry = \"r.example\"\n{prefix}\n[[image]]\n{entry}");
        let config = parse(&text.replace("<HEX>", HEX)).unwrap();
        assert_eq!(arrows(&config), [expected.replace("<HEX>", HEX)]);
    }
}

#[test]
fn an_image_goes_to_all_destinations_or_to_the_named_ones() {
    let text = "[[destination]]\nregistry = \"a.example\"\nname = \"a\"\n\
         [[destination]]\nregistry = \"b.example\"\nprefix = \"p\"\n\
         [[image]]\nsource = \"nginx\"\ntags = [\"1\"]\n\
         [[image]]\nsource = \"redis\"\ntags = [\"1\"]\ndestinations = [\"b.example\"]";
    let config = parse(text).unwrap();
    let targets = |image: &crate::model::Image| -> Vec<(usize, String)> {
        image.targets.iter().map(|t| (t.destination.0, t.repository.to_string())).collect()
    };
    let places: Vec<_> = images(&config).iter().map(targets).collect();
    assert_eq!(
        places,
        [
            vec![(0, "library/nginx".to_owned()), (1, "p/library/nginx".to_owned())],
            vec![(1, "p/library/redis".to_owned())],
        ]
    );
    assert_eq!(config.destination(DestinationId(1)).name, "b.example");
}

#[test]
fn an_image_overrides_the_defaults_key_by_key() {
    let config = with_destination(
        "[defaults]\nplatforms = [\"linux/arm64\", \"linux/amd64\"]\nattestations = \"drop\"\n\
         [[image]]\nsource = \"nginx\"\ntags = [\"1\"]\n\
         [[image]]\nsource = \"redis\"\ntags = [\"1\"]\nplatforms = [\"linux/amd64\"]\nflatten = true\n\
         [[image]]\nsource = \"alpine\"\ntags = [\"1\"]\nplatforms = \"all\"\nattestations = \"keep\"",
    );
    let wants: Vec<_> = config.entries.iter().map(|entry| &*entry.filter).collect();
    let canonical: Vec<_> = wants.iter().map(|want| want.canonical()).collect();
    assert_eq!(
        canonical,
        [
            "platforms=linux/amd64,linux/arm64;attestations=drop",
            "platforms=linux/amd64;attestations=drop",
            "platforms=all;attestations=keep",
        ]
    );
    assert_eq!(wants[1].shape, Shape::Flat);
    assert_eq!(wants[0].archived, Archived::Leave);
    assert!(wants[2].is_everything());
}

#[test]
fn absent_registry_keys_have_defaults() {
    let config = with_destination(
        "[registry.\"index.docker.io\"]\nusername = \"${NAME}\"\npassword = \"${PASSWORD}\"\n\
         [registry.\"r.example\"]\nca_file = \"ca.pem\"\nplain_http = false\nreserve_pulls = 20\n\
         mirrors = [\"m.example\"]\nauth_host = \"auth.example\"",
    );
    let hub = &config.registries[&"docker.io".parse::<Host>().unwrap()];
    let Some(CredentialSource::Written(login)) = &hub.credentials else { panic!("a login") };
    assert_eq!(login.username, "joe");
    // a value that looks like TOML stays a value
    assert_eq!(login.password.expose_secret(), "\" # hunter2 = [");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!((hub.plain_http, hub.reserve_pulls, hub.max_connections), (None, 0, None));

    let other = &config.registries[&"r.example".parse::<Host>().unwrap()];
    assert_eq!(other.ca.as_ref().unwrap().0.len(), 1);
    assert_eq!((other.plain_http, other.reserve_pulls), (Some(false), 20));
    assert_eq!(other.mirrors[0].as_str(), "m.example");
    assert!(other.credentials.is_none());
}

#[test]
fn empty_credentials_count_as_absent() {
    let text = "[registry.\"docker.io\"]\nusername = \"${U:-}\"\npassword = \"${P:-}\"";
    let config = with_destination(text);
    assert!(config.registries.values().all(|registry| registry.credentials.is_none()));
}

#[test]
fn a_destination_is_ecr_by_its_host_or_by_its_endpoint() {
    for (rest, expected) in [
        ("registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"", true),
        ("registry = \"localhost:5000\"\nendpoint_url = \"http://127.0.0.1:4566\"", true),
        ("registry = \"localhost:5000\"", false),
    ] {
        let config = parse(&format!("[[destination]]\n{rest}")).unwrap();
        assert_eq!(config.destinations[0].is_ecr(), expected, "{rest}");
    }
    let config = parse(
        "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
         [destination.repositories]\ncreate = false",
    );
    assert_eq!(config.unwrap().destinations[0].repositories.create, Create::Never);
}

#[test]
fn a_layout_path_is_relative_to_the_configuration() {
    let text = "[[destination]]\nregistry = \"oci:images\"\n\
         [[destination]]\nregistry = \"oci:/mnt/stick\"\nname = \"stick\"\n";
    let config = parse(text).unwrap();
    let shown = |at: usize| {
        let destination = &config.destinations[at];
        (destination.name.clone(), destination.registry.to_string(), destination.is_ecr())
    };
    let beside = format!("oci:{}", directory().join("images").display());
    assert_eq!(shown(0), ("oci:images".to_owned(), beside, false));
    assert_eq!(shown(1), ("stick".to_owned(), "oci:/mnt/stick".to_owned(), false));
}

#[test]
fn repository_settings_contain_only_the_written_keys() {
    let repositories = |registry: &str, text: &str| {
        let config = parse(&format!(
            "[[destination]]\nregistry = \"{registry}\"\n[destination.repositories]\n{text}"
        ));
        config.unwrap_or_else(|error| panic!("{error}")).destinations.remove(0).repositories
    };
    let eu = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
    for (text, create) in [
        ("", Create::Unclaimed),
        ("create = true", Create::Missing),
        ("scan_on_push = false", Create::Missing),
        ("scan_on_push = false\ncreate = false", Create::Never),
    ] {
        assert_eq!(repositories(eu, text).create, create, "{text}");
    }
    assert!(repositories(eu, "create = true").settings.is_empty());

    let files = "lifecycle_file = \"lifecycle.json\"\npolicy_file = \"policy.json\"";
    let files = repositories(eu, files).settings;
    assert_eq!(files.lifecycle.unwrap()["rules"][0]["selection"]["countNumber"], 9);
    assert_eq!(files.policy.unwrap()["Statement"][0]["Action"], "ecr:BatchGetImage");

    // accounts are named in the registry's own partition
    let china = "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn";
    let policy = repositories(china, "policy = { accounts = [\"210987654321\"] }").settings.policy;
    assert_eq!(
        policy.unwrap()["Statement"][0]["Principal"]["AWS"][0],
        "arn:aws-cn:iam::210987654321:root"
    );
}

#[test]
fn simple_lifecycle_keys_become_valid_rules() {
    for (keys, expected) in [
        ("untagged_after_days = 7", vec![("untagged", "sinceImagePushed", 7)]),
        ("keep_newest = 5", vec![("tagged", "imageCountMoreThan", 5)]),
        ("expire_after_days = 30", vec![("any", "sinceImagePushed", 30)]),
        ("archive_unpulled_after_days = 90", vec![("any", "sinceImagePulled", 90)]),
        (
            "expire_after_days = 30, untagged_after_days = 1",
            vec![("untagged", "sinceImagePushed", 1), ("any", "sinceImagePushed", 30)],
        ),
    ] {
        let text = format!(
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n\
             [destination.repositories]\nlifecycle = {{ {keys} }}"
        );
        let settings = parse(&text).unwrap().destinations.remove(0).repositories.settings;
        let lifecycle = settings.lifecycle.unwrap();
        assert_eq!(crate::model::lifecycle::check(&lifecycle), Ok(()), "{keys}");
        let rules = lifecycle["rules"].as_array().unwrap();
        let told: Vec<(&str, &str, u64)> = rules
            .iter()
            .map(|rule| &rule["selection"])
            .map(|selection| {
                let text = |member: &str| selection[member].as_str().unwrap();
                let count = selection["countNumber"].as_u64().unwrap();
                (text("tagStatus"), text("countType"), count)
            })
            .collect();
        assert_eq!(told, expected, "{keys}");
        // `any` must be last, and every priority another
        let priorities: Vec<u64> =
            rules.iter().map(|rule| rule["rulePriority"].as_u64().unwrap()).collect();
        assert_eq!(priorities, (1..=rules.len() as u64).collect::<Vec<_>>(), "{keys}");
        assert!((100..=30_720).contains(&lifecycle.to_string().len()), "{keys}");
    }
}

#[test]
fn only_selects_entries_by_name_source_or_glob_in_file_order() {
    let config = with_destination(
        "[[image]]\nsource = \"nginx\"\ntags = [\"1\", \"2\"]\nname = \"web\"\n\
         [[image]]\nsource = \"quay.io/a/b\"\ntags = [\"1\"]\n\
         [[image]]\nsource = \"redis\"\ntags = [\"1\"]\nname = \"[x]\"",
    );
    let only = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let kept = config.only(&patterns);
        kept.map(|entries| entries.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>())
    };
    for (patterns, expected) in [
        (&[][..], &["web", "a/b", "[x]"][..]),
        (&["web"], &["web"]),
        (&["a/b", "web"], &["web", "a/b"]),
        (&["nginx"], &["web"]),
        (&["library/nginx", "redis"], &["web", "[x]"]),
        (&["docker.io/nginx"], &["web"]),
        (&["docker.io/library/nginx"], &["web"]),
        (&["docker.io/*"], &["web", "[x]"]),
        (&["quay.io/*"], &["a/b"]),
        (&["quay.io/a/b"], &["a/b"]),
        (&["*b"], &["web", "a/b"]),
        (&["a*"], &["a/b"]),
        (&["[x]"], &["[x]"]),
    ] {
        assert_eq!(only(patterns).unwrap(), expected, "{patterns:?}");
    }
    let error = only(&["web", "wep"]).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert_eq!(error.to_string(), "no image matches `--only wep`");
    let hint = "did you mean `web`? the images are `[x]`, `a/b`, `web`";
    assert_eq!(error.remedy(), Some(hint));
    assert_eq!(only(&["a{b"]).unwrap_err().to_string(), "`a{b` is not a valid glob");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_ignored() {
    let text = "\u{feff}[[destination]]\r\nregistry = \"r.example\"\r\n";
    assert_eq!(parse(text).unwrap().destinations.len(), 1);
}

#[test]
fn the_example_is_valid_as_it_is_and_with_every_key_enabled() {
    let example = include_str!("../../../mirror.toml.example");
    let config = Config::parse("mirror.toml.example", example, Path::new(""), &unset).unwrap();
    assert_eq!((config.entries.len(), images(&config).len()), (9, 9));

    // a `#` right in front of a setting keeps it out; prose has a blank in between
    let whole: Vec<&str> = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with([' ', '-', ':']) => rest,
            _ => line,
        })
        .collect();
    let directory = tempfile::tempdir().unwrap();
    for (from, to) in
        [("ca.pem", "corp-ca.pem"), ("client.pem", "mirror.pem"), ("client.key", "mirror.key")]
    {
        fs::copy(self::directory().join(from), directory.path().join(to)).unwrap();
    }
    fs::write(directory.path().join("images.txt"), "quay.io/a/b:1\n").unwrap();
    fs::write(directory.path().join("team-a.toml"), "[images]\n\"quay.io/a/c\" = \"1\"\n").unwrap();
    let whole = Config::parse("example", &whole.join("\n"), directory.path(), &unset);
    let whole = whole.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((whole.entries.len(), whole.registries.len(), whole.caches.len()), (19, 3, 1));
    // registries that no image uses
    let [private, ecr] = &whole.warnings[..] else { panic!("{:?}", whole.warnings) };
    assert!(private.contains("[registry.\"registry.corp.example:5000\"]"), "{private}");
    assert!(ecr.contains("[registry.\"210987654321.dkr.ecr.eu-west-1.amazonaws.com\"]"), "{ecr}");
}
