//! Repositories that caches created: reconciled with the template, and deleted with the cache.

use std::time::{Duration, SystemTime};

use super::*;
use crate::{ecr::settings::CurrentSettings, pull_through::state::ObservedRepository};

fn repository(policy: Option<Value>, has_images: Option<bool>) -> ObservedRepository {
    let settings = CurrentSettings { policy, ..CurrentSettings::default() };
    ObservedRepository { settings, has_images, created: at(2) }
}

/// A time, in seconds since the epoch.
fn at(second: u64) -> Option<SystemTime> {
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
}

fn there(repositories: &[&str], has_images: Option<bool>) -> Observed {
    let named = |name: &&str| ((*name).to_owned(), repository(None, has_images));
    let repositories = repositories.iter().map(named).collect();
    Observed { repositories, ..Observed::default() }
}

fn of_repositories(planned: &[Planned]) -> Vec<String> {
    let host = registry().host;
    let repositories = planned.iter().filter(|it| it.change.kind == Subject::Repository);
    repositories.map(|it| it.change.to_string().replace(&format!("{host}/"), "")).collect()
}

fn hub(reconcile: bool, access: Option<Access>) -> Cache {
    let settings = RepositorySettings {
        lifecycle: Some(json!({ "rules": [] })),
        tags: tags(&[("team", "x")]),
        ..RepositorySettings::default()
    };
    let role_arn = Some(ROLE.to_owned());
    let template =
        TemplateSettings { settings, role_arn, reconcile, ..TemplateSettings::default() };
    Cache { template: Some(template), access, ..cache(Upstream::DockerHub) }
}

#[test]
fn existing_repositories_get_the_templates_settings_with_reconcile() {
    let name = "docker-hub/library/nginx";
    let granted = access(Some("o-abc"), &[]);
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        let start = || Observed { scope, ..there(&[name], None) };
        let off = ChangesFixture::of([hub(false, granted.clone())]);
        assert_eq!(of_repositories(&off.changes(&start())), [""; 0]);
        let fixture = ChangesFixture::of([hub(true, granted.clone())]);
        let planned = of_repositories(&fixture.changes(&start()));
        let [line] = &planned[..] else { panic!("{planned:?}") };
        assert!(line.starts_with(&format!("~ repository {name} (tags.team: none → x, ")), "{line}");
        let applied = fixture.applied(start());
        let settings = &applied.repositories[name].settings;
        assert_eq!(settings.lifecycle, Some(json!({ "rules": [] })));
        // the registry's policy grants it with the larger scope
        assert_eq!(settings.policy.is_some(), scope == PolicyScope::Importing);
        assert_eq!(of_repositories(&fixture.changes(&applied)), [""; 0]);
        // revoked access leaves no statement behind
        let revoked = ChangesFixture::of([hub(true, None)]).applied(applied);
        assert_eq!(revoked.repositories[name].settings.policy, None);
    }
}

#[test]
fn a_repository_keeps_statements_of_others_and_the_settings_of_a_longer_template() {
    let mut observed = there(&["docker-hub/library/nginx", "docker-hub/a/b"], None);
    let nginx = observed.repositories.get_mut("docker-hub/library/nginx").unwrap();
    nginx.settings.policy = Some(policy(vec![theirs("A")]));
    let mut template = blank("docker-hub/a");
    template.applied_for.insert("PULL_THROUGH_CACHE".to_owned());
    observed.templates.insert("docker-hub/a".to_owned(), template);
    let after = ChangesFixture::of([hub(true, access(None, &["111111111111"]))]).applied(observed);
    assert_eq!(after.repositories["docker-hub/a/b"].settings.lifecycle, None);
    let nginx = after.repositories["docker-hub/library/nginx"].settings.policy.clone().unwrap();
    assert_eq!(nginx["Statement"].as_array().unwrap().len(), 2);
    assert!(nginx.to_string().contains("EcrMirrorDockerHub"), "{nginx}");
}

#[test]
fn destroy_deletes_repositories_only_on_request_and_those_with_images_only_with_force() {
    let (empty, full) = ("docker-hub/a/empty", "docker-hub/library/nginx");
    for (repositories, expected) in [
        (CachedRepositories::Keep, vec![]),
        (
            CachedRepositories::DeleteEmpty,
            vec![format!("- repository {empty}"), format!("! repository {full}")],
        ),
        (
            CachedRepositories::DeleteAll,
            vec![format!("- repository {empty}"), format!("- repository {full}")],
        ),
    ] {
        let fixture = ChangesFixture { repositories, ..ChangesFixture::of([hub(false, None)]) };
        let mut observed = fixture.applied(Observed::default());
        observed.rules.get_mut("docker-hub").unwrap().created = at(1);
        observed.repositories = there(&[empty], Some(false)).repositories;
        observed.repositories.insert(full.to_owned(), repository(None, Some(true)));
        let planned = fixture.removals(&observed);
        assert_eq!(of_repositories(&planned), expected, "{repositories:?}");
    }
    // the repositories of another upstream stay
    let repositories = CachedRepositories::DeleteAll;
    let fixture = ChangesFixture { repositories, ..ChangesFixture::of([hub(false, None)]) };
    let mut observed = fixture.applied(Observed::default());
    observed.rules.get_mut("docker-hub").unwrap().url = "ghcr.io".to_owned();
    observed.repositories = there(&[empty], Some(false)).repositories;
    let planned = of_repositories(&fixture.removals(&observed));
    assert_eq!(planned, [format!("! repository {empty}")]);
}

#[test]
fn destroy_deletes_only_repositories_that_the_rule_can_have_created() {
    let name = "docker-hub/library/nginx";
    let repositories = CachedRepositories::DeleteAll;
    let fixture = ChangesFixture { repositories, ..ChangesFixture::of([hub(false, None)]) };
    for (rule, repository, expected) in [
        (Some(at(1)), at(2), None),
        (Some(at(2)), at(2), None),
        (Some(at(3)), at(2), Some("it is older than the rule: the cache did not create it")),
        (None, at(2), Some("no rule has this prefix: a cache may not have created it")),
        (Some(None), at(2), Some("ECR does not say when")),
        (Some(at(1)), None, Some("ECR does not say when")),
    ] {
        let mut observed = fixture.applied(there(&[name], Some(true)));
        observed.repositories.get_mut(name).unwrap().created = repository;
        match rule {
            Some(created) => observed.rules.get_mut("docker-hub").unwrap().created = created,
            None => observed.rules.clear(),
        }
        let planned = fixture.removals(&observed);
        let planned = planned.iter().find(|it| it.change.kind == Subject::Repository).unwrap();
        assert_eq!(planned.step.is_some(), expected.is_none(), "{rule:?} {repository:?}");
        let hint = planned.change.hint.as_deref().unwrap();
        assert!(hint.contains(expected.unwrap_or("its images are deleted, too")), "{hint}");
    }
}
