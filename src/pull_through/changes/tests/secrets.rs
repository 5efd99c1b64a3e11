//! Secrets: their changes, which never contain a value.

use super::*;

const NAME: &str = "ecr-pullthroughcache/docker-hub";

fn there(content: Content) -> Observed {
    let secret = Secret::of(arn(NAME), content);
    Observed { secrets: BTreeMap::from([(NAME.to_owned(), secret)]), ..Observed::default() }
}

#[test]
fn the_secret_of_configured_credentials_is_created_restored_or_written() {
    let fixture = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let login = |username, token| secret(NAME, username, token).content;
    for (observed, expected) in [
        (Observed::default(), format!("+ secret {NAME} (username: user, value: set)")),
        (there(Content::PendingDeletion), format!("~ secret {NAME} (state: deleted → restored)")),
        (
            there(Content::Malformed("is not JSON")),
            format!("~ secret {NAME} (value: is not JSON → set)"),
        ),
        (there(login("user", "old")), format!("~ secret {NAME} (value: set → another)")),
        (there(login("other", "token")), format!("~ secret {NAME} (username: other → user)")),
        (there(login("user", "token")), String::new()),
    ] {
        let planned = fixture.changes(&observed);
        let secret = planned.into_iter().find(|planned| planned.change.kind == Subject::Secret);
        let line = secret.map(|secret| lines(&[secret]).remove(0));
        assert_eq!(line.unwrap_or_default(), expected);
    }
}

#[test]
fn no_change_or_debug_output_contains_a_token() {
    let fixture = ChangesFixture::of([Cache {
        credentials: written("user", "dckr_pat_new"),
        ..cache(Upstream::DockerHub)
    }]);
    for observed in [
        Observed::default(),
        there(Content::PendingDeletion),
        there(secret(NAME, "user", "dckr_pat_old").content),
    ] {
        let planned = fixture.changes(&observed);
        assert!(!planned.is_empty());
        let told = format!("{planned:?} {:?} {observed:?}", lines(&planned));
        let data: Vec<_> =
            planned.iter().map(|it| serde_json::to_string(&it.change).unwrap()).collect();
        assert!(!told.contains("dckr_pat") && !data.concat().contains("dckr_pat"), "{told}");
    }
}

