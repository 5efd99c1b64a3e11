//! Tests the files of `deploy/`, the action and the documents: the program accepts every command line
//! in them.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use clap::{CommandFactory, Parser};
use ecr_mirror::{cli::Cli, config::Config};

use super::guarantees::{documents, root};

/// Files that start the program: each must contain a command line.
const STARTING: [&str; 14] = [
    "README.md",
    "deploy/builds/buildah-build",
    "deploy/builds/buildspec.yml",
    "deploy/builds/docker-build",
    "deploy/builds/github-workflow.yml",
    "deploy/builds/gitlab-ci.yml",
    "deploy/cloudformation/codebuild.yml",
    "deploy/cloudformation/fargate.yml",
    "deploy/cron/ecr-mirror",
    "deploy/github/bootstrap",
    "deploy/github/sync",
    "deploy/gitlab/templates/sync.yml",
    "deploy/kubernetes/base/cron-job.yaml",
    "deploy/systemd/ecr-mirror.service",
];

/// The command lines in a text: lists in JSON that start with a verb, and commands of a shell.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let program = Cli::command();
    let is_verb = |word: &str| program.find_subcommand(word).is_some();
    let joined = text.replace("\\\n", " ");
    let lines = joined.lines().filter_map(|line| {
        let list = line.find("[\"").map(|start| &line[start..]);
        let list = list.and_then(|list| serde_json::from_str::<Vec<String>>(list).ok());
        if let Some(list) = list.filter(|list| list.first().is_some_and(|word| is_verb(word))) {
            return Some(list);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_program = |word: &str| word.rsplit(['=', '/']).next() == Some("ecr-mirror");
        let start = words.windows(2).position(|pair| is_program(pair[0]) && is_verb(pair[1]))?;
        let end = |word: &&&str| !["|", "||", "&&", "#"].contains(*word) && !word.starts_with('>');
        let line = words[start + 1..].iter().take_while(end);
        // an expanded array has no words here
        let line = line.filter(|word| !word.starts_with("${"));
        let line = line.map(|word| word.trim_matches(['"', '\'', ';']));
        let host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
        let values = |word: &str| word.replace("$SHARD", "1/2").replace("$ECR", host);
        Some(line.map(values).collect())
    });
    lines.collect()
}

fn is_accepted(line: &[String]) -> Result<(), String> {
    let line = [&["ecr-mirror".to_owned()], line].concat();
    Cli::try_parse_from(&line).map(drop).map_err(|error| format!("{line:?}: {error}"))
}

/// Every file below a folder: relative path and text.
fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, found);
        } else {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(path).unwrap()));
        }
    }
}

#[test]
fn the_program_accepts_every_command_line_of_deployed_files_and_documents() {
    let mut all = documents();
    files(&root().join("deploy"), &mut all);
    let mut lines = BTreeMap::new();
    for (name, text) in &all {
        // prose names commands; a block of commands has a prompt
        let prompts = text.lines().filter_map(|line| line.strip_prefix("$ "));
        let commands = match name.ends_with(".md") {
            true => command_lines(&prompts.collect::<Vec<_>>().join("\n")),
            false => command_lines(text),
        };
        for line in &commands {
            is_accepted(line).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        lines.insert(name.as_str(), commands.len());
    }
    for name in STARTING {
        assert!(lines.get(name).is_some_and(|count| *count > 0), "{name} has no command line");
    }
}

#[test]
fn a_mistyped_option_in_any_file_that_starts_the_program_is_found() {
    for name in STARTING.iter().filter(|name| name.starts_with("deploy/")) {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let wrong = command_lines(&text).into_iter().map(|mut line| {
            line.push("--no-such-option".to_owned());
            line
        });
        assert!(wrong.map(|line| is_accepted(&line)).all(|result| result.is_err()), "{name}");
    }
}

#[test]
fn the_configuration_of_the_cron_job_is_valid() {
    let folder = root().join("deploy/kubernetes/base");
    let text = fs::read_to_string(folder.join("mirror.toml")).unwrap();
    let config = Config::parse("mirror.toml", &text, &folder, &|_| None).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
}

#[test]
fn the_scripts_for_builds_read_what_the_build_reads() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    for program in ["aws", "docker", "buildah", "ecr-mirror"] {
        let path = home.join(program);
        let script = "#!/bin/sh\necho \"${0##*/} $*\" >>log\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    let cases = [
        ("", "Dockerfile"),
        ("-t app --no-cache", "Dockerfile"),
        ("--build-arg V=3.19 --target=run", "Dockerfile --build-arg V=3.19 --target=run"),
        ("-f a/Dockerfile --build-arg=V=1 -t app", "a/Dockerfile --build-arg=V=1"),
        ("--target run --file=b.Dockerfile", "b.Dockerfile --target run"),
    ];
    for script in ["docker-build", "buildah-build"] {
        for (arguments, read) in cases {
            let mut shell = Command::new("bash");
            shell.arg(root().join("deploy/builds").join(script)).args(arguments.split_whitespace());
            shell.current_dir(home).env("PATH", &path).env("ECR", "registry").env("TMPDIR", home);
            let output = shell.output().unwrap();
            assert!(output.status.success(), "{script} {arguments}: {output:?}");
            let log = fs::read_to_string(home.join("log")).unwrap();
            let started = format!("ecr-mirror bootstrap {read} --to registry/mirror --");
            assert!(log.contains(&started), "{script} {arguments}: {log}");
            let build = format!(" build {arguments} .\n").replace("  ", " ");
            assert!(log.ends_with(&build), "{script} {arguments}: {log}");
            fs::remove_file(home.join("log")).unwrap();
        }
    }
}
