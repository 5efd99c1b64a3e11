//! Pull secrets for Kubernetes: nodes that cannot reach the cache pull from the upstream itself,
//! with the credentials that the cache has.
//!
//! Pure. What is made holds credentials, so it is a [`SecretString`] until it is in a file.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::model::{
    Error, Kind, Result,
    pull_through::{Cache, Prefix, Upstream, UpstreamCredentials},
};

/// How long a DNS label may be, in characters.
const LABEL: usize = 63;

/// The manifest, and what is in it.
pub struct SecretManifest {
    /// A YAML document for each namespace and secret.
    pub yaml: SecretString,
    /// The names of the secrets, which are the same in every namespace.
    pub secrets: Vec<String>,
    /// The caches that have credentials, and none that are written here: their prefixes.
    pub left_out: Vec<String>,
}

/// A name of a namespace.
///
/// Source: Kubernetes, "Object Names and IDs", DNS label names.
///
/// # Errors
/// [`Kind::Configuration`] when it is none.
pub fn namespace(name: &str) -> Result<&str> {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = (1..=LABEL).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if is_label {
        return Ok(name);
    }
    let error = format!("`{name}` is not the name of a namespace");
    Err(Error::new(Kind::Configuration, error)
        .hint(format!("it has lower-case letters, digits and `-` inside, at most {LABEL}")))
}

/// The pull secrets of the caches whose credentials are written, for each of these namespaces.
///
/// Caches of one upstream with the same credentials have one secret between them.
///
/// # Errors
/// [`Kind::Configuration`] for a wrong name of a namespace, and when no cache has credentials that
/// are written.
pub fn manifest(caches: &[Cache], namespaces: &[String]) -> Result<SecretManifest> {
    let mut secrets: Vec<(String, SecretString)> = Vec::new();
    let mut left_out = Vec::new();
    for cache in caches {
        let content = match &cache.credentials {
            UpstreamCredentials::Written { username, access_token } => {
                docker_config(cache, username, access_token)
            }
            UpstreamCredentials::Secret(_) => {
                left_out.push(cache.prefix.to_string());
                continue;
            }
            UpstreamCredentials::Nothing | UpstreamCredentials::Role(_) => continue,
        };
        let known =
            |(_, other): &(String, SecretString)| other.expose_secret() == content.expose_secret();
        if !secrets.iter().any(known) {
            secrets.push((free_name(cache, &secrets), content));
        }
    }
    if secrets.is_empty() {
        let error = "no cache has `credentials` to write into a pull secret";
        return Err(Error::new(Kind::Configuration, error).hint(
            "write `credentials` in `[[pull_through]]`; what a `secret_arn` keeps is not read",
        ));
    }
    let mut yaml = String::new();
    let mut written = Vec::new();
    for name in namespaces {
        let name = namespace(name)?;
        if written.contains(&name) {
            continue;
        }
        written.push(name);
        for (secret, content) in &secrets {
            document(&mut yaml, (name, secret), content);
        }
    }
    let secrets = secrets.into_iter().map(|(name, _)| name).collect();
    Ok(SecretManifest { yaml: yaml.into(), secrets, left_out })
}

