//! Amazon Resource Names. Rejects those of the wrong kind where they are written.

use super::{document::Text, problem::Problem};

/// The longest ARN of a role. Source: ECR API model, `customRoleArn`.
const MAX_ROLE: usize = 2048;

/// The parts of `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`.
pub(super) struct Arn<'a> {
    pub(super) partition: &'a str,
    pub(super) service: &'a str,
    /// Empty if the service is global.
    pub(super) region: &'a str,
    /// Twelve digits.
    pub(super) account: &'a str,
    pub(super) resource: &'a str,
}

impl<'a> Arn<'a> {
    /// Parses an ARN; `None` if the text is not an ARN or names no account.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, service, region, account, resource] = parts[..] else { return None };
        let is_aws = partition == "aws" || partition.starts_with("aws-");
        let arn = Self { partition, service, region, account, resource };
        (is_aws && is_account(account)).then_some(arn)
    }
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The ARN of a role, `arn:PARTITION:iam::ACCOUNT:role/PATH`.
pub(super) fn role(text: &Text) -> Result<String, Problem> {
    let is_role = |arn: &Arn<'_>| {
        (arn.service, arn.region) == ("iam", "")
            && arn.resource.strip_prefix("role/").is_some_and(|path| !path.is_empty())
    };
    text.checked(
        Arn::parse(text).as_ref().is_some_and(is_role) && text.len() <= MAX_ROLE,
        "is not the ARN of a role",
        "write the ARN that IAM shows, like `arn:aws:iam::123456789012:role/mirror`",
    )
}
