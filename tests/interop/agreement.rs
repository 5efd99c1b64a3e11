//! Sends the same calls to the sandbox and to `moto`, two independent implementations of AWS's
//! manual, and compares the answers.
//!
//! Coverage in `moto` 5.2.5 of the calls that a pull-through cache needs:
//!
//! | calls | `moto` | compared here |
//! |---|---|---|
//! | `Put`, `Get`, `DeleteRegistryPolicy` | yes; only the scope V1, without `ecr:BatchImportUpstreamImage` and `ecr:*` | yes |
//! | `Create`, `Put`, `Describe`, `Delete`, `RestoreSecret`, `GetSecretValue`, Secrets Manager's `TagResource` | yes; it allows writes and tags on a deleted secret, and answers `ResourceExistsException` where AWS says that the name is scheduled for deletion | yes, except these two differences |
//! | `Create`, `Update`, `Delete`, `Describe`, `ValidatePullThroughCacheRule` | no | – |
//! | `Create`, `Update`, `Delete`, `DescribeRepositoryCreationTemplates` | no | – |
//! | `Get`, `PutAccountSetting` | no | – |

#![allow(clippy::unwrap_used, reason = "everything here is a test, helpers included")]

use std::sync::Arc;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use ecr_mirror::{
    ecr::{AwsSession, AwsSessions, Identity},
    model::Host,
    registry::Network,
    remote::HostContext,
    sandbox::{Options, Sandbox},
};

use super::control_plane::Moto;

const HOST: &str = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";

/// Each call with its result: `ok`, or the name of the exception.
type Answers = Vec<(String, String)>;

/// Records the result of a call and returns its value.
fn record<T, E>(answers: &mut Answers, call: &str, result: Result<T, SdkError<E>>) -> Option<T>
where
    E: ProvideErrorMetadata + std::fmt::Debug,
{
    let (answer, value) = match result {
        Ok(value) => ("ok".to_owned(), Some(value)),
        Err(error) => (error.code().expect("AWS's errors have names").to_owned(), None),
    };
    answers.push((call.to_owned(), answer));
    value
}

async fn sandbox() -> (Sandbox, Arc<AwsSession>) {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let network = Network::Sandbox(sandbox.address());
    let host: Host = HOST.parse().unwrap();
    let sessions = AwsSessions::new(network, Arc::new(HostContext::default()));
    let session = sessions.session(Identity::of(&host)).await;
    (sandbox, session)
}

fn policy(action: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"a","Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::210987654321:root"}},"Action":{action},"Resource":"arn:aws:ecr:eu-west-1:123456789012:repository/*"}}]}}"#
    )
}

