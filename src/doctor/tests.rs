//! Checks without a registry: their structure, and the decisions.

use std::{
    collections::BTreeSet,
    future::{pending, ready},
    path::Path,
    time::SystemTime,
};

use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    ecr::{caller::CallerIdentity, probe::PROBES},
    model::{Repository, Tag},
    remote::Allowance,
};
use judge::RepositoryTags;

const EVERYTHING: &str = "\
[[destination]]
name = \"eu\"
registry = \"123456789012.dkr.ecr.eu-west-1.amazonaws.com\"
[[destination]]
name = \"us\"
registry = \"123456789012.dkr.ecr.us-east-1.amazonaws.com\"
[[destination]]
name = \"plain\"
registry = \"registry.example\"
[[pull_through]]
upstream = \"quay\"
destinations = [\"eu\"]
[[image]]
source = \"nginx\"
tags = [\"1.27\"]
[[image]]
source = \"ghcr.io/team/app\"
tags = [\"1\"]
";

fn config(text: &str) -> Config {
    Config::parse("mirror.toml", text, Path::new(""), &|_| None).unwrap()
}

#[test]
fn every_check_has_its_own_id_and_depends_on_earlier_ones() {
    let mut seen = BTreeSet::new();
    for spec in &SPECS {
        for id in spec.depends_on {
            assert!(seen.contains(id), "{} depends on `{id}`", spec.id);
        }
        assert!(seen.insert(spec.id), "{}", spec.id);
    }
}

#[test]
fn a_check_depends_on_those_of_its_own_destination_and_of_the_machine() {
    let config = config(EVERYTHING);
    let checks = specs::checks(&config);
    for check in &checks {
        let name = check.subject.name();
        for earlier in check.depends_on.iter().map(|index| &checks[*index]) {
            let other = earlier.subject.name();
            let is_own = other.is_none()
                || other == name
                || name == Some(format!("{}/quay", other.unwrap()));
            assert!(is_own, "{} at {name:?}", check.spec.id);
        }
        assert_eq!(check.depends_on.len(), check.spec.depends_on.len(), "{}", check.spec.id);
    }
    let pull_limit = list(&config).into_iter().find(|check| check.id == "pull-limit").unwrap();
    assert_eq!(pull_limit.subjects, ["docker.io"]);
}

#[test]
fn every_action_of_a_push_has_a_harmless_call() {
    let config = config(EVERYTHING);
    let listed = list(&config);
    let mut actions =
        crate::iam::destination_actions(&config, crate::model::DestinationId(0)).actions;
    actions.retain(|action| !listed.iter().any(|check| check.id == *action));
    // the login asks for it
    assert_eq!(Vec::from_iter(actions), ["ecr:GetAuthorizationToken"]);
    assert!(PROBES.iter().all(|probe| !probe.asks.is_empty()));
}

#[test]
fn a_name_selects_checks_with_all_that_they_depend_on() {
    let config = config(EVERYTHING);
    let checks = specs::checks(&config);
    let ids = |only: &str| -> Vec<&str> {
        let selected = selection(&checks, &[only.to_owned()]).unwrap();
        let needed = with_dependencies(&checks, &selected);
        needed.into_iter().map(|index| checks[index].spec.id).collect()
    };
    assert_eq!(ids("pull-limit"), ["network", "source", "pull-limit"]);
    assert_eq!(ids("sources"), ["network", "source", "source", "pull-limit"]);
    let twice = ["ecr-api", "ecr-api", "ecr-registry", "ecr-registry", "ecr-login", "ecr-login"];
    assert_eq!(ids("ecr-login"), [&["network"][..], &twice].concat());
    let error = selection(&checks, &["clocks".to_owned()]).unwrap_err();
    assert_eq!(error.kind(), Kind::Configuration);
    assert!(error.remedy().unwrap().contains("`doctor --list`"), "{error:?}");
}

/// Runs all checks with these answers. Returns the results by id, and the time that they took.
async fn answered<F>(
    text: &str,
    ask: impl Fn(&str) -> F,
) -> (Vec<(&'static str, CheckResult)>, Duration)
where
    F: Future<Output = Finding> + 'static,
{
    let config = config(text);
    let checks = specs::checks(&config);
    let begun = Instant::now();
    let started = start(&checks, Duration::from_secs(10), |check| ask(check.spec.id));
    let findings = join_all(started).await;
    let ids = checks.iter().map(|check| check.spec.id);
    (ids.zip(findings).map(|(id, finding)| (id, finding.result)).collect(), begun.elapsed())
}

#[tokio::test(start_paused = true)]
async fn checks_run_in_parallel_and_end_together_if_nothing_answers() {
    let ask = |id: &str| match id {
        "network" => ready(Finding::ok("")).boxed_local(),
        _ => pending().boxed_local(),
    };
    let (results, took) = answered(EVERYTHING, ask).await;
    assert!(took < Duration::from_secs(11), "no check waits for another one's limit: {took:?}");
    for (id, result) in results {
        let spec = SPECS.iter().find(|spec| spec.id == id).unwrap();
        let depends_on_host = spec.depends_on.iter().any(|id| *id != "network");
        let expected = match (id, depends_on_host) {
            ("network", _) => CheckResult::Ok,
            (_, true) => CheckResult::Skip,
            ("identity" | "ecr-storage", false) => CheckResult::Warn,
            (_, false) => CheckResult::Fail,
        };
        assert_eq!(result, expected, "{id}");
    }
}

#[tokio::test]
async fn what_depends_on_a_failed_check_is_skipped_and_the_rest_is_asked() {
    let ask = |id: &str| {
        ready(match id {
            "ecr-api" => Finding::fail(&Error::new(Kind::Unavailable, "no connection")),
            _ => Finding::ok(""),
        })
    };
    let (results, _) = answered(EVERYTHING, ask).await;
    for (id, expected) in [
        ("ecr-api", CheckResult::Fail),
        ("clock", CheckResult::Skip),
        ("ecr-login", CheckResult::Skip),
        ("ecr:PutImage", CheckResult::Skip),
        ("cache-rule", CheckResult::Skip),
        ("identity", CheckResult::Ok),
        ("ecr-registry", CheckResult::Ok),
        ("source", CheckResult::Ok),
    ] {
        let found: Vec<_> = results.iter().filter(|(known, _)| *known == id).collect();
        assert!(!found.is_empty() && found.iter().all(|it| it.1 == expected), "{id}: {found:?}");
    }
}

#[test]
fn a_clock_is_wrong_once_aws_refuses_its_signatures() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (seconds, expected, text) in [
        (0, CheckResult::Ok, "agrees"),
        (59, CheckResult::Ok, "agrees"),
        (60, CheckResult::Warn, "1m behind AWS's"),
        (299, CheckResult::Warn, "4m 59s behind AWS's"),
        (300, CheckResult::Fail, "5m behind AWS's"),
        (-300, CheckResult::Fail, "5m ahead of AWS's"),
    ] {
        let theirs = match u64::try_from(seconds) {
            Ok(seconds) => now + Duration::from_secs(seconds),
            Err(_) => now - Duration::from_secs(300),
        };
        let finding = judge::clock(now, theirs);
        assert_eq!(finding.result, expected, "{seconds}");
        assert!(finding.text.contains(text), "{seconds}: {}", finding.text);
    }
}

#[test]
fn short_credentials_are_a_warning_unless_they_are_renewed() {
    let now = SystemTime::UNIX_EPOCH;
    let of = |minutes: Option<u64>, renews| {
        let expiry = minutes.map(|minutes| now + Duration::from_secs(60 * minutes));
        judge::identity(Ok(CallerIdentity { arn: "arn".to_owned(), expiry }), renews, now)
    };
    for (minutes, renews, expected) in [
        (None, false, CheckResult::Ok),
        (Some(15), false, CheckResult::Ok),
        (Some(14), false, CheckResult::Warn),
        (Some(14), true, CheckResult::Ok),
    ] {
        assert_eq!(of(minutes, renews).result, expected, "{minutes:?}");
    }
    assert_eq!(of(Some(90), false).text, "arn, expires in 1h 30m");
    let unreachable = Err(Error::new(Kind::Stalled, "no response"));
    assert_eq!(judge::identity(unreachable, false, now).result, CheckResult::Warn);
}

#[test]
fn only_a_refused_permission_and_a_missing_answer_fail_an_action() {
    for (kind, expected) in [
        (Kind::Denied, CheckResult::Fail),
        (Kind::Unauthorized, CheckResult::Fail),
        (Kind::Unavailable, CheckResult::Fail),
        (Kind::NotFound, CheckResult::Ok),
        (Kind::RepositoryMissing, CheckResult::Ok),
        (Kind::ContentMissing, CheckResult::Ok),
        (Kind::Configuration, CheckResult::Skip),
        (Kind::Protocol, CheckResult::Skip),
    ] {
        let answers = vec![Ok(()), Err(Error::new(kind, "x"))];
        assert_eq!(judge::action(answers, 2).result, expected, "{kind:?}");
    }
    assert_eq!(judge::action(vec![Ok(())], 40).text, "allowed in 1 of 40 repositories");
}

fn tags(known: &[&str], unknown: usize) -> RepositoryTags {
    let known: Vec<Tag> = known.iter().map(|tag| tag.parse().unwrap()).collect();
    RepositoryTags { known, unknown }
}

#[test]
fn a_lifecycle_policy_that_deletes_selected_images_is_found() {
    let rule = |selection: serde_json::Value| json!({ "rules": [{ "rulePriority": 7, "selection": selection, "action": { "type": "expire" } }] });
    let count = |number: u64| json!({ "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": number });
    let of_pattern = |pattern: &str, number: u64| {
        json!({
            "tagStatus": "tagged", "tagPatternList": [pattern],
            "countType": "imageCountMoreThan", "countNumber": number,
        })
    };
    let by_age = json!({
        "tagStatus": "tagged", "tagPrefixList": ["1."], "countType": "sinceImagePushed",
        "countUnit": "days", "countNumber": 30,
    });
    let untagged = json!({
        "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1,
    });
    let two = tags(&["1.26", "1.27"], 0);
    for (policy, selected, expected) in [
        (rule(count(1)), two.clone(), Some(CheckResult::Fail)),
        (rule(count(2)), two.clone(), None),
        (rule(count(2)), tags(&["1.26"], 5), Some(CheckResult::Fail)),
        (rule(of_pattern("1.*", 1)), two.clone(), Some(CheckResult::Fail)),
        (rule(of_pattern("2.*", 1)), two.clone(), None),
        (rule(of_pattern("2.*", 1)), tags(&[], 5), None),
        (rule(of_pattern("*", 1)), tags(&[], 5), Some(CheckResult::Fail)),
        (rule(by_age.clone()), two.clone(), Some(CheckResult::Warn)),
        (rule(by_age), tags(&["2.0"], 0), None),
        (rule(untagged), two.clone(), None),
        (json!("not a policy"), two, None),
    ] {
        let repository: Repository = "team/app".parse().unwrap();
        let finding = judge::lifecycle(&[(repository, Some(policy.clone()), selected)]);
        assert_eq!(finding.result, expected.unwrap_or(CheckResult::Ok), "{policy}");
        assert_eq!(
            finding.text.contains("`team/app`: rule 7"),
            expected.is_some(),
            "{}",
            finding.text
        );
    }
}

#[test]
fn a_repository_with_nine_tenths_of_its_quota_is_a_warning() {
    let repository: Repository = "team/app".parse().unwrap();
    for (count, expected) in [(89_999, CheckResult::Ok), (90_000, CheckResult::Warn)] {
        assert_eq!(judge::image_quota(&[(&repository, count)]).result, expected, "{count}");
    }
}

#[test]
fn a_pull_limit_without_pulls_fails_and_one_with_too_few_warns() {
    let allowance =
        |remaining| Some(Allowance { limit: 100, remaining, window: Duration::from_secs(21_600) });
    for (remaining, reserved, tags, expected) in [
        (100, 0, 100, CheckResult::Ok),
        (99, 0, 100, CheckResult::Warn),
        (0, 0, 1, CheckResult::Fail),
        (10, 10, 1, CheckResult::Fail),
        (11, 10, 1, CheckResult::Ok),
    ] {
        let finding = judge::pull_limit(allowance(remaining), reserved, tags);
        assert_eq!(
            finding.result, expected,
            "{remaining} - {reserved} for {tags}: {}",
            finding.text
        );
    }
    assert_eq!(judge::pull_limit(None, 0, 1).result, CheckResult::Ok);
}
