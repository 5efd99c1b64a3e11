//! Tests `doctor`: each failure that the sandbox can plant is found, with the hint that a run gives
//! for the same cause, and nothing is written.

use std::{fs, net::TcpListener, path::Path, time::Duration};

use aws_sdk_ecr::types::ImageTagMutability as Setting;
use ecr_mirror::{
    config::Config,
    doctor::{self, DoctorOptions},
    model::check_report::{CheckResult, CheckRow},
    registry::{Network, Transport},
    run::registries::Registries,
};
use serde_json::{Value, json};

use super::{
    process::run,
    world::{ECR, TRANSFERS, World, entry},
};

const APP: &str = "quay.io/team/app:1";
const AMD64: [&str; 1] = ["linux/amd64"];

fn options(only: &[&str]) -> DoctorOptions {
    let only = only.iter().map(ToString::to_string).collect();
    DoctorOptions { only, writes: false, timeout: Duration::from_secs(60) }
}

async fn examine_with(world: &World, options: &DoctorOptions) -> Vec<CheckRow> {
    let transport = Transport::new(Network::Sandbox(world.sandbox.address()));
    let registries = Registries::with_transport(transport, TRANSFERS, &doctor::retry_policy());
    let config = Config::parse("mirror.toml", &world.toml(), Path::new(""), &|_| None).unwrap();
    doctor::examine(&registries, Ok(()), &config, options).await.unwrap()
}

/// The checks of the world, with the time limit of a patient user.
async fn examine(world: &World, only: &[&str]) -> Vec<CheckRow> {
    examine_with(world, &options(only)).await
}

#[track_caller]
fn find<'a>(rows: &'a [CheckRow], id: &str) -> &'a CheckRow {
    rows.iter().find(|row| row.id == id).unwrap_or_else(|| panic!("no {id}: {rows:#?}"))
}

#[track_caller]
fn assert_result(rows: &[CheckRow], id: &str, expected: CheckResult, hint: &str) {
    let row = find(rows, id);
    assert_eq!(row.result, expected, "{row:?}");
    assert!(row.hint.as_deref().unwrap_or_default().contains(hint), "{hint}: {row:?}");
}

