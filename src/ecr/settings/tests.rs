//! Differences as tables: configuration, current settings, updates.

use super::*;

fn policy(action: Value, principal: Value) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": action }],
    })
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn except(wildcards: &[&str]) -> TagMutability {
    TagMutability::ImmutableExcept(wildcards.iter().map(|&w| w.to_owned()).collect())
}

#[test]
fn settings_that_are_not_configured_are_not_compared() {
    let actual = CurrentSettings {
        mutability: TagMutability::Immutable,
        scan_on_push: true,
        encryption: Some(Encryption::Kms(None)),
        tags: map(&[("owner", "them")]),
        lifecycle: Some(json!({ "rules": [] })),
        policy: Some(policy(json!("ecr:*"), json!("*"))),
    };
    assert_eq!(differences(&RepositorySettings::default(), &actual), Differences::default());
    let wanted = RepositorySettings {
        mutability: Some(TagMutability::Immutable),
        scan_on_push: Some(true),
        ..RepositorySettings::default()
    };
    assert_eq!(differences(&wanted, &actual), Differences::default());
}

#[test]
fn every_setting_that_differs_is_one_update_and_its_fields() {
    let wanted = RepositorySettings {
        mutability: Some(except(&["latest*"])),
        scan_on_push: Some(true),
        encryption: Some(Encryption::Aes256),
        tags: map(&[("a", "1"), ("b", "2")]),
        lifecycle: Some(json!({ "rules": [1] })),
        policy: Some(json!({ "Statement": [] })),
    };
    let actual = CurrentSettings {
        encryption: Some(Encryption::Aes256),
        tags: map(&[("b", "0"), ("c", "3")]),
        lifecycle: Some(json!({ "rules": [2] })),
        ..CurrentSettings::default()
    };
    let found = differences(&wanted, &actual);
    let fields: Vec<(String, Value, Value)> =
        found.fields.into_iter().map(|field| (field.name, field.old, field.new)).collect();
    assert_eq!(
        fields,
        [
            ("tag_mutability".into(), json!("mutable"), json!("immutable except latest*")),
            ("scan_on_push".into(), json!(false), json!(true)),
            ("tags.a".into(), json!(null), json!("1")),
            ("tags.b".into(), json!("0"), json!("2")),
            ("lifecycle".into(), json!({ "rules": [2] }), json!({ "rules": [1] })),
            ("policy".into(), json!(null), json!({ "Statement": [] })),
        ]
    );
    assert_eq!(
        found.updates,
        [
            SettingUpdate::Mutability(except(&["latest*"])),
            SettingUpdate::ScanOnPush(true),
            SettingUpdate::Tags(map(&[("a", "1"), ("b", "2")])),
            SettingUpdate::Lifecycle(json!({ "rules": [1] })),
            SettingUpdate::Policy(json!({ "Statement": [] })),
        ]
    );
    assert!(found.warnings.is_empty());
}

#[test]
fn the_order_of_exclusions_does_not_matter() {
    let wanted = |wildcards| RepositorySettings {
        mutability: Some(except(wildcards)),
        ..RepositorySettings::default()
    };
    let actual = CurrentSettings { mutability: except(&["a", "b"]), ..CurrentSettings::default() };
    assert!(differences(&wanted(&["b", "a"]), &actual).updates.is_empty());
    assert_eq!(differences(&wanted(&["a"]), &actual).updates.len(), 1);
}

#[test]
fn policies_are_compared_by_their_meaning() {
    let ours = policy(json!(["b", "a"]), json!("arn:aws:iam::210987654321:root"));
    for (theirs, same) in [
        (policy(json!(["a", "b"]), json!(["210987654321"])), true),
        (policy(json!(["a", "b"]), json!("arn:aws:iam::210987654321:root")), true),
        (policy(json!(["a", "b", "c"]), json!("210987654321")), false),
        (policy(json!(["a", "b"]), json!("arn:aws:iam::210987654321:role/x")), false),
        (serde_json::from_str(&ours.to_string()).unwrap(), true),
    ] {
        let wanted =
            RepositorySettings { policy: Some(ours.clone()), ..RepositorySettings::default() };
        let actual = CurrentSettings { policy: Some(theirs.clone()), ..CurrentSettings::default() };
        assert_eq!(differences(&wanted, &actual).updates.is_empty(), same, "{theirs}");
    }
    let everybody = json!({ "Statement": [{ "Principal": "*", "Action": "a" }] });
    for (principal, same) in [
        (json!({ "AWS": "*" }), true),
        (json!({ "AWS": ["*"] }), true),
        (json!({ "AWS": "210987654321" }), false),
        (json!({ "Service": "*" }), false),
    ] {
        let theirs = json!({ "Statement": [{ "Principal": principal, "Action": "a" }] });
        assert_eq!(is_same_policy(&everybody, &theirs), same, "{theirs}");
    }
}

#[test]
fn a_different_encryption_is_a_warning_and_never_an_update() {
    let arn = |id: &str| format!("arn:aws:kms:eu-west-1:123456789012:key/{id}");
    let kms = |key: &str| Encryption::Kms(Some(key.to_owned()));
    for (wanted, actual, expected) in [
        (Encryption::Aes256, Encryption::Aes256, 0),
        (Encryption::Aes256, Encryption::Kms(None), 1),
        (Encryption::Kms(None), kms(&arn("1")), 0),
        (kms(&arn("1")), kms(&arn("1")), 0),
        (kms("1"), kms(&arn("1")), 0),
        (kms("2"), kms(&arn("1")), 1),
        (kms(&arn("2")), kms(&arn("1")), 1),
        (kms("alias/ecr"), kms(&arn("1")), 0),
        (Encryption::KmsDsse(None), kms(&arn("1")), 1),
    ] {
        let case = format!("{wanted} {actual}");
        let wanted =
            RepositorySettings { encryption: Some(wanted), ..RepositorySettings::default() };
        let actual = CurrentSettings { encryption: Some(actual), ..CurrentSettings::default() };
        let found = differences(&wanted, &actual);
        assert_eq!((found.warnings.len(), found.updates.len()), (expected, 0), "{case}");
    }
}