#[test]
fn an_unusable_secret_arn_is_a_conflict_for_its_rules_and_is_never_written() {
    let theirs = arn("ecr-pullthroughcache/theirs");
    let elsewhere = theirs.replace("eu-west-1", "us-east-1");
    let content = |content| Some(Secret::of(theirs.clone(), content));
    let fine = secret("ecr-pullthroughcache/theirs", "user", "token");
    for (arn, there, hint) in [
        (
            &theirs,
            None,
            Some(
                r#"the secret does not exist: store one as JSON, `{"username": "…", "accessToken": "…"}`"#,
            ),
        ),
        (
            &theirs,
            content(Content::Malformed("is not JSON")),
            Some(r#"store it as JSON: `{"username": "…", "accessToken": "…"}`"#),
        ),
        (
            &theirs,
            content(Content::PendingDeletion),
            Some("aws secretsmanager restore-secret --region eu-west-1 --secret-id arn:"),
        ),
        (&elsewhere, None, Some("use a secret of account 123456789012 in eu-west-1")),
        (&theirs, Some(fine), None),
    ] {
        let credentials = UpstreamCredentials::Secret(arn.clone());
        let fixture = ChangesFixture::of([
            Cache { credentials: credentials.clone(), ..cache(Upstream::DockerHub) },
            Cache { credentials, ..cache(Upstream::GitHub) },
            cache(Upstream::Quay),
        ]);
        let secrets = there.map(|secret| (arn.clone(), secret)).into_iter().collect();
        let planned = fixture.changes(&Observed { secrets, ..Observed::default() });
        let actions: Vec<_> = planned
            .iter()
            .map(|it| (it.change.kind, it.change.action, it.step.is_some()))
            .collect();
        let rule = |action| (Subject::Rule, action, action != Action::Conflict);
        let Some(hint) = hint else {
            assert_eq!(actions, [rule(Action::Create), rule(Action::Create), rule(Action::Create)]);
            continue;
        };
        let expected = [
            (Subject::Secret, Action::Conflict, false),
            rule(Action::Conflict),
            rule(Action::Conflict),
            rule(Action::Create),
        ];
        assert_eq!(actions, expected, "{:#?}", lines(&planned));
        assert!(hints(&planned)[0].contains(hint), "{:?}", hints(&planned));
        assert_eq!(hints(&planned)[1], format!("its secret `{arn}` cannot be used"));
    }
}

#[test]
fn a_secret_under_a_customer_managed_key_is_a_conflict_for_its_rule() {
    let theirs = UpstreamCredentials::Secret(arn("ecr-pullthroughcache/theirs"));
    for credentials in [written("user", "token"), theirs] {
        let fixture = ChangesFixture::of([Cache { credentials, ..cache(Upstream::DockerHub) }]);
        let name = fixture.with(|desired| super::secrets(desired.caches)).remove(0);
        let login = secret(NAME, "user", "token");
        let secret = Secret { key: Some("arn:aws:kms:eu-west-1:1:key/x".to_owned()), ..login };
        let observed = Observed { secrets: [(name.clone(), secret)].into(), ..Observed::default() };
        let planned = fixture.changes(&observed);
        let actions: Vec<_> = planned
            .iter()
            .map(|it| (it.change.kind, it.change.action, it.step.is_some()))
            .collect();
        let conflict = |kind| (kind, Action::Conflict, false);
        assert_eq!(actions, [conflict(Subject::Secret), conflict(Subject::Rule)]);
        let hint = hints(&planned)[0];
        assert!(hint.contains(&format!("--secret-id {name} --kms-key-id alias/aws/")), "{hint}");
    }
}

#[test]
fn the_settings_of_a_secret_are_compared_only_if_they_are_configured() {
    let theirs = |description: &str| Secret {
        description: Some(description.to_owned()),
        policy: Some(json!({ "Statement": [] })),
        ..secret(NAME, "user", "token")
    };
    let there = |secret: Secret| Observed {
        secrets: [(NAME.to_owned(), secret)].into(),
        ..Observed::default()
    };
    let plain = ChangesFixture::of([cache(Upstream::DockerHub)]);
    let planned = plain.changes(&there(theirs("x")));
    assert!(planned.iter().all(|it| it.change.kind != Subject::Secret), "{:?}", lines(&planned));
    let settings = SecretSettings {
        description: Some("ours".to_owned()),
        policy: Some(json!({ "Statement": [theirs_statement()] })),
        recovery_window_days: Some(7),
    };
    let fixture = ChangesFixture::of([Cache { secret: settings, ..cache(Upstream::DockerHub) }]);
    let line = &lines(&fixture.changes(&there(theirs("x"))))[0];
    assert!(
        line.starts_with(&format!("~ secret {NAME} (description: x → ours, policy: {{")),
        "{line}"
    );
    let applied = fixture.applied(Observed::default());
    assert_eq!(lines(&fixture.changes(&applied)), [""; 0]);
    let planned = fixture.removals(&applied);
    let steps: Vec<_> = planned.iter().filter_map(|planned| planned.step.as_ref()).collect();
    let is_step = |step: &&&CacheStep| {
        matches!(step, CacheStep::DeleteSecret { recovery_window_days: Some(7), .. })
    };
    assert!(steps.iter().any(|step| is_step(&step)), "{steps:?}");
}

fn theirs_statement() -> Value {
    super::theirs("Read")
}

#[test]
fn secrets_to_read_are_distinct_and_in_the_order_of_the_file() {
    let theirs = UpstreamCredentials::Secret(arn("ecr-pullthroughcache/theirs"));
    let caches = [
        Cache { credentials: theirs.clone(), ..cache(Upstream::GitHub) },
        cache(Upstream::DockerHub),
        cache(Upstream::Quay),
        cache(Upstream::Ecr),
        Cache { credentials: theirs, ..cache(Upstream::GitLab) },
    ];
    let caches: Vec<&Cache> = caches.iter().collect();
    assert_eq!(super::secrets(&caches), [arn("ecr-pullthroughcache/theirs"), NAME.to_owned()]);
}