/// Asserts that a run fails with the same hint.
async fn assert_same_hint(world: &World, row: &CheckRow) {
    let run = world.sync().await;
    let rows = run.report.images.iter().filter_map(|row| row.hint.as_deref());
    let destinations = run.report.unusable.iter().filter_map(|it| it.hint.as_deref());
    let hints: Vec<_> = rows.chain(destinations).collect();
    assert!(hints.contains(&row.hint.as_deref().unwrap()), "{row:?}\n{:?}", run.report.images);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_works_has_no_failure_and_no_warning_and_nothing_is_written() {
    let world = World::new().await.image(APP, AMD64).image("docker.io/team/hub:1", AMD64);
    let world = world.select("ghcr.io/team/selected:1", "");
    world.upstream().image("ghcr.io/team/selected:1").push();
    let rows = examine(&world, &[]).await;
    let bad: Vec<_> = rows.iter().filter(|row| row.result < CheckResult::Skip).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let skipped: Vec<_> = rows.iter().filter(|row| row.result == CheckResult::Skip).collect();
    let skipped: Vec<_> = skipped.iter().map(|row| row.id).collect();
    assert_eq!(skipped, ["names", "ecr:CreateRepository", "ecr:InitiateLayerUpload"]);
    let made = world.aws().describe_repositories().send().await.unwrap();
    assert!(made.repositories().is_empty(), "{made:?}");
    assert_eq!(find(&rows, "pull-limit").text, "100 of 100 pulls per 6h are left");

    // the same for existing repositories
    world.sync().await.assert_exit(0);
    let before = world.ecr().tag("team/app", "1");
    let rows = examine(&world, &[]).await;
    assert!(rows.iter().all(|row| row.result >= CheckResult::Skip), "{rows:#?}");
    assert_eq!(world.ecr().tag("team/app", "1"), before);
    world.sync().await.assert_no_op();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_missing_action_is_found_with_the_hint_of_a_run() {
    let world = World::new().await.image(APP, AMD64).image("quay.io/team/b:1", AMD64);
    let config = Config::parse("mirror.toml", &world.toml(), Path::new(""), &|_| None).unwrap();
    let listed = doctor::list(&config).into_iter();
    let actions: Vec<&str> =
        listed.map(|check| check.id).filter(|id| id.starts_with("ecr:")).collect();
    assert!(actions.len() > 10, "{actions:?}");
    for exists in [false, true] {
        for id in &actions {
            world.sandbox.faults().clear();
            world.fault(&format!("deny={}", &id[4..]));
            let rows =
                examine_with(&world, &DoctorOptions { writes: true, ..options(&[id]) }).await;
            // the call for a repository that does not exist would create it
            if exists || *id != "ecr:CreateRepository" {
                let expected = match *id {
                    "ecr:DescribeImages" => CheckResult::Warn,
                    _ => CheckResult::Fail,
                };
                assert_result(&rows, id, expected, &format!("grant `{id}` to the role"));
            }
        }
        world.sandbox.faults().clear();
        let rows = examine_with(&world, &DoctorOptions { writes: true, ..options(&actions) }).await;
        let unclear: Vec<_> = rows.iter().filter(|row| row.result != CheckResult::Ok).collect();
        assert_eq!(
            unclear.iter().map(|row| row.id).collect::<Vec<_>>(),
            match exists {
                true => vec![],
                false => vec!["ecr:CreateRepository"],
            },
            "{rows:#?}"
        );
        world.sync().await.assert_exit(0);
    }
    let world = World::new().await.image(APP, AMD64);
    for action in ["GetAuthorizationToken", "BatchCheckLayerAvailability", "PutImage"] {
        world.sandbox.faults().clear();
        world.fault(&format!("deny={action}"));
        let id = match action {
            "GetAuthorizationToken" => "ecr-login".to_owned(),
            action => format!("ecr:{action}"),
        };
        let rows = examine(&world, &[&id]).await;
        assert_same_hint(&world, find(&rows, &id)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_written_back_unchanged() {
    let destination = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[destination.repositories]\nreconcile = true\n\
         tag_mutability = \"immutable\"\nscan_on_push = true\ntags = {{ team = \"a\" }}\n\
         lifecycle = {{ untagged_after_days = 7 }}\n"
    );
    let world = World::new().await.image(APP, AMD64).configured(&destination);
    world.sync().await.assert_exit(0);
    let describe = async || {
        let described = world.aws().describe_repositories().send().await.unwrap();
        let policy = world.aws().get_lifecycle_policy().repository_name("team/app").send().await;
        (described.repositories, policy.unwrap().lifecycle_policy_text)
    };
    let before = describe().await;
    let options = DoctorOptions { writes: true, ..options(&["permissions"]) };
    let rows = examine_with(&world, &options).await;
    assert!(rows.iter().all(|row| row.result == CheckResult::Ok), "{rows:#?}");
    assert!(rows.iter().any(|row| row.id == "ecr:TagResource"), "{rows:#?}");
    assert_eq!(describe().await, before);
    world.sync().await.assert_no_op();
    for action in ["PutImageTagMutability", "PutLifecyclePolicy", "TagResource"] {
        world.sandbox.faults().clear();
        world.fault(&format!("deny={action}"));
        let rows = examine_with(&world, &options).await;
        assert_result(&rows, &format!("ecr:{action}"), CheckResult::Fail, action);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_credentials_and_a_wrong_clock_are_found_with_the_hint_of_a_run() {
    let world = World::new().await.image(APP, AMD64);
    world.fault("expired-credentials");
    let rows = examine(&world, &[]).await;
    assert_result(&rows, "identity", CheckResult::Fail, "aws sso login");
    assert_result(&rows, "ecr-login", CheckResult::Fail, "aws sso login");
    assert_eq!(find(&rows, "ecr:PutImage").text, "`ecr-login` failed");
    assert_same_hint(&world, find(&rows, "identity")).await;

    world.sandbox.faults().clear();
    world.fault("clock=3600");
    let rows = examine(&world, &[]).await;
    assert_result(&rows, "clock", CheckResult::Fail, "clock");
    let text = &find(&rows, "clock").text;
    assert!(text.contains("behind AWS's"), "{text}");
    assert_same_hint(&world, find(&rows, "clock")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_another_account_are_found() {
    let world = World::new().await.image(APP, AMD64);
    world.fault("other-account");
    let rows = examine(&world, &[]).await;
    assert_result(&rows, "account", CheckResult::Warn, "`role_arn`");
    let account = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[destination.account]\nblob_mounting = true\n"
    );
    let world = world.configured(&account);
    let rows = examine(&world, &["account"]).await;
    assert_result(&rows, "account", CheckResult::Fail, "or remove `[destination.account]`");
    assert_same_hint(&world, find(&rows, "account")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_storage_is_a_warning_for_a_push_and_a_failure_for_an_ecr_source() {
    let world = World::new().await.image(APP, AMD64);
    let source = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/team/app:1";
    let world = world.select(source, "repository = \"other\"");
    world.fault("silent@ecr//prod-");
    let limited =
        DoctorOptions { timeout: Duration::from_millis(700), ..options(&["ecr-storage"]) };
    let rows = examine_with(&world, &limited).await;
    assert_result(&rows, "ecr-storage", CheckResult::Warn, "`NO_PROXY`");
    let limited = DoctorOptions { only: vec!["source".to_owned()], ..limited };
    let rows = examine_with(&world, &limited).await;
    let failed: Vec<_> = rows.iter().filter(|row| row.result == CheckResult::Fail).collect();
    let [row] = failed[..] else { panic!("{rows:#?}") };
    assert_eq!(row.subject.as_deref(), source.split('/').next());
    assert!(row.text.starts_with("no answer within"), "{row:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_pull_limit_and_an_unreadable_source_are_found_with_the_hint_of_a_run() {
    let world = World::new().await.image("docker.io/team/a:1", AMD64);
    let world = world.image("docker.io/team/b:1", AMD64);
    // as many as the first image needs
    world.fault("pull-limit=2");
    world.sync().await.assert_exit(3);
    let rows = examine(&world, &["pull-limit"]).await;
    assert_result(&rows, "pull-limit", CheckResult::Fail, "run again in the next window");
    assert_same_hint(&world, find(&rows, "pull-limit")).await;

    let world = World::new().await.select("ghcr.io/team/missing:1", "");
    let rows = examine(&world, &["source"]).await;
    assert_result(&rows, "source", CheckResult::Fail, "docker login ghcr.io");
    assert_same_hint(&world, find(&rows, "source")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_repositories_that_stop_a_run_are_found_with_its_hint() {
    let world = World::new().await.image(APP, AMD64);
    let made = world.aws().create_repository().repository_name("team/app");
    made.image_tag_mutability(Setting::Immutable).send().await.unwrap();
    world.sync().await.assert_exit(0);
    let rows = examine(&world, &["immutability"]).await;
    let text = "1 repository with immutable tags, and no tag differs from its source";
    assert_eq!(find(&rows, "immutability").text, text);
    world.upstream().image(APP).platforms(AMD64).seed(2).push();
    let rows = examine(&world, &["immutability"]).await;
    assert_result(&rows, "immutability", CheckResult::Fail, "`retag`");
    assert_same_hint(&world, find(&rows, "immutability")).await;

    let policy = json!({ "rules": [{
        "rulePriority": 1,
        "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1 },
        "action": { "type": "expire" },
    }] });
    let put = world.aws().put_lifecycle_policy().repository_name("team/app");
    put.lifecycle_policy_text(policy.to_string()).send().await.unwrap();
    let world = world.select("quay.io/team/app:2", "");
    let rows = examine(&world, &["lifecycle"]).await;
    assert_result(&rows, "lifecycle", CheckResult::Fail, "keep the selected tags");

    world.fault("images=90001");
    let rows = examine(&world, &["image-quota"]).await;
    assert_result(&rows, "image-quota", CheckResult::Warn, "request a higher quota");
    assert!(find(&rows, "image-quota").text.contains("holds 90001 images"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_another_upstream_and_a_repository_that_nothing_creates_are_found() {
    let world = World::new().await.image(APP, AMD64);
    let rule = world.aws().create_pull_through_cache_rule().ecr_repository_prefix("team");
    rule.upstream_registry_url("registry.k8s.io").send().await.unwrap();
    let rows = examine(&world, &["pull-through-overlap"]).await;
    assert_result(&rows, "pull-through-overlap", CheckResult::Fail, "registry.k8s.io");
    assert_same_hint(&world, find(&rows, "pull-through-overlap")).await;

    let cached = "[[pull_through]]\nupstream = \"quay\"\nprefix = \"team\"\n";
    let mut world = world;
    world.reconfigure(cached);
    let rows = examine(&world, &["cache-rule"]).await;
    assert_result(&rows, "cache-rule", CheckResult::Fail, "pull-through plan");
    assert!(find(&rows, "cache-rule").text.contains("registry.k8s.io"), "{rows:?}");

    let destination = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[destination.repositories]\ncreate = false\n"
    );
    world.upstream().image("quay.io/other/app:1").push();
    world.reconfigure(destination + &entry("quay.io/other/app:1", ""));
    let rows = examine(&world, &["repositories"]).await;
    assert_result(&rows, "repositories", CheckResult::Fail, "create-repository");
    assert_same_hint(&world, find(&rows, "repositories")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_runs_in_the_sandbox_and_its_options_select_checks() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("mirror.toml"), include_str!("../../mirror.toml.example")).unwrap();
    let doctor = |arguments: &[&str]| run(home.path(), &[&["doctor"], arguments].concat());
    let ended = doctor(&["--sandbox=state"]);
    assert_eq!(ended.status, Some(0), "{}{}", ended.out, ended.talk);
    assert!(!ended.out.contains("ok    "), "passes are for -v: {}", ended.out);
    let ended = doctor(&["--sandbox=state", "--json", "--only", "permissions"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    let checks = document["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["group"] == "permissions"), "{document}");
    assert_eq!((&document["version"], &document["exit"]), (&json!(1), &json!(0)));

    let ended = doctor(&["--list"]);
    assert_eq!(ended.status, Some(0), "{}", ended.talk);
    assert!(ended.out.contains("ecr:PutImage"), "{}", ended.out);
    let ended = doctor(&["--only", "clocks", "--sandbox=state"]);
    assert_eq!(ended.status, Some(2), "{}", ended.talk);
    assert!(ended.talk.contains("no check of this configuration is named `clocks`"));
    assert_eq!(doctor(&["-c", "missing.toml"]).status, Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_repositories_of_a_namespace_have_checks() {
    let home = tempfile::tempdir().unwrap();
    let text = |excluded: &str| {
        format!(
            "[[destination]]\nregistry = \"{ECR}\"\n\
             [images]\n\"quay.io/coreos/*\" = {{ newest = 1, at_most = 20, \
             exclude_repositories = [\"{excluded}\"] }}\n"
        )
    };
    let doctor = ["doctor", "--sandbox=state", "--json", "--only", "clock", "--only", "source"];
    // without a repository there is no source to check
    for (excluded, only, status, expected) in [("none", 2, 0, "quay.io"), ("*", 1, 1, "")] {
        fs::write(home.path().join("mirror.toml"), text(excluded)).unwrap();
        let ended = run(home.path(), &doctor[..3 + 2 * only]);
        let document: Value = serde_json::from_str(&ended.out).unwrap();
        let checks = document["checks"].as_array().unwrap();
        let source = checks.iter().find(|check| check["id"] == "source");
        let subject = source.and_then(|check| check["subject"].as_str()).unwrap_or_default();
        assert_eq!((ended.status, subject), (Some(status), expected), "{document}{}", ended.talk);
        assert!(checks.iter().any(|check| check["id"] == "clock"), "{document}");
        assert_eq!(ended.talk.contains("matches none of"), status == 1, "{}", ended.talk);
    }
}

#[test]
fn warnings_fail_a_strict_run_only() {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[[destination]]\nregistry = \"{ECR}\"\n[[pull_through]]\nupstream = \"quay\"\n\
         [pull_through.template]\ntag_mutability = \"immutable\"\n"
    );
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    let doctor = ["doctor", "--sandbox=state", "--only", "configuration"];
    let plain = run(home.path(), &doctor);
    assert_eq!(plain.status, Some(0), "{}{}", plain.out, plain.talk);
    assert!(plain.out.contains("hint: run `ecr-mirror check`"), "{}", plain.out);
    assert_eq!(run(home.path(), &[&doctor[..], &["--strict"]].concat()).status, Some(1));
}

#[test]
fn doctor_ends_if_no_endpoint_answers() {
    // accepts connections, as far as its queue goes, and never answers
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"http://{address}\"\n\
         [[destination]]\nname = \"plain\"\nregistry = \"{address}\"\n\
         [[image]]\nsource = \"{address}/team/app\"\ntags = [\"1\"]\nrepository = \"one\"\n\
         [[image]]\nsource = \"localhost:{}/team/app\"\ntags = [\"1\"]\nrepository = \"two\"\n",
        address.port()
    );
    fs::write(home.path().join("mirror.toml"), text).unwrap();
    let mut command = super::process::ecr_mirror_in(home.path(), &["doctor", "--timeout", "1s"]);
    command
        .args(["--only", "ecr-api", "--only", "ecr-login", "--only", "permissions"])
        .args(["--only", "sources", "--only", "destinations"])
        .envs([("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")]);
    let ended: super::process::Ended = command.output().unwrap().into();
    assert_eq!(ended.status, Some(1), "{}{}", ended.out, ended.talk);
    for check in ["ecr-api at", "registry-login at plain", "source at localhost"] {
        let line = ended.out.lines().find(|line| line.contains(check));
        let line = line.unwrap_or_else(|| panic!("{check}: {}", ended.out));
        assert!(line.starts_with("fail") && line.contains("no answer within 1s"), "{line}");
    }
    assert!(ended.out.contains("`ecr-api` failed"), "{}", ended.out);
}
