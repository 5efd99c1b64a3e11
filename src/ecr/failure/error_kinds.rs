//! The table from AWS's error names to error kinds. Pure.

use crate::model::Kind;

/// The names of each kind, separated by spaces, without a trailing `Exception`.
///
/// Source: ECR API model; AWS "Common errors"; the SDK's `classifiers.rs` for
/// the throttling names, to which `Throttle` is added (one ECR page spells it
/// so) and from which `LimitExceeded` is removed (a quota, which waiting does not lift).
const NAMES: &[(Kind, &str)] = &[
    (
        Kind::Throttled,
        "Throttling Throttle Throttled RequestThrottled TooManyRequests RequestLimitExceeded \
         BandwidthLimitExceeded PriorRequestNotComplete SlowDown",
    ),
    (Kind::Quota, "LimitExceeded TooManyTags ServiceQuotaExceeded"),
    (
        Kind::Denied,
        "AccessDenied NotAuthorized UnauthorizedOperation OptInRequired \
         BlockedByOrganizationPolicy Kms",
    ),
    (
        Kind::Unauthorized,
        "ExpiredToken RequestExpired UnrecognizedClient InvalidClientTokenId InvalidAccessKeyId \
         InvalidSignature SignatureDoesNotMatch IncompleteSignature MissingAuthenticationToken \
         AuthFailure",
    ),
    (Kind::RepositoryMissing, "RepositoryNotFound"),
    (
        Kind::NotFound,
        "ImageNotFound LayerInaccessible ResourceNotFound PullThroughCacheRuleNotFound \
         TemplateNotFound",
    ),
    (Kind::ContentMissing, "LayersNotFound ReferencedImagesNotFound"),
    (Kind::TagImmutable, "ImageTagAlreadyExists"),
    (Kind::Unsupported, "ImageStorageClassUpdateNotSupported"),
    (Kind::Corrupt, "InvalidLayer ImageDigestDoesNotMatch"),
    (
        Kind::Unavailable,
        "Server InternalFailure InternalError InternalServer InternalServerError \
         InternalServiceError ServiceUnavailable RequestTimeout",
    ),
    (
        Kind::Configuration,
        "InvalidParameter InvalidTagParameter Validation ValidationError SecretNotFound \
         UnableToAccessSecret UnableToDecryptSecretValue UnableToGetUpstreamImage \
         UnableToGetUpstreamLayer UnableToListUpstreamImageReferrers UnsupportedUpstreamRegistry",
    ),
];

/// The kind of an error. The HTTP status decides only if the name is unknown.
pub(crate) fn kind_of(name: &str, status: u16) -> Kind {
    let name = name.strip_suffix("Exception").unwrap_or(name);
    if let Some((kind, _)) = NAMES.iter().find(|(_, names)| contains(names, name)) {
        return *kind;
    }
    match status {
        401 => Kind::Unauthorized,
        403 => Kind::Denied,
        429 => Kind::Throttled,
        // an emulator that lacks the action
        501 => Kind::Unsupported,
        408 | 500.. => Kind::Unavailable,
        _ => Kind::Protocol,
    }
}

fn contains(names: &str, name: &str) -> bool {
    names.split(' ').any(|known| known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_has_one_kind_for_every_status() {
        for (kind, names) in NAMES {
            for name in names.split(' ') {
                let meanings = NAMES.iter().filter(|(_, names)| contains(names, name)).count();
                assert_eq!(meanings, 1, "{name}");
                for status in [400, 403, 429, 500] {
                    assert_eq!(kind_of(name, status), *kind, "{name}");
                    assert_eq!(kind_of(&format!("{name}Exception"), status), *kind, "{name}");
                }
            }
        }
    }

    #[test]
    fn the_most_frequent_names_have_the_right_kind() {
        for (name, status, expected) in [
            ("ThrottlingException", 400, Kind::Throttled),
            ("ThrottleException", 400, Kind::Throttled),
            ("TooManyRequestsException", 400, Kind::Throttled),
            ("LimitExceededException", 400, Kind::Quota),
            ("AccessDeniedException", 400, Kind::Denied),
            ("RepositoryNotFoundException", 400, Kind::RepositoryMissing),
            ("ServerException", 500, Kind::Unavailable),
            ("ExpiredTokenException", 403, Kind::Unauthorized),
            ("InvalidClientTokenId", 403, Kind::Unauthorized),
            ("UnrecognizedClientException", 400, Kind::Unauthorized),
            ("InvalidParameterException", 400, Kind::Configuration),
            ("SomethingNewException", 400, Kind::Protocol),
            ("SomethingNewException", 401, Kind::Unauthorized),
            ("SomethingNewException", 403, Kind::Denied),
            ("SomethingNewException", 429, Kind::Throttled),
            ("SomethingNewException", 501, Kind::Unsupported),
            ("SomethingNewException", 503, Kind::Unavailable),
        ] {
            assert_eq!(kind_of(name, status), expected, "{name} {status}");
        }
    }
}
