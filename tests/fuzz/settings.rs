//! Fuzzes the configuration. It parses, or every problem points into the file. No message contains
//! the value of a variable.

use std::path::Path;

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
            "[[pull_through]]\nupstream = \"docker-hub\"\ncredentials = { username = \"u\", access_token = \"${A_SECRET}\" }\n",
        ],
        tokens: &[
            "[[destination]]\n",
            "[[image]]\n",
            "[registry.\"quay.io\"]\n",
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
