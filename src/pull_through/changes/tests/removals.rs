//! Removals, and the resources that stay.

use super::*;

fn everything() -> ChangesFixture {
    let access = access(Some("o-abc"), &["111111111111"]);
    let full = |upstream| Cache {
        template: Some(full_template()),
        access: access.clone(),
        ..cache(upstream)
    };
    let mut fixture = ChangesFixture::of(Upstream::all().map(full).collect::<Vec<_>>());
    fixture.on_push = vec![on_push("mirror", RepositorySettings::default())];
    fixture
}

#[test]
fn everything_that_was_applied_is_removed() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let fixture = everything();
        let observed = || fixture.applied(scoped(scope));
        let planned = fixture.removals(&observed());
        let mut kinds: Vec<Subject> = planned.iter().map(|it| it.change.kind).collect();
        kinds.dedup();
        let order = [Subject::Rule, Subject::Template, Subject::RegistryPolicy, Subject::Secret];
        assert_eq!(kinds, order);
        assert!(planned.iter().all(|it| it.change.action == Action::Delete), "{planned:?}");
        for done in 0..=planned.len() {
            let rest = carried_out(observed(), &planned[..done]);
            let after = fixture.removals(&rest);
            assert_eq!(after.len(), planned.len() - done);
            let end = carried_out(rest, &after);
            assert!(end.rules.is_empty() && end.templates.is_empty());
            assert!(end.registry_policy.is_none());
            assert!(fixture.removals(&end).is_empty());
        }
    }
}

#[test]
fn only_existing_and_configured_resources_are_removed() {
    let fixture = everything();
    assert!(fixture.removals(&Observed::default()).is_empty());
    let bare = ChangesFixture::of([cache(Upstream::Quay)]);
    let mut observed = Observed::default();
    observed.rules.insert("theirs".to_owned(), ObservedRule::default());
    for prefix in ["theirs", "quay"] {
        let mut template = blank(prefix);
        template.applied_for.insert("PULL_THROUGH_CACHE".to_owned());
        observed.templates.insert(prefix.to_owned(), template);
    }
    observed.registry_policy = Some(policy(vec![theirs("A")]));
    observed.secrets.insert("ecr-pullthroughcache/quay".to_owned(), secret("quay", "u", "t"));
    assert_eq!(lines(&bare.removals(&observed)), [""; 0]);
}

#[test]
fn a_template_with_other_occasions_loses_only_ours() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let fixture = everything();
        let mut observed = fixture.applied(scoped(scope));
        for prefix in ["docker-hub", "mirror"] {
            let template = observed.templates.get_mut(prefix).unwrap();
            template.applied_for.insert("REPLICATION".to_owned());
        }
        let after = carried_out_all(&fixture, observed);
        assert_eq!(after.templates.keys().collect::<Vec<_>>(), ["docker-hub", "mirror"]);
        for template in after.templates.values() {
            assert_eq!(template.applied_for, BTreeSet::from(["REPLICATION".to_owned()]));
        }
        // what was written stays, what we granted does not
        let policy = after.templates["docker-hub"].policy.as_ref().unwrap().to_string();
        assert!(policy.contains("Written") && !policy.contains("EcrMirror"), "{policy}");
        assert!(fixture.removals(&after).is_empty());
    }
}

fn carried_out_all(fixture: &ChangesFixture, observed: Observed) -> Observed {
    let planned = fixture.removals(&observed);
    carried_out(observed, &planned)
}

#[test]
fn a_rule_of_another_upstream_stays_with_its_template_and_secret() {
    let hub = Cache { template: Some(full_template()), ..cache(Upstream::DockerHub) };
    let mut fixture = ChangesFixture::of([hub]);
    let mut observed = fixture.applied(Observed::default());
    observed.rules.get_mut("docker-hub").unwrap().url = "ghcr.io".to_owned();
    for replace in [Replace::Never, Replace::Differing] {
        fixture.replace = replace;
        let planned = fixture.removals(&observed);
        let lines = lines(&planned);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(lines[0], "! rule docker-hub (url: ghcr.io → registry-1.docker.io)");
        assert!(planned.iter().all(|it| it.step.is_none() && it.change.hint.is_some()));
    }
}

#[test]
fn only_a_configured_secret_that_no_rule_uses_is_deleted() {
    let name = "ecr-pullthroughcache/docker-hub";
    let hub = cache(Upstream::DockerHub);
    let of_secrets = |fixture: &ChangesFixture, observed: &Observed| {
        let planned = fixture.removals(observed);
        let secrets = planned.into_iter().filter(|it| it.change.kind == Subject::Secret);
        secrets.map(|it| (it.change.action, it.step.is_some())).collect::<Vec<_>>()
    };
    let fixture = ChangesFixture::of([hub.clone()]);
    let mut observed = fixture.applied(Observed::default());
    assert_eq!(of_secrets(&fixture, &observed), [(Action::Delete, true)]);

    let theirs = UpstreamCredentials::Secret(name.to_owned());
    let kept = ChangesFixture::of([Cache { credentials: theirs, ..hub }]);
    assert_eq!(of_secrets(&kept, &observed), []);

    let credential_arn = Some(arn(name));
    observed
        .rules
        .insert("other".to_owned(), ObservedRule { credential_arn, ..ObservedRule::default() });
    assert_eq!(of_secrets(&fixture, &observed), [(Action::Conflict, false)]);

    observed.secrets.get_mut(name).unwrap().content = Content::PendingDeletion;
    assert_eq!(of_secrets(&fixture, &observed), []);
}
