//! Maps the SDK's failures to [`Error`]: the error's name decides the kind, never its text.
//!
//! Distinguishes a quota from throttling. Shortens AWS's text.

mod error_kinds;

use std::{error::Error as StdError, iter::successors, time::Duration};

use aws_sdk_ecr::{
    config::{ProvideCredentials, SharedCredentialsProvider, http::HttpResponse},
    error::{ErrorMetadata, ProvideErrorMetadata, SdkError},
};

use super::identity::Identity;
use crate::model::{Error, Kind, hints};
pub(crate) use error_kinds::kind_of;

/// Limit for a text of AWS in an error, in characters.
const TEXT_LIMIT: usize = 400;

pub(super) struct CallContext<'a> {
    /// The service's name in policies, like `ecr`.
    pub(super) service: &'a str,
    /// The action, like `ListImages`.
    pub(super) action: &'a str,
    pub(super) region: &'a str,
    pub(super) identity: &'a Identity,
}

/// Turns a failed call into an error with action, region, cause and hint.
pub(super) fn explain<E>(call: &CallContext<'_>, error: &SdkError<E, HttpResponse>) -> Error
where
    E: StdError + ProvideErrorMetadata + 'static,
{
    let failed = |kind, text: String| {
        Error::new(kind, format!("{} in {}: {text}", call.action, call.region))
    };
    let (unsent, no_credentials) = (unsent(error), credentials_error(error));
    if let Some(cause) = unsent
        && (no_credentials.is_none() || cause.kind() == Kind::Configuration)
    {
        return cause.clone().context(format!("cannot call {} in {}", call.action, call.region));
    }
    if let Some(cause) = no_credentials {
        return without_credentials(call.identity, cause);
    }
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    match error {
        SdkError::ServiceError(_) => {
            let unnamed = format!("an error without a name (status {status})");
            let name = error.code().unwrap_or(&unnamed);
            let kind = kind_of(name, status);
            let error = failed(kind, named(name, error.message())).after(retry_after(error));
            let error = if kind == Kind::Unauthorized { error.of_identity() } else { error };
            match hint(kind, name, call) {
                Some(hint) => error.hint(hint),
                None => error,
            }
        }
        SdkError::ConstructionFailure(_) => failed(Kind::Configuration, essence(error)),
        SdkError::TimeoutError(_) => failed(Kind::Stalled, essence(error)),
        SdkError::ResponseError(_) if status < 500 => failed(
            if status == 429 { Kind::Throttled } else { Kind::Protocol },
            format!("unexpected answer (status {status}): {}", essence(error)),
        ),
        _ => failed(Kind::Unavailable, essence(error)),
    }
}

/// Adds a hint to the data plane's [`Kind::Denied`]: ECR's text names the missing action.
pub(super) fn explain_denied(error: Error) -> Error {
    if error.kind() != Kind::Denied || error.remedy().is_some() {
        return error;
    }
    let action = missing_action(&error).map(|action| format!("`{action}`"));
    let actions = action.unwrap_or_else(|| "the actions of a push".to_owned());
    error.hint(format!("grant {actions} to the role (`ecr-mirror iam mirror` prints the policy)"))
}

/// Text of ECR's answer to one image more than a repository may hold.
///
/// Source: semaphoreci/docs#404.
const IMAGE_QUOTA: &str = "maximum allowed number of images";

/// The smallest quota of images that AWS has given to accounts.
///
/// Source: aws/containers-roadmap#414.
const MIN_IMAGE_QUOTA: usize = 1000;

/// Returns `true` if a refused manifest can be one image more than its repository may hold: the
/// registry protocol answers 403, without the action that a missing permission would name.
///
/// Source: aws/containers-roadmap#2159, kubernetes-sigs/aws-ebs-csi-driver#1998.
pub(super) fn may_be_image_quota(error: &Error) -> bool {
    error.kind() == Kind::Denied && missing_action(error).is_none()
}

/// Adds a hint to an error of [`may_be_image_quota`]. `count` is the number of the repository's
/// images, if known.
pub(super) fn explain_image_quota(error: Error, count: Option<usize>) -> Error {
    let is_quota = error.chain().iter().any(|text| text.contains(IMAGE_QUOTA));
    let holds = match count {
        Some(count) => format!("the repository holds {count} images"),
        None if is_quota => "the repository is full".to_owned(),
        None => return explain_denied(error),
    };
    let (quota, fix) = (hints::IMAGE_QUOTA, hints::FEWER_IMAGES);
    if is_quota {
        let message = "the repository is at its quota of images";
        return Error::new(Kind::Quota, message)
            .because(error)
            .hint(format!("{holds}, as many as {quota} allows: {fix}"));
    }
    if count.is_some_and(|count| count < MIN_IMAGE_QUOTA) {
        return explain_denied(error);
    }
    error.hint(format!("{holds}; if that is {quota}, {fix}; else grant `ecr:PutImage` to the role"))
}

/// The action that the role lacks, like `ecr:PutImage`; `None` if AWS's text does not name one.
pub(crate) fn missing_action(error: &Error) -> Option<String> {
    let text = error.chain().join(" ");
    let (_, rest) = text.split_once("to perform: ")?;
    rest.split(' ').next().map(str::to_owned)
}

fn hint(kind: Kind, name: &str, call: &CallContext<'_>) -> Option<String> {
    let hint = match kind {
        Kind::Denied if name.starts_with("Kms") => {
            "grant `kms:DescribeKey` and `kms:CreateGrant` on the repository's key to the role"
        }
        Kind::Denied => {
            let CallContext { service, action, .. } = call;
            let policy = policy_with(action);
            return Some(format!(
                "grant `{service}:{action}` to the role (`ecr-mirror iam {policy}` prints the policy)"
            ));
        }
        Kind::Unauthorized if name.contains("Signature") || name == "RequestExpired" => {
            hints::CLOCK
        }
        Kind::Unauthorized => return Some(sign_in(call.identity)),
        Kind::Quota => "request a higher quota for the account in the Service Quotas console",
        Kind::Configuration if name.starts_with("UnableToDecryptSecretValue") => {
            "encrypt the secret with the key `aws/secretsmanager`: ECR can use no other"
        }
        Kind::Configuration if name.starts_with("UnableToAccessSecret") => {
            r#"store the secret in the registry's account and region, as `{"username": "…", "accessToken": "…"}`"#
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

/// The `ecr-mirror iam` policy that contains the action.
fn policy_with(action: &str) -> &'static str {
    const CACHE_ACTIONS: [&str; 7] = [
        "PullThroughCacheRule",
        "RepositoryCreationTemplate",
        "RegistryPolicy",
        "Secret",
        "ResourcePolicy",
        "DeleteRepository",
        "DeleteRepositoryPolicy",
    ];
    let is_cache_action = CACHE_ACTIONS.iter().any(|part| action.contains(part));
    // the mirror, too, reads logins from Secrets Manager
    if is_cache_action && action != "GetSecretValue" { "pull-through" } else { "mirror" }
}

fn sign_in(identity: &Identity) -> String {
    match &identity.profile {
        Some(profile) => format!(
            "sign in with `aws sso login --profile {profile}`, or check `aws sts get-caller-identity --profile {profile}`"
        ),
        None => "sign in with `aws sso login`, set `AWS_PROFILE` or `profile` of the destination, or run where a role is attached".to_owned(),
    }
}

fn without_credentials(identity: &Identity, cause: &(dyn StdError + 'static)) -> Error {
    let (cause, providers, sign_in) = (essence(cause), identity.providers(), sign_in(identity));
    let (problem, hint) = match &identity.role_arn {
        Some(role) => (
            format!("cannot assume role `{role}` with credentials from {providers}: {cause}"),
            format!(
                "allow this identity (and its `external_id`) in the role's trust policy, and grant it `sts:AssumeRole`; without credentials, {sign_in}"
            ),
        ),
        // the SDK's text names the same providers, each in a sentence
        None if cause.contains("no credentials found in chain") => {
            (format!("no AWS credentials (tried {providers})"), sign_in)
        }
        None => (format!("no AWS credentials (tried {providers}): {cause}"), sign_in),
    };
    Error::new(Kind::Unauthorized, problem).hint(hint).of_identity()
}

/// The error of the HTTP client, if the request got no response.
fn unsent<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    successors(Some(error), |error| (**error).source()).find_map(|error| error.downcast_ref())
}

/// The error of the credentials provider, if the chain contains one.
fn credentials_error<'e>(
    error: &'e (dyn StdError + 'static),
) -> Option<&'e (dyn StdError + 'static)> {
    successors(Some(error), |error| (**error).source())
        .find(|error| is_error_of(SharedCredentialsProvider::provide_credentials, *error))
}

