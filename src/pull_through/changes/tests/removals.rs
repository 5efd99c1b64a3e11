//! What goes, and what stays although it is near.

use super::*;

fn everything() -> ChangesFixture {
    let access = access(Some("o-abc"), &["111111111111"]);
    let full =
        |upstream| Cache { template: Some(wish()), access: access.clone(), ..cache(upstream) };
    let mut world = ChangesFixture::of(Upstream::all().map(full).collect::<Vec<_>>());
    world.on_push = vec![on_push("mirror", RepositorySettings::default())];
    world
}

#[test]
fn what_was_applied_is_removed_and_then_there_is_nothing_to_remove() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let world = everything();
        let observed = || world.applied(scoped(scope));
        let planned = world.removals(&observed());
        let mut kinds: Vec<Subject> = planned.iter().map(|it| it.change.kind).collect();
        kinds.dedup();
        let order = [Subject::Rule, Subject::Template, Subject::RegistryPolicy, Subject::Secret];
        assert_eq!(kinds, order);
        assert!(planned.iter().all(|it| it.change.action == Action::Delete), "{planned:?}");
        for done in 0..=planned.len() {
            let rest = carried_out(observed(), &planned[..done]);
            let after = world.removals(&rest);
            assert_eq!(after.len(), planned.len() - done);
            let end = carried_out(rest, &after);
            assert!(end.rules.is_empty() && end.templates.is_empty());
            assert!(end.registry_policy.is_none());
            assert!(world.removals(&end).is_empty());
        }
    }
}

#[test]
fn nothing_is_removed_that_is_not_named_or_not_there() {
    let world = everything();
    assert!(world.removals(&Observed::default()).is_empty());
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
fn a_template_that_serves_others_loses_only_our_occasions() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let world = everything();
        let mut observed = world.applied(scoped(scope));
        for prefix in ["docker-hub", "mirror"] {
            let template = observed.templates.get_mut(prefix).unwrap();
            template.applied_for.insert("REPLICATION".to_owned());
        }
        let after = carried_out_all(&world, observed);
        assert_eq!(after.templates.keys().collect::<Vec<_>>(), ["docker-hub", "mirror"]);
        for template in after.templates.values() {
            assert_eq!(template.applied_for, BTreeSet::from(["REPLICATION".to_owned()]));
        }
        // what was written stays, what we granted does not
        let policy = after.templates["docker-hub"].policy.as_ref().unwrap().to_string();
        assert!(policy.contains("Written") && !policy.contains("EcrMirror"), "{policy}");
        assert!(world.removals(&after).is_empty());
    }
}

fn carried_out_all(world: &ChangesFixture, observed: Observed) -> Observed {
    let planned = world.removals(&observed);
    carried_out(observed, &planned)
}

#[test]
fn a_rule_of_another_upstream_stays_with_what_it_needs() {
    let hub = Cache { template: Some(wish()), ..cache(Upstream::DockerHub) };
    let mut world = ChangesFixture::of([hub]);
    let mut observed = world.applied(Observed::default());
    observed.rules.get_mut("docker-hub").unwrap().url = "ghcr.io".to_owned();
    for replace in [Replace::Never, Replace::Differing] {
        world.replace = replace;
        let planned = world.removals(&observed);
        let lines = lines(&planned);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(lines[0], "! rule docker-hub (url: ghcr.io → registry-1.docker.io)");
        assert!(planned.iter().all(|it| it.step.is_none() && it.change.hint.is_some()));
    }
}

#[test]
fn a_secret_stays_that_somebody_else_keeps_or_a_rule_still_needs_or_that_is_leaving() {
    let name = "ecr-pullthroughcache/docker-hub";
    let hub = cache(Upstream::DockerHub);
    let of_secrets = |world: &ChangesFixture, observed: &Observed| {
        let planned = world.removals(observed);
        let secrets = planned.into_iter().filter(|it| it.change.kind == Subject::Secret);
        secrets.map(|it| (it.change.action, it.step.is_some())).collect::<Vec<_>>()
    };
    let world = ChangesFixture::of([hub.clone()]);
    let mut observed = world.applied(Observed::default());
    assert_eq!(of_secrets(&world, &observed), [(Action::Delete, true)]);

    let theirs = UpstreamCredentials::Secret(name.to_owned());
    let kept = ChangesFixture::of([Cache { credentials: theirs, ..hub }]);
    assert_eq!(of_secrets(&kept, &observed), []);

    let credential_arn = Some(arn(name));
    observed
        .rules
        .insert("other".to_owned(), ObservedRule { credential_arn, ..ObservedRule::default() });
    assert_eq!(of_secrets(&world, &observed), [(Action::Conflict, false)]);

    observed.secrets.get_mut(name).unwrap().content = Content::PendingDeletion;
    assert_eq!(of_secrets(&world, &observed), []);
}
