//! Named registries and their habits, as one table: `sandbox --like NAME`.
//!
//! A profile is a set of quirks for the upstreams and of faults for every request. As a plain
//! registry (`--plain`) it has the faults only, those of pushes too. A habit that no document
//! supports is not in the table.

use std::str::FromStr;

use super::{
    Mode,
    fault::{Fault, Side},
    upstream::quirks::{
        Auth, DOCKER_HUB, DigestTags, GITHUB, GOOGLE, ORDINARY, Paging, QUAY, Quirks, Referrers,
        RepositoryList, Service, TagList, TokenBody, token,
    },
};
use crate::model::NameError;

/// A registry whose habits the sandbox can have.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    /// The habits in a few words, for `--help`.
    pub help: &'static str,
    pub(super) quirks: Quirks,
    /// The faults of every request.
    faults: &'static [&'static str],
    /// The further faults of pushes.
    push_faults: &'static [&'static str],
}

const PLAIN: Profile =
    Profile { name: "", help: "", quirks: ORDINARY, faults: &[], push_faults: &[] };

/// The table.
pub static PROFILES: [Profile; 10] = [
    // The token service has another host. Source: hpc/charliecloud#1516.
    // A pull limit with headers. Source: docker/hub-feedback#2081.
    // No referrers API. Source: docker/roadmap#724.
    Profile {
        name: "docker-hub",
        help: "token service on another host, pull limit, no referrers API",
        quirks: Quirks { referrers: Referrers::Absent, ..DOCKER_HUB },
        ..PLAIN
    },
    // Referrers redirect to a web page. Source: artifacthub/hub#4785.
    // Pages of 100 tags. Source: bbartling/open-fdd#747.
    // An OCI index is missing for clients that do not accept it, as observed.
    Profile {
        name: "ghcr",
        help: "pages of 100 tags, referrers redirect to a web page",
        quirks: Quirks { referrers: Referrers::PageOf("github.com"), ..GITHUB },
        ..PLAIN
    },
    // `Link` has `next_page`; `last` has no effect. Source: deitch/docker_registry2#56,
    // regclient/regclient#272. quay.io changed this in 2024: deitch/docker_registry2#106.
    // Tokens without `issued_at`. Source: goharbor/harbor#23753.
    Profile {
        name: "quay",
        help: "pages of 50 tags linked by `next_page`, `last` is ignored",
        quirks: Quirks { page: Some(50), paging: Paging::NextPage, ..QUAY },
        ..PLAIN
    },
    // The realm's path is `/v2/token`. Source: oras-project/oras#157.
    // No chunked uploads. Source: podman-container-tools/skopeo#1101, dotnet/sdk-container-builds#287.
    Profile {
        name: "artifact-registry",
        help: "digests in tag lists, no chunked uploads",
        quirks: GOOGLE,
        push_faults: &["status=404@any:PATCH"],
        ..PLAIN
    },
    // The realm's path is `/oauth2/token`. Source: Azure/acr#207.
    // Tokens are in `access_token` only. Source: learn.microsoft.com, "Access Tokens - Get".
    // Blobs are in a storage account that refuses the registry's token. Source: Azure/acr#217.
    Profile {
        name: "acr",
        help: "tokens in `access_token` only, blobs on another host",
        quirks: Quirks {
            auth: token(None, "/oauth2/token", Service::Host),
            blobs_at: Some("storage.blob.core.windows.net"),
            token_body: TokenBody::AccessToken,
            ..ORDINARY
        },
        ..PLAIN
    },
    // The token service is GitLab's host. Source: mkuchin/docker-registry-web#95.
    // Tokens without `issued_at`. Source: goharbor/harbor#23753.
    // No referrers API; `sha256-` with a digest names the manifest itself. Source:
    // oras-project/oras-go#1396.
    // `_catalog` is 401, and an API lists repositories. Source: portainer/portainer#2956,
    // docs.gitlab.com, "Container registry API".
    Profile {
        name: "gitlab",
        help: "token service on another host, API in place of `_catalog`, `sha256-…` names the manifest itself",
        quirks: Quirks {
            auth: token(Some("gitlab.com"), "/jwt/auth", Service::Named("container_registry")),
            token_body: TokenBody::Token,
            digest_tags: DigestTags::Digests,
            referrers: Referrers::Absent,
            repositories: RepositoryList::GitLab,
            ..ORDINARY
        },
        ..PLAIN
    },
    // Referrers are 401 without a challenge. Source: goharbor/harbor#18305, regclient/regclient#389.
    // The realm's path is `/service/token`. Source: goharbor/harbor#17930.
    // `_catalog` asks for the password of an administrator, and an API lists repositories. Source:
    // goharbor/harbor#6784, `src/server/middleware/v2auth/auth.go`.
    Profile {
        name: "harbor-2.7",
        help: "referrers are refused with 401, API in place of `_catalog`",
        quirks: Quirks {
            auth: token(None, "/service/token", Service::Named("harbor-registry")),
            referrers: Referrers::Unauthorized,
            repositories: RepositoryList::Harbor,
            ..ORDINARY
        },
        ..PLAIN
    },
    // Basic authentication only. Source: sonatype/nexus-public#921.
    // HEAD of a manifest is 404. Source: crazy-max/diun#1614, andrey-pohilko/registry-cli#43.
    // Full pages of tags without `Link`. Source: sonatype/nexus-public#117, #209.
    Profile {
        name: "nexus-3",
        help: "Basic authentication, HEAD of a manifest is 404, no `Link` in tag lists",
        quirks: Quirks {
            auth: Auth::Basic { realm: "Sonatype Nexus Repository Manager" },
            paging: Paging::Unlinked,
            ..ORDINARY
        },
        faults: &["status=404@any:HEAD/manifests/"],
        ..PLAIN
    },
    // `Link` lacks the repository key. Source: renovatebot/renovate#15080, #15030.
    // Tag lists have names like `sha256:…`. Source: podman-container-tools/skopeo#2346.
    // The realm has a path of its own. Source: earthly/earthly#1017.
    // A PUT with a blob's content is 404. Source: docker/buildx#196.
    // Blobs are on a host that refuses the registry's token. Source:
    // jfrog/artifactory-client-java#282.
    Profile {
        name: "artifactory",
        help: "digests in tag lists, `Link` without the repository key, uploads by PATCH only",
        quirks: Quirks {
            auth: token(None, "/artifactory/api/docker/docker-local/v2/token", Service::Host),
            blobs_at: Some("jfrog-store.s3.amazonaws.com"),
            tag_list: TagList::WithDigests,
            paging: Paging::FirstComponentMissing,
            ..ORDINARY
        },
        push_faults: &["refuse-whole=404@any"],
        ..PLAIN
    },
    // Basic authentication, blobs on S3, which refuses it. Source: open-policy-agent/opa#6580.
    // No `Docker-Content-Digest` with manifests. Source: distribution/distribution#3792.
    // A mount opens a session. Source: aws/containers-roadmap#2860.
    // A PATCH is answered 201. Source: aws/containers-roadmap#2831.
    Profile {
        name: "ecr",
        help: "Basic authentication, no `Docker-Content-Digest`, mounts open sessions",
        quirks: Quirks {
            auth: Auth::Basic { realm: "https://ecr.example.com/" },
            blobs_at: Some("prod-starport-layer-bucket.s3.example.com"),
            page: Some(1000),
            ..ORDINARY
        },
        faults: &["omit-digest@any:GET/manifests/", "omit-digest@any:HEAD/manifests/"],
        push_faults: &["ignore-mount@any", "status-after=201@any:PATCH"],
    },
];