/// Returns `true` if `error` has the error type of `_call`, which the SDK's clients do not export.
fn is_error_of<'p, F, T, E>(
    _call: impl FnOnce(&'p SharedCredentialsProvider) -> F,
    error: &(dyn StdError + 'static),
) -> bool
where
    F: Future<Output = Result<T, E>>,
    E: StdError + 'static,
{
    error.is::<E>()
}

/// The wait that AWS requests. Source: SDK, `x-amz-retry-after`, in milliseconds.
fn retry_after<E>(error: &SdkError<E, HttpResponse>) -> Option<Duration> {
    let text = error.raw_response()?.headers().get("x-amz-retry-after")?;
    text.parse().ok().map(Duration::from_millis)
}

/// The two innermost messages of the chain: the cause. The outer ones are generic.
pub(super) fn essence(error: &(dyn StdError + 'static)) -> String {
    let mut links: Vec<String> = Vec::new();
    for error in successors(Some(error), |error| (**error).source()) {
        if let Some(aws) = error.downcast_ref::<ErrorMetadata>() {
            // its `Display` is its `Debug`
            return named(aws.code().unwrap_or("unnamed error"), aws.message());
        }
        let text = error.to_string();
        // a message can contain its cause: keep only the outer one
        if !links.last().is_some_and(|last| last.contains(&text)) {
            links.push(text);
        }
    }
    links[links.len().saturating_sub(2)..].join(": ")
}

/// `NAME: MESSAGE`
fn named(name: &str, message: Option<&str>) -> String {
    message.map_or_else(|| name.to_owned(), |message| format!("{name}: {message}"))
}

/// The text on one line, shortened to the limit. Called after secrets are removed: half of a secret
/// is not found.
pub(super) fn shorten(text: &str) -> String {
    let line = text.trim().replace(char::is_control, " ");
    match line.char_indices().nth(TEXT_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_that_names_no_action_can_be_the_quota_of_images() {
        let refused = |text: &str| Error::new(Kind::Denied, text.to_owned());
        let permission = refused("User: x is not authorized to perform: ecr:PutImage on r");
        assert!(!may_be_image_quota(&permission));
        let full = "DENIED: r already has the maximum allowed number of images which is '9'";
        for (text, count, expected) in [
            (full, Some(9), "holds 9 images, as many as its quota"),
            (full, None, "the repository is full"),
            ("PUT /v2/r: 403", Some(10_000), "holds 10000 images; if that is its quota"),
            ("PUT /v2/r: 403", Some(9), "grant the actions of a push"),
            ("PUT /v2/r: 403", None, "grant the actions of a push"),
        ] {
            assert!(may_be_image_quota(&refused(text)), "{text}");
            let error = explain_image_quota(refused(text), count);
            let hint = error.remedy().unwrap();
            assert!(hint.contains(expected), "{text} {count:?}: {hint}");
            assert!(!error.is_transient());
        }
    }

    #[test]
    fn only_long_texts_are_cut() {
        assert_eq!(shorten("User: x may\nnot "), "User: x may not");
        assert_eq!(shorten("short"), "short");
        assert_eq!(shorten(&"é".repeat(500)).chars().count(), TEXT_LIMIT + 1);
    }
}
