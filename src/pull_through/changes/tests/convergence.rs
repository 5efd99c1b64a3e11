//! Whatever there was and wherever a run breaks off: what is applied is as it is written.

use super::*;

/// A cache in all the ways in which it can be written.
fn variants(upstream: Upstream) -> Vec<Cache> {
    let mut all = Vec::new();
    let bare = Wish { settings: RepositorySettings { policy: None, ..wish().settings }, ..wish() };
    for template in [None, Some(bare), Some(wish())] {
        for access in [
            None,
            access(Some("o-abc"), &[]),
            access(Some("o-abc"), &["111111111111", "222222222222"]),
        ] {
            all.push(Cache { template: template.clone(), access, ..cache(upstream) });
        }
    }
    all
}

/// A registry in which others have been before.
fn inhabited(scope: PolicyScope) -> Observed {
    let mut observed = scoped(scope);
    for prefix in ["theirs", "docker-hubble"] {
        let rule = ObservedRule {
            prefix: prefix.to_owned(),
            url: "quay.io".to_owned(),
            ..ObservedRule::default()
        };
        observed.rules.insert(prefix.to_owned(), rule);
        let mut template = blank(prefix);
        template.applied_for.insert("REPLICATION".to_owned());
        observed.templates.insert(prefix.to_owned(), template);
    }
    observed.registry_policy = Some(policy(vec![theirs("First"), theirs("Second")]));
    observed
}

/// Applies the world from every point at which an earlier run may have broken off.
fn assert_converges(world: &ChangesFixture, start: impl Fn() -> Observed, case: &str) {
    let planned = world.changes(&start());
    let conflicts = planned.iter().filter(|planned| planned.step.is_none()).count();
    assert_eq!(conflicts, 0, "{case}: {:#?}", lines(&planned));
    for done in 0..=planned.len() {
        let broken_off = carried_out(start(), &planned[..done]);
        let rest = world.changes(&broken_off);
        assert_eq!(rest.len(), planned.len() - done, "{case} after {done}: {:#?}", lines(&rest));
        let after = lines(&world.changes(&carried_out(broken_off, &rest)));
        assert!(after.is_empty(), "{case} after {done}: {after:#?}");
    }
}

#[test]
fn what_is_applied_needs_nothing_more_wherever_a_run_broke_off() {
    for upstream in Upstream::all() {
        for scope in [PolicyScope::Importing, PolicyScope::Everything] {
            for cache in variants(upstream) {
                let case = format!("{cache:?} {scope:?}");
                let mut world = ChangesFixture::of([cache]);
                assert_converges(&world, || scoped(scope), &case);
                assert_converges(&world, || inhabited(scope), &case);
                world.on_push = vec![on_push("mirror", RepositorySettings::default())];
                assert_converges(&world, || inhabited(scope), &case);
            }
        }
    }
}

#[test]
fn all_upstreams_are_applied_together() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let caches: Vec<Cache> = Upstream::all().map(|it| variants(it).pop().unwrap()).collect();
        let mut world = ChangesFixture::of(caches);
        world.on_push = vec![on_push("ROOT", RepositorySettings::default())];
        assert_converges(&world, || inhabited(scope), "all");
    }
}

#[test]
fn one_configuration_follows_another_and_leaves_no_access_behind() {
    let all = variants(Upstream::DockerHub);
    for before in &all {
        for after in &all {
            for (old, new) in [
                (PolicyScope::Importing, PolicyScope::Importing),
                (PolicyScope::Importing, PolicyScope::Everything),
                (PolicyScope::Everything, PolicyScope::Importing),
            ] {
                let start = || {
                    let applied = ChangesFixture::of([before.clone()]).applied(inhabited(old));
                    Observed { scope: new, ..applied }
                };
                let world = ChangesFixture::of([after.clone()]);
                assert_converges(&world, start, &format!("{before:?} {after:?} {old:?} {new:?}"));
                let end = world.applied(start());
                let policies = json!([
                    end.registry_policy,
                    end.templates.get("docker-hub").map(|it| &it.policy)
                ]);
                let ids = statements::ids(&after.prefix);
                let desired = after.access.clone().unwrap_or_default();
                let has = [desired.organization.is_some(), !desired.accounts.is_empty()];
                for (id, has) in ids.iter().zip(has) {
                    assert_eq!(policies.to_string().contains(id), has, "{id} {policies}");
                }
            }
        }
    }
}

#[test]
fn what_others_keep_stays_as_it_is() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let world = ChangesFixture::of(
            Upstream::all().map(|it| variants(it).pop().unwrap()).collect::<Vec<_>>(),
        );
        let (before, after) = (inhabited(scope), world.applied(inhabited(scope)));
        for prefix in ["theirs", "docker-hubble"] {
            assert_eq!(after.rules[prefix], before.rules[prefix]);
            assert_eq!(after.templates[prefix], before.templates[prefix]);
        }
        let planned = world.changes(&before);
        let Some(CacheStep::PutRegistryPolicy(put)) = &planned.last().unwrap().step else {
            panic!("the registry's policy comes last");
        };
        let (old, new) = (&before.registry_policy.unwrap()["Statement"], &put["Statement"]);
        assert_eq!([&new[0], &new[1]], [&old[0], &old[1]]);
    }
}

#[test]
fn the_plan_is_the_same_each_time_and_in_the_order_in_which_it_can_be_done() {
    let caches: Vec<Cache> = Upstream::all().map(|it| variants(it).pop().unwrap()).collect();
    let world = ChangesFixture::of(caches);
    let kinds = |planned: &[Planned]| -> Vec<Subject> {
        let mut kinds: Vec<Subject> = planned.iter().map(|planned| planned.change.kind).collect();
        kinds.dedup();
        kinds
    };
    let planned = world.changes(&Observed::default());
    assert_eq!(lines(&planned), lines(&world.changes(&Observed::default())));
    let order = [Subject::Secret, Subject::Rule, Subject::Template, Subject::RegistryPolicy];
    assert_eq!(kinds(&planned), order);
}
