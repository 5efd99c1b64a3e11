//! A plan converges from every state and after every interruption.

use super::*;

/// A cache with every combination of template and access.
fn variants(upstream: Upstream) -> Vec<Cache> {
    let mut all = Vec::new();
    let bare = TemplateSettings {
        settings: RepositorySettings { policy: None, ..full_template().settings },
        ..full_template()
    };
    for template in [None, Some(bare), Some(full_template())] {
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

/// A registry with resources of others.
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

/// Plans and applies after an interruption at every step.
fn assert_converges(fixture: &ChangesFixture, start: impl Fn() -> Observed, case: &str) {
    let planned = fixture.changes(&start());
    let conflicts = planned.iter().filter(|planned| planned.step.is_none()).count();
    assert_eq!(conflicts, 0, "{case}: {:#?}", lines(&planned));
    for done in 0..=planned.len() {
        let broken_off = carried_out(start(), &planned[..done]);
        let rest = fixture.changes(&broken_off);
        assert_eq!(rest.len(), planned.len() - done, "{case} after {done}: {:#?}", lines(&rest));
        let after = lines(&fixture.changes(&carried_out(broken_off, &rest)));
        assert!(after.is_empty(), "{case} after {done}: {after:#?}");
    }
}

#[test]
fn an_interrupted_plan_converges_from_every_step() {
    for upstream in Upstream::all() {
        for scope in [PolicyScope::Importing, PolicyScope::Everything] {
            for cache in variants(upstream) {
                let case = format!("{cache:?} {scope:?}");
                let mut fixture = ChangesFixture::of([cache]);
                assert_converges(&fixture, || scoped(scope), &case);
                assert_converges(&fixture, || inhabited(scope), &case);
                fixture.on_push = vec![on_push("mirror", RepositorySettings::default())];
                assert_converges(&fixture, || inhabited(scope), &case);
            }
        }
    }
}

#[test]
fn all_upstreams_are_applied_together() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let caches: Vec<Cache> = Upstream::all().map(|it| variants(it).pop().unwrap()).collect();
        let mut fixture = ChangesFixture::of(caches);
        fixture.on_push = vec![on_push("ROOT", RepositorySettings::default())];
        assert_converges(&fixture, || inhabited(scope), "all");
    }
}

#[test]
fn a_changed_configuration_revokes_the_old_access() {
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
                let fixture = ChangesFixture::of([after.clone()]);
                assert_converges(&fixture, start, &format!("{before:?} {after:?} {old:?} {new:?}"));
                let end = fixture.applied(start());
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
fn resources_of_others_stay_unchanged() {
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let fixture = ChangesFixture::of(
            Upstream::all().map(|it| variants(it).pop().unwrap()).collect::<Vec<_>>(),
        );
        let (before, after) = (inhabited(scope), fixture.applied(inhabited(scope)));
        for prefix in ["theirs", "docker-hubble"] {
            assert_eq!(after.rules[prefix], before.rules[prefix]);
            assert_eq!(after.templates[prefix], before.templates[prefix]);
        }
        let planned = fixture.changes(&before);
        let Some(CacheStep::PutRegistryPolicy(put)) = &planned.last().unwrap().step else {
            panic!("the registry's policy comes last");
        };
        let (old, new) = (&before.registry_policy.unwrap()["Statement"], &put["Statement"]);
        assert_eq!([&new[0], &new[1]], [&old[0], &old[1]]);
    }
}

#[test]
fn a_plan_is_deterministic_and_in_the_order_of_its_dependencies() {
    let caches: Vec<Cache> = Upstream::all().map(|it| variants(it).pop().unwrap()).collect();
    let fixture = ChangesFixture::of(caches);
    let kinds = |planned: &[Planned]| -> Vec<Subject> {
        let mut kinds: Vec<Subject> = planned.iter().map(|planned| planned.change.kind).collect();
        kinds.dedup();
        kinds
    };
    let planned = fixture.changes(&Observed::default());
    assert_eq!(lines(&planned), lines(&fixture.changes(&Observed::default())));
    let order = [Subject::Secret, Subject::Rule, Subject::Template, Subject::RegistryPolicy];
    assert_eq!(kinds(&planned), order);
}
