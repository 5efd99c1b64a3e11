//! Templates: occasions, kept members, conflicts.

use super::*;
use crate::model::pull_through::TEMPLATE_DESCRIPTION;

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
fn a_template_is_created_for_the_configured_occasions() {
    let organization = || access(Some("o-abc"), &[]);
    let (importing, everything) = (PolicyScope::Importing, PolicyScope::Everything);
    let pull = &["PULL_THROUGH_CACHE"][..];
    let both = &["CREATE_ON_PUSH", "PULL_THROUGH_CACHE"][..];
    let push = &["CREATE_ON_PUSH"][..];
    for (template, access, scope, pushes, expected) in [
        (None, None, importing, None, vec![]),
        (Some(TemplateSettings::default()), None, importing, None, vec![("quay", pull)]),
        (None, organization(), importing, None, vec![("quay", pull)]),
        (None, organization(), everything, None, vec![]),
        (None, None, importing, Some("mirror"), vec![("mirror", push)]),
        (None, None, importing, Some("ROOT"), vec![("ROOT", push)]),
        (
            Some(TemplateSettings::default()),
            None,
            importing,
            Some("ROOT"),
            vec![("quay", both), ("ROOT", push)],
        ),
        (None, None, importing, Some("quay"), vec![("quay", push)]),
        (Some(TemplateSettings::default()), None, everything, Some("quay"), vec![("quay", both)]),
    ] {
        let mut fixture = ChangesFixture::of([Cache { template, access, ..cache(Upstream::Quay) }]);
        fixture.on_push.extend(pushes.map(|prefix| on_push(prefix, RepositorySettings::default())));
        let planned = fixture.changes(&scoped(scope));
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
fn a_template_keeps_occasions_and_tags_that_are_not_configured() {
    let mut template = blank("docker-hub");
    template.applied_for = occasions(&["REPLICATION"]).unwrap();
    template.tags = tags(&[("owner", "them"), ("team", "another")]);
    let mut observed = Observed::default();
    observed.templates.insert("docker-hub".to_owned(), template);
    let fixture = ChangesFixture::of([Cache {
        template: Some(full_template()),
        ..cache(Upstream::DockerHub)
    }]);
    let planned = fixture.changes(&observed);
    let [update] = template_of(&planned)[..] else { panic!("{planned:?}") };
    assert_eq!(update.applied_for, occasions(&["PULL_THROUGH_CACHE", "REPLICATION"]));
    assert_eq!(update.tags, Some(tags(&[("owner", "them"), ("team", "platform")])));
    let line = lines(&planned).pop().unwrap();
    assert!(line.contains("tags.team: another → platform") && !line.contains("owner"), "{line}");
}

#[test]
fn a_new_template_has_a_description_and_only_a_configured_one_is_compared() {
    let of = |description: Option<&str>| {
        let description = description.map(str::to_owned);
        let template = TemplateSettings { description, ..full_template() };
        ChangesFixture::of([Cache { template: Some(template), ..cache(Upstream::DockerHub) }])
    };
    let mut observed = of(None).applied(Observed::default());
    let description = |observed: &Observed| observed.templates["docker-hub"].description.clone();
    assert_eq!(description(&observed).as_deref(), Some(TEMPLATE_DESCRIPTION));
    observed.templates.get_mut("docker-hub").unwrap().description = Some("theirs".to_owned());
    assert_eq!(lines(&of(None).changes(&observed)), [""; 0]);
    let line = "~ template docker-hub (description: theirs → ours)";
    assert_eq!(lines(&of(Some("ours")).changes(&observed)), [line]);
}

#[test]
fn an_update_contains_only_different_members() {
    let fixture = ChangesFixture::of([Cache {
        template: Some(full_template()),
        ..cache(Upstream::DockerHub)
    }]);
    let mut observed = fixture.applied(Observed::default());
    observed.templates.get_mut("docker-hub").unwrap().lifecycle = None;
    let planned = fixture.changes(&observed);
    let expected = DesiredTemplate {
        prefix: "docker-hub".to_owned(),
        lifecycle: full_template().settings.lifecycle,
        ..DesiredTemplate::default()
    };
    assert_eq!(template_of(&planned), [&expected]);
}

#[test]
fn a_destination_and_a_cache_of_one_prefix_share_a_template_and_the_cache_has_precedence() {
    let template = TemplateSettings {
        settings: RepositorySettings { encryption: None, ..full_template().settings },
        ..full_template()
    };
    let cache = Cache { template: Some(template.clone()), ..cache(Upstream::DockerHub) };
    let mut fixture = ChangesFixture::of([Cache { prefix: Prefix::Root, ..cache }]);
    let pushed = RepositorySettings {
        mutability: Some(TagMutability::Mutable),
        scan_on_push: Some(true),
        encryption: Some(Encryption::Kms(None)),
        tags: tags(&[("team", "mirror"), ("more", "1")]),
        lifecycle: Some(json!({ "rules": [] })),
        policy: Some(policy(vec![])),
    };
    fixture.on_push = vec![on_push("ROOT", pushed.clone())];
    let planned = fixture.changes(&Observed::default());
    let expected = DesiredTemplate {
        prefix: "ROOT".to_owned(),
        applied_for: occasions(&["CREATE_ON_PUSH", "PULL_THROUGH_CACHE"]),
        mutability: template.settings.mutability,
        encryption: pushed.encryption,
        tags: Some(tags(&[("team", "platform"), ("more", "1")])),
        lifecycle: template.settings.lifecycle,
        policy: template.settings.policy,
        role_arn: template.role_arn,
        description: Some(TEMPLATE_DESCRIPTION.to_owned()),
    };
    assert_eq!(template_of(&planned), [&expected]);
}

#[test]
fn a_key_without_a_role_is_a_conflict_that_stops_no_other_change_and_tags_are_not() {
    for (settings, role, works) in [
        (
            RepositorySettings { tags: tags(&[("a", "1")]), ..RepositorySettings::default() },
            None,
            true,
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
        let mut fixture = ChangesFixture::of([cache(Upstream::Quay)]);
        fixture.on_push = vec![on_push("mirror", settings)];
        let mut observed = Observed::default();
        let mut there = blank("mirror");
        there.applied_for = occasions(&["CREATE_ON_PUSH"]).unwrap();
        there.role_arn = role.map(str::to_owned);
        observed.templates.insert("mirror".to_owned(), there);
        let planned = fixture.changes(&observed);
        assert_eq!(lines(&planned)[0], "+ rule quay (url: quay.io)");
        let conflict = planned.iter().find(|it| it.change.action == Action::Conflict);
        assert_eq!(conflict.is_none(), works);
        assert!(conflict.is_none_or(|it| it.change.hint.as_ref().unwrap().contains("role_arn")));
    }
}

#[test]
fn a_template_that_shadows_a_shorter_prefix_has_a_hint() {
    for (wider, applied_for, told) in [
        (&["ROOT"][..], "PULL_THROUGH_CACHE", Some("`ROOT`")),
        (&["ROOT", "team"], "PULL_THROUGH_CACHE", Some("`team`")),
        (&["ROOT"], "REPLICATION", None),
        (&["tea"], "PULL_THROUGH_CACHE", None),
        (&[], "", None),
    ] {
        let prefix = "team/hub".parse().unwrap();
        let template = Some(TemplateSettings::default());
        let fixture = ChangesFixture::of([Cache { prefix, template, ..cache(Upstream::Quay) }]);
        let mut observed = Observed::default();
        for prefix in wider {
            let mut template = blank(prefix);
            template.applied_for = occasions(&[applied_for]).unwrap();
            observed.templates.insert((*prefix).to_owned(), template);
        }
        let planned = fixture.changes(&observed);
        let hint = planned.last().unwrap().change.hint.as_deref();
        assert_eq!(hint.is_some(), told.is_some(), "{wider:?} {hint:?}");
        assert!(told.is_none_or(|told| hint.unwrap().contains(told)), "{wider:?} {hint:?}");
    }
}