async fn registry_policies(session: &AwsSession) -> Answers {
    let (ecr, mut answers) = (aws_sdk_ecr::Client::new(&session.config), Answers::new());
    record(&mut answers, "get none", ecr.get_registry_policy().send().await);
    record(&mut answers, "delete none", ecr.delete_registry_policy().send().await);
    let good = policy(r#"["ecr:CreateRepository","ecr:ReplicateImage"]"#);
    for (what, text) in [
        ("two actions", good.as_str()),
        ("one action", &policy(r#""ecr:CreateRepository""#)),
        ("another action", &policy(r#""ecr:BatchGetImage""#)),
        ("another service", &policy(r#""s3:GetObject""#)),
        ("no statement", "{}"),
        ("no JSON", "policy"),
    ] {
        let put = ecr.put_registry_policy().policy_text(text).send().await;
        let put = record(&mut answers, &format!("put {what}"), put);
        let kept = put.map(|put| put.policy_text() == Some(text));
        answers.push((format!("what is kept of {what}"), format!("{kept:?}")));
    }
    ecr.put_registry_policy().policy_text(&good).send().await.unwrap();
    let read = record(&mut answers, "get", ecr.get_registry_policy().send().await).unwrap();
    assert_eq!(read.policy_text(), Some(good.as_str()));
    let gone = record(&mut answers, "delete", ecr.delete_registry_policy().send().await).unwrap();
    assert_eq!(gone.policy_text(), Some(good.as_str()));
    record(&mut answers, "get what was deleted", ecr.get_registry_policy().send().await);
    answers
}

const NAME: &str = "ecr-pullthroughcache/docker-hub";

async fn secrets(session: &AwsSession) -> Answers {
    let (secrets, mut answers) = (session.secrets(), Answers::new());
    let value = || secrets.get_secret_value().secret_id(NAME).send();
    let describe = || secrets.describe_secret().secret_id(NAME).send();
    let create = || secrets.create_secret().name(NAME).secret_string("one").send();
    let restore = || secrets.restore_secret().secret_id(NAME).send();
    record(&mut answers, "read none", value().await);
    record(&mut answers, "describe none", describe().await);
    record(&mut answers, "restore none", restore().await);
    let created = record(&mut answers, "create", create().await).unwrap();
    let arn = created.arn().unwrap();
    assert!(arn.rsplit_once('-').is_some_and(|(_, suffix)| suffix.len() == 6), "{arn}");
    record(&mut answers, "create again", create().await);
    let put = secrets.put_secret_value().secret_id(arn).secret_string("two").send().await;
    record(&mut answers, "write", put);
    let read = record(&mut answers, "read", value().await).unwrap();
    assert_eq!(read.secret_string(), Some("two"));
    let tag = aws_sdk_secretsmanager::types::Tag::builder().key("a").value("b").build();
    let tagged = secrets.tag_resource().secret_id(NAME).tags(tag).send().await;
    record(&mut answers, "tag", tagged);

    let delete = || secrets.delete_secret().secret_id(NAME);
    for days in [6, 31] {
        let refused = delete().recovery_window_in_days(days).send().await;
        record(&mut answers, &format!("delete after {days} days"), refused);
    }
    let both = delete().recovery_window_in_days(7).force_delete_without_recovery(true);
    record(&mut answers, "delete after 7 days and at once", both.send().await);
    let deleted = delete().recovery_window_in_days(7).send().await;
    let deleted = record(&mut answers, "delete after 7 days", deleted).unwrap();
    let described = record(&mut answers, "describe a deleted one", describe().await).unwrap();
    let days = |at: Option<&aws_sdk_secretsmanager::primitives::DateTime>| {
        let seconds =
            at.unwrap().secs() - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        (seconds as f64 / 86_400.0).round().to_string()
    };
    answers.push(("days left, by the deletion".to_owned(), days(deleted.deletion_date())));
    answers.push(("days left, by the description".to_owned(), days(described.deleted_date())));
    record(&mut answers, "read a deleted one", value().await);
    record(&mut answers, "delete a deleted one", delete().send().await);
    record(&mut answers, "restore", restore().await);
    record(&mut answers, "restore again", restore().await);
    let read = record(&mut answers, "read what was restored", value().await).unwrap();
    assert_eq!(read.secret_string(), Some("two"));
    let at_once = || delete().force_delete_without_recovery(true).send();
    record(&mut answers, "delete at once", at_once().await);
    record(&mut answers, "delete nothing at once", at_once().await);
    record(&mut answers, "describe what is gone", describe().await);
    answers
}

#[tokio::test]
async fn moto_and_the_sandbox_accept_and_refuse_the_same_registry_policies() {
    let Some(moto) = Moto::start().await else { return };
    let (_sandbox, session) = sandbox().await;
    let ecr = aws_sdk_ecr::Client::new(&session.config);
    let scope = ecr.put_account_setting().name("REGISTRY_POLICY_SCOPE").value("V1");
    scope.send().await.unwrap();
    assert_eq!(registry_policies(&session).await, registry_policies(moto.session()).await);
}

#[tokio::test]
async fn moto_and_the_sandbox_delete_and_restore_secrets_alike() {
    let Some(moto) = Moto::start().await else { return };
    let (_sandbox, session) = sandbox().await;
    assert_eq!(secrets(&session).await, secrets(moto.session()).await);
}
