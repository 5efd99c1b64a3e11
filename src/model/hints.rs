//! The hints that more than one part of the program gives: a run for its failed images, and `doctor`
//! for the same cause before a run.
//!
//! A failed request keeps the hint of its error: `doctor` sends it through the same functions as a
//! run, so that the words are the same. The hints of errors are in `registry/errors.rs` and
//! `ecr/failure.rs`.

/// A host that cannot be reached, or does not answer.
pub(crate) const NETWORK: &str =
    "check the host's name, the network and the proxy settings (`HTTPS_PROXY`, `NO_PROXY`)";

/// A signature that AWS refuses.
pub(crate) const CLOCK: &str = "check the secret access key and this machine's clock";

/// A tag that has other content than the source and cannot be moved.
pub(crate) const IMMUTABLE: &str = "mirror the image under another tag (`retag`), or exclude the tag from the repository's immutability";

/// A pull limit that does not allow the pulls of an image.
pub(crate) const PULLS_SPENT: &str =
    "run again in the next window, or authenticate for a higher limit";

/// The quota that limits the images of a repository.
pub(crate) const IMAGE_QUOTA: &str =
    "its quota `Images per repository` (Service Quotas, L-03A36CE1)";

/// A repository at its quota of images.
pub(crate) const FEWER_IMAGES: &str =
    "delete images (a `lifecycle` does), or request a higher quota";

/// The features of [`own_account`], as the configuration writes them.
pub(crate) const ACCOUNT_SETTINGS: &str = "`[destination.account]`";
pub(crate) const CACHE: &str = "the pull-through cache";

/// A registry of another account than the credentials, for a `feature` that AWS allows in the
/// caller's own account only.
pub(crate) fn own_account(account: &str, feature: &str) -> String {
    format!("set the destination's `role_arn` to a role in account {account}, or remove {feature}")
}
