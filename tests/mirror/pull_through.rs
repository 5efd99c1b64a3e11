//! Tests `pull-through plan`, `apply` and `destroy` with the program itself.
//!
//! A standing sandbox in this process plays AWS. The tests read the result through the AWS SDK, and
//! the changes from the sandbox's journal.

use std::{
    process::{Command, Output, Stdio},
    time::Duration,
};

use aws_sdk_ecr::Client;
use ecr_mirror::sandbox::{Mode, Options, Sandbox};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    process::{Ended, ecr_mirror_in, signal, until},
    world::{ECR, aws},
};

pub(super) const HUB: &str = r#"
[[pull_through]]
upstream = "docker-hub"
credentials = { username = "someone", access_token = "${HUB_TOKEN}" }
[pull_through.template]
lifecycle = { expire_after_days = 30 }
[pull_through.access]
accounts = ["210987654321"]
"#;
pub(super) const QUAY: &str = "[[pull_through]]\nupstream = \"quay\"\n";
const TOKEN: &str = "dckr_pat_hidden";

/// A standing sandbox, a client of its ECR, and a directory for configurations.
pub(super) struct World {
    pub(super) sandbox: Sandbox,
    pub(super) ecr: Client,
    pub(super) directory: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::slow(Duration::ZERO).await
    }

    /// A sandbox that delays every answer.
    async fn slow(latency: Duration) -> Self {
        let options = Options { mode: Mode::Standing, latency, ..Options::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let ecr = aws(&sandbox);
        Self { sandbox, ecr, directory: tempfile::tempdir().unwrap() }
    }

    /// Runs the command with these caches.
    pub(super) async fn run(&self, arguments: &[&str], caches: &str) -> Ended {
        let mut command = self.command(arguments, caches);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        Self::ended(output.unwrap())
    }

    fn ended(output: Output) -> Ended {
        let ended: Ended = output.into();
        assert!(!format!("{ended:?}").contains(TOKEN), "{ended:?}");
        ended
    }

    fn command(&self, arguments: &[&str], caches: &str) -> Command {
        let endpoint = format!("http://{}", self.sandbox.ecr_address());
        let destination =
            format!("[[destination]]\nregistry = \"{ECR}\"\nendpoint_url = \"{endpoint}\"\n");
        std::fs::write(self.directory.path().join("mirror.toml"), destination + caches).unwrap();
        let mut command = ecr_mirror_in(self.directory.path(), &["pull-through"]);
        command
            .args(arguments)
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .env("AWS_ACCESS_KEY_ID", "sandbox")
            .env("AWS_SECRET_ACCESS_KEY", "sandbox")
            .env("AWS_ENDPOINT_URL_SECRETS_MANAGER", &endpoint)
            .env("HUB_TOKEN", TOKEN)
            .stdin(Stdio::null());
        command
    }

    /// Operations that request a change, after the first `before` requests.
    pub(super) fn writes_since(&self, before: usize) -> Vec<String> {
        let journal = self.sandbox.journal().split_off(before);
        let writes = journal.into_iter().filter(|entry| entry.is_write());
        writes.filter_map(|entry| entry.operation).collect()
    }

    /// Prefix and upstream of each rule.
    pub(super) async fn rules(&self) -> Vec<(String, String)> {
        let described = self.ecr.describe_pull_through_cache_rules().send().await.unwrap();
        let text = |text: Option<&str>| text.unwrap().to_owned();
        let rules = described.pull_through_cache_rules().iter();
        rules
            .map(|it| (text(it.ecr_repository_prefix()), text(it.upstream_registry_url())))
            .collect()
    }

    async fn foreign_rule(&self, prefix: &str, url: &str) {
        let rule = self.ecr.create_pull_through_cache_rule().ecr_repository_prefix(prefix);
        rule.upstream_registry_url(url).send().await.unwrap();
    }
}

pub(super) fn pair(prefix: &str, url: &str) -> (String, String) {
    (prefix.to_owned(), url.to_owned())
}

