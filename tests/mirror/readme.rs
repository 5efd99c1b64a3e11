//! Checks the README and the pages of `docs/`: configurations, the error message, commands, verbs.

use std::{collections::BTreeSet, path::Path};

use clap::CommandFactory;
use ecr_mirror::{cli::Cli, config::Config};
use regex::Regex;

use super::guarantees::documents;

const README: &str = include_str!("../../README.md");

/// Fenced blocks of this language, in order.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let after = text.split(fence.as_str()).skip(1);
    after.map(|block| block.split("```").next().unwrap_or_default()).collect()
}

fn parse(text: &str) -> Result<Config, String> {
    let environment = |name: &str| name.starts_with("DOCKERHUB_").then(|| "set".to_owned());
    let config = Config::parse("mirror.toml", text, Path::new(""), &environment);
    config.map_err(|error| error.to_string())
}

#[test]
fn every_configuration_in_the_readme_and_the_pages_is_valid() {
    let pages = documents();
    let blocks: Vec<_> = pages
        .iter()
        .flat_map(|(name, text)| blocks(text, "toml").into_iter().map(move |it| (name, it)))
        .collect();
    assert!(blocks.len() >= 7, "{}", blocks.len());
    for (name, block) in blocks {
        let config = parse(block).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!config.destinations.is_empty(), "{name}: {block}");
        assert!(config.warnings.is_empty(), "{name}: {:?}", config.warnings);
    }
}

#[test]
fn the_error_in_the_readme_is_the_printed_error() {
    let broken = blocks(README, "toml")[0].replace("\"linux/arm64\"", "\"arm64\"");
    let shown = blocks(README, "text").into_iter().find(|block| block.starts_with("error:"));
    assert_eq!(parse(&broken).unwrap_err(), shown.unwrap().trim_end());
}

/// Applies the expressions as Renovate's `recursive` strategy does: each one to the matches of the one
/// before. The groups of all of them belong to one match.
fn renovate(expressions: &[Regex], text: &str, groups: &[(String, String)]) -> Vec<String> {
    let Some((first, rest)) = expressions.split_first() else {
        let of = |name| groups.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let prefix = of("depType").map(|prefix| format!("{prefix}/")).unwrap_or_default();
        return vec![format!("{prefix}{}:{}", of("depName").unwrap(), of("currentValue").unwrap())];
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
    let page = include_str!("../../docs/configuration.md");
    let settings: serde_json::Value = serde_json::from_str(blocks(page, "json")[0]).unwrap();
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
    // other keys have no version, and neither has a list of a registry
    let others = "[images]\nredis = { semver = \"7\", newest = 3, tags = [\"7\"] }\n\
                  nginx = { name = \"web\", tags = \"1.27\", destinations = [\"eu\"] }\n\
                  \"registry.k8s.io/\" = [\"pause\"]\n";
    assert_eq!(renovate(&expressions, others, &[]), ["redis:7", "nginx:1.27"]);
    // lists of a registry
    let blocks = blocks(include_str!("../../docs/import.md"), "json");
    let settings: serde_json::Value = serde_json::from_str(blocks[0]).unwrap();
    let expressions = settings["matchStrings"].as_array().unwrap();
    let expressions: Vec<Regex> =
        expressions.iter().map(|text| Regex::new(text.as_str().unwrap()).unwrap()).collect();
    let versions = ["registry.k8s.io/pause:3.10", "registry.k8s.io/coredns/coredns:v1.11.3"];
    assert_eq!(renovate(&expressions, &whole, &[]), versions);
}

#[test]
fn the_readme_starts_with_the_sandbox_and_lists_the_commands_for_an_account() {
    let commands: Vec<&str> =
        blocks(README, "console").iter().flat_map(|block| block.lines()).collect();
    assert_eq!(
        commands,
        [
            "$ cargo run --release -- sync -c mirror.toml.example --sandbox",
            "$ aws sts get-caller-identity",
            "$ ecr-mirror init",
            "$ ecr-mirror iam mirror > policy.json",
            "$ ecr-mirror doctor",
            "$ ecr-mirror plan",
            "$ ecr-mirror sync",
        ]
    );
}

#[test]
fn the_readme_is_short() {
    let lines = README.lines().count();
    assert!(lines <= 250, "{lines} lines: move details to a page of docs/");
}

#[test]
fn the_page_of_commands_names_every_verb() {
    let page = documents().into_iter().find(|(name, _)| name == "docs/commands.md").unwrap().1;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `ecr-mirror "));
    let named: BTreeSet<String> =
        rows.filter_map(|row| row.split([' ', '`']).next()).map(str::to_owned).collect();
    let verbs = Cli::command();
    let verbs = verbs.get_subcommands().map(|verb| verb.get_name().to_owned());
    assert_eq!(named, verbs.collect());
}
