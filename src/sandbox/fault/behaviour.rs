//! The respects in which the embedded ECR can differ from ECR, as it is documented or was seen:
//! `otherwise=BEHAVIOUR`.
//!
//! A test of an assumption about ECR must fail with its behaviour. Assumptions about statuses,
//! headers and refusals have other faults, such as `status-after` and `accept`.

/// Declares each behaviour's word and description in one table.
macro_rules! behaviours {
    ($($variant:ident = $text:literal, $help:literal;)*) => {
        /// One respect in which the embedded ECR can differ.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Behaviour {
            $(#[doc = $help] $variant,)*
        }

        impl Behaviour {
            /// All words, in the order of the table.
            pub(super) const WORDS: &[&str] = &[$($text),*];

            /// The word in a fault's text form.
            pub(super) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

behaviours! {
    BearerChallenge = "bearer-challenge", "Asks for a Bearer token, in JSON.";
    PatchRange = "patch-range", "Tells the true range after every part of an upload.";
    SessionsExpire = "sessions-expire", "Forgets an upload five minutes after it was opened.";
    BlobType = "blob-type", "Tells no media type of a blob.";
    RelativeLink = "relative-link", "Links the next page of tags with a path.";
    NoSubjectHeader = "no-subject-header", "Omits `OCI-Subject`.";
    LayerFailures = "layer-failures", "Reports a missing layer as a failure.";
    ListingPulls = "listing-pulls", "Counts a listing as a pull of each image.";
    HeadPullsNothing = "head-pulls-nothing", "Does not count the HEAD of a manifest as a pull.";
    ArchivedListed = "archived-listed", "Lists archived images without a filter.";
    ArchivedPulled = "archived-pulled", "Serves archived images.";
    ArchiveStays = "archive-stays", "Keeps an image archived that is pushed again.";
    RestoreAtOnce = "restore-at-once", "Restores an archived image without a delay.";
    MountingDefault = "mounting-default", "Enables `BLOB_MOUNTING` by default.";
    PolicyScope = "policy-scope", "Has `REGISTRY_POLICY_SCOPE` V1 by default.";
    PolicySids = "policy-sids", "Drops the statement ids of the registry policy.";
    TemplateMutability = "template-mutability", "Keeps a template's mutability that an update omits.";
    TemplateDescription = "template-description", "Clears a template's description that an update omits.";
    TemplateReapplies = "template-reapplies", "Applies an updated template to existing repositories.";
    CacheByDigest = "cache-by-digest", "Lets the pull-through cache import by digest.";
    NoUpstreamPrefix = "no-upstream-prefix", "Shows no upstream prefix of a rule that was created without one.";
    SecretTags = "secret-tags", "Shows no tags of a secret.";
    SecretKey = "secret-key", "Shows no key of a secret.";
}
