//! The hint of each failure, as a table.

use super::*;

#[test]
fn each_failure_has_its_hint() {
    let digest = TagOrDigest::Digest(Digest::of(b""));
    let tag = TagOrDigest::Tag("1".parse().unwrap());
    let missing_action = "403 DENIED: User: me is not authorized to perform: ecr:BatchImportUpstreamImage on resource: x";
    for (kind, text, at, repository, expected) in [
        (
            Kind::RepositoryMissing,
            "404 NAME_UNKNOWN",
            &tag,
            "hub/library/x",
            "create the rule for `hub`",
        ),
        (
            Kind::RepositoryMissing,
            "404 NAME_UNKNOWN",
            &tag,
            "hub/library/x",
            "`ecr:CreateRepository`",
        ),
        (Kind::RepositoryMissing, "404 NAME_UNKNOWN", &digest, "hub/library/x", "by tag only"),
        (
            Kind::NotFound,
            "404 MANIFEST_UNKNOWN",
            &tag,
            "hub/library/x",
            "check that `registry-1.docker.io` has this image",
        ),
        (
            Kind::NotFound,
            "404 MANIFEST_UNKNOWN",
            &tag,
            "hub/library/x",
            "`ecr:BatchImportUpstreamImage`",
        ),
        (Kind::NotFound, "404 MANIFEST_UNKNOWN", &digest, "hub/library/x", "by tag only"),
        (Kind::Denied, missing_action, &tag, "hub/x", "grant `ecr:BatchImportUpstreamImage`"),
        (Kind::Denied, "403 DENIED", &tag, "hub/nginx", "`library/`"),
        (Kind::Denied, "403 DENIED", &tag, "hub/library/nginx", "pull-through validate"),
        (
            Kind::Unavailable,
            "500: UnableToGetUpstreamImage",
            &tag,
            "hub/library/x",
            "pull-through validate",
        ),
    ] {
        let (cache, repository) = (cache(Upstream::DockerHub, "hub"), repository.parse().unwrap());
        let filter = Filter::default();
        let pull = Pull { cache: &cache, repository: &repository, at, filter: &filter };
        let error = with_hint(Error::new(kind, text), pull);
        let remedy = error.remedy().unwrap_or_else(|| panic!("no hint for {text}"));
        assert!(remedy.contains(expected), "{text}: {remedy}");
        assert_eq!(error.kind(), kind);
        let kept = with_hint(Error::new(kind, text).hint("its own"), pull);
        assert_eq!(kept.remedy(), Some("its own"));
    }
    let (cache, repository) = (cache(Upstream::Quay, "quay"), "quay/upstream/x".parse().unwrap());
    let filter = Filter::default();
    let pull = Pull { cache: &cache, repository: &repository, at: &tag, filter: &filter };
    let broken = Error::new(Kind::Unavailable, "GET r.example/v2/quay/upstream/x: 503");
    assert_eq!(with_hint(broken, pull).remedy(), None);
}
