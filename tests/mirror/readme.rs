//! Checks the README: its configurations, its error message, its commands.

use std::path::Path;

use ecr_mirror::config::Config;

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