impl Profile {
    /// True if clients must authenticate for every request.
    pub fn needs_login(&self) -> bool {
        matches!(self.quirks.auth, Auth::Basic { .. })
    }

    /// True if the registry serves the referrers API.
    pub fn lists_referrers(&self) -> bool {
        self.quirks.referrers == Referrers::Native
    }

    /// The faults of a sandbox in this mode.
    pub(super) fn faults(&self, mode: Mode) -> Vec<Fault> {
        let (side, pushes) = match mode {
            Mode::Plain => (Side::Ecr, self.push_faults),
            Mode::Cloud | Mode::Standing => (Side::Upstream, &[][..]),
        };
        let parse = |text: &&str| text.parse().expect("the table has valid faults");
        let all = self.faults.iter().chain(pushes).map(parse);
        all.map(|fault| Fault { side, ..fault }).collect()
    }
}

impl FromStr for &'static Profile {
    type Err = NameError;

    fn from_str(text: &str) -> Result<&'static Profile, NameError> {
        PROFILES.iter().find(|profile| profile.name == text).ok_or_else(|| {
            let all: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            NameError::new("is not a registry with known habits")
                .hint(format!("there are {}", all.join(", ")))
        })
    }
}

/// The list of profiles for `--help`, one per line.
pub fn help() -> String {
    PROFILES.iter().map(|profile| format!("  {:<20}{}\n", profile.name, profile.help)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_name_a_line_of_help_and_valid_faults() {
        for profile in &PROFILES {
            assert_eq!(profile.name.parse::<&Profile>().unwrap(), profile);
            assert!(help().contains(&format!("  {} ", profile.name)), "{}", profile.name);
            for mode in [Mode::Cloud, Mode::Plain] {
                let faults = profile.faults(mode);
                assert!(faults.iter().all(|fault| fault.side != Side::Any), "{}", profile.name);
            }
        }
        let unknown = "harbor".parse::<&Profile>().unwrap_err();
        assert!(unknown.hint.unwrap().contains("harbor-2.7"));
    }
}
