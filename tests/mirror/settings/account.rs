//! Tests account settings: written once, before the first image.

use super::*;

const ACCOUNT: &str = r#"
[destination.account]
blob_mounting = true
pull_time_exclusion = true
scanning = { type = "enhanced", continuous = ["prod-*"], on_push = ["*"] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn account_settings_are_written_once_before_the_first_image() {
    let world = World::new().await;
    let user = "arn:aws:iam::123456789012:user/sandbox";
    let plan = world.run(&["plan"], ACCOUNT).await.succeeded();
    assert_eq!(plan.writes, [""; 0]);
    let change = format!(
        "\n    blob_mounting: false → true\n    pull_time_exclusion: none → {user}\n    \
         scanning: basic → enhanced, continuous: prod-*, on push: *\n"
    );
    assert!(plan.out.contains("\n~ account ") && plan.out.contains(&change), "{}", plan.out);

    let sync = world.run(&["sync"], ACCOUNT).await.succeeded();
    let settings = [
        "PutAccountSetting",
        "RegisterPullTimeUpdateExclusion",
        "PutRegistryScanningConfiguration",
    ];
    assert_eq!(sync.writes[..3], settings);
    let mounting = world.ecr.get_account_setting().name("BLOB_MOUNTING").send().await.unwrap();
    assert_eq!(mounting.value(), Some("ENABLED"));
    let excluded = world.ecr.list_pull_time_update_exclusions().send().await.unwrap();
    assert_eq!(excluded.pull_time_update_exclusions(), [user]);
    let scanning = world.ecr.get_registry_scanning_configuration().send().await.unwrap();
    let scanning = scanning.scanning_configuration().unwrap();
    assert_eq!(scanning.scan_type(), Some(&ScanType::Enhanced));
    let rules: Vec<(&str, &str)> = scanning
        .rules()
        .iter()
        .map(|rule| (rule.scan_frequency().as_str(), rule.repository_filters()[0].filter()))
        .collect();
    assert_eq!(rules, [("CONTINUOUS_SCAN", "prod-*"), ("SCAN_ON_PUSH", "*")]);
    assert_eq!(world.run(&["sync"], ACCOUNT).await.succeeded().writes, [""; 0]);

    let off = "[destination.account]\nblob_mounting = false\npull_time_exclusion = false";
    let off = world.run(&["sync"], off).await.succeeded();
    assert_eq!(off.writes, ["PutAccountSetting", "DeregisterPullTimeUpdateExclusion"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_account_settings_fail_the_images_before_any_copy() {
    let world = World::new().await;
    world.sandbox.faults().add("deny=PutAccountSetting".parse().unwrap());
    let sync = world.run(&["sync"], ACCOUNT).await;
    assert_eq!((sync.status, sync.writes.as_slice()), (1, &["PutAccountSetting".to_owned()][..]));
    assert!(sync.out.contains("grant `ecr:PutAccountSetting`"), "{}", sync.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_query_of_blob_mounting_is_warned_of_once_with_its_action() {
    let world = World::new().await;
    world.sandbox.faults().add("deny=GetAccountSetting".parse().unwrap());
    let upstream = world.sandbox.address();
    let second = format!("[[image]]\nsource = \"{upstream}/quay.io/team/app\"\ntags = [\"1\"]\n");
    let sync = world.run(&["sync", "-v"], &second).await.succeeded();
    let warnings: Vec<&str> =
        sync.talk.lines().filter(|line| line.contains("cannot read whether ECR mounts")).collect();
    let [warning] = &warnings[..] else { panic!("{}", sync.talk) };
    assert!(warning.contains("grant `ecr:GetAccountSetting`"), "{warning}");
    assert!(!sync.talk.contains("blob mounting is off"), "{}", sync.talk);
}