/// A name that none of these has.
fn free_name(cache: &Cache, taken: &[(String, SecretString)]) -> String {
    let origin = match &cache.prefix {
        Prefix::Root => cache.upstream.name().to_owned(),
        Prefix::Path(path) => path.to_string(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name = format!("ecr-mirror-{}", origin.chars().map(plain).collect::<String>());
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let is_free = |name: &String| !taken.iter().any(|(other, _)| other == name);
    let mut names = [name.clone()].into_iter().chain(numbered);
    names.find(is_free).expect("there is always one more number")
}

/// What Docker's own configuration holds for the upstream: who logs in, and as whom.
///
/// Docker Hub's key is its old address.
///
/// Source: Kubernetes, "Pull an Image from a Private Registry".
fn docker_config(cache: &Cache, username: &str, token: &SecretString) -> SecretString {
    let registry = match cache.upstream {
        Upstream::DockerHub => "https://index.docker.io/v1/",
        _ => cache.url.as_str(),
    };
    let token = token.expose_secret();
    let auth = STANDARD.encode(format!("{username}:{token}"));
    let login = json!({ "username": username, "password": token, "auth": auth });
    json!({ "auths": { registry: login } }).to_string().into()
}

/// Quotes keep a namespace like `1` or `no` a text.
fn document(yaml: &mut String, (namespace, name): (&str, &str), content: &SecretString) {
    let content = STANDARD.encode(content.expose_secret());
    let written = write!(
        yaml,
        "---\n\
         apiVersion: v1\n\
         kind: Secret\n\
         metadata:\n\
         \x20 name: \"{name}\"\n\
         \x20 namespace: \"{namespace}\"\n\
         type: kubernetes.io/dockerconfigjson\n\
         data:\n\
         \x20 .dockerconfigjson: \"{content}\"\n"
    );
    written.expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn cache(upstream: Upstream, prefix: &str, credentials: UpstreamCredentials) -> Cache {
        Cache { prefix: prefix.parse().unwrap(), credentials, ..Cache::of(upstream) }
    }

    fn written(username: &str, token: &str) -> UpstreamCredentials {
        UpstreamCredentials::Written { username: username.to_owned(), access_token: token.into() }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The JSON inside each document.
    fn contents(yaml: &str) -> Vec<Value> {
        let encoded = yaml.lines().filter_map(|line| line.strip_prefix("  .dockerconfigjson: \""));
        let decoded = encoded.map(|text| STANDARD.decode(text.trim_end_matches('"')).unwrap());
        decoded.map(|bytes| serde_json::from_slice(&bytes).unwrap()).collect()
    }

    #[test]
    fn a_document_is_what_kubernetes_takes() {
        let hub = cache(Upstream::DockerHub, "docker-hub", written("u", "p"));
        let manifest = manifest(&[hub], &names(&["web", "web"])).unwrap();
        let content = STANDARD.encode(
            r#"{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p","auth":"dTpw"}}}"#,
        );
        assert_eq!(
            manifest.yaml.expose_secret(),
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: \"ecr-mirror-docker-hub\"\n  \
                 namespace: \"web\"\ntype: kubernetes.io/dockerconfigjson\ndata:\n  \
                 .dockerconfigjson: \"{content}\"\n"
            )
        );
    }

    #[test]
    fn every_namespace_has_a_secret_for_every_login_and_none_for_what_has_none() {
        let caches = [
            cache(Upstream::Quay, "quay", UpstreamCredentials::Nothing),
            cache(Upstream::GitHub, "a/b", written("u", "p")),
            cache(Upstream::GitHub, "a_b", written("u", "other")),
            cache(Upstream::GitHub, "again", written("u", "p")),
            cache(Upstream::Azure, "ROOT", written("ü", "\"p\"")),
            cache(Upstream::GitLab, "kept", UpstreamCredentials::Secret("arn".to_owned())),
        ];
        let manifest = manifest(&caches, &names(&["a", "b"])).unwrap();
        let secrets = ["ecr-mirror-a-b", "ecr-mirror-a-b-2", "ecr-mirror-azure"];
        assert_eq!(
            (&manifest.secrets[..], &manifest.left_out[..]),
            (&secrets.map(str::to_owned)[..], &names(&["kept"])[..])
        );
        let contents = contents(manifest.yaml.expose_secret());
        assert_eq!(contents.len(), 6);
        assert_eq!(contents[1]["auths"]["ghcr.io"]["password"], "other");
        assert_eq!(contents[2]["auths"]["x.azurecr.io"]["password"], "\"p\"");
        let shown = manifest.yaml.expose_secret();
        assert!(!shown.contains("https://index.docker.io"), "{shown}");
    }

    #[test]
    fn without_written_credentials_there_is_nothing_to_export() {
        let caches = [
            cache(Upstream::Quay, "quay", UpstreamCredentials::Nothing),
            cache(Upstream::GitLab, "kept", UpstreamCredentials::Secret("arn".to_owned())),
        ];
        let error = manifest(&caches, &names(&["a"])).err().unwrap();
        assert_eq!(error.kind(), Kind::Configuration);
    }

    #[test]
    fn a_namespace_is_a_dns_label() {
        let long = "a".repeat(LABEL);
        for name in ["web", "a-1", "1", long.as_str()] {
            assert_eq!(namespace(name).unwrap(), name);
        }
        let longer = "a".repeat(LABEL + 1);
        for name in ["", "Web", "-a", "a-", "a.b", "a/b", "a b", "a\"", longer.as_str()] {
            assert_eq!(namespace(name).unwrap_err().kind(), Kind::Configuration, "{name}");
        }
    }
}
