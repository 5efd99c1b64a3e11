//! Templates: who asks for one, what is kept, what cannot be.

use super::*;

fn template_of(planned: &[Planned]) -> Vec<&DesiredTemplate> {
    let steps = planned.iter().filter_map(|planned| planned.step.as_ref());
    let templates = steps.filter_map(|step| match step {
        CacheStep::CreateTemplate(template) | CacheStep::UpdateTemplate(template) => Some(template),
        _ => None,
    });
    templates.collect()
}

fn occasions(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|&name| name.to_owned()).collect())
}

#[test]
fn a_template_is_made_for_what_is_asked() {
    let organization = || access(Some("o-abc"), &[]);
    let (importing, everything) = (PolicyScope::Importing, PolicyScope::Everything);
    let pull = &["PULL_THROUGH_CACHE"][..];
    let both = &["CREATE_ON_PUSH", "PULL_THROUGH_CACHE"][..];
    let push = &["CREATE_ON_PUSH"][..];
    for (template, access, scope, pushes, expected) in [
        (None, None, importing, None, vec![]),
        (Some(Wish::default()), None, importing, None, vec![("quay", pull)]),
        (None, organization(), importing, None, vec![("quay", pull)]),
        (None, organization(), everything, None, vec![]),
        (None, None, importing, Some("mirror"), vec![("mirror", push)]),
        (None, None, importing, Some("ROOT"), vec![("ROOT", push)]),
        (
            Some(Wish::default()),
            None,
            importing,
            Some("ROOT"),
            vec![("quay", both), ("ROOT", push)],
        ),
        (None, None, importing, Some("quay"), vec![("quay", push)]),
        (Some(Wish::default()), None, everything, Some("quay"), vec![("quay", both)]),
    ] {
        let mut world = ChangesFixture::of([Cache { template, access, ..cache(Upstream::Quay) }]);
        world.on_push.extend(pushes.map(|prefix| on_push(prefix, RepositorySettings::default())));
        let planned = world.changes(&scoped(scope));
        let found: Vec<_> = template_of(&planned)
            .into_iter()
            .map(|template| (template.prefix.as_str(), template.applied_for.clone()))
            .collect();
        let expected: Vec<_> =
            expected.into_iter().map(|(prefix, names)| (prefix, occasions(names))).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_template_keeps_the_occasions_and_tags_that_others_gave_it() {
    let mut template = blank("docker-hub");
    template.applied_for = occasions(&["REPLICATION"]).unwrap();
    template.tags = tags(&[("owner", "them"), ("team", "another")]);
    let mut observed = Observed::default();
    observed.templates.insert("docker-hub".to_owned(), template);
    let world =
        ChangesFixture::of([Cache { template: Some(wish()), ..cache(Upstream::DockerHub) }]);
    let planned = world.changes(&observed);
    let [update] = template_of(&planned)[..] else { panic!("{planned:?}") };
    assert_eq!(update.applied_for, occasions(&["PULL_THROUGH_CACHE", "REPLICATION"]));
    assert_eq!(update.tags, Some(tags(&[("owner", "them"), ("team", "platform")])));
    let line = lines(&planned).pop().unwrap();
    assert!(line.contains("tags.team: another → platform") && !line.contains("owner"), "{line}");
}

#[test]
fn an_update_sends_nothing_but_what_differs() {
    let world =
        ChangesFixture::of([Cache { template: Some(wish()), ..cache(Upstream::DockerHub) }]);
    let mut observed = world.applied(Observed::default());
    observed.templates.get_mut("docker-hub").unwrap().lifecycle = None;
    let planned = world.changes(&observed);
    let expected = DesiredTemplate {
        prefix: "docker-hub".to_owned(),
        lifecycle: wish().settings.lifecycle,
        ..DesiredTemplate::default()
    };
    assert_eq!(template_of(&planned), [&expected]);
}

#[test]
fn a_destination_and_a_cache_of_one_prefix_share_a_template_and_the_cache_decides() {
    let template =
        Wish { settings: RepositorySettings { encryption: None, ..wish().settings }, ..wish() };
    let cache = Cache { template: Some(template.clone()), ..cache(Upstream::DockerHub) };
    let mut world = ChangesFixture::of([Cache { prefix: Prefix::Root, ..cache }]);
    let pushed = RepositorySettings {
        mutability: Some(TagMutability::Mutable),
        scan_on_push: Some(true),
        encryption: Some(Encryption::Kms(None)),
        tags: tags(&[("team", "mirror"), ("more", "1")]),
        lifecycle: Some(json!({ "rules": [] })),
        policy: Some(policy(vec![])),
    };
    world.on_push = vec![on_push("ROOT", pushed.clone())];
    let planned = world.changes(&Observed::default());
    let expected = DesiredTemplate {
        prefix: "ROOT".to_owned(),
        applied_for: occasions(&["CREATE_ON_PUSH", "PULL_THROUGH_CACHE"]),
        mutability: template.settings.mutability,
        encryption: pushed.encryption,
        tags: Some(tags(&[("team", "platform"), ("more", "1")])),
        lifecycle: template.settings.lifecycle,
        policy: template.settings.policy,
        role_arn: template.role_arn,
    };
    assert_eq!(template_of(&planned), [&expected]);
}

#[test]
fn tags_and_keys_without_a_role_are_a_conflict_that_stops_nothing_else() {
    for (settings, role, works) in [
        (
            RepositorySettings { tags: tags(&[("a", "1")]), ..RepositorySettings::default() },
            None,
            false,
        ),
        (
            RepositorySettings {
                encryption: Some(Encryption::Kms(None)),
                ..RepositorySettings::default()
            },
            None,
            false,
        ),
        (
            RepositorySettings {
                encryption: Some(Encryption::Aes256),
                ..RepositorySettings::default()
            },
            None,
            true,
        ),
        (
            RepositorySettings { tags: tags(&[("a", "1")]), ..RepositorySettings::default() },
            Some(ROLE),
            true,
        ),
    ] {
        let mut world = ChangesFixture::of([cache(Upstream::Quay)]);
        world.on_push = vec![on_push("mirror", settings)];
        let mut observed = Observed::default();
        let mut there = blank("mirror");
        there.applied_for = occasions(&["CREATE_ON_PUSH"]).unwrap();
        there.role_arn = role.map(str::to_owned);
        observed.templates.insert("mirror".to_owned(), there);
        let planned = world.changes(&observed);
        assert_eq!(lines(&planned)[0], "+ rule quay (url: quay.io)");
        let conflict = planned.iter().find(|it| it.change.action == Action::Conflict);
        assert_eq!(conflict.is_none(), works);
        assert!(conflict.is_none_or(|it| it.change.hint.as_ref().unwrap().contains("role_arn")));
    }
}

#[test]
fn a_template_that_takes_the_place_of_a_wider_one_says_so() {
    for (wider, applied_for, told) in [
        (&["ROOT"][..], "PULL_THROUGH_CACHE", Some("`ROOT`")),
        (&["ROOT", "team"], "PULL_THROUGH_CACHE", Some("`team`")),
        (&["ROOT"], "REPLICATION", None),
        (&["tea"], "PULL_THROUGH_CACHE", None),
        (&[], "", None),
    ] {
        let prefix = "team/hub".parse().unwrap();
        let template = Some(Wish::default());
        let world = ChangesFixture::of([Cache { prefix, template, ..cache(Upstream::Quay) }]);
        let mut observed = Observed::default();
        for prefix in wider {
            let mut template = blank(prefix);
            template.applied_for = occasions(&[applied_for]).unwrap();
            observed.templates.insert((*prefix).to_owned(), template);
        }
        let planned = world.changes(&observed);
        let hint = planned.last().unwrap().change.hint.as_deref();
        assert_eq!(hint.is_some(), told.is_some(), "{wider:?} {hint:?}");
        assert!(told.is_none_or(|told| hint.unwrap().contains(told)), "{wider:?} {hint:?}");
    }
}
