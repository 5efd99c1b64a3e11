//! Image references, parsed like Docker does.

use std::{fmt, str::FromStr};

use super::names::{Digest, Host, NameError, Repository, Tag};

/// An image reference, like `nginx`, `ghcr.io/a/b:1.0` or `alpine:3.20@sha256:…`.
///
/// `nginx` is `docker.io/library/nginx`. There is no default tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    pub host: Host,
    pub repository: Repository,
    pub tag: Option<Tag>,
    /// The digest, if written. Takes precedence over the tag.
    pub digest: Option<Digest>,
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains("://") {
            return Err(NameError::new("is a URL, not an image reference")
                .hint("remove the scheme, like `https://`"));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse::<Tag>()?)),
            _ => (rest, None),
        };
        // Docker reads `ghcr.io` as `docker.io/library/ghcr.io`; no official image has such a name
        if !name.contains('/')
            && (name.contains('.') || name == "localhost")
            && !name.starts_with('.')
        {
            return Err(NameError::new("is a registry without a repository")
                .hint(format!("add the repository: `{rest}/REPOSITORY`")));
        }
        // like Docker: the first part is a host if it cannot be part of a path
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (host.parse::<Host>()?, path)
            }
            _ => (Host::DOCKER_HUB.parse()?, name),
        };
        let repository = match host.is_docker_hub() && !path.contains('/') {
            true => format!("library/{path}").parse(),
            false => path.parse(),
        };
        let repository = repository.map_err(|error: NameError| match error.hint {
            // the repository's own hint would omit the host
            Some(_) if !path.bytes().any(|b| b.is_ascii_uppercase()) => NameError::new(
                "is not an image reference",
            )
            .hint("write `[host/]repository[:tag][@digest]`, like `quay.io/prometheus/prometheus`"),
            Some(_) => error.hint(format!("write `{}`", text.to_ascii_lowercase())),
            None => error,
        })?;
        Ok(Self { host, repository, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_normalized_like_docker_does() {
        for (text, expected) in [
            ("nginx", "docker.io/library/nginx"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("bitnami/redis", "docker.io/bitnami/redis"),
            ("docker.io/nginx", "docker.io/library/nginx"),
            ("index.docker.io/nginx", "docker.io/library/nginx"),
            ("registry-1.docker.io/nginx", "docker.io/library/nginx"),
            ("Quay.io/a/b:X", "quay.io/a/b:X"),
            ("localhost/a", "localhost/a"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
        ] {
            let parsed = text.parse::<Reference>().map(|r| r.to_string());
            assert_eq!(parsed.as_deref(), Ok(expected), "{text}");
        }
        let both: Reference = format!("alpine:3.20@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.tag.unwrap().as_str(), "3.20");
        assert_eq!(both.digest.unwrap().hex(), HEX);
    }

    #[test]
    fn an_invalid_reference_names_its_problem() {
        for (text, problem) in [
            ("https://ghcr.io/a", "is a URL, not an image reference"),
            ("ghcr.io/Foo/bar", "has uppercase letters, repository names are lowercase"),
            ("MyReg/foo", "has uppercase letters, repository names are lowercase"),
            ("Nginx", "has uppercase letters, repository names are lowercase"),
            ("a:.b", "is not a tag"),
            ("ghcr.io", "is a registry without a repository"),
            ("localhost:5000", "is a registry without a repository"),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "is a registry without a repository"),
            ("a@sha256:xyz", "is not a digest"),
            ("", "is not an image reference"),
            ("a b", "is not an image reference"),
        ] {
            let result = text.parse::<Reference>();
            assert_eq!(result.as_ref().map_err(|e| e.problem.as_str()), Err(problem), "{text}");
        }
        let sha512 = format!("a@sha512:{HEX}{HEX}").parse::<Reference>().unwrap_err();
        assert!(sha512.problem.contains("SHA-512"));
        assert!(format!("a@sha256:{}", HEX.to_uppercase()).parse::<Reference>().is_err());
    }
}
