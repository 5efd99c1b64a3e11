//! Fuzzes the configuration and the lists that it names. They parse, or every problem points into a
//! file. No message contains the value of a variable.

use std::{fs, path::Path};

use ecr_mirror::{config::Config, model::text::is_unsafe_for_terminal};

use super::engine::Target;

/// Value of every variable whose name ends in `SECRET`.
const SECRET: &str = "h0rse-battery-st4ple";

#[test]
fn config() {
    let target = Target {
        name: "config",
        seeds: &[
            include_str!("../../mirror.toml.example"),
            "[[destination]]\nregistry = \"r.example\"\n[[image]]\nsource = \"nginx\"\ntags = [\"1\"]\n",
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n[registry.\"docker.io\"]\nusername = \"${USER_SECRET}\"\npassword = \"${A_SECRET}\"\n[[image]]\nsource = \"quay.io/a/b\"\nselect = { semver = \">=1, <2\", newest = 3, exclude = [\"*-rc*\"], min_age = \"3d\" }\nplatforms = [\"linux/amd64\"]\n",
            "[[destination]]\nregistry = \"${A_SECRET}\"\nprefix = \"${X:-mirror}\"\n[destination.repositories]\nlifecycle = { untagged_after_days = 14 }\ntags = { team = \"${A_SECRET}\" }\nencryption = { type = \"kms\", key = \"${A_SECRET}\" }\n[[image]]\nsource = \"${A_SECRET}\"\ntags = [\"${A_SECRET}\"]\n",
            "[[destination]]\nregistry = \"r.example\"\nrepository = \"{registry}/{namespace:-}/{name}\"\n[defaults]\non_conflict = \"first\"\n[images]\nnginx = [\"1.27\", \"1.26@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]\n\"quay.io/a/b\" = { semver = \">=2\", newest = 3, tags = [\"latest\"], retag = { from = \"^v(.*)$\", to = \"$1-{digest8}\" } }\n\"ghcr.io/${A_SECRET}\" = \"${A_SECRET}\"\n",
            "[[destination]]\nregistry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"\n[repository.\"prod/*\"]\ntag_mutability = \"immutable\"\n[registry.\"quay.io\"]\nrepository = \"${A_SECRET}/{name}\"\n[images]\n\"quay.io/a/b\" = {}\n",
            "[[pull_through]]\nupstream = \"docker-hub\"\ncredentials = { username = \"u\", access_token = \"${A_SECRET}\" }\n",
        ],
        tokens: &[
            "[[destination]]\n",
            "[[image]]\n",
            "[images]\n",
            "[repository.\"*\"]\n",
            "[registry.\"quay.io\"]\n",
            "nginx = ",
            "repository = \"{name}\"\n",
            "{registry}",
            "on_conflict = ",
            "@sha256:",
            "---\n",
            "key: value\n",
            "[defaults]\n",
            "registry = ",
            "source = ",
            "tags = ",
            "select = ",
            "platforms = ",
            "password = ",
            "username = ",
            "auth_host = ",
            "mirrors = ",
            "retag = \"{digest8}\"\n",
            "\"${A_SECRET}\"",
            "${A_SECRET}",
            "${",
            "}",
            "$$",
            ":-",
            "\"\"\"",
            "'''",
            "#",
            "[",
            "]",
            "{ ",
            " }",
            "=",
            "\"",
            "true",
            "1979-05-27T07:32:00Z",
            "0x10",
            "inf",
            "nan",
            "\u{feff}",
            "\t",
        ],
    };
    let environment = |name: &str| match name {
        "EMPTY" => Some(String::new()),
        name => name.ends_with("SECRET").then(|| SECRET.to_owned()),
    };
    target.run(|input| {
        let text = String::from_utf8_lossy(input);
        let wrong =
            match Config::parse("mirror.toml", &text, Path::new("/nonexistent"), &environment) {
                Ok(config) => {
                    return Ok((config.destinations.len().min(9), config.entries.len().min(9)));
                }
                Err(wrong) => wrong.to_string(),
            };
        assert!(!wrong.contains(SECRET), "{wrong}");
        assert!(!wrong.contains(|c| c != '\n' && is_unsafe_for_terminal(c)), "{wrong:?}");
        assert!(wrong.starts_with("error: "), "{wrong}");
        // a different message at another place or with another name is the same problem
        let labels = wrong.lines().filter(|line| line.contains('^'));
        let labels: Vec<_> =
            labels.map(|line| line.rsplit('^').next().map(str::to_owned)).collect();
        Err(labels.first().cloned())
    });
}

#[test]
fn list() {
    let target = Target {
        name: "list",
        seeds: &[
            "nginx:1.27\nquay.io/prometheus/prometheus:v3.1.0\n",
            "# a release\r\n\r\nimage=docker.io/rancher/pause:3.6\r\n\"quay.io/a/b:1\",\r\n",
            "- image: 'registry.k8s.io/pause@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' # pinned\n",
            "localhost:5000/a/b\nuser:h0rse-battery-st4ple@quay.io/a/b\nA/B\n",
        ],
        tokens: &[
            "\n",
            "\r\n",
            "#",
            " # ",
            "image=",
            "image: ",
            "\"image\": ",
            "- ",
            "\"",
            "'",
            ",",
            "\u{feff}",
            "docker.io/",
            "docker://",
            "https://",
            "@sha256:",
            "@",
            ":",
            "/",
            "..",
            "A",
            "é",
            "\u{0}",
            "\u{1b}[2J",
            "latest",
        ],
    };
    let directory = tempfile::tempdir().unwrap();
    let text = "[[destination]]\nregistry = \"r.example\"\nrepository = \"{repository:-}\"\n\
         [[list]]\nfile = \"images.txt\"\non_conflict = \"first\"\n";
    target.run(|input| {
        fs::write(directory.path().join("images.txt"), input).unwrap();
        let wrong = match Config::parse("mirror.toml", text, directory.path(), &|_| None) {
            Ok(config) => {
                assert!(!config.entries.is_empty());
                return Ok((config.entries.len().min(9), config.warnings.len().min(3)));
            }
            Err(wrong) => wrong.to_string(),
        };
        // without its `@` a login is a repository and a tag
        let is_login = |line: &str| {
            let ends = |rest: &str| rest.split('@').skip(1).any(|host| !host.starts_with("sha"));
            line.split_once(SECRET).is_none_or(|(_, rest)| ends(rest))
        };
        if String::from_utf8_lossy(input).split('\n').all(is_login) {
            assert!(!wrong.contains(SECRET), "{wrong}");
        }
        assert!(!wrong.contains(|c| c != '\n' && is_unsafe_for_terminal(c)), "{wrong:?}");
        assert!(wrong.starts_with("error: "), "{wrong}");
        let labels = wrong.lines().filter(|line| line.contains('^'));
        let labels: Vec<_> =
            labels.map(|line| line.rsplit('^').next().map(str::to_owned)).collect();
        Err(labels.first().cloned())
    });
}
