//! Rules: created, updated, replaced on request, within the quota.

use super::*;

fn rule(prefix: &str, url: &str) -> (String, ObservedRule) {
    let upstream_prefix = "ROOT".to_owned();
    let (prefix, url) = (prefix.to_owned(), url.to_owned());
    (prefix.clone(), ObservedRule { prefix, url, upstream_prefix, ..ObservedRule::default() })
}

/// A registry with this many rules of others.
fn crowded(rules: usize) -> Observed {
    let rules = (0..rules).map(|at| rule(&format!("theirs-{at}"), "ghcr.io")).collect();
    Observed { rules, ..Observed::default() }
}

#[test]
fn a_new_rule_has_the_arn_of_its_secret_if_that_exists() {
    let fixture = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let name = "ecr-pullthroughcache/docker-hub";
    let mut observed = Observed::default();
    let made = "+ rule docker-hub (url: registry-1.docker.io, credential_arn: ";
    assert_eq!(lines(&fixture.changes(&observed))[1], format!("{made}(known after apply))"));
    observed.secrets.insert(name.to_owned(), secret(name, "user", "token"));
    assert_eq!(lines(&fixture.changes(&observed)), [format!("{made}{})", arn(name))]);
}

#[test]
fn an_existing_rule_gets_the_arn_of_a_recreated_secret() {
    let fixture = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let mut observed = fixture.applied(Observed::default());
    observed.secrets.clear();
    observed.rules.get_mut("docker-hub").unwrap().credential_arn = Some("old".to_owned());
    let expected = "~ rule docker-hub (credential_arn: old → (known after apply))";
    assert_eq!(lines(&fixture.changes(&observed))[1..], [expected]);
}

#[test]
fn a_rule_of_another_upstream_is_a_conflict_unless_replacing_is_allowed() {
    let observed =
        || Observed { rules: BTreeMap::from([rule("quay", "ghcr.io")]), ..Observed::default() };
    let mut fixture = ChangesFixture::of([Cache {
        template: Some(TemplateSettings::default()),
        access: access(Some("o-abc"), &[]),
        ..cache(Upstream::Quay)
    }]);
    let planned = fixture.changes(&observed());
    assert_eq!(lines(&planned)[0], "! rule quay (url: ghcr.io → quay.io)");
    assert!(hints(&planned)[0].contains("`--replace`"));
    // its template and access conflict, too
    assert_eq!(planned.len(), 3);
    assert!(planned.iter().all(|it| it.step.is_none() && it.change.action == Action::Conflict));

    fixture.replace = Replace::Differing;
    let planned = fixture.changes(&observed());
    assert_eq!(lines(&planned)[0], "-/+ rule quay (url: ghcr.io → quay.io)");
    let after = carried_out(observed(), &planned);
    assert_eq!(after.rules["quay"].url, "quay.io");
    assert!(fixture.changes(&after).is_empty());
}

#[test]
fn access_is_revoked_even_below_a_rule_of_another_upstream() {
    let quay = |access| ChangesFixture::of([Cache { access, ..cache(Upstream::Quay) }]);
    let both = access(Some("o-abc"), &["111111111111"]);
    let granted = || {
        let mut observed = quay(both.clone()).applied(scoped(PolicyScope::Everything));
        observed.rules.get_mut("quay").unwrap().url = "ghcr.io".to_owned();
        observed
    };
    let [organization, accounts, ..] = statements::ids(&"quay".parse().unwrap());
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
fn rules_over_the_quota_are_conflicts() {
    let fixture = ChangesFixture::of([
        cache(Upstream::Quay),
        cache(Upstream::K8s),
        cache(Upstream::EcrPublic),
    ]);
    let mut observed = crowded(48);
    observed.rules.extend([rule("k8s", "registry.k8s.io")]);
    let planned = fixture.changes(&observed);
    let expected = ["+ rule quay (url: quay.io)", "! rule ecr-public (url: none → public.ecr.aws)"];
    assert_eq!(lines(&planned), expected);
    assert!(hints(&planned)[0].starts_with("a registry has at most 50 rules"));
    assert_eq!(carried_out(observed, &planned).rules.len(), 50);
}

#[test]
fn a_rule_without_a_usable_secret_does_not_count_against_the_quota() {
    let theirs = UpstreamCredentials::Secret(arn("ecr-pullthroughcache/gone"));
    let waits = Cache { credentials: theirs, ..cache(Upstream::DockerHub) };
    let fixture = ChangesFixture::of([waits, cache(Upstream::Quay)]);
    let planned = fixture.changes(&crowded(49));
    assert_eq!(lines(&planned).last().unwrap(), "+ rule quay (url: quay.io)");
}