#[track_caller]
pub(super) fn assert_exit(ended: &Ended, status: i32) {
    assert_eq!(ended.status, Some(status), "{}\n{}", ended.out, ended.talk);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_plan_leaves_no_change() {
    let world = World::new().await;
    let both = format!("{HUB}{QUAY}");
    let plan = world.run(&["plan", "--check"], &both).await;
    assert_exit(&plan, 1);
    assert!(plan.out.contains("\n+ rule docker-hub of "), "{}", plan.out);
    assert!(plan.out.ends_with(" to create, nothing to delete\n"), "{}", plan.out);
    assert_eq!(world.writes_since(0), Vec::<String>::new());

    let apply = world.run(&["apply", "--yes"], &both).await;
    assert_exit(&apply, 0);
    assert_eq!(apply.out, plan.out);
    assert!(apply.talk.contains("created rule docker-hub of "), "{}", apply.talk);
    let hub = pair("docker-hub", "registry-1.docker.io");
    assert_eq!(world.rules().await, [hub, pair("quay", "quay.io")]);

    let before = world.sandbox.journal().len();
    for verb in [&["plan", "--check"][..], &["apply", "--yes"]] {
        let again = world.run(verb, &both).await;
        assert_exit(&again, 0);
        assert_eq!((again.out.as_str(), again.talk.as_str()), ("no change\n", ""), "{verb:?}");
    }
    assert_eq!(world.writes_since(before), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_plan_lists_every_change_and_no_secret() {
    let world = World::new().await;
    let plan = world.run(&["plan", "--json"], HUB).await;
    assert_exit(&plan, 0);
    let document: Value = serde_json::from_str(&plan.out).unwrap();
    assert_eq!(document["version"], 1);
    let changes = document["changes"].as_array().unwrap();
    let rule = changes.iter().find(|change| change["kind"] == "rule").unwrap();
    assert_eq!((&rule["action"], &rule["name"]), (&json!("create"), &json!("docker-hub")));
    assert_eq!(rule["destination"], ECR);
    assert!(changes.iter().any(|change| change["kind"] == "secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_another_upstream_is_a_conflict_and_only_replace_changes_it() {
    let world = World::new().await;
    world.foreign_rule("docker-hub", "registry.k8s.io").await;
    let theirs = pair("docker-hub", "registry.k8s.io");
    let apply = world.run(&["apply", "--yes"], &format!("{HUB}{QUAY}")).await;
    assert_exit(&apply, 1);
    assert!(apply.out.contains("! rule docker-hub of "), "{}", apply.out);
    assert!(apply.out.contains("hint: "), "{}", apply.out);
    let quay = pair("quay", "quay.io");
    assert_eq!(world.rules().await, [theirs.clone(), quay.clone()]);

    // the rule is not ours, so `destroy` does not remove it
    let destroy = world.run(&["destroy", "--yes"], HUB).await;
    assert!(world.rules().await.contains(&theirs), "{}", destroy.out);

    let apply = world.run(&["apply", "--yes", "--replace"], HUB).await;
    assert_exit(&apply, 0);
    assert!(apply.out.contains("-/+ rule docker-hub of "), "{}", apply.out);
    assert_eq!(world.rules().await, [pair("docker-hub", "registry-1.docker.io"), quay]);
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_removes_only_configured_resources_and_reports_what_remains() {
    let world = World::new().await;
    world.foreign_rule("theirs", "registry.k8s.io").await;
    assert_exit(&world.run(&["apply", "--yes"], HUB).await, 0);
    let destroy = world.run(&["destroy", "--yes"], HUB).await;
    assert_exit(&destroy, 0);
    assert!(destroy.out.contains("- rule docker-hub of "), "{}", destroy.out);
    assert!(destroy.talk.contains(&format!("cached below {ECR}/docker-hub/")), "{}", destroy.talk);
    assert!(destroy.talk.contains("which can be restored until 20"), "{}", destroy.talk);
    assert_eq!(world.rules().await, [pair("theirs", "registry.k8s.io")]);
    let templates = world.ecr.describe_repository_creation_templates().send().await.unwrap();
    assert_eq!(templates.repository_creation_templates(), []);
    let again = world.run(&["destroy", "--yes"], HUB).await;
    assert_exit(&again, 0);
    assert_eq!((again.out.as_str(), again.talk.as_str()), ("no change\n", ""));

    // a secret in its recovery window is restored
    let back = world.run(&["apply", "--yes"], HUB).await;
    assert_exit(&back, 0);
    assert_exit(&world.run(&["plan", "--check"], HUB).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trust_policy_of_a_template_role_is_shown_until_the_template_exists() {
    let world = World::new().await;
    let role = "role_arn = \"arn:aws:iam::123456789012:role/templates\"";
    let tagged = format!("{QUAY}[pull_through.template]\ntags = {{ team = \"x\" }}\n{role}\n");
    let plan = world.run(&["plan"], &tagged).await;
    assert!(plan.talk.contains("the role of template quay needs this trust policy:"), "{plan:?}");
    for part in ["\"ecr.amazonaws.com\"", "\"ecr:CreateRepository\"", "repository/quay/*\""] {
        assert!(plan.talk.contains(part), "{part}: {}", plan.talk);
    }
    assert_exit(&world.run(&["apply", "--yes"], &tagged).await, 0);
    let again = world.run(&["plan", "--check"], &tagged).await;
    assert_exit(&again, 0);
    assert_eq!(again.talk, "");
    // a template without a role
    let world = World::new().await;
    let plan = world.run(&["plan"], &tagged.replace(role, "")).await;
    assert!(!plan.talk.contains("trust policy"), "{plan:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn apply_and_destroy_need_yes_without_a_terminal() {
    let world = World::new().await;
    for verb in ["apply", "destroy"] {
        let ended = world.run(&[verb], QUAY).await;
        assert_exit(&ended, 2);
        assert!(ended.talk.contains("stdin is not a terminal"), "{}", ended.talk);
        assert!(ended.talk.contains("`--yes`"), "{}", ended.talk);
    }
    assert_eq!(world.sandbox.journal(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_does_not_stop_the_others() {
    let world = World::new().await;
    let endpoint = format!("http://{}", world.sandbox.ecr_address());
    let foreign = "210987654321.dkr.ecr.us-east-1.amazonaws.com";
    // no AWS API answers at this path
    let second = format!(
        "[[destination]]\nregistry = \"{foreign}\"\nname = \"second\"\nendpoint_url = \"{endpoint}/nowhere\"\n"
    );
    let apply = world.run(&["apply", "--yes"], &format!("{second}{QUAY}")).await;
    assert_exit(&apply, 1);
    assert!(
        apply.talk.contains(&format!("cannot read the pull-through cache of {foreign}")),
        "{}",
        apply.talk
    );
    assert_eq!(world.rules().await, [pair("quay", "quay.io")]);
}

/// Applies the caches with delayed answers, and sends TERM after the first write.
async fn interrupt_after_first_write(latency: Duration, caches: &str) -> (World, Ended) {
    let world = World::slow(latency).await;
    let mut command = world.command(&["apply", "--yes"], caches);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the first write is answered", || !world.writes_since(0).is_empty()).await;
    signal(&child, "TERM");
    let output = tokio::task::spawn_blocking(move || child.wait_with_output()).await.unwrap();
    (world, World::ended(output.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_stops_apply_between_two_steps_and_the_next_run_completes_it() {
    let both = format!("{HUB}{QUAY}");
    let (mut latency, longest) = (Duration::from_millis(100), Duration::from_secs(2));
    let (world, ended) = loop {
        let (world, ended) = interrupt_after_first_write(latency, &both).await;
        // on a slow machine the signal arrives late: delay the answers more
        if world.writes_since(0).len() < 4 || latency > longest {
            break (world, ended);
        }
        latency *= 4;
    };
    assert_exit(&ended, 143);
    assert!(ended.talk.contains("created secret "), "{}", ended.talk);
    assert!(ended.talk.contains("not begun: + rule quay\n"), "{}", ended.talk);
    assert!(world.writes_since(0).len() < 4, "{:?}", world.writes_since(0));
    assert_exit(&world.run(&["apply", "--yes"], &both).await, 0);
    assert_exit(&world.run(&["plan", "--check"], &both).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_apply_is_completed_by_the_next_one() {
    let both = format!("{HUB}{QUAY}");
    let whole = World::slow(Duration::from_millis(10)).await;
    assert_exit(&whole.run(&["apply", "--yes"], &both).await, 0);
    let requests = whole.sandbox.journal().len();
    assert!(requests > 8, "{requests}");
    let both = &both;
    let killed = stream::iter((1..requests).step_by(3)).map(|n| async move {
        let world = World::slow(Duration::from_millis(10)).await;
        let mut command = world.command(&["apply", "--yes"], both);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the requests are answered, or the process ends", || {
            world.sandbox.journal().len() >= n || child.try_wait().unwrap().is_some()
        })
        .await;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_exit(&world.run(&["apply", "--yes"], both).await, 0);
        assert_exit(&world.run(&["plan", "--check"], both).await, 0);
        assert_eq!(world.rules().await.len(), 2, "killed after {n} requests");
    });
    killed.buffer_unordered(4).collect::<()>().await;
}
