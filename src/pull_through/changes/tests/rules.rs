//! Rules: made, updated, replaced where that is asked for, and never more than fit.

use super::*;

fn rule(prefix: &str, url: &str) -> (String, ObservedRule) {
    let upstream_prefix = "ROOT".to_owned();
    let (prefix, url) = (prefix.to_owned(), url.to_owned());
    (prefix.clone(), ObservedRule { prefix, url, upstream_prefix, ..ObservedRule::default() })
}

/// A registry in which others have this many rules.
fn crowded(rules: usize) -> Observed {
    let rules = (0..rules).map(|at| rule(&format!("theirs-{at}"), "ghcr.io")).collect();
    Observed { rules, ..Observed::default() }
}

#[test]
fn a_rule_is_made_with_what_is_known_of_its_secret() {
    let world = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let name = "ecr-pullthroughcache/docker-hub";
    let mut observed = Observed::default();
    let made = "+ rule docker-hub (url: registry-1.docker.io, credential_arn: ";
    assert_eq!(lines(&world.changes(&observed))[1], format!("{made}(known after apply))"));
    observed.secrets.insert(name.to_owned(), secret(name, "user", "token"));
    assert_eq!(lines(&world.changes(&observed)), [format!("{made}{})", arn(name))]);
}

#[test]
fn a_secret_that_is_made_anew_is_given_to_the_rule_that_is_there() {
    let world = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let mut observed = world.applied(Observed::default());
    observed.secrets.clear();
    observed.rules.get_mut("docker-hub").unwrap().credential_arn = Some("old".to_owned());
    let expected = "~ rule docker-hub (credential_arn: old → (known after apply))";
    assert_eq!(lines(&world.changes(&observed))[1..], [expected]);
}

#[test]
fn a_rule_of_another_upstream_is_a_conflict_unless_it_may_be_replaced() {
    let observed =
        || Observed { rules: BTreeMap::from([rule("quay", "ghcr.io")]), ..Observed::default() };
    let mut world = ChangesFixture::of([Cache {
        template: Some(Wish::default()),
        access: access(Some("o-abc"), &[]),
        ..cache(Upstream::Quay)
    }]);
    let planned = world.changes(&observed());
    assert_eq!(lines(&planned)[0], "! rule quay (url: ghcr.io → quay.io)");
    assert!(hints(&planned)[0].contains("`--replace`"));
    // what would be for the rule of somebody else waits with it
    assert_eq!(planned.len(), 3);
    assert!(planned.iter().all(|it| it.step.is_none() && it.change.action == Action::Conflict));

    world.replace = Replace::Differing;
    let planned = world.changes(&observed());
    assert_eq!(lines(&planned)[0], "-/+ rule quay (url: ghcr.io → quay.io)");
    let after = carried_out(observed(), &planned);
    assert_eq!(after.rules["quay"].url, "quay.io");
    assert!(world.changes(&after).is_empty());
}

#[test]
fn access_is_taken_back_even_where_none_can_be_given() {
    let quay = |access| ChangesFixture::of([Cache { access, ..cache(Upstream::Quay) }]);
    let both = access(Some("o-abc"), &["111111111111"]);
    let granted = || {
        let mut observed = quay(both.clone()).applied(scoped(PolicyScope::Everything));
        observed.rules.get_mut("quay").unwrap().url = "ghcr.io".to_owned();
        observed
    };
    let [organization, accounts] = statements::ids(&"quay".parse().unwrap());
    for (written, left) in [
        (both.clone(), &[&organization, &accounts][..]),
        (access(Some("o-abc"), &[]), &[&organization]),
        (access(Some("o-another"), &[]), &[&organization]),
        (None, &[]),
    ] {
        let after = quay(written).applied(granted());
        let policy = after.registry_policy.unwrap_or_default();
        let statements = policy["Statement"].as_array().into_iter().flatten();
        let ids: Vec<&str> = statements.map(|it| it["Sid"].as_str().unwrap()).collect();
        assert_eq!(ids, left);
        assert!(!policy.to_string().contains("o-another"), "{policy}");
    }
}

#[test]
fn what_does_not_fit_into_the_registry_is_said_and_not_tried() {
    let world = ChangesFixture::of([
        cache(Upstream::Quay),
        cache(Upstream::K8s),
        cache(Upstream::EcrPublic),
    ]);
    let mut observed = crowded(48);
    observed.rules.extend([rule("k8s", "registry.k8s.io")]);
    let planned = world.changes(&observed);
    let expected = ["+ rule quay (url: quay.io)", "! rule ecr-public (url: none → public.ecr.aws)"];
    assert_eq!(lines(&planned), expected);
    assert!(hints(&planned)[0].starts_with("a registry has at most 50 rules"));
    assert_eq!(carried_out(observed, &planned).rules.len(), 50);
}

#[test]
fn a_rule_that_waits_for_its_secret_takes_no_place_of_another() {
    let theirs = UpstreamCredentials::Secret(arn("ecr-pullthroughcache/gone"));
    let waits = Cache { credentials: theirs, ..cache(Upstream::DockerHub) };
    let world = ChangesFixture::of([waits, cache(Upstream::Quay)]);
    let planned = world.changes(&crowded(49));
    assert_eq!(lines(&planned).last().unwrap(), "+ rule quay (url: quay.io)");
}
