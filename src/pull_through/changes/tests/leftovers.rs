//! Leftovers of earlier configurations, and resources that ecr-mirror did not make.

use super::*;
use crate::model::pull_through::TEMPLATE_DESCRIPTION;

fn granted(upstream: Upstream) -> Cache {
    let access = access(Some("o-abc"), &["111111111111"]);
    Cache { access, template: Some(full_template()), ..cache(upstream) }
}

fn of(caches: &[Cache], prune: bool) -> ChangesFixture {
    ChangesFixture { prune, ..ChangesFixture::of(caches) }
}

fn left(fixture: &ChangesFixture, observed: &Observed) -> Vec<Planned> {
    fixture.with(|desired| leftovers(desired, observed, &[]))
}

#[test]
fn a_removed_cache_is_left_over_and_only_prune_removes_it() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let (hub, quay) = (granted(Upstream::DockerHub), granted(Upstream::Quay));
        let start = || of(&[hub.clone(), quay.clone()], false).applied(scoped(scope));
        let rest = of(std::slice::from_ref(&quay), false);
        assert_eq!(lines(&rest.changes(&start())), [""; 0]);
        let found = left(&rest, &start());
        let kinds: Vec<Subject> = found.iter().map(|planned| planned.change.kind).collect();
        let all = [Subject::Rule, Subject::Template, Subject::RegistryPolicy, Subject::Secret];
        assert_eq!(kinds, all, "{:#?}", lines(&found));

        let pruned = of(std::slice::from_ref(&quay), true).applied(start());
        assert_eq!(pruned.rules.keys().collect::<Vec<_>>(), ["quay"]);
        assert_eq!(pruned.templates.keys().collect::<Vec<_>>(), ["quay"]);
        assert_eq!(pruned.created_secrets.len(), 0);
        let policy = pruned.registry_policy.as_ref().unwrap().to_string();
        assert!(!policy.contains("DockerHub") && policy.contains("EcrMirrorQuay"), "{policy}");
        assert_eq!(lines(&left(&rest, &pruned)), [""; 0]);
        assert_eq!(lines(&rest.changes(&pruned)), [""; 0]);
    }
}

#[test]
fn an_interrupted_prune_converges_from_every_step() {
    let hub = granted(Upstream::DockerHub);
    let renamed = Cache { prefix: "hub".parse().unwrap(), ..hub.clone() };
    let start = || of(std::slice::from_ref(&hub), false).applied(Observed::default());
    let fixture = of(&[renamed], true);
    let planned = fixture.changes(&start());
    for done in 0..=planned.len() {
        let end = fixture.applied(carried_out(start(), &planned[..done]));
        assert_eq!(lines(&fixture.changes(&end)), [""; 0], "after {done}");
        assert_eq!(end.rules.keys().collect::<Vec<_>>(), ["hub"]);
        assert_eq!(end.created_secrets.keys().collect::<Vec<_>>(), ["ecr-pullthroughcache/hub"]);
    }
}

#[test]
fn resources_of_others_are_never_left_over() {
    let quay = of(&[cache(Upstream::Quay)], true);
    let mut observed = Observed::default();
    // a statement with our id for another prefix, and one without a resource
    let [ours, ..] = statements::ids(&"docker-hub".parse().unwrap());
    let mut copied = theirs(&ours);
    copied["Resource"] = json!("arn:aws:ecr:eu-west-1:123456789012:repository/other/*");
    observed.registry_policy = Some(policy(vec![theirs(&ours), copied, theirs("EcrMirrorX")]));
    let mut template = blank("docker-hub");
    template.applied_for.insert("PULL_THROUGH_CACHE".to_owned());
    template.description = Some("not made by ecr-mirror".to_owned());
    observed.templates.insert("docker-hub".to_owned(), template);
    let credential_arn = Some(arn("ecr-pullthroughcache/docker-hub"));
    let rule =
        ObservedRule { prefix: "docker-hub".to_owned(), credential_arn, ..ObservedRule::default() };
    observed.rules.insert("docker-hub".to_owned(), rule);
    assert_eq!(lines(&left(&quay, &observed)), [""; 0]);
}

#[test]
fn only_our_part_of_a_shared_template_is_left_over() {
    let mut observed = of(&[granted(Upstream::DockerHub)], false).applied(Observed::default());
    let template = observed.templates.get_mut("docker-hub").unwrap();
    template.applied_for.insert("REPLICATION".to_owned());
    let quay = of(&[cache(Upstream::Quay)], true);
    let after = quay.applied(observed);
    let kept = &after.templates["docker-hub"];
    assert_eq!(kept.applied_for, BTreeSet::from(["REPLICATION".to_owned()]));
    assert!(!kept.policy.as_ref().unwrap().to_string().contains("EcrMirror"), "{kept:?}");

    // a template of others loses only our statements
    let mut observed = Observed::default();
    let mut template = blank("docker-hub");
    template.applied_for.insert("PULL_THROUGH_CACHE".to_owned());
    observed.templates.insert("docker-hub".to_owned(), template);
    let hub = Cache { template: None, ..granted(Upstream::DockerHub) };
    let granted = of(&[hub], false).applied(observed);
    let after = quay.applied(granted);
    assert_eq!(after.templates["docker-hub"].policy, None);
}

#[test]
fn the_template_of_a_cache_without_one_is_left_over() {
    let written = of(&[granted(Upstream::Quay)], false).applied(Observed::default());
    assert_eq!(written.templates["quay"].description.as_deref(), Some(TEMPLATE_DESCRIPTION));
    let bare = of(&[cache(Upstream::Quay)], false);
    let after = bare.applied(written);
    assert_eq!(lines(&left(&bare, &after)), ["- template quay"]);
}

#[test]
fn a_secret_that_another_rule_needs_is_a_conflict() {
    let hub = cache(Upstream::DockerHub);
    let mut observed = of(std::slice::from_ref(&hub), false).applied(Observed::default());
    let credential_arn = Some(arn("ecr-pullthroughcache/docker-hub"));
    let prefix = "theirs".to_owned();
    let rule = ObservedRule { prefix: prefix.clone(), credential_arn, ..ObservedRule::default() };
    observed.rules.insert(prefix, rule);
    let planned = left(&of(&[cache(Upstream::Quay)], false), &observed);
    let secret = "! secret ecr-pullthroughcache/docker-hub";
    assert_eq!(lines(&planned), ["- rule docker-hub", secret]);

    // a rule that gets another secret in the same run does not need it
    let theirs = UpstreamCredentials::Secret(arn("ecr-pullthroughcache/mine"));
    observed.rules.remove("theirs");
    let mine = secret_of("ecr-pullthroughcache/mine");
    observed.secrets.insert(arn("ecr-pullthroughcache/mine"), mine);
    let fixture = of(&[Cache { credentials: theirs, ..hub }], true);
    let planned = fixture.changes(&observed);
    assert!(planned.iter().all(|planned| planned.step.is_some()), "{:#?}", lines(&planned));
    assert_eq!(lines(&planned)[1], "- secret ecr-pullthroughcache/docker-hub");
}

fn secret_of(name: &str) -> Secret {
    super::secret(name, "user", "token")
}
