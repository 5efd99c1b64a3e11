//! The IAM role or user whose credentials a session has.

use std::time::SystemTime;

use aws_sdk_ecr::config::ProvideCredentials;
use aws_sdk_sts::Client;

use super::session::AwsSession;
use crate::model::{Error, Kind, Result};

/// The ARN of the session's role or user.
pub(super) async fn principal(session: &AwsSession) -> Result<String> {
    if let Some(role) = &session.api.identity().role_arn {
        return Ok(role.clone());
    }
    let CallerIdentity { arn, .. } = identity(session).await?;
    role_or_user(&arn).ok_or_else(|| {
        Error::new(Kind::Configuration, format!("`{arn}` is neither a role nor a user of IAM"))
            .hint("set a role for the destination: `role_arn = \"arn:aws:iam::…:role/…\"`")
    })
}

/// The identity that AWS sees behind the session's credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallerIdentity {
    /// The ARN of the user, or of the role's session.
    pub(crate) arn: String,
    /// The time at which the credentials expire, if they say so.
    pub(crate) expiry: Option<SystemTime>,
}

/// Asks AWS for the identity. Needs no permission.
pub(crate) async fn identity(session: &AwsSession) -> Result<CallerIdentity> {
    let client = Client::new(&session.config);
    let get = || client.get_caller_identity().send();
    let answer = session.call("sts", "GetCallerIdentity", get).await?;
    let found = match session.config.credentials_provider() {
        Some(provider) => provider.provide_credentials().await.ok(),
        None => None,
    };
    let arn = answer.arn.unwrap_or_default();
    Ok(CallerIdentity { arn, expiry: found.and_then(|credentials| credentials.expiry()) })
}

/// The role or user of a session's ARN.
///
/// A session's ARN lacks the path of its role. A role with a path must be the destination's
/// `role_arn`.
fn role_or_user(arn: &str) -> Option<String> {
    let (head, resource) = arn.rsplit_once(':')?;
    let (kind, name) = resource.split_once('/')?;
    match kind {
        "user" => Some(arn.to_owned()),
        "assumed-role" => {
            let (role, _session) = name.split_once('/')?;
            let head = head.replacen(":sts:", ":iam:", 1);
            Some(format!("{head}:role/{role}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arn_of_a_session_becomes_that_of_its_role() {
        for (arn, expected) in [
            (
                "arn:aws:sts::123456789012:assumed-role/mirror/nightly",
                Some("arn:aws:iam::123456789012:role/mirror"),
            ),
            (
                "arn:aws-cn:sts::123456789012:assumed-role/mirror/i-0123",
                Some("arn:aws-cn:iam::123456789012:role/mirror"),
            ),
            (
                "arn:aws:iam::123456789012:user/team/joe",
                Some("arn:aws:iam::123456789012:user/team/joe"),
            ),
            ("arn:aws:iam::123456789012:root", None),
            ("arn:aws:sts::123456789012:federated-user/joe", None),
            ("", None),
        ] {
            assert_eq!(role_or_user(arn).as_deref(), expected, "{arn}");
        }
    }
}
