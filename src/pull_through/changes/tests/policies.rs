//! Policies: grants, and the statements of others.

use super::*;

fn docker_hub(access: Option<Access>) -> Cache {
    Cache { access, ..cache(Upstream::DockerHub) }
}

fn both() -> Option<Access> {
    access(Some("o-abc"), &["111111111111"])
}

const BELOW: &str = "arn:aws:ecr:eu-west-1:123456789012:repository/docker-hub/*";

fn statement(id: &str, principal: Value, actions: Value) -> Value {
    json!({ "Sid": id, "Effect": "Allow", "Principal": principal, "Action": actions })
}

#[test]
fn access_is_granted_by_both_policies_or_by_the_registry_policy_alone() {
    let [organization, accounts, ..] = statements::ids(&"docker-hub".parse().unwrap());
    let roots = json!({ "AWS": ["arn:aws:iam::111111111111:root"] });
    let grants = |actions: Value, resource: Option<&str>| {
        let condition = json!({ "StringEquals": { "aws:PrincipalOrgID": "o-abc" } });
        let mut members = statement(&organization, json!("*"), actions.clone());
        let mut others = statement(&accounts, roots.clone(), actions);
        for statement in [&mut members, &mut others] {
            if let Some(resource) = resource {
                statement["Resource"] = json!(resource);
            }
        }
        members["Condition"] = condition;
        policy(vec![members, others])
    };
    let import = json!(["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"]);
    let pull = json!([
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetDownloadUrlForLayer"
    ]);
    let all = json!([
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:BatchImportUpstreamImage",
        "ecr:CreateRepository",
        "ecr:GetDownloadUrlForLayer",
    ]);
    for (scope, of_registry, of_template) in [
        (PolicyScope::Importing, grants(import, Some(BELOW)), Some(grants(pull, None))),
        (PolicyScope::Everything, grants(all, Some(BELOW)), None),
    ] {
        let planned = ChangesFixture::of([docker_hub(both())]).changes(&scoped(scope));
        let (mut registrys, mut templates) = (None, None);
        for step in planned.iter().filter_map(|planned| planned.step.as_ref()) {
            match step {
                CacheStep::PutRegistryPolicy(policy) => registrys = Some(policy.clone()),
                CacheStep::CreateTemplate(template) => templates.clone_from(&template.policy),
                _ => {}
            }
        }
        assert_eq!((registrys, templates), (Some(of_registry), of_template));
    }
}

#[test]
fn no_repository_policy_grants_create_repository() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let cache = Cache { template: Some(full_template()), ..docker_hub(both()) };
        let observed = ChangesFixture::of([cache]).applied(scoped(scope));
        let policy = observed.templates["docker-hub"].policy.as_ref().unwrap().to_string();
        assert!(policy.contains("Written") && !policy.contains("CreateRepository"), "{policy}");
        assert!(observed.registry_policy.unwrap().to_string().contains("ecr:CreateRepository"));
    }
}

#[test]
fn the_first_puller_may_tag_if_the_template_sets_tags() {
    let cache = Cache { template: Some(full_template()), ..docker_hub(both()) };
    for (scope, granted, told) in
        [(PolicyScope::Importing, false, true), (PolicyScope::Everything, true, false)]
    {
        let planned = ChangesFixture::of([cache.clone()]).changes(&scoped(scope));
        let last = planned.last().unwrap();
        let Some(CacheStep::PutRegistryPolicy(policy)) = &last.step else { panic!("{last:?}") };
        assert_eq!(policy.to_string().contains("ecr:TagResource"), granted);
        let hint = last.change.hint.as_deref();
        assert_eq!(hint.is_some_and(|hint| hint.contains("ecr:TagResource")), told, "{hint:?}");
    }
}

#[test]
fn access_to_a_cache_of_the_whole_registry_has_a_hint() {
    for (prefix, told) in [("ROOT", true), ("docker-hub", false)] {
        let cache = Cache { prefix: prefix.parse().unwrap(), ..docker_hub(both()) };
        let planned = ChangesFixture::of([cache]).changes(&scoped(PolicyScope::Everything));
        let hint = planned.last().unwrap().change.hint.as_deref();
        assert_eq!(hint.is_some_and(|hint| hint.contains("every repository")), told, "{hint:?}");
    }
}

