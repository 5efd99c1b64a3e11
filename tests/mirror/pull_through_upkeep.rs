//! Tests the upkeep of the pull-through cache: plans when AWS cannot be asked, leftovers of earlier
//! configurations, repositories that the cache created, and the settings of secrets.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use ecr_mirror::sandbox::Sandbox;
use serde_json::{Value, json};

use super::{
    process::run,
    pull_through::{HUB, QUAY, World, assert_exit, pair},
    world::{self, ECR},
};

const HUB_SECRET: &str = "ecr-pullthroughcache/docker-hub";

fn secrets(world: &World) -> aws_sdk_secretsmanager::Client {
    world::secrets(&world.sandbox)
}

fn fault(sandbox: &Sandbox, fault: &str) {
    sandbox.faults().add(fault.parse().unwrap());
}

/// The names of the secrets that are not deleted.
async fn secret_names(world: &World) -> Vec<String> {
    let listed = secrets(world).list_secrets().send().await.unwrap();
    listed.secret_list().iter().map(|it| it.name().unwrap().to_owned()).collect()
}

/// The ids of the statements of the registry's policy.
async fn statement_ids(world: &World) -> Vec<String> {
    let policy = world.ecr.get_registry_policy().send().await.unwrap();
    let policy: Value = serde_json::from_str(policy.policy_text().unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    statements.iter().map(|it| it["Sid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_cannot_ask_aws_prints_the_error_and_never_no_change() {
    let world = World::new().await;
    assert_exit(&world.run(&["apply", "--yes"], QUAY).await, 0);
    fault(&world.sandbox, "deny=DescribePullThroughCacheRules");
    for (verb, status) in [
        (&["plan"][..], 1),
        (&["plan", "--check"], 2),
        (&["apply", "--yes"], 1),
        (&["destroy", "--yes"], 1),
    ] {
        let ended = world.run(verb, QUAY).await;
        assert_exit(&ended, status);
        assert_eq!(ended.out, "", "{verb:?}");
        assert!(ended.talk.contains("cannot read the pull-through cache of "), "{}", ended.talk);
        let ended = world.run(&[verb, &["--json"]].concat(), QUAY).await;
        assert_exit(&ended, status);
        let document: Value = serde_json::from_str(&ended.out).unwrap();
        let error = document["error"].as_str().unwrap();
        assert!(error.contains("DescribePullThroughCacheRules"), "{error}");
        assert_eq!(document.get("changes"), None, "{verb:?}");
    }
    world.sandbox.faults().clear();
    assert_exit(&world.run(&["plan", "--check"], QUAY).await, 0);
    assert_exit(&world.run(&["plan", "--check"], HUB).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_does_not_assume_the_scope_of_the_registry_policy() {
    let world = World::new().await;
    fault(&world.sandbox, "deny=GetAccountSetting");
    let plan = world.run(&["plan", "--check"], HUB).await;
    assert_exit(&plan, 2);
    assert!(plan.talk.contains("REGISTRY_POLICY_SCOPE"), "{}", plan.talk);
    // without access the scope has no effect
    assert_exit(&world.run(&["plan", "--check"], QUAY).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn account_settings_are_planned_and_applied_with_the_cache() {
    let world = World::new().await;
    let config = format!("[destination.account]\nblob_mounting = true\n{QUAY}");
    let plan = world.run(&["plan"], &config).await;
    let line = format!("~ account 123456789012 of {ECR} (blob_mounting: false → true)");
    assert!(plan.out.starts_with(&line), "{}", plan.out);
    let apply = world.run(&["apply", "--yes"], &config).await;
    assert_exit(&apply, 0);
    assert_eq!(world.writes_since(0)[0], "PutAccountSetting");
    assert_exit(&world.run(&["plan", "--check"], &config).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_are_listed_and_only_prune_removes_them() {
    let world = World::new().await;
    assert_exit(&world.run(&["apply", "--yes"], &format!("{HUB}{QUAY}")).await, 0);
    let theirs = secrets(&world).create_secret().name("ecr-pullthroughcache/theirs");
    theirs.secret_string("{}").send().await.unwrap();
    let policy = world.ecr.get_registry_policy().send().await.unwrap();
    let mut policy: Value = serde_json::from_str(policy.policy_text().unwrap()).unwrap();
    policy["Statement"].as_array_mut().unwrap().push(json!({
        "Sid": "Theirs", "Effect": "Allow", "Principal": "*", "Action": ["ecr:ReplicateImage"],
        "Resource": "arn:aws:ecr:us-east-1:123456789012:repository/*",
    }));
    world.ecr.put_registry_policy().policy_text(policy.to_string()).send().await.unwrap();

    let plan = world.run(&["plan", "--check"], QUAY).await;
    assert_exit(&plan, 0);
    let named = [
        "- rule docker-hub of ",
        "- template docker-hub of ",
        "~ registry policy 123456789012 of ",
        "- secret ecr-pullthroughcache/docker-hub of ",
    ];
    for line in named {
        assert!(plan.out.contains(&format!("\n{line}")), "{line}: {}", plan.out);
    }
    assert!(plan.out.starts_with("no change\n") && !plan.out.contains("theirs"), "{}", plan.out);
    let status = world.run(&["status"], QUAY).await;
    assert!(status.out.contains("left over") && status.out.contains(HUB_SECRET), "{}", status.out);
    let status = world.run(&["status", "--json"], QUAY).await;
    let status: Value = serde_json::from_str(&status.out).unwrap();
    assert_eq!(status["leftovers"].as_array().unwrap().len(), 4, "{status:#}");

    let before = world.sandbox.journal().len();
    assert_exit(&world.run(&["apply", "--yes"], QUAY).await, 0);
    assert_eq!(world.writes_since(before), [""; 0]);
    assert_exit(&world.run(&["plan", "--check", "--prune"], QUAY).await, 1);
    assert_exit(&world.run(&["apply", "--yes", "--prune"], QUAY).await, 0);
    assert_eq!(world.rules().await, [pair("quay", "quay.io")]);
    assert_eq!(secret_names(&world).await, ["ecr-pullthroughcache/theirs"]);
    assert_eq!(statement_ids(&world).await, ["Theirs"]);
    let templates = world.ecr.describe_repository_creation_templates().send().await.unwrap();
    assert_eq!(templates.repository_creation_templates(), []);
    let again = world.run(&["plan", "--check", "--prune"], QUAY).await;
    assert_exit(&again, 0);
    assert_eq!(again.out, "no change\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caches_of_other_destinations_of_the_registry_are_not_left_over() {
    let world = World::new().await;
    let at = |name: &str, caches: &str| {
        let upstream = "[[pull_through]]\n";
        caches.replace(upstream, &format!("{upstream}destinations = [\"{name}\"]\n"))
    };
    let config = format!(
        "name = \"a\"\nprefix = \"ma\"\n[[destination]]\nname = \"b\"\nprefix = \"mb\"\n\
         registry = \"{ECR}\"\nendpoint_url = \"http://{}\"\n{}{}",
        world.sandbox.ecr_address(),
        at("a", HUB),
        at("b", QUAY)
    );
    assert_exit(&world.run(&["apply", "--yes"], &config).await, 0);
    let before = world.sandbox.journal().len();
    let plan = world.run(&["plan", "--destination", "b"], &config).await;
    assert_eq!(plan.out, "no change\n");
    for verb in ["status", "validate"] {
        let listed = world.run(&[verb, "--destination", "b"], &config).await;
        assert!(listed.out.contains("quay"), "{}", listed.out);
        assert!(!listed.out.contains("docker-hub"), "{verb}: {}", listed.out);
    }
    for verb in [&["plan"][..], &["apply", "--yes"]] {
        let part = [verb, &["--prune", "--destination", "b"]].concat();
        let refused = world.run(&part, &config).await;
        assert_exit(&refused, 2);
        assert!(refused.talk.contains("remove `--destination`"), "{}", refused.talk);
        assert_exit(&world.run(&[verb, &["--prune"]].concat(), &config).await, 0);
    }
    assert_eq!(world.writes_since(before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exclusion_from_pull_times_is_left_to_sync() {
    let world = World::new().await;
    let config = format!("[destination.account]\npull_time_exclusion = true\n{QUAY}");
    assert_exit(&world.run(&["apply", "--yes"], &config).await, 0);
    assert_eq!(world.writes_since(0), ["CreatePullThroughCacheRule"]);
    assert_exit(&world.run(&["plan", "--check"], &config).await, 0);
    let directory = world.directory.path().to_owned();
    let policy = tokio::task::spawn_blocking(move || run(&directory, &["iam", "pull-through"]));
    let policy = policy.await.unwrap().out;
    assert!(!policy.contains("PullTimeUpdateExclusion"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_of_the_cache_are_brought_to_the_template_with_reconcile() {
    let world = World::new().await;
    let template = |reconcile: bool| {
        format!(
            "{QUAY}[pull_through.template]\nlifecycle = {{ expire_after_days = 30 }}\n\
             reconcile = {reconcile}\ndescription = \"images of the team\"\n\
             [pull_through.access]\nroles = [\"arn:aws:iam::210987654321:role/node\"]\n\
             organizational_units = [\"o-a1b2c3/r-ab12/ou-ab12-11111111\"]\n"
        )
    };
    // with this scope the repositories' own policies grant pulls
    let scope = world.ecr.put_account_setting().name("REGISTRY_POLICY_SCOPE").value("V1");
    scope.send().await.unwrap();
    for name in ["quay/team/app", "quayside/other"] {
        world.ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    assert_exit(&world.run(&["apply", "--yes"], &template(false)).await, 0);
    let made = world.ecr.describe_repository_creation_templates().send().await.unwrap();
    let made = &made.repository_creation_templates()[0];
    assert_eq!(made.description(), Some("images of the team"));
    assert_exit(&world.run(&["plan", "--check"], &template(false)).await, 0);

    let plan = world.run(&["plan"], &template(true)).await;
    let line = format!("~ repository {ECR}/quay/team/app");
    assert!(plan.out.starts_with(&line), "{}", plan.out);
    assert!(!plan.out.contains("quayside"), "{}", plan.out);
    assert_exit(&world.run(&["apply", "--yes"], &template(true)).await, 0);
    let lifecycle = world.ecr.get_lifecycle_policy().repository_name("quay/team/app").send().await;
    assert!(lifecycle.unwrap().lifecycle_policy_text().unwrap().contains("sinceImagePushed"));
    let policy = world.ecr.get_repository_policy().repository_name("quay/team/app").send().await;
    let policy = policy.unwrap().policy_text().unwrap().to_owned();
    for part in ["role/node", "aws:PrincipalOrgPaths", "o-a1b2c3/r-ab12/ou-ab12-11111111/*"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_exit(&world.run(&["plan", "--check"], &template(true)).await, 0);

    // access that is removed from the file is revoked there, too
    let without = template(true).split("[pull_through.access]").next().unwrap().to_owned();
    assert_exit(&world.run(&["apply", "--yes"], &without).await, 0);
    let policy = world.ecr.get_repository_policy().repository_name("quay/team/app").send().await;
    policy.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn destroy_deletes_cached_repositories_on_request_and_images_only_with_force() {
    let world = World::new().await;
    world.ecr.create_repository().repository_name("quay/before").send().await.unwrap();
    assert_exit(&world.run(&["apply", "--yes"], QUAY).await, 0);
    for name in ["quay/a/empty", "mirror/other"] {
        world.ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    let tag = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v3.5.17").build();
    let pulled = world.ecr.batch_get_image().repository_name("quay/coreos/etcd").image_ids(tag);
    assert_eq!(pulled.send().await.unwrap().images().len(), 1);
    let names = async || {
        let all = world.ecr.describe_repositories().send().await.unwrap();
        all.repositories()
            .iter()
            .map(|it| it.repository_name().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    let root = "[[pull_through]]\nupstream = \"quay\"\nprefix = \"ROOT\"\n";
    assert_exit(&world.run(&["destroy", "--yes", "--repositories"], root).await, 2);
    let destroy = world.run(&["destroy", "--yes", "--repositories"], QUAY).await;
    assert_exit(&destroy, 1);
    assert!(destroy.out.contains(&format!("- repository {ECR}/quay/a/empty\n")), "{}", destroy.out);
    let conflict =
        format!("! repository {ECR}/quay/coreos/etcd\n    hint: it has images: use `--force`");
    assert!(destroy.out.contains(&conflict), "{}", destroy.out);
    let older = format!("! repository {ECR}/quay/before\n    hint: it is older than the rule");
    assert!(destroy.out.contains(&older), "{}", destroy.out);
    let kept = ["mirror/other", "quay/before", "quay/coreos/etcd"];
    assert_eq!(names().await, kept);

    // without the rule nothing shows that the cache created them
    let all = ["destroy", "--yes", "--repositories", "--force"];
    let destroy = world.run(&all, QUAY).await;
    assert_exit(&destroy, 1);
    assert!(destroy.out.contains("hint: no rule has this prefix"), "{}", destroy.out);
    assert_eq!(names().await, kept);

    let own = format!("{QUAY}prefix = \"own\"\n");
    assert_exit(&world.run(&["apply", "--yes"], &own).await, 0);
    let tag = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v3.5.17").build();
    let pulled = world.ecr.batch_get_image().repository_name("own/coreos/etcd").image_ids(tag);
    assert_eq!(pulled.send().await.unwrap().images().len(), 1);
    let destroy = world.run(&all, &own).await;
    assert_exit(&destroy, 0);
    assert_eq!(names().await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_found_by_name_and_not_used_under_a_customer_managed_key() {
    let world = World::new().await;
    let name = "ecr-pullthroughcache/team/hub";
    let config = format!("[[pull_through]]\nupstream = \"docker-hub\"\nsecret_arn = \"{name}\"\n");
    let login = r#"{"username":"u","accessToken":"t"}"#;
    let key = "arn:aws:kms:us-east-1:123456789012:key/1";
    let client = secrets(&world);
    let made = client.create_secret().name(name).secret_string(login).kms_key_id(key);
    let made = made.send().await.unwrap();
    let plan = world.run(&["plan"], &config).await;
    for line in [format!("! secret {name} of {ECR}\n"), format!("kms_key: {key} → alias/")] {
        assert!(plan.out.contains(&line), "{line}: {}", plan.out);
    }
    assert!(plan.out.contains("! rule docker-hub of "), "{}", plan.out);
    let update = client.update_secret().secret_id(name).kms_key_id("alias/aws/secretsmanager");
    update.send().await.unwrap();
    assert_exit(&world.run(&["apply", "--yes"], &config).await, 0);
    let rules = world.ecr.describe_pull_through_cache_rules().send().await.unwrap();
    assert_eq!(rules.pull_through_cache_rules()[0].credential_arn(), made.arn());
    assert_exit(&world.run(&["plan", "--check"], &config).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gets_its_description_policy_and_recovery_window() {
    let world = World::new().await;
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Principal": "*", "Action": "secretsmanager:PutSecretValue", "Resource": "*",
    }] });
    std::fs::write(world.directory.path().join("secret.json"), policy.to_string()).unwrap();
    let credentials = "credentials = { username = \"someone\", access_token = \"${HUB_TOKEN}\" }";
    let with = |description: &str| {
        let secret = format!(
            "secret = {{ description = \"{description}\", recovery_window_days = 7, policy_file = \"secret.json\" }}"
        );
        HUB.replace(credentials, &format!("{credentials}\n{secret}"))
    };
    let client = secrets(&world);
    let described = async || client.describe_secret().secret_id(HUB_SECRET).send().await.unwrap();
    for description in ["of the team", "of another team"] {
        assert_exit(&world.run(&["apply", "--yes"], &with(description)).await, 0);
        assert_eq!(described().await.description(), Some(description));
        assert_exit(&world.run(&["plan", "--check"], &with(description)).await, 0);
    }
    let put = client.get_resource_policy().secret_id(HUB_SECRET).send().await.unwrap();
    let put: Value = serde_json::from_str(put.resource_policy().unwrap()).unwrap();
    assert_eq!(put, policy);
    assert_exit(&world.run(&["destroy", "--yes"], &with("of another team")).await, 0);
    let until = SystemTime::try_from(*described().await.deleted_date().unwrap()).unwrap();
    let days = until.duration_since(SystemTime::now()).unwrap();
    assert!(days <= Duration::from_secs(7 * 86_400), "{days:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_iam_policy_allows_pruning_reconciling_and_deleting_repositories() {
    let world = World::new().await;
    assert_exit(&world.run(&["apply", "--yes"], &format!("{HUB}{QUAY}")).await, 0);
    world.ecr.create_repository().repository_name("quay/a/b").send().await.unwrap();
    let config = format!(
        "[destination.account]\nblob_mounting = true\n{QUAY}[pull_through.template]\n\
         lifecycle = {{ expire_after_days = 30 }}\npolicy = {{ accounts = [\"210987654321\"] }}\n\
         reconcile = true\n"
    );
    let before = world.sandbox.journal().len();
    for verb in [
        &["plan"][..],
        &["status"],
        &["apply", "--yes", "--prune"],
        &["destroy", "--yes", "--repositories"],
    ] {
        world.run(verb, &config).await;
    }
    let called: BTreeSet<String> = (world.sandbox.journal().split_off(before).into_iter())
        .filter_map(|entry| entry.operation)
        .collect();
    let directory = world.directory.path().to_owned();
    let policy = tokio::task::spawn_blocking(move || run(&directory, &["iam", "pull-through"]));
    let policy = policy.await.unwrap().out;
    for action in ["DeleteSecret", "PutLifecyclePolicy", "DeleteRepository", "PutAccountSetting"] {
        assert!(called.contains(action), "{action}: {called:?}");
    }
    for action in &called {
        assert!(policy.contains(&format!(":{action}\"")), "{action} is not in\n{policy}");
    }
}
