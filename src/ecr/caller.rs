//! Who the mirror is to IAM: the ARN of its role or user.

use aws_sdk_sts::Client;

use super::session::AwsSession;
use crate::model::{Error, Kind, Result};

/// The ARN of the role or user whose credentials the session has.
///
/// # Errors
/// What STS refuses, and [`Kind::Configuration`] for who is neither.
pub(super) async fn principal(session: &AwsSession) -> Result<String> {
    if let Some(role) = &session.api.identity().role_arn {
        return Ok(role.clone());
    }
    let client = Client::new(&session.config);
    let asked = ("sts", "GetCallerIdentity");
    let answer = session.call(asked, || client.get_caller_identity().send()).await?;
    let arn = answer.arn().unwrap_or_default();
    of_caller(arn).ok_or_else(|| {
        Error::new(Kind::Configuration, format!("`{arn}` is neither a role nor a user of IAM"))
            .hint("let the destination assume a role: `role_arn = \"arn:aws:iam::…:role/…\"`")
    })
}

/// The role or user behind the ARN of a session.
///
/// A session does not tell the path of its role: one that has a path is known only as `role_arn`
/// of the destination.
fn of_caller(arn: &str) -> Option<String> {
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
    fn a_session_is_known_by_its_role() {
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
            assert_eq!(of_caller(arn).as_deref(), expected, "{arn}");
        }
    }
}
