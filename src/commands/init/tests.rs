//! The registries that `init` accepts, and the file that it writes.

use std::collections::BTreeSet;

use super::{registry::registry, *};
use crate::config::Config;

const REGISTRY: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

#[test]
fn the_registry_is_a_host_or_an_account_with_its_region() {
    for (text, region, expected) in [
        (REGISTRY, None, Ok(REGISTRY)),
        ("123456789012", Some("eu-west-1"), Ok(REGISTRY)),
        ("123456789012", None, Err("AWS_REGION is not set")),
        ("12345", Some("eu-west-1"), Err("is not an ECR registry")),
        ("quay.io", None, Err("is not an ECR registry")),
        ("", None, Err("is not an ECR registry")),
    ] {
        match (host(text, region), expected) {
            (Ok(host), Ok(expected)) => assert_eq!(host.as_str(), expected),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
                assert_eq!(error.kind(), Kind::Configuration);
            }
            (host, _) => panic!("{text}: {host:?}"),
        }
    }
}

#[test]
fn a_wrong_answer_is_asked_again_and_the_region_only_for_an_account() {
    let account = "AWS account, or host of an ECR registry";
    let region = "Region, such as eu-west-1";
    for (known, answers, questions, problems) in [
        (None, vec![REGISTRY], vec![account], 0),
        (None, vec!["123456789012", "eu-west-1"], vec![account, region], 0),
        (Some("eu-west-1"), vec!["123456789012"], vec![account], 0),
        (
            None,
            vec!["quay.io", "123456789012", "Europe", REGISTRY],
            vec![account, account, region, account],
            2,
        ),
    ] {
        let (mut answers, mut asked, mut warnings) = (answers.into_iter(), Vec::new(), Vec::new());
        let ask = |question: &str| {
            asked.push(question.to_owned());
            Ok(answers.next().map(str::to_owned))
        };
        let found =
            registry(ask, |problem| warnings.push(problem.to_owned()), known.map(str::to_owned));
        assert_eq!(found.unwrap().as_str(), REGISTRY);
        assert_eq!(
            (asked, warnings.len()),
            (questions.iter().map(|it| (*it).to_owned()).collect(), problems)
        );
    }
    let ended = registry(|_| Ok(None), |_| (), None).unwrap_err();
    assert!(ended.to_string().contains("the input ended"), "{ended}");
}

#[test]
fn the_new_file_is_valid_and_so_is_each_of_its_suggestions() {
    let text = text(&REGISTRY.parse().unwrap(), &"mirror".parse().unwrap());
    assert!(!text.contains("{{"), "{text}");
    // a suggestion is a key, or the heading of a table, behind a `#` without a space
    let is_suggestion = |line: &&str| line.starts_with('#') && !line.starts_with("# ");
    let all = text.lines().map(|line| if is_suggestion(&line) { &line[1..] } else { line });
    let with_suggestions = all.collect::<Vec<_>>().join("\n");
    for text in [text.as_str(), &with_suggestions] {
        let config = Config::parse("mirror.toml", text, Path::new(""), &|_| None);
        let config = config.unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config.warnings, Vec::<String>::new());
        let names: BTreeSet<&str> =
            config.entries.iter().map(|it| it.repository.as_str()).collect();
        assert!(names.contains("library/nginx") && names.contains("pause"), "{names:?}");
    }
}
