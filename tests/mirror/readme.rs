//! Checks the README: its configurations, its error message, its commands.

use std::path::Path;

use ecr_mirror::config::Config;
use regex::Regex;

const README: &str = include_str!("../../README.md");

/// Fenced blocks of this language, in order.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    let after = README.split(fence.as_str()).skip(1);
    after.map(|block| block.split("```").next().unwrap_or_default()).collect()
}

fn parse(text: &str) -> Result<Config, String> {
    let environment = |name: &str| name.starts_with("DOCKERHUB_").then(|| "set".to_owned());
    let config = Config::parse("mirror.toml", text, Path::new(""), &environment);
    config.map_err(|error| error.to_string())
}

#[test]
fn every_configuration_in_the_readme_is_valid() {
    let blocks = blocks("toml");
    assert!(blocks.len() >= 3, "{}", blocks.len());
    for block in blocks {
        let config = parse(block).unwrap_or_else(|error| panic!("{error}"));
        assert!(!config.destinations.is_empty(), "{block}");
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    }
}

#[test]
fn the_error_in_the_readme_is_the_printed_error() {
    let broken = blocks("toml")[0].replace("\"linux/arm64\"", "\"arm64\"");
    let shown = blocks("text").into_iter().find(|block| block.starts_with("error:")).unwrap();
    assert_eq!(parse(&broken).unwrap_err(), shown.trim_end());
}

/// Applies the expressions as Renovate's `recursive` strategy does: each one to the matches of the one
/// before. The groups of all of them belong to one match.
fn renovate(expressions: &[Regex], text: &str, groups: &[(String, String)]) -> Vec<String> {
    let Some((first, rest)) = expressions.split_first() else {
        let of = |name| groups.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        return vec![format!("{}:{}", of("depName").unwrap(), of("currentValue").unwrap())];
    };
    let mut found = Vec::new();
    for captures in first.captures_iter(text) {
        let named = first.capture_names().flatten();
        let own = named
            .filter_map(|name| Some((name.to_owned(), captures.name(name)?.as_str().to_owned())));
        let groups: Vec<_> = groups.iter().cloned().chain(own).collect();
        found.extend(renovate(rest, &captures[0], &groups));
    }
    found
}

#[test]
fn the_renovate_expressions_find_every_version_of_images() {
    let settings: serde_json::Value = serde_json::from_str(blocks("json")[0]).unwrap();
    let expressions = settings["customManagers"][0]["matchStrings"].as_array().unwrap();
    let expressions: Vec<Regex> =
        expressions.iter().map(|text| Regex::new(text.as_str().unwrap()).unwrap()).collect();
    let example = include_str!("../../mirror.toml.example");
    assert_eq!(
        renovate(&expressions, example, &[]),
        [
            "nginx:1.27",
            "nginx:1.27-alpine",
            "gcr.io/distroless/static:nonroot",
            "public.ecr.aws/amazonlinux/amazonlinux:2023",
        ]
    );
    let whole = example.replace("\n#\"", "\n\"");
    let versions = ["quay.io/prometheus/node-exporter:latest", "busybox:1.36"];
    assert_eq!(renovate(&expressions, &whole, &[])[4..], versions);
    let long =
        "[images] # all\n\nnginx = [\n  \"1.27\",\n  \"1.26\",\n]\n[defaults]\nvia = \"auto\"\n";
    assert_eq!(renovate(&expressions, long, &[]), ["nginx:1.27", "nginx:1.26"]);
}

#[test]
fn the_readme_shows_three_commands() {
    let commands: Vec<&str> = blocks("console").iter().flat_map(|block| block.lines()).collect();
    assert_eq!(
        commands,
        [
            "$ cargo run --release -- sync -c mirror.toml.example --sandbox",
            "$ docker run --read-only -v \"$PWD/mirror.toml:/etc/ecr-mirror/mirror.toml:ro\" ecr-mirror sync",
            "$ cargo test",
        ]
    );
}
