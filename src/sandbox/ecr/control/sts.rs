//! STS with the query protocol and XML: `GetCallerIdentity` and `AssumeRole`.
//!
//! A role's credentials carry the role in their session token, so calls that they sign are that
//! role's, in its account.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use crate::sandbox::{
    ecr::{
        Ecr,
        authorization::Action,
        clock::since_epoch,
        error::EcrError,
        identity::{self, Principal, Signed, checksum, seal},
    },
    journal::Operation,
};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

pub(super) fn answer(ecr: &Ecr, headers: &HeaderMap, body: &Bytes) -> Response {
    let form: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    match run(ecr, headers, &form) {
        Ok((operation, result)) => {
            let text = format!(
                "<{operation}Response xmlns=\"{NAMESPACE}\"><{operation}Result>{result}</{operation}Result>{}</{operation}Response>",
                metadata()
            );
            let mut response = xml(StatusCode::OK, text);
            response.extensions_mut().insert(Operation(operation.to_owned()));
            response
        }
        Err(refusal) => refused(&refusal),
    }
}

fn run(
    ecr: &Ecr,
    headers: &HeaderMap,
    form: &[(String, String)],
) -> Result<(&'static str, String), EcrError> {
    let field =
        |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let operation = match field("Action") {
        Some("GetCallerIdentity") => "GetCallerIdentity",
        Some("AssumeRole") => "AssumeRole",
        other => {
            let text = format!("Could not find operation {}", other.unwrap_or_default());
            return Err(EcrError::new("InvalidAction", text));
        }
    };
    let signed = identity::caller(&ecr.faults, headers)?;
    if signed.service != "sts" {
        let text = "Credential should be scoped to correct service: 'sts'.";
        return Err(EcrError::new("SignatureDoesNotMatch", text));
    }
    let action = Action {
        service: "sts",
        name: operation,
        resource: field("RoleArn").unwrap_or("*"),
        account: &signed.principal.account,
        region: &signed.region,
    };
    ecr.guard.authorize(&action, &signed.principal)?;
    match operation {
        "AssumeRole" => assume_role(&field, &signed).map(|result| (operation, result)),
        _ => Ok((operation, identity(&signed))),
    }
}

fn identity(signed: &Signed) -> String {
    let Principal { account, session_arn, user_id, .. } = &signed.principal;
    format!(
        "<Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>",
        escaped(session_arn),
        escaped(user_id)
    )
}

fn assume_role<'a>(
    field: &impl Fn(&str) -> Option<&'a str>,
    signed: &Signed,
) -> Result<String, EcrError> {
    let invalid = |text: &str| EcrError::new("ValidationError", text);
    let arn = field("RoleArn").ok_or_else(|| invalid("RoleArn must not be null"))?;
    let session = field("RoleSessionName").unwrap_or_default();
    let word = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    if !(2..=64).contains(&session.len()) || !session.bytes().all(word) {
        return Err(invalid(
            "RoleSessionName must satisfy regular expression pattern: [\\w+=,.@-]*",
        ));
    }
    let seconds: u64 = match field("DurationSeconds").map(str::parse) {
        None => 3600,
        Some(Ok(seconds @ 900..=43_200)) => seconds,
        Some(_) => return Err(invalid("DurationSeconds must be 900 to 43200")),
    };
    let role = Principal::role(arn, session).ok_or_else(|| invalid("RoleArn is invalid"))?;
    let now = since_epoch();
    let mark = checksum(&format!("{arn} {session} {} {}", signed.principal.arn, now.as_nanos()));
    let expires = std::time::UNIX_EPOCH + now + std::time::Duration::from_secs(seconds);
    Ok(format!(
        "<AssumedRoleUser><AssumedRoleId>{id}</AssumedRoleId><Arn>{session_arn}</Arn></AssumedRoleUser>\
         <Credentials><AccessKeyId>ASIA{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
         <SessionToken>{token}</SessionToken><Expiration>{expires}</Expiration></Credentials>",
        id = escaped(&role.user_id),
        session_arn = escaped(&role.session_arn),
        key = mark[..16].to_ascii_uppercase(),
        secret = &mark[16..56],
        token = seal(&role),
        expires = humantime::format_rfc3339_seconds(expires),
    ))
}

fn refused(refusal: &EcrError) -> Response {
    let (status, code) = match refusal.name {
        "AccessDeniedException" => (StatusCode::FORBIDDEN, "AccessDenied"),
        "MissingAuthenticationTokenException" => {
            (StatusCode::FORBIDDEN, "MissingAuthenticationToken")
        }
        "UnrecognizedClientException" => (StatusCode::FORBIDDEN, "InvalidClientTokenId"),
        "SignatureDoesNotMatch" | "InvalidSignatureException" => {
            (StatusCode::FORBIDDEN, "SignatureDoesNotMatch")
        }
        "ExpiredTokenException" => (StatusCode::FORBIDDEN, "ExpiredToken"),
        other => (StatusCode::BAD_REQUEST, other),
    };
    let text = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{}</Message></Error>{}</ErrorResponse>",
        escaped(&refusal.message),
        metadata()
    );
    xml(status, text)
}

fn metadata() -> &'static str {
    "<ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>"
}

fn xml(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