#[test]
fn each_different_statement_is_a_field_and_those_of_others_stay() {
    let fixture = ChangesFixture::of([docker_hub(both())]);
    let [organization, accounts, ..] = statements::ids(&"docker-hub".parse().unwrap());
    let old = statement(&accounts, json!("*"), json!("ecr:*"));
    let odd =
        json!({ "Effect": "Deny", "Action": ["b", "a"], "Principal": "*", "NotResource": [] });
    let there = json!({ "Version": "2008-10-17", "Id": "x", "Statement": [theirs("A"), old, odd] });
    let observed = || Observed { registry_policy: Some(there.clone()), ..Observed::default() };
    let planned = fixture.changes(&observed());
    let change = &planned.last().unwrap().change;
    assert_eq!((change.action, &*change.name), (Action::Update, "123456789012"));
    let names: Vec<&str> = change.fields.iter().map(|field| &*field.name).collect();
    assert_eq!(names, [&accounts, &organization]);
    assert_eq!((&change.fields[0].old, &change.fields[1].old), (&old, &Value::Null));
    let Some(CacheStep::PutRegistryPolicy(put)) = &planned.last().unwrap().step else { panic!() };
    let statements = put["Statement"].as_array().unwrap();
    assert_eq!((&put["Version"], &put["Id"]), (&json!("2008-10-17"), &json!("x")));
    assert_eq!((&statements[0], &statements[2]), (&theirs("A"), &odd));
    assert_eq!(statements[2].to_string(), odd.to_string());
    assert_eq!(
        (&statements[1]["Sid"], &statements[3]["Sid"]),
        (&json!(accounts), &json!(organization))
    );
}

#[test]
fn access_that_is_no_longer_configured_is_revoked_and_an_empty_policy_is_deleted() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let granted = || ChangesFixture::of([docker_hub(both())]).applied(scoped(scope));
        let without = ChangesFixture::of([docker_hub(None)]);
        let after = without.applied(granted());
        assert_eq!(after.registry_policy, None);
        assert!(after.templates.values().all(|template| template.policy.is_none()));
        let deleted = without.changes(&granted());
        assert_eq!(deleted.last().unwrap().change.action, Action::Delete);

        let mut shared = granted();
        shared.registry_policy.as_mut().unwrap()["Statement"]
            .as_array_mut()
            .unwrap()
            .push(theirs("A"));
        let left = without.applied(shared).registry_policy.unwrap();
        assert_eq!(left["Statement"], json!([worded(&theirs("A"))]));
    }
}

#[test]
fn a_configured_policy_replaces_the_existing_one_and_has_our_statements() {
    let cache = Cache { template: Some(full_template()), ..docker_hub(both()) };
    let mut observed = scoped(PolicyScope::Importing);
    let mut template = blank("docker-hub");
    template.policy = Some(policy(vec![theirs("Old")]));
    observed.templates.insert("docker-hub".to_owned(), template);
    let after = ChangesFixture::of([cache]).applied(observed);
    let policy = after.templates["docker-hub"].policy.as_ref().unwrap();
    let ids: Vec<_> = policy["Statement"].as_array().unwrap().iter().map(|it| &it["Sid"]).collect();
    let [organization, accounts, ..] = statements::ids(&"docker-hub".parse().unwrap());
    assert_eq!(ids, [&json!("Written"), &json!(organization), &json!(accounts)]);
}

#[test]
fn a_policy_that_is_not_configured_keeps_its_statements() {
    let mut observed = scoped(PolicyScope::Importing);
    let mut template = blank("docker-hub");
    template.policy = Some(policy(vec![theirs("Old")]));
    observed.templates.insert("docker-hub".to_owned(), template);
    let granted = ChangesFixture::of([docker_hub(both())]).applied(observed);
    let statements = |observed: &Observed| {
        observed.templates["docker-hub"].policy.clone().unwrap()["Statement"].clone()
    };
    assert_eq!(statements(&granted).as_array().unwrap().len(), 3);
    let revoked = ChangesFixture::of([docker_hub(None)]).applied(granted);
    assert_eq!(statements(&revoked), json!([worded(&worded(&theirs("Old")))]));
}

#[test]
fn a_policy_over_the_limit_is_a_conflict_with_a_hint() {
    let accounts: Vec<String> = (0..400).map(|at| format!("{at:012}")).collect();
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    for (scope, conflicts) in [(PolicyScope::Importing, 2), (PolicyScope::Everything, 1)] {
        let planned =
            ChangesFixture::of([docker_hub(access(None, &accounts))]).changes(&scoped(scope));
        let found: Vec<_> =
            planned.iter().filter(|it| it.change.action == Action::Conflict).collect();
        assert_eq!(found.len(), conflicts);
        for conflict in found {
            assert!(conflict.step.is_none());
            let hint = conflict.change.hint.as_deref().unwrap();
            assert!(hint.contains("10240 characters") && hint.contains("`organization`"), "{hint}");
        }
        assert!(lines(&planned).iter().any(|line| line.starts_with("+ rule docker-hub")));
    }
}

#[test]
fn statement_ids_are_alphanumeric_and_distinct_for_each_prefix() {
    let mut known = BTreeSet::new();
    for prefix in
        ["docker-hub", "docker/hub", "dockerhub", "docker.hub", "ROOT", "root", "a--b", "1_2"]
    {
        for id in statements::ids(&prefix.parse().unwrap()) {
            assert!(id.bytes().all(|b| b.is_ascii_alphanumeric()), "{id}");
            assert!(id.starts_with("EcrMirror"), "{id}");
            assert!(known.insert(id));
        }
    }
    let [organization, accounts, ..] = statements::ids(&"docker-hub".parse().unwrap());
    assert_eq!(organization, "EcrMirrorDockerHubf08745Organization");
    assert_eq!(accounts, "EcrMirrorDockerHubf08745Accounts");
}
