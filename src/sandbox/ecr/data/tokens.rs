//! Authentication: Basic credentials from `GetAuthorizationToken`, valid in one region and for a
//! time.

use parking_lot::Mutex;

use axum::{
    http::{HeaderMap, header},
    response::Response,
};

use super::{Ecr, EcrError, Principal, header_text, not_authorized};
use crate::sandbox::{
    ecr::{
        clock::{now, since_epoch},
        identity::Password,
    },
    fault::{Faults, Name, Side},
};

const EXPIRED: &str = "Your authorization token has expired. Reauthenticate and try again.";

/// The state of the fault `expire-tokens`.
#[derive(Debug, Default)]
pub(in crate::sandbox::ecr) struct Tokens(Mutex<Expiry>);

#[derive(Debug, Default)]
struct Expiry {
    /// Tokens issued earlier, in nanoseconds since the epoch, are revoked.
    before: u128,
    /// Requests since the fault was activated.
    requests: u64,
}

impl Tokens {
    /// True if the fault revoked a token of this moment.
    ///
    /// The fault applies once per activation: it revokes all tokens issued until then, for good.
    fn is_revoked(&self, issued: u128, faults: &Faults) -> bool {
        let strikes = faults.active(Name::ExpireTokens, Side::Ecr);
        let mut expiry = self.0.lock();
        let Some(arg) = strikes else {
            expiry.requests = 0;
            return issued < expiry.before;
        };
        if expiry.requests == arg.number().unwrap_or(0) {
            expiry.before = since_epoch().as_nanos();
        }
        expiry.requests += 1;
        issued < expiry.before
    }
}

/// The principal of the request's credentials, or the refusal.
pub(super) fn principal(
    ecr: &Ecr,
    region: &str,
    host: &str,
    headers: &HeaderMap,
) -> Result<Principal, Box<Response>> {
    let password = header_text(headers, header::AUTHORIZATION).and_then(Password::from_header);
    // a token of another region does not count
    let Some(password) = password.filter(|password| password.region == region) else {
        return Err(Box::new(not_authorized(host, &ecr.faults)));
    };
    if password.expires < now() || ecr.tokens.is_revoked(password.issued, &ecr.faults) {
        return Err(Box::new(
            EcrError::new("AccessDeniedException", EXPIRED).into_registry_response(),
        ));
    }
    Ok(password.principal)
}
