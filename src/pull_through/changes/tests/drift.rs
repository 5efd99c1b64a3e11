//! Every field of an applied state, as a table.

use super::*;

/// An outside change of one resource.
type Mutation = Box<dyn Fn(&mut Observed)>;

fn fixture() -> ChangesFixture {
    let access = access(Some("o-abc"), &["111111111111"]);
    let hub = Cache { template: Some(full_template()), access, ..cache(Upstream::DockerHub) };
    let upstream_prefix = "team-a".parse().unwrap();
    ChangesFixture::of([hub, Cache { upstream_prefix, ..cache(Upstream::Ecr) }])
}

fn rule(prefix: &'static str, mutate: impl Fn(&mut ObservedRule) + 'static) -> Mutation {
    Box::new(move |observed| mutate(observed.rules.get_mut(prefix).unwrap()))
}

fn template(mutate: impl Fn(&mut ObservedTemplate) + 'static) -> Mutation {
    Box::new(move |observed| mutate(observed.templates.get_mut("docker-hub").unwrap()))
}

fn content(make: impl Fn() -> Content + 'static) -> Mutation {
    let name = "ecr-pullthroughcache/docker-hub";
    Box::new(move |observed| observed.secrets.get_mut(name).unwrap().content = make())
}

fn statement(at: usize, mutate: impl Fn(&mut Value) + 'static) -> Mutation {
    Box::new(move |observed| {
        mutate(&mut observed.registry_policy.as_mut().unwrap()["Statement"][at])
    })
}

#[test]
fn every_different_field_is_one_named_change() {
    let [organization, accounts, ..] = statements::ids(&"docker-hub".parse().unwrap());
    let login = |username: &'static str, token: &'static str| {
        content(move || secret("x", username, token).content)
    };
    let other = || Some("other".to_owned());
    let table: Vec<(Subject, &str, Action, Mutation)> = vec![
        (Subject::Secret, "username", Action::Update, login("another", "token")),
        (Subject::Secret, "value", Action::Update, login("user", "old")),
        (Subject::Secret, "value", Action::Update, content(|| Content::Malformed("is not JSON"))),
        (Subject::Secret, "state", Action::Update, content(|| Content::PendingDeletion)),
        (
            Subject::Rule,
            "url",
            Action::Conflict,
            rule("docker-hub", |it| it.url = "quay.io".into()),
        ),
        (
            Subject::Rule,
            "upstream_prefix",
            Action::Conflict,
            rule("ecr", |it| it.upstream_prefix = "ROOT".into()),
        ),
        (
            Subject::Rule,
            "credential_arn",
            Action::Update,
            rule("docker-hub", move |it| it.credential_arn = other()),
        ),
        (
            Subject::Rule,
            "credential_arn",
            Action::Update,
            rule("docker-hub", |it| it.credential_arn = None),
        ),
        (Subject::Rule, "role_arn", Action::Update, rule("ecr", move |it| it.role_arn = other())),
        (
            Subject::Template,
            "applied_for",
            Action::Update,
            template(|it| it.applied_for = BTreeSet::from(["REPLICATION".to_owned()])),
        ),
        (
            Subject::Template,
            "tag_mutability",
            Action::Update,
            template(|it| it.mutability = TagMutability::Mutable),
        ),
        (
            Subject::Template,
            "encryption",
            Action::Update,
            template(|it| it.encryption = Encryption::Kms(Some(KEY.replace('1', "2")))),
        ),
        (
            Subject::Template,
            "tags.team",
            Action::Update,
            template(|it| it.tags = tags(&[("team", "another")])),
        ),
        (Subject::Template, "lifecycle", Action::Update, template(|it| it.lifecycle = None)),
        (Subject::Template, "policy", Action::Update, template(|it| it.policy = None)),
        (Subject::Template, "role_arn", Action::Update, template(move |it| it.role_arn = other())),
        (
            Subject::RegistryPolicy,
            &organization,
            Action::Update,
            statement(0, |it| it["Condition"] = Value::Null),
        ),
        (
            Subject::RegistryPolicy,
            &accounts,
            Action::Update,
            statement(1, |it| it["Effect"] = json!("Deny")),
        ),
        (
            Subject::RegistryPolicy,
            &accounts,
            Action::Update,
            statement(1, |it| it["Sid"] = json!("Theirs")),
        ),
    ];
    for scope in [PolicyScope::Importing, PolicyScope::Everything] {
        for (at, (kind, name, action, mutate)) in table.iter().enumerate() {
            let mut observed = fixture().applied(scoped(scope));
            mutate(&mut observed);
            let planned = fixture().changes(&observed);
            let found: Vec<_> = planned
                .iter()
                .map(|planned| {
                    let change = &planned.change;
                    let names: Vec<&str> = change.fields.iter().map(|it| &*it.name).collect();
                    (change.kind, names, change.action)
                })
                .collect();
            assert_eq!(found, [(*kind, vec![*name], *action)], "row {at}: {:#?}", lines(&planned));
        }
    }
}

#[test]
fn members_that_are_not_configured_are_not_compared() {
    // every member is named here, so that a new one is decided about
    let ObservedRule {
        prefix: _,
        url: _,
        upstream_prefix: _,
        credential_arn: _,
        role_arn: _,
        created: _,
    } = ObservedRule::default();
    let ObservedTemplate {
        prefix: _,
        applied_for: _,
        mutability: _,
        encryption: _,
        tags: _,
        lifecycle: _,
        policy: _,
        role_arn: _,
        description: _,
    } = blank("x");
    let bare = |upstream| Cache { template: Some(TemplateSettings::default()), ..cache(upstream) };
    let fixture = ChangesFixture::of([bare(Upstream::Quay)]);
    let mut observed = fixture.applied(Observed::default());
    let rule = observed.rules.get_mut("quay").unwrap();
    rule.credential_arn = Some(arn("theirs"));
    rule.role_arn = Some(ROLE.to_owned());
    rule.created = Some(std::time::SystemTime::now());
    let template = observed.templates.get_mut("quay").unwrap();
    template.applied_for.insert("REPLICATION".to_owned());
    template.mutability = TagMutability::Immutable;
    template.encryption = Encryption::Kms(None);
    template.tags = tags(&[("owner", "them")]);
    template.lifecycle = Some(json!({ "rules": [] }));
    template.policy = Some(policy(vec![theirs("Theirs")]));
    template.role_arn = Some(ROLE.to_owned());
    template.description = Some("theirs".to_owned());
    observed.registry_policy = Some(policy(vec![theirs("Theirs")]));
    observed.secrets.insert("ecr-pullthroughcache/quay".to_owned(), secret("quay", "u", "t"));
    assert_eq!(lines(&fixture.changes(&observed)), [""; 0]);
}
