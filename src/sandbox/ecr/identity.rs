//! The caller's identity: the SigV4 credential scope of an API call, the credentials from STS, and
//! the passwords of the data plane.
//!
//! Nothing here is secret, and no signature is verified. Only the shape is checked: a call without
//! a signature, with the wrong service in its scope, or with a password that this sandbox did not
//! make is refused as AWS refuses it. The values carry all state, so credentials survive a restart.

use std::time::{Duration, UNIX_EPOCH};

use axum::http::{HeaderMap, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{clock::since_epoch, error::EcrError};
use crate::sandbox::fault::{Faults, Name, Side};

pub(super) const CALLER_ACCOUNT: &str = "123456789012";
/// The account of the fault `other-account`.
const OTHER_ACCOUNT: &str = "210987654321";
/// Source: IAM user guide, "Elements of an AWS API request signature".
const SIGNATURE_LIFE: Duration = Duration::from_secs(300);
/// Validity of a registry password, in seconds.
pub(super) const PASSWORD_SECONDS: f64 = 12.0 * 3600.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Principal {
    pub account: String,
    /// The user's or role's ARN, as policies and pull-time exclusions name it.
    pub arn: String,
    /// The ARN of the session; for a role, `assumed-role` with a session name.
    pub session_arn: String,
    /// The unique id; for a role, with a colon and the session name.
    pub user_id: String,
}

impl Principal {
    #[cfg(test)]
    pub(super) fn user() -> Self {
        Self::user_of(CALLER_ACCOUNT)
    }

    /// The user of this account.
    fn user_of(account: &str) -> Self {
        let arn = format!("arn:aws:iam::{account}:user/sandbox");
        Self {
            account: account.to_owned(),
            session_arn: arn.clone(),
            arn,
            user_id: "AIDASANDBOXSANDBOXSAN".to_owned(),
        }
    }

    /// A session of the role; `None` if `arn` is not a role's.
    pub(super) fn role(arn: &str, session: &str) -> Option<Self> {
        let (head, path) = arn.split_once(":role/")?;
        let account = head.rsplit(':').next().filter(|account| account.len() == 12)?;
        let name = path.rsplit('/').next()?;
        Some(Self {
            account: account.to_owned(),
            arn: arn.to_owned(),
            session_arn: format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"),
            user_id: format!("AROASANDBOXSANDBOXSAN:{session}"),
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Signed {
    pub principal: Principal,
    pub region: String,
    pub service: String,
}

/// Parses the credential scope of a SigV4 `Authorization` header. Does not verify the signature.
///
/// An access key of twelve digits is that of a user in this account, as emulators of AWS have it.
/// Source: LocalStack's documentation, multi-account setups.
///
/// Errors: `MissingAuthenticationTokenException` without a well-formed header,
/// `UnrecognizedClientException` for a session token that this sandbox did not issue.
fn signed(headers: &HeaderMap) -> Result<Signed, EcrError> {
    let missing =
        || EcrError::new("MissingAuthenticationTokenException", "Missing Authentication Token");
    let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let fields =
        text.and_then(|text| text.strip_prefix("AWS4-HMAC-SHA256 ")).ok_or_else(missing)?;
    let field = |name: &str| {
        fields.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let complete = field("SignedHeaders").is_some()
        && field("Signature").is_some_and(|signature| signature.len() == 64);
    let scope: Vec<&str> = field("Credential").unwrap_or_default().split('/').collect();
    let &[key, _, region, service, "aws4_request"] = scope.as_slice() else {
        return Err(missing());
    };
    if !complete || key.is_empty() || region.is_empty() {
        return Err(missing());
    }
    let principal = match headers.get("x-amz-security-token") {
        None if key.len() == 12 && key.bytes().all(|b| b.is_ascii_digit()) => {
            Principal::user_of(key)
        }
        None => Principal::user_of(CALLER_ACCOUNT),
        Some(token) => token.to_str().ok().and_then(unseal).ok_or_else(|| {
            EcrError::new(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            )
        })?,
    };
    Ok(Signed { principal, region: region.to_owned(), service: service.to_owned() })
}

/// The caller of [`signed`], with the faults of credentials and clocks.
///
/// Errors: also `ExpiredTokenException` and `InvalidSignatureException`, if a fault says so.
pub(super) fn caller(faults: &Faults, headers: &HeaderMap) -> Result<Signed, EcrError> {
    let mut signed = signed(headers)?;
    if faults.active(Name::ExpiredCredentials, Side::Ecr).is_some() {
        let text = "The security token included in the request is expired";
        return Err(EcrError::new("ExpiredTokenException", text));
    }
    if let Some(ahead) = ahead(faults) {
        let date = headers.get("x-amz-date").and_then(|date| date.to_str().ok());
        let signed_at = date.and_then(time).unwrap_or_default();
        let now = since_epoch() + ahead;
        if now > signed_at + SIGNATURE_LIFE {
            let text = format!(
                "Signature expired: {} is now earlier than {} ({} - 5 min.)",
                date.unwrap_or_default(),
                shown(now.saturating_sub(SIGNATURE_LIFE)),
                shown(now)
            );
            return Err(EcrError::new("InvalidSignatureException", text));
        }
    }
    if faults.active(Name::OtherAccount, Side::Ecr).is_some() {
        signed.principal = Principal::user_of(OTHER_ACCOUNT);
    }
    Ok(signed)
}

/// How far a fault sets AWS's clock ahead.
pub(super) fn ahead(faults: &Faults) -> Option<Duration> {
    let seconds = faults.active(Name::Clock, Side::Ecr)?.number()?;
    Some(Duration::from_secs(seconds))
}

/// A time like `20261120T101112Z`, since the epoch.
fn time(text: &str) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let part = |text: &str, at: usize, length| text.get(at..at + length).map(str::to_owned);
    let (year, month, day) = (part(date, 0, 4)?, part(date, 4, 2)?, part(date, 6, 2)?);
    let (hour, minute, second) = (part(time, 0, 2)?, part(time, 2, 2)?, part(time, 4, 2)?);
    let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    humantime::parse_rfc3339(&text).ok()?.duration_since(UNIX_EPOCH).ok()
}

fn shown(since_epoch: Duration) -> String {
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + since_epoch).to_string();
    text.replace(['-', ':'], "")
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Password {
    pub principal: Principal,
    /// The only region where it is valid.
    pub region: String,
    /// Nanoseconds since the epoch.
    pub issued: u128,
    /// Seconds since the epoch.
    pub expires: f64,
}

impl Password {
    /// The value of `authorizationToken`: `AWS:<password>` in base64, the password opaque and a few
    /// hundred bytes long.
    pub(super) fn to_token(&self) -> String {
        let password = json!({
            "payload": seal(self),
            "datakey": STANDARD.encode([0x5a_u8; 120]),
            "version": "2",
            "type": "DATA_KEY",
            "expiration": self.expires as u64,
        });
        STANDARD.encode(format!("AWS:{}", STANDARD.encode(password.to_string())))
    }

    /// Parses the value of an `Authorization` header; `None` unless this sandbox made it.
    pub(super) fn from_header(header: &str) -> Option<Self> {
        let (scheme, token) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let pair = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
        let password = STANDARD.decode(pair.strip_prefix("AWS:")?).ok()?;
        let password: serde_json::Value = serde_json::from_slice(&password).ok()?;
        unseal(password.get("payload")?.as_str()?)
    }
}

/// Encodes a value as text for [`unseal`].
pub(super) fn seal<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).expect("plain values serialise");
    let seal = checksum(&json);
    STANDARD.encode(format!("{seal}{json}"))
}

/// Decodes a sealed text; `None` unless it was sealed here.
pub(super) fn unseal<T: DeserializeOwned>(sealed: &str) -> Option<T> {
    let text = String::from_utf8(STANDARD.decode(sealed).ok()?).ok()?;
    let (seal, json) = text.split_at_checked(64)?;
    (seal == checksum(json)).then(|| serde_json::from_str(json).ok())?
}

/// Marks values made here. Detects errors, not attacks.
pub(super) fn checksum(text: &str) -> String {
    const_hex::encode(Sha256::new_with_prefix("ecr-mirror sandbox ").chain_update(text).finalize())
}

pub(super) fn uuid(checksum: &str) -> String {
    let parts = [&checksum[..8], &checksum[8..12], &checksum[12..16], &checksum[16..20]];
    format!("{}-{}", parts.join("-"), &checksum[20..32])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, authorization.parse().unwrap());
        headers
    }

    #[test]
    fn the_credential_scope_names_region_and_service() {
        let signature = "0".repeat(64);
        let signed = signed(&headers(&format!(
            "AWS4-HMAC-SHA256 Credential=AKID/20261120/eu-west-1/ecr/aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
        )))
        .unwrap();
        assert_eq!((signed.region.as_str(), signed.service.as_str()), ("eu-west-1", "ecr"));
        assert_eq!(signed.principal, Principal::user());
    }

    #[test]
    fn a_malformed_signature_counts_as_missing() {
        let signature = "0".repeat(64);
        for bad in [
            "Basic QVdTOng=".to_owned(),
            "AWS4-HMAC-SHA256".to_owned(),
            "AWS4-HMAC-SHA256 Credential=AKID, SignedHeaders=host, Signature=0".to_owned(),
            format!("AWS4-HMAC-SHA256 SignedHeaders=host, Signature={signature}"),
            "AWS4-HMAC-SHA256 Credential=AKID/20261120/eu-west-1/ecr/aws4_request".to_owned(),
        ] {
            let refusal = signed(&headers(&bad)).unwrap_err();
            assert_eq!(refusal.name, "MissingAuthenticationTokenException", "{bad}");
        }
    }

    #[test]
    fn a_password_is_decoded_unchanged_and_a_changed_one_is_refused() {
        let password = Password {
            principal: Principal::role("arn:aws:iam::210987654321:role/a/mirror", "s").unwrap(),
            region: "eu-west-1".to_owned(),
            issued: 7,
            expires: 12.5,
        };
        let token = password.to_token();
        assert_eq!(Password::from_header(&format!("Basic {token}")), Some(password));
        assert!((300..4000).contains(&token.len()), "{}", token.len());
        assert_eq!(Password::from_header(&format!("Bearer {token}")), None);
        for other in ["AWS:x", "user:password", "AWS:eyJhIjoxfQ=="] {
            let header = format!("Basic {}", STANDARD.encode(other));
            assert_eq!(Password::from_header(&header), None, "{other}");
        }
    }
}
