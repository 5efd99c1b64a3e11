//! Reads registry credentials from AWS Secrets Manager.

use serde::Deserialize;

use super::{identity::Identity, session::AwsSession};
use crate::model::{Error, Kind, Result, UserPassword};

/// The secret's JSON. ECR's pull-through cache calls the password `accessToken`.
#[derive(Deserialize)]
struct SecretDocument {
    username: String,
    #[serde(alias = "accessToken")]
    password: String,
}

/// The identity that reads a secret: the default credentials, in the ARN's region.
pub(crate) fn reader(arn: &str) -> Result<Identity> {
    match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "secretsmanager", region, account, "secret", _] if !region.is_empty() => {
            let (region, account) = (Some(region.to_owned()), Some(account.to_owned()));
            Ok(Identity { region, account, ..Identity::default() })
        }
        _ => Err(Error::new(Kind::Configuration, format!("`{arn}` is not the ARN of a secret"))
            .hint(
                "write it like `arn:aws:secretsmanager:eu-west-1:123456789012:secret:name-AbCdEf`",
            )),
    }
}

/// Reads the secret. No error contains its content.
pub(crate) async fn read(session: &AwsSession, arn: &str) -> Result<UserPassword> {
    let client = session.secrets();
    let get = || client.get_secret_value().secret_id(arn).send();
    let answer = session.call("secretsmanager", "GetSecretValue", get).await;
    let answer = answer.map_err(|error| error.context(format!("cannot read secret `{arn}`")))?;
    parse(answer.secret_string().unwrap_or_default()).ok_or_else(|| {
        Error::new(Kind::Configuration, format!("secret `{arn}` is not a username and password"))
            .hint(r#"store it as JSON: `{"username": "…", "password": "…"}`"#)
    })
}

fn parse(text: &str) -> Option<UserPassword> {
    // the parser's error contains a part of the secret
    let SecretDocument { username, password } = serde_json::from_str(text).ok()?;
    Some(UserPassword::new(username, password))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::{
        registry::Network,
        remote::HostContext,
        sandbox::{Options, Sandbox},
    };

    #[tokio::test]
    async fn a_secret_is_read_from_aws_and_a_missing_one_is_named() {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let context = std::sync::Arc::new(HostContext::default());
        let identity = Identity { region: Some("eu-west-1".to_owned()), ..Identity::default() };
        let network = Network::Sandbox(sandbox.address());
        let session = AwsSession::open(identity, network, std::sync::Arc::clone(&context)).await;
        let made = session
            .secrets()
            .create_secret()
            .name("hub")
            .secret_string(r#"{"username":"u","password":"p"}"#)
            .send();
        let arn = made.await.unwrap().arn.unwrap();
        let read_back = read(&session, &arn).await.unwrap();
        assert_eq!(read_back.username, "u");
        assert_eq!(read_back.password.expose_secret(), "p");
        let gone = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:gone-AbCdEf";
        let error = read(&session, gone).await.unwrap_err();
        assert_eq!(error.kind(), Kind::NotFound);
        assert!(error.chain()[0].contains(gone), "{error:?}");
        assert_eq!(context.stats.requests.value(), 2);
    }

    #[test]
    fn only_the_two_names_of_the_password_are_read() {
        for (text, expected) in [
            (r#"{"username":"u","password":"p"}"#, Some(("u", "p"))),
            (r#"{"username":"u","accessToken":"p","more":1}"#, Some(("u", "p"))),
            (r#"{"username":"u"}"#, None),
            ("p", None),
            ("", None),
        ] {
            let read = parse(text);
            let read = read.as_ref().map(|r| (r.username.as_str(), r.password.expose_secret()));
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_secret_is_read_in_its_own_region() {
        let arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hub-AbCdEf";
        assert_eq!(reader(arn).unwrap().region.as_deref(), Some("eu-west-1"));
        for other in ["hub", "arn:aws:s3:::bucket", "arn:aws:secretsmanager::1:secret:x", ""] {
            assert_eq!(reader(other).unwrap_err().kind(), Kind::Configuration, "{other}");
        }
    }
}
